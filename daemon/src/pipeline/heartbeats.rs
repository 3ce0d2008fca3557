//! Signs of life of the decode and publish threads. The threads store times, and the control plane reads them.

use ndt_protocol::{Estimate, Quality, Reasons};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A snapshot. All times are `CLOCK_MONOTONIC` ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heartbeats {
    /// The publish thread's last turn.
    pub turned_ns: u64,
    /// Since when the decode thread has something to do and has finished nothing; `None` while it waits for a bin.
    pub busy_since_ns: Option<u64>,
    /// The last failures in a row; `None` where the last bin that was answered was computed.
    pub failures: Option<Failures>,
}

/// Estimates in a row that the daemon itself failed to compute: the engine failed, its result was not finite, or it came too late.
/// Estimates of bins that never came, or that no engine could decode, are neither failures nor do they end the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures {
    /// When the first of them was published, ns.
    pub since_ns: u64,
    /// When the last of them was published, ns.
    pub until_ns: u64,
}

/// What the threads store. Plain atomics, of which 0 stands for none: no thread waits for another.
#[derive(Debug, Default)]
pub struct Pulse {
    turned_ns: AtomicU64,
    busy_since_ns: AtomicU64,
    failing_since_ns: AtomicU64,
    failed_ns: AtomicU64,
}

impl Pulse {
    /// Notes a turn of the publish thread. Runs on that thread, once a turn.
    pub fn turned(&self, now_ns: u64) {
        self.turned_ns.store(now_ns, Relaxed);
    }

    /// Notes that the decode thread will be handed a bin. Runs on the source thread, once a bin and before the bin is in the queue,
    /// so that the end of its decoding comes after this.
    pub fn handed(&self, now_ns: u64) {
        // It already has something to do where this fails.
        self.busy_since_ns.compare_exchange(0, now_ns, Relaxed, Relaxed).ok();
    }

    /// Notes that the decode thread begins a bin or a keep-warm step. Runs on that thread.
    pub fn busy(&self, now_ns: u64) {
        self.busy_since_ns.store(now_ns, Relaxed);
    }

    /// Notes that the decode thread has finished what it began, and whether more waits for it. Runs on that thread.
    pub fn finished(&self, now_ns: u64, more_waits: bool) {
        self.busy_since_ns.store(if more_waits { now_ns } else { 0 }, Relaxed);
    }

    /// Notes an estimate that is published at `now_ns`. Runs on the publish thread, once an estimate.
    pub fn published(&self, estimate: &Estimate, now_ns: u64) {
        let has = |reason| estimate.reasons.contains(reason);
        if has(Reasons::DEADLINE_MISSED) || has(Reasons::ENGINE_FAILED) || has(Reasons::NOT_FINITE) {
            self.failed_ns.store(now_ns, Relaxed);
            if self.failing_since_ns.load(Relaxed) == 0 {
                self.failing_since_ns.store(now_ns, Relaxed);
            }
        } else if is_computed(estimate) {
            self.failing_since_ns.store(0, Relaxed);
        }
    }

    /// Takes a snapshot.
    pub fn heartbeats(&self) -> Heartbeats {
        let time = |stored: &AtomicU64| Some(stored.load(Relaxed)).filter(|ns| *ns > 0);
        Heartbeats {
            turned_ns: self.turned_ns.load(Relaxed),
            busy_since_ns: time(&self.busy_since_ns),
            failures: time(&self.failing_since_ns)
                .map(|since_ns| Failures { since_ns, until_ns: self.failed_ns.load(Relaxed) }),
        }
    }
}

/// Whether an estimate was computed from a bin that came. While the daemon is paused, its quality does not say so.
fn is_computed(estimate: &Estimate) -> bool {
    const NOT_USABLE: [Reasons; 4] =
        [Reasons::MISSING_BIN, Reasons::UNDESCRIBED, Reasons::IMPLAUSIBLE_COUNTS, Reasons::TOO_FEW_CHANNELS];
    let has = |reason: &Reasons| estimate.reasons.contains(*reason);
    let is_inhibited = has(&Reasons::INHIBITED);
    matches!(estimate.quality, Quality::Good | Quality::Warmup)
        || (is_inhibited && estimate.decoded_ns > 0 && !NOT_USABLE.iter().any(has))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decode_thread_is_busy_from_when_it_is_handed_a_bin_until_it_has_finished_all() {
        let pulse = Pulse::default();
        let busy = || pulse.heartbeats().busy_since_ns;
        pulse.handed(10);
        pulse.handed(20);
        assert_eq!(busy(), Some(10), "a thread that never takes a bin is busy since the first");
        pulse.busy(21);
        assert_eq!(busy(), Some(21));
        pulse.finished(22, true);
        assert_eq!(busy(), Some(22));
        pulse.busy(22);
        pulse.finished(23, false);
        assert_eq!(busy(), None);
    }

    #[test]
    fn failures_in_a_row_end_with_a_computed_estimate_and_with_nothing_else() {
        let pulse = Pulse::default();
        let publish = |quality, reasons, now_ns| {
            let mut estimate = Estimate::zero(0, 0);
            (estimate.quality, estimate.reasons) = (quality, reasons);
            pulse.published(&estimate, now_ns);
            pulse.heartbeats().failures.map(|failures| (failures.since_ns, failures.until_ns))
        };
        assert_eq!(publish(Quality::Good, Reasons::default(), 1), None);
        // What the rig does is no failure.
        assert_eq!(publish(Quality::Stale, Reasons::PEER_SILENT, 2), None);
        assert_eq!(publish(Quality::Late, Reasons::OLD_BIN, 3), None);
        assert_eq!(publish(Quality::Fault, Reasons::IMPLAUSIBLE_COUNTS, 4), None);
        assert_eq!(publish(Quality::Late, Reasons::DEADLINE_MISSED, 5), Some((5, 5)));
        assert_eq!(publish(Quality::Stale, Reasons::PEER_GONE, 6), Some((5, 5)));
        assert_eq!(publish(Quality::Fault, Reasons::ENGINE_FAILED, 7), Some((5, 7)));
        assert_eq!(publish(Quality::Fault, Reasons::NOT_FINITE.with(Reasons::DEGRADED), 8), Some((5, 8)));
        assert_eq!(publish(Quality::Warmup, Reasons::SHORT_HISTORY, 9), None);
        assert_eq!(publish(Quality::Late, Reasons::DEADLINE_MISSED, 10), Some((10, 10)));
        // A paused daemon computes, although everything that it publishes is stale.
        let mut inhibited = Estimate::zero(0, 0);
        (inhibited.quality, inhibited.reasons) = (Quality::Stale, Reasons::INHIBITED);
        pulse.published(&inhibited, 11);
        assert_eq!(pulse.heartbeats().failures.map(|failures| failures.since_ns), Some(10), "not computed");
        inhibited.decoded_ns = 12;
        pulse.published(&inhibited, 12);
        assert_eq!(pulse.heartbeats().failures, None);
    }
}
