//! Where bins come from. One implementation for each transport, and one for tests.

use ndt_protocol::Bin;
use ndt_protocol::limits::VELOCITY_DIMS_MAX;
use ndt_protocol::wire::WireError;

/// What a source has to say. Only after `Bin` is there something in `bin` that may be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// `bin` holds the next bin.
    Bin,
    /// Nothing came for a while; ask again.
    Nothing,
    /// Nothing can come: the connection is lost, or was never made.
    Gone,
    /// Something came that is no bin for this model.
    Refused(WireError),
    /// The stream's channels are not the bundle's, or not in its order.
    WrongChannels,
    /// The source has ended; nothing more will come.
    Ended,
}

/// A stream of bins. Owned by the source thread, which calls `receive` in a loop.
pub trait Source: Send {
    /// Waits for the next bin, at most about 100 ms, so that the thread can be asked to stop.
    /// Stamps the arrival as early as it can. May allocate only what its transport's library does.
    fn receive(&mut self, bin: &mut Bin) -> Received;
}

impl Source for Box<dyn Source> {
    fn receive(&mut self, bin: &mut Bin) -> Received {
        self.as_mut().receive(bin)
    }
}

/// That a bin has come: all of it that the guard needs, which holds the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Arrival {
    /// The bin's number.
    pub seq: u64,
    /// The source's run.
    pub stream: u64,
    /// Source time of the bin's end, ns.
    pub source_ns: i64,
    /// When it was complete on this machine, `CLOCK_MONOTONIC` ns.
    pub arrival_ns: u64,
    /// What the fallback decoder says of it, m/s, where there is one and it knows.
    pub velocity: Option<[f32; VELOCITY_DIMS_MAX]>,
}

/// Which run of its source a bin belongs to. A source that counts from the start again under its old stream id
/// gets another one.
#[derive(Debug, Clone, Default)]
pub struct Runs {
    run: Option<Run>,
}

/// The first look at a bin, before it may touch anything else.
#[derive(Debug, Clone, Default)]
pub struct Intake {
    runs: Runs,
}

/// A source's run, as its bins tell it.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// What the source calls it, and how often it began again under that name.
    stream: u64,
    again: u64,
    newest: u64,
    last: u64,
    /// Bins in a row that were not newer and yet went on from one to the next, and those in a row that were far behind.
    late: u64,
    far: u64,
}

/// Two numbers in a row further behind the newest than this are no late bins: the source counts from the start again.
const LATE_BINS_MAX: u64 = 16;

/// Nor are more late bins than this in a row, which is what a source that had only begun sends when it begins again.
const LATE_IN_A_ROW_MAX: u64 = 8;

impl Runs {
    /// Gives the bin the stream of its run.
    ///
    /// Runs on the source thread, once a bin. Must not allocate, block, lock or log.
    pub fn tell(&mut self, bin: &mut Bin) {
        let begun = Run { stream: bin.stream, again: 0, newest: bin.seq, last: bin.seq, late: 0, far: 0 };
        let run = match self.run {
            Some(run) if run.stream == bin.stream => {
                let late = match bin.seq {
                    seq if seq > run.newest => 0,
                    // A sender that repeats one bin for ever has not begun again.
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
        // Odd, and with no pattern that a source's own ids would have.
        bin.stream = run.stream.wrapping_add(run.again.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
}

impl Intake {
    /// Takes in a bin; `None` for one that carries no count at all, which is as if it had not come: it must
    /// keep no watchdog quiet.
    ///
    /// Runs on the source thread, once a bin. Must not allocate, block, lock or log.
    pub fn take(&mut self, bin: &mut Bin) -> Option<Arrival> {
        if bin.is_missing() {
            return None;
        }
        self.runs.tell(bin);
        let Bin { seq, stream, source_ns, arrival_ns, .. } = *bin;
        Some(Arrival { seq, stream, source_ns, arrival_ns, velocity: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(bins: &[(u64, u64)]) -> Vec<u64> {
        let mut intake = Intake::default();
        let mut bin = Bin::empty();
        bin.fill([0.0].into_iter(), 1.0);
        let mut stream = |&(seq, stream): &(u64, u64)| {
            (bin.seq, bin.stream) = (seq, stream);
            intake.take(&mut bin).unwrap().stream
        };
        bins.iter().map(&mut stream).collect()
    }

    #[test]
    fn a_source_that_counts_again_is_a_new_stream_and_a_late_bin_is_not() {
        let late = [(900, 5), (899, 5), (3, 5), (901, 5), (885, 5)];
        assert_eq!(streams(&late), [5; 5]);
        let found = streams(&[(900, 5), (0, 5), (1, 5), (2, 5), (40, 5), (0, 5), (1, 5), (0, 9)]);
        let (again, third) = (found[2], found[6]);
        assert!(again != 5 && third != 5 && third != again);
        assert_eq!(found, [5, 5, again, again, again, again, third, 9]);
        // A source that had only sent ten bins: after eight late ones it is believed.
        let bins: Vec<(u64, u64)> = (0..10).chain(0..10).map(|seq| (seq, 5)).collect();
        let found = streams(&bins);
        assert!(found[..19].iter().all(|stream| *stream == 5) && found[19] != 5);
        // One that repeats a bin for ever has not begun again.
        assert_eq!(streams(&[(7, 5); 40]), [5; 40]);
    }

    #[test]
    fn a_bin_without_any_count_is_not_taken_in() {
        let mut bin = Bin::empty();
        bin.fill([f32::NAN, -1.0, f32::INFINITY].into_iter(), 10.0);
        assert_eq!(Intake::default().take(&mut bin), None);
    }
}
