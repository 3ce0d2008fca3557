//! Schedules keep-warm steps of an idle decode thread, whose results are discarded, so that the next bin finds caches and clocks
//! hot. No I/O and no clock: time is an argument.
//!
//! Between two bins other programs fill the caches, and the CPU lowers its clock. On two cores of a shared virtual machine a
//! step of ONNX Runtime took 88 us right after another step, 570 to 660 us after 20 ms of silence, and 225 us with a
//! keep-warm step every 2 ms of silence (medians of 300, the reference model of `benches/engines.rs`). A step of the native
//! engine took 30 to 36, 202 to 221 and 50 to 52 us.
//!
//! Through the pipeline with 5 ms bins at `SCHED_FIFO`, keep-warm steps lowered the median from due to published from 471-680 us
//! to 242-357 us in five runs each; 3 bins of 12,800 missed their deadline without them and 2 with them. In the normal
//! scheduling class the median fell as much; 78 bins of 26,800 missed their deadline without them and 131 with them, 87 of
//! those in two of nine runs. The machine was shared and its load varied, so these misses say nothing about the cause.

use std::time::Duration;

/// Schedule of keep-warm steps: one after each configured interval in which nothing was computed.
#[derive(Debug)]
pub struct KeepWarm {
    every_ns: Option<u64>,
    due_ns: u64,
}

impl KeepWarm {
    /// Schedules one step after each `every_ms` of silence, or none if that is 0.
    pub fn new(every_ms: u64, now_ns: u64) -> Self {
        let mut schedule =
            KeepWarm { every_ns: every_ms.checked_mul(1_000_000).filter(|ns| *ns > 0), due_ns: 0 };
        schedule.computed(now_ns);
        schedule
    }

    /// Schedules no steps at all.
    pub fn never() -> Self {
        KeepWarm::new(0, 0)
    }

    /// Notes that a bin or a keep-warm step was computed at `now_ns`.
    pub fn computed(&mut self, now_ns: u64) {
        self.due_ns = self.every_ns.map_or(u64::MAX, |every_ns| now_ns.saturating_add(every_ns));
    }

    /// Time to wait for a bin until the next keep-warm step is due, zero when it is due. `None` means to wait without limit.
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
