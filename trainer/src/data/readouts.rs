//! What is read out of the model besides firing rates: the hand's velocity, speed and position, each at a lag.
//!
//! A readout's target at a bin is the behaviour at the bin's centre plus the lag, linearly interpolated between samples.
//! A target that is not known is NaN.

use ndt_protocol::binner::Binner;
use ndt_protocol::limits::VELOCITY_DIMS_MAX;
use ndt_replay::session::{Interval, Session};

/// A readout as a bundle's manifest describes it: behaviour series, number of components, unit and lag.
pub use ndt_protocol::bundle::manifest::Velocity as Readout;

/// Behaviour series of the hand's velocity, m/s.
pub const VELOCITY_SERIES: &str = "hand_vel";

/// Behaviour series of the hand's position, m.
pub const POSITION_SERIES: &str = "hand_pos";

/// The hand's speed, m/s. Recordings need no series of this name: it is the length of the velocity.
pub const SPEED_SERIES: &str = "hand_speed";

/// Longest gap between two samples across which behaviour is interpolated, s.
const GAP_S: f64 = 0.1;

/// Number of columns of all readouts together.
pub fn dims(readouts: &[Readout]) -> usize {
    readouts.iter().map(|readout| readout.dims).sum()
}

/// Of the `wanted` readouts (series and lag in ms) those that every session has, and a note for each that is left out.
/// Without a velocity in every session there are none.
pub(super) fn available(sessions: &[Session], wanted: &[(&str, f64)]) -> (Vec<Readout>, Vec<String>) {
    let dims = |series: &str| {
        let dims = |session: &Session| session.series(series).map_or(0, |series| series.dims);
        let all: Vec<usize> = sessions.iter().map(dims).collect();
        if all.iter().all(|other| *other == all[0]) { all[0].min(VELOCITY_DIMS_MAX) } else { 0 }
    };
    let (mut readouts, mut notes) = (Vec::new(), Vec::new());
    if dims(VELOCITY_SERIES) == 0 {
        notes.push(format!("not every recording has {VELOCITY_SERIES}: the model estimates rates only"));
        return (readouts, notes);
    }
    for &(series, lag_ms) in wanted {
        let (dims, unit) = match series {
            SPEED_SERIES => (1, "m/s"),
            VELOCITY_SERIES => (dims(series), "m/s"),
            _ => (dims(series), "m"),
        };
        if dims == 0 {
            notes.push(format!("not every recording has {series}: it is not read out"));
            continue;
        }
        readouts.push(Readout { dims, unit: unit.to_owned(), lag_ms, series: series.to_owned() });
    }
    (readouts, notes)
}

/// Targets of all readouts in the bins of an interval, `[T, V]`. Behaviour after the interval's end belongs to another
/// trial and counts as unknown.
pub(super) fn targets(
    session: &Session,
    interval: Interval,
    bins: usize,
    binner: Binner,
    readouts: &[Readout],
) -> Vec<f32> {
    let columns = dims(readouts);
    let mut targets = vec![f32::NAN; bins * columns];
    let mut first = 0;
    for readout in readouts {
        let is_speed = readout.series == SPEED_SERIES;
        let series = session.series(if is_speed { VELOCITY_SERIES } else { &readout.series });
        for bin in 0..bins {
            let instant = interval.start + (bin as f64 + 0.5) * binner.width_s() + readout.lag_ms * 1e-3;
            let is_within = instant < interval.stop + 1e-9;
            let known = series.filter(|_| is_within).and_then(|series| series.at(instant, GAP_S));
            let Some(known) = known else { continue };
            let target = &mut targets[bin * columns + first..][..readout.dims];
            if is_speed {
                target[0] = known.iter().map(|axis| axis * axis).sum::<f64>().sqrt() as f32;
            } else {
                target.iter_mut().zip(known).for_each(|(target, known)| *target = known as f32);
            }
        }
        first += readout.dims;
    }
    targets
}
