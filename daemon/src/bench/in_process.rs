//! The measurement without a transport: bins from memory, each at its instant.

use super::BenchError;
use super::answers;
use super::golden_counts::GoldenCounts;
use super::schedule::Schedule;
use super::tally::{Answer, Tally};
use crate::config::Config;
use crate::engine;
use crate::input::{Received, Source};
use crate::pipeline::{self, Pipeline};
use ndt_protocol::clock::{monotonic_ns, sleep_until_ns};
use ndt_protocol::{Bin, Bundle};

/// Longest sleep of the source before it gives its thread a chance to end, ns.
const PATIENCE_NS: u64 = 100_000_000;

/// Measures the pipeline without a transport: bins come from memory, and an estimate has arrived when it is handed over.
///
/// # Errors
/// [`BenchError`] when the engine or the pipeline cannot be started.
pub fn measure_in_process(
    config: &Config,
    bundle: &Bundle,
    counts: &GoldenCounts,
    tally: &mut Tally,
    progress: &mut dyn FnMut(u64),
) -> Result<Pipeline, BenchError> {
    let engine = engine::load(&config.engine(), bundle)?;
    let (answers, answered) = answers::queue();
    let source = InProcessSource::new(*tally.schedule(), counts.clone());
    let publish = move |estimate: &_| answers::put(&answers, Answer::of(estimate, None));
    let pipeline = pipeline::start_with(config, bundle, engine, source, publish)?;
    // The source ends after its last bin, and each thread after the one before it.
    answers::take_until_closed(&answered, tally, progress);
    Ok(pipeline)
}

/// A source that takes each bin from memory at its instant.
pub struct InProcessSource {
    schedule: Schedule,
    counts: GoldenCounts,
    /// When the pipeline first asked for a bin, `CLOCK_MONOTONIC` ns: no bin is due before all threads run.
    start_ns: Option<u64>,
    next: u64,
}

impl InProcessSource {
    /// Makes a source that gives the bins of `schedule` and then ends.
    pub fn new(schedule: Schedule, counts: GoldenCounts) -> InProcessSource {
        InProcessSource { schedule, counts, start_ns: None, next: 0 }
    }
}

impl Source for InProcessSource {
    fn receive(&mut self, bin: &mut Bin) -> Received {
        let start_ns = *self.start_ns.get_or_insert_with(monotonic_ns);
        while self.next < self.schedule.periods() && !self.schedule.is_sent(self.next) {
            self.next += 1;
        }
        if self.next == self.schedule.periods() {
            return Received::Ended;
        }
        let due_ns = start_ns + self.schedule.due_ns(self.next);
        let look_ns = monotonic_ns() + PATIENCE_NS;
        sleep_until_ns(due_ns.min(look_ns));
        if due_ns > look_ns {
            return Received::Nothing;
        }
        // The arrival is stamped before the counts are copied, as over a transport: copying is the daemon's time.
        self.counts.fill(self.next, due_ns, monotonic_ns(), bin);
        self.next += 1;
        Received::Bin
    }
}
