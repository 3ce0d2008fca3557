//! Holes in the observation of a session: time of which nobody knows what the units did.

use ndt_replay::session::{Interval, Session};

/// A hole of so many bins of 20 ms, 0.4 s after the start of a trial.
pub fn hole(trial: &Interval, bins: f64) -> Interval {
    Interval { start: trial.start + 0.4, stop: trial.start + 0.4 + bins * 0.02 }
}

/// Takes `hole` out of the time in which the units of `session` were observed.
pub fn cut(session: &mut Session, hole: &Interval) {
    let around = |seen: &Interval| {
        let parts = [
            Interval { start: seen.start, stop: seen.stop.min(hole.start) },
            Interval { start: seen.start.max(hole.stop), stop: seen.stop },
        ];
        if seen.overlap_s(hole) > 0.0 { parts.to_vec() } else { vec![*seen] }
    };
    session.observed =
        session.observed.iter().flat_map(around).filter(|part| part.stop > part.start).collect();
}
