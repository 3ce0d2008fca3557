//! Whether systemd's watchdog may be told that all is well: a daemon that hangs is to be restarted, one whose rig is silent is not.
//!
//! Pure: heartbeats and the time in, a judgement out.

use crate::pipeline::heartbeats::{Failures, Heartbeats};

/// How long a thread may be busy with one thing, or leave its work lying, ns. A step takes microseconds, or milliseconds at most, and the
/// publish thread turns at least once a second. The limit is that much longer because a busy computer, or a virtual machine that is
/// moved to another host, holds every thread up for much longer than a step takes.
pub const HANGS_AFTER_NS: u64 = 2_000_000_000;

/// How long every bin that comes may go without a result that is finite and on time, ns. It is longer than the first limit, because
/// such a daemon still answers each bin, and a new one would first have to fill its history.
pub const FAILS_AFTER_NS: u64 = 10_000_000_000;

/// What is wrong with a daemon. Its sentence is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unhealthy {
    /// The publish thread does not turn.
    #[error("expected the publish thread to turn at least once a second, found no turn for {} ms", ms(*.0))]
    PublishHangs(u64),
    /// The decode thread takes in no bin, or does not come back from a step.
    #[error("expected the decode thread to finish a step, found it hanging for {} ms", ms(*.0))]
    DecodeHangs(u64),
    /// Bins come, and the engine computes none of them.
    #[error("expected finite estimates in time, found none for {} ms in which bins came", ms(*.0))]
    NothingComputed(u64),
}

fn ms(ns: u64) -> u64 {
    ns / 1_000_000
}

/// Judges the heartbeats at `now_ns`.
///
/// # Errors
/// [`Unhealthy`], with the time in ns for which it has been so. systemd is not to be told then that all is well.
pub fn judge(heartbeats: &Heartbeats, now_ns: u64) -> Result<(), Unhealthy> {
    let Heartbeats { turned_ns, busy_since_ns, failures } = *heartbeats;
    let still_ns = now_ns.saturating_sub(turned_ns);
    if still_ns > HANGS_AFTER_NS {
        return Err(Unhealthy::PublishHangs(still_ns));
    }
    let busy_ns = busy_since_ns.map_or(0, |since_ns| now_ns.saturating_sub(since_ns));
    if busy_ns > HANGS_AFTER_NS {
        return Err(Unhealthy::DecodeHangs(busy_ns));
    }
    // Counted to the last failure and not to now: while no bin comes, nothing fails.
    let failing = |Failures { since_ns, until_ns }: Failures| until_ns.saturating_sub(since_ns);
    match failures.map_or(0, failing) {
        failing_ns if failing_ns > FAILS_AFTER_NS => Err(Unhealthy::NothingComputed(failing_ns)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const NOW: u64 = 10_000 * S;

    fn judged(busy_since_ns: Option<u64>, failures: Option<(u64, u64)>) -> Result<(), Unhealthy> {
        let failures = failures.map(|(since_ns, until_ns)| Failures { since_ns, until_ns });
        judge(&Heartbeats { turned_ns: NOW - S, busy_since_ns, failures }, NOW)
    }

    #[test]
    fn a_silent_rig_is_no_reason_to_die() {
        assert_eq!(judged(None, None), Ok(()));
        // The last bin before an hour of silence had no result.
        assert_eq!(judged(None, Some((NOW - 3_600 * S, NOW - 3_600 * S))), Ok(()));
    }

    #[test]
    fn a_publish_thread_that_does_not_turn_is_found() {
        let turned = |turned_ns| judge(&Heartbeats { turned_ns, ..Heartbeats::default() }, NOW);
        assert_eq!(turned(NOW - 2 * S), Ok(()));
        assert_eq!(turned(NOW - 3 * S), Err(Unhealthy::PublishHangs(3 * S)));
        // A clock that is read a moment earlier than the thread read it.
        assert_eq!(turned(NOW + 1), Ok(()));
    }

    #[test]
    fn an_engine_that_does_not_return_is_found_also_when_no_bin_comes_any_more() {
        assert_eq!(judged(Some(NOW - 2 * S), None), Ok(()));
        let found = judged(Some(NOW - 3 * S), None).unwrap_err();
        assert_eq!(found, Unhealthy::DecodeHangs(3 * S));
        let said = "expected the decode thread to finish a step, found it hanging for 3000 ms";
        assert_eq!(found.to_string(), said);
    }

    #[test]
    fn bins_of_which_none_is_computed_are_found() {
        assert_eq!(judged(None, Some((NOW - 10 * S, NOW))), Ok(()));
        assert_eq!(judged(None, Some((NOW - 11 * S, NOW))), Err(Unhealthy::NothingComputed(11 * S)));
    }
}
