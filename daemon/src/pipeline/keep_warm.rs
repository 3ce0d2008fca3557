//! When an idle decode thread runs a step for nothing, so that the next bin finds everything hot. No I/O and no clock.
//!
//! Between two bins other programs take the caches, and the CPU its rest. On two cores of a shared virtual machine a
//! step of ONNX Runtime took 88 us right after another, 570 to 660 us after 20 ms of silence, and 225 us where a step
//! for nothing was run each 2 ms of it (medians of 300, the reference model of `benches/engines.rs`); one of our own kernel
//! 30 to 36, 202 to 221 and 50 to 52 us.
//!
//! Through the pipeline with 5 ms bins at `SCHED_FIFO` it took the median from due to published from 471-680 us to
//! 242-357 us in five runs each, with 3 bins of 12,800 missed without it and 2 with it. In the normal class the median
//! fell alike; 78 bins of 26,800 were missed without it and 131 with it, 87 of those in two of nine runs. The machine
//! was shared and its load varied, so these say nothing of the cause.

use std::time::Duration;

/// The schedule: one step each time that nothing was computed for as long as is configured.
#[derive(Debug)]
pub struct KeepWarm {
    every_ns: Option<u64>,
    due_ns: u64,
}

impl KeepWarm {
    /// One step after each `every_ms` of silence; none at all for 0.
    pub fn new(every_ms: u64, now_ns: u64) -> Self {
        let mut schedule =
            KeepWarm { every_ns: every_ms.checked_mul(1_000_000).filter(|ns| *ns > 0), due_ns: 0 };
        schedule.computed(now_ns);
        schedule
    }

    /// No step for nothing, ever.
    pub fn never() -> Self {
        KeepWarm::new(0, 0)
    }

    /// Something was computed: a bin, or a step for nothing.
    pub fn computed(&mut self, now_ns: u64) {
        self.due_ns = self.every_ns.map_or(u64::MAX, |every_ns| now_ns.saturating_add(every_ns));
    }

    /// How long to wait for a bin before a step for nothing is due; none for ever. Zero when it is.
    pub fn patience(&self, now_ns: u64) -> Option<Duration> {
        self.every_ns.map(|_| Duration::from_nanos(self.due_ns.saturating_sub(now_ns)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn each_silence_of_the_configured_length_has_one_step() {
        let mut schedule = KeepWarm::new(5, 100 * MS);
        assert_eq!(schedule.patience(100 * MS), Some(Duration::from_millis(5)));
        assert_eq!(schedule.patience(103 * MS), Some(Duration::from_millis(2)));
        // A bin came first.
        schedule.computed(103 * MS);
        assert_eq!(schedule.patience(105 * MS), Some(Duration::from_millis(3)));
        // None came, and the thread woke late.
        assert_eq!(schedule.patience(120 * MS), Some(Duration::ZERO));
        schedule.computed(120 * MS);
        assert_eq!(schedule.patience(121 * MS), Some(Duration::from_millis(4)));
    }

    #[test]
    fn zero_is_never() {
        let mut schedule = KeepWarm::never();
        schedule.computed(u64::MAX);
        assert_eq!(schedule.patience(u64::MAX), None);
        assert_eq!(KeepWarm::new(1, u64::MAX).patience(u64::MAX), Some(Duration::ZERO));
    }
}
