//! What is read out of the model besides firing rates: the hand's velocity, speed and position, each at a lag.
//!
//! A readout's target at a bin is the behaviour at the bin's centre plus the lag, linearly interpolated between samples.
//! A target that is not known is NaN.

use ndt_protocol::binner::Binner;
use ndt_protocol::bundle::quantity::Quantity;
use ndt_protocol::limits::VELOCITY_DIMS_MAX;
use ndt_replay::session::{Interval, Session};

/// A readout as a bundle's manifest describes it: behaviour series, number of components, unit and lag.
pub use ndt_protocol::bundle::manifest::Readout;

/// Longest gap between two samples across which behaviour is interpolated, s.
const GAP_S: f64 = 0.1;

/// Number of columns of all readouts together.
pub fn dims(readouts: &[Readout]) -> usize {
    readouts.iter().map(|readout| readout.dims).sum()
}

/// Of the `wanted` readouts (quantity and lag in ms) those that every session has, and a note for each that is left out.
/// Without a velocity in every session there are none.
pub(super) fn available(sessions: &[Session], wanted: &[(Quantity, f64)]) -> (Vec<Readout>, Vec<String>) {
    let recorded_dims = |quantity: Quantity| {
        let series = quantity.recorded_series();
        let dims = |session: &Session| session.series(series).map_or(0, |series| series.dims);
        let all: Vec<usize> = sessions.iter().map(dims).collect();
        if all.iter().all(|other| *other == all[0]) { all[0].min(VELOCITY_DIMS_MAX) } else { 0 }
    };
    let (mut readouts, mut notes) = (Vec::new(), Vec::new());
    if recorded_dims(Quantity::Velocity) == 0 {
        let series = Quantity::Velocity.series();
        notes.push(format!("not every recording has {series}: the model estimates rates only"));
        return (readouts, notes);
    }
    for &(quantity, lag_ms) in wanted {
        let (series, unit) = (quantity.series().to_owned(), quantity.unit().to_owned());
        match recorded_dims(quantity) {
            0 => notes.push(format!("not every recording has {series}: it is not read out")),
            recorded => readouts.push(Readout { dims: quantity.dims(recorded), unit, lag_ms, series }),
        }
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
        let quantity = readout.quantity().filter(|quantity| quantity.series() == readout.series);
        let recorded: &str = match quantity {
            Some(quantity) => quantity.recorded_series(),
            None => &readout.series,
        };
        let series = session.series(recorded);
        for bin in 0..bins {
            let instant = interval.start + (bin as f64 + 0.5) * binner.width_s() + readout.lag_ms * 1e-3;
            let is_within = instant < interval.stop + 1e-9;
            let known = series.filter(|_| is_within).and_then(|series| series.at(instant, GAP_S));
            let Some(known) = known else { continue };
            let target = &mut targets[bin * columns + first..][..readout.dims];
            match quantity {
                Some(Quantity::Speed) => {
                    target[0] = known.iter().map(|axis| axis * axis).sum::<f64>().sqrt() as f32;
                }
                Some(Quantity::Velocity | Quantity::Position) | None => {
                    target.iter_mut().zip(known).for_each(|(target, known)| *target = known as f32);
                }
            }
        }
        first += readout.dims;
    }
    targets
}
