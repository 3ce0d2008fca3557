//! Which run of a source a bin belongs to.
//!
//! A source that is restarted may count from the start again under its old stream id. Its bins must not be taken for late
//! ones, so each run gets a stream number of its own.

use ndt_protocol::Bin;

/// Two bins in a row that are further behind the newest than this are not late: the source counts from the start again.
const LATE_BINS_MAX: u64 = 16;

/// Largest number of late bins in a row. More of them mean that the source has restarted, shortly after its previous start.
const LATE_IN_A_ROW_MAX: u64 = 8;

/// Follows the runs of one source.
#[derive(Debug, Clone, Default)]
pub struct Runs {
    run: Option<Run>,
}

/// One run of a source, as its bins show it.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Stream id that the source uses, and how often it began again under that id.
    stream: u64,
    again: u64,
    newest: u64,
    last: u64,
    /// Number of consecutive bins that were not newer than the newest bin, although each was newer than the bin before it.
    late: u64,
    /// Bins in a row that were more than [`LATE_BINS_MAX`] behind the newest bin.
    far: u64,
}

impl Runs {
    /// Replaces the stream of the bin by that of its run.
    ///
    /// Runs on the source thread, once a bin. Must not allocate, block, lock or log.
    pub fn assign(&mut self, bin: &mut Bin) {
        let begun = Run { stream: bin.stream, again: 0, newest: bin.seq, last: bin.seq, late: 0, far: 0 };
        let run = match self.run {
            Some(run) if run.stream == bin.stream => {
                let late = match bin.seq {
                    seq if seq > run.newest => 0,
                    // A sender that repeats one bin for ever has not started again.
                    seq if seq > run.last => run.late + 1,
                    _ => run.late,
                };
                let last = bin.seq;
                let is_far = bin.seq.saturating_add(LATE_BINS_MAX) < run.newest;
                let far = if is_far && (run.far == 0 || bin.seq > run.last) { run.far + 1 } else { 0 };
                match far > 1 || late > LATE_IN_A_ROW_MAX {
                    true => Run { again: run.again + 1, ..begun },
                    false => Run { newest: run.newest.max(bin.seq), last, late, far, ..run },
                }
            }
            _ => begun,
        };
        self.run = Some(run);
        // An odd factor without the patterns of ids that a source would choose.
        bin.stream = run.stream.wrapping_add(run.again.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
}
