//! The judgements behind `/healthz` and `/readyz`. Pure: what was observed and the time in, a judgement out.
//!
//! *Healthy* is what systemd's watchdog asks for: no thread hangs, and bins that come are computed. A daemon whose rig is silent is
//! healthy. *Ready* is what a session needs: bins come, and estimates that are `good` leave.

use super::observed::Observed;
use crate::input::Absence;
use crate::pipeline::counters::Stats;
use ndt_protocol::{Quality, Reasons};

/// How long ago the newest good estimate may have been published, ns; ten bins where these take longer.
const GOOD_WITHIN_NS: u64 = 1_000_000_000;

/// Why a session cannot begin, or does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// No bin has come since the start.
    #[error("expected bins, found none since the start: {}", absence(*.0))]
    NoBins(Option<Absence>),
    /// The source is silent.
    #[error("expected bins, found a source that is silent ({})", names(*.0))]
    Silent(Reasons),
    /// Estimates leave, and none of the last ones is good.
    #[error("expected good estimates, found none in the last second; the newest is {} ({})", .0.name(), names(*.1))]
    NoneGood(Quality, Reasons),
    /// No estimate leaves.
    #[error("expected an estimate for each bin, found none in the last second")]
    NoEstimates,
}

fn absence(absence: Option<Absence>) -> &'static str {
    match absence {
        None => "the source sends nothing",
        Some(Absence::Searching) => "no stream answers",
        Some(Absence::NoAnswer) => "the source has not answered",
        Some(Absence::UnknownHost) => "the name of the source's computer is not known",
        Some(Absence::Lost) => "the connection is lost",
    }
}

fn names(reasons: Reasons) -> String {
    match reasons.names().collect::<Vec<_>>() {
        names if names.is_empty() => "no reason given".to_owned(),
        names => names.join(", "),
    }
}

/// Judges at `now_ns` whether bins come and good estimates leave; bins are `width_ns` wide.
///
/// # Errors
/// [`NotReady`], whose sentence is for whoever looks at the rig.
pub fn ready(observed: &Observed, stats: &Stats, width_ns: u64, now_ns: u64) -> Result<(), NotReady> {
    let within_ns = GOOD_WITHIN_NS.max(width_ns.saturating_mul(10));
    let is_recent = |at_ns: u64| at_ns > 0 && now_ns.saturating_sub(at_ns) <= within_ns;
    if is_recent(observed.good_ns) {
        return Ok(());
    }
    match &observed.newest {
        None if stats.bins == 0 => Err(NotReady::NoBins(stats.absence)),
        None => Err(NotReady::NoEstimates),
        Some(newest) if !is_recent(newest.published_ns) => Err(NotReady::NoEstimates),
        Some(newest) if newest.quality == Quality::Stale => Err(NotReady::Silent(newest.reasons)),
        Some(newest) => Err(NotReady::NoneGood(newest.quality, newest.reasons)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndt_protocol::Estimate;

    const S: u64 = 1_000_000_000;

    #[test]
    fn a_daemon_is_ready_while_good_estimates_leave_and_says_what_is_missing_otherwise() {
        let (mut observed, mut stats) = (Observed::default(), Stats::default());
        let width_ns = S / 50;
        let ready =
            |observed: &Observed, stats: &Stats, now_ns| super::ready(observed, stats, width_ns, now_ns);
        let none = ready(&observed, &stats, S).unwrap_err();
        assert_eq!(none, NotReady::NoBins(None));
        stats.absence = Some(Absence::Lost);
        let said = ready(&observed, &stats, S).unwrap_err().to_string();
        assert_eq!(said, "expected bins, found none since the start: the connection is lost");
        stats.bins = 9;
        let mut publish = |quality, reasons, published_ns| {
            let mut estimate = Estimate::zero(0, 0);
            (estimate.quality, estimate.reasons, estimate.published_ns) = (quality, reasons, published_ns);
            observed.take_estimate(&estimate);
            observed.clone()
        };
        let warm = publish(Quality::Warmup, Reasons::SHORT_HISTORY, 10 * S);
        let found = ready(&warm, &stats, 10 * S + 1);
        assert_eq!(found, Err(NotReady::NoneGood(Quality::Warmup, Reasons::SHORT_HISTORY)));
        let good = publish(Quality::Good, Reasons::default(), 11 * S);
        assert_eq!(ready(&good, &stats, 12 * S), Ok(()));
        assert_eq!(ready(&good, &stats, 13 * S), Err(NotReady::NoEstimates));
        // One late answer in a second does not end a session.
        let late = publish(Quality::Late, Reasons::DEADLINE_MISSED, 11 * S + 1);
        assert_eq!(ready(&late, &stats, 12 * S), Ok(()));
        let silent = publish(Quality::Stale, Reasons::PEER_SILENT, 20 * S);
        let said = ready(&silent, &stats, 20 * S).unwrap_err().to_string();
        assert_eq!(said, "expected bins, found a source that is silent (peer-silent)");
        // Bins of a second are ten seconds' worth of patience.
        assert_eq!(super::ready(&good, &stats, S, 20 * S), Ok(()));
    }
}
