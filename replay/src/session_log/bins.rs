//! The bins of a session log, on one axis of time.

use crate::play::{Plan, PlanError, RecordedBin};
use ndt_protocol::session_log::{BinTaken, Frame, Header, Kind, LogError, Reader};
use ndt_protocol::wire::Description;
use std::collections::BTreeMap;
use std::path::Path;

/// Why a session log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SessionLogError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log holds too little.
    #[error(
        "expected a session log with at least two bins and an estimate, found {bins} bins and {estimates} estimates"
    )]
    TooFew {
        /// Number of bins.
        bins: usize,
        /// Number of estimates.
        estimates: usize,
    },
    /// The header describes no estimates.
    #[error("expected a header that describes estimates, found one that describes bins")]
    Description,
    /// The bins cannot be played.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// Width of the bins of a log, ns.
///
/// # Errors
/// [`SessionLogError::Description`].
pub fn width_ns(header: &Header) -> Result<i64, SessionLogError> {
    match &header.description {
        Description::Estimates { bin_width_us, .. } => Ok(i64::from(*bin_width_us) * 1_000),
        Description::Bins { .. } => Err(SessionLogError::Description),
    }
}

/// Gives the bins of a session one axis of time, which begins with the log. Within a run of the source, time is the source's own;
/// where another run begins, or its clock jumps, time is taken from the arrival of the bin. Bins never overlap.
#[derive(Debug, Clone)]
pub struct Timeline {
    started_ns: i64,
    width_ns: i64,
    /// What must be added to the source's time, for each run.
    shifts_ns: BTreeMap<u64, i64>,
    last_end_ns: i64,
}

impl Timeline {
    /// Makes the axis of a log.
    ///
    /// # Errors
    /// [`SessionLogError::Description`].
    pub fn of(header: &Header) -> Result<Timeline, SessionLogError> {
        let started_ns = header.started_monotonic_ns as i64;
        let width_ns = width_ns(header)?;
        Ok(Timeline { started_ns, width_ns, shifts_ns: BTreeMap::new(), last_end_ns: 0 })
    }

    /// Returns the end of a bin that was taken after all earlier ones, ns.
    pub fn end_of_bin(&mut self, stream: u64, source_ns: i64, arrival_ns: u64) -> i64 {
        // A clock is followed as long as it goes on by about a bin or more, and stays near the arrival of its bins.
        let earliest_ns = self.last_end_ns.saturating_add(self.width_ns - self.width_ns / 16);
        let arrived_ns = (arrival_ns as i64).saturating_sub(self.started_ns);
        let by_clock = self.shifts_ns.get(&stream).map(|shift_ns| source_ns.saturating_add(*shift_ns));
        let is_near = |end_ns: &i64| {
            *end_ns >= earliest_ns && end_ns.saturating_sub(arrived_ns).saturating_abs() < 1_000_000_000
        };
        let end_ns = by_clock.filter(is_near).unwrap_or_else(|| {
            let end_ns = arrived_ns.max(self.last_end_ns.saturating_add(self.width_ns));
            self.shifts_ns.insert(stream, end_ns.saturating_sub(source_ns));
            end_ns
        });
        self.last_end_ns = end_ns;
        end_ns
    }

    /// Returns the end of the bin of an estimate, ns.
    pub fn end_of_estimate(&self, stream: u64, source_ns: i64, arrival_ns: u64) -> i64 {
        let arrived_ns = (arrival_ns as i64).saturating_sub(self.started_ns);
        self.shifts_ns.get(&stream).map_or(arrived_ns, |shift_ns| source_ns.saturating_add(*shift_ns))
    }
}

/// Lets through the bins that the decoder decoded: each number of a run once, in ascending order.
#[derive(Debug, Clone, Copy, Default)]
pub struct InOrder(Option<(u64, u64)>);

impl InOrder {
    /// Whether the bin of this number is decoded, and not dropped as one that comes again or too late.
    pub fn takes(&mut self, stream: u64, seq: u64) -> bool {
        let is_new = self.0.is_none_or(|(last_stream, last)| last_stream != stream || seq > last);
        if is_new {
            self.0 = Some((stream, seq));
        }
        is_new
    }
}

/// Plans the bins of the log at `path`, to send them again: the same counts and gaps. Each run of the source begins a segment; runs
/// follow each other in one stream.
///
/// # Errors
/// [`SessionLogError`] when the log cannot be read or holds no bins.
pub fn plan(path: &Path) -> Result<Plan, SessionLogError> {
    let mut reader = Reader::open(path)?;
    let header = reader.header().clone();
    let (mut timeline, mut in_order) = (Timeline::of(&header)?, InOrder::default());
    let mut recorded: Vec<RecordedBin> = Vec::new();
    // Stream of the last bin, and what is added to the numbers of that stream.
    let mut run: Option<(u64, i128)> = None;
    while let Some(Frame::Bin(taken)) = reader.next_of(&[Kind::Bin])? {
        let BinTaken { bin, .. } = *taken;
        if !in_order.takes(bin.stream, bin.seq) {
            continue;
        }
        let end_ns = timeline.end_of_bin(bin.stream, bin.source_ns, bin.arrival_ns);
        let next = recorded.last().map_or(0, |last| i128::from(last.number) + 1);
        let is_new = run.is_none_or(|(stream, _)| stream != bin.stream);
        let (_, added) = match run.filter(|_| !is_new) {
            Some(run) => run,
            None => *run.insert((bin.stream, next - i128::from(bin.seq))),
        };
        recorded.push(RecordedBin {
            number: u64::try_from(i128::from(bin.seq) + added).unwrap_or_default(),
            end_ns,
            segment_start: bin.segment_start || is_new,
            counts: bin.counts_or_nan().collect(),
        });
    }
    let bin_ms = width_ns(&header)? as f64 * 1e-6;
    Ok(Plan::of_bins(bin_ms, header.channel_ids, recorded)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_the_sources_until_it_jumps_or_another_run_begins_and_bins_never_overlap() {
        let mut timeline =
            Timeline { started_ns: 1_000, width_ns: 20, shifts_ns: BTreeMap::new(), last_end_ns: 0 };
        // The second bin came late, and the third lost one before it.
        let ends = [(7, 500, 1_100), (7, 520, 1_139), (7, 560, 1_161)]
            .map(|(stream, source_ns, arrival_ns)| timeline.end_of_bin(stream, source_ns, arrival_ns));
        assert_eq!(ends, [100, 120, 160]);
        assert_eq!(timeline.end_of_estimate(7, 540, 1_141), 140);
        // The clock goes back; another run begins before the last bin was over.
        assert_eq!(timeline.end_of_bin(7, 10, 1_190), 190);
        assert_eq!(timeline.end_of_bin(9, 0, 1_195), 210);
        assert_eq!(timeline.end_of_estimate(9, 20, 1_215), 230);
    }

    #[test]
    fn a_number_of_a_run_is_taken_once_and_none_that_comes_too_late() {
        let mut in_order = InOrder::default();
        let taken =
            [(1, 4), (1, 4), (1, 6), (1, 5), (2, 0), (2, 1)].map(|(stream, seq)| in_order.takes(stream, seq));
        assert_eq!(taken, [true, false, true, false, true, true]);
    }
}
