//! Which readouts have anything to be fitted to: a recording can hold a series whose every sample lies outside of the trials.

use super::readouts::{Readout, dims};
use super::trial::Trial;

/// The readouts whose quantity is known in some bin of these trials, at some lag. Notes say which are not, in trials of which
/// `part`. Without the first readout's among them there are none.
pub(super) fn known(
    readouts: &[Readout],
    trials: &[Trial],
    part: &str,
    notes: &mut Vec<String>,
) -> Vec<Readout> {
    let columns = dims(readouts).max(1);
    let mut known: Vec<&str> = Vec::new();
    let mut first = 0;
    for readout in readouts {
        let is_known = |trial: &Trial| {
            trial
                .targets
                .chunks_exact(columns)
                .any(|row| row[first..first + readout.dims].iter().all(|value| value.is_finite()))
        };
        if trials.iter().any(is_known) {
            known.push(&readout.series);
        }
        first += readout.dims;
    }
    let mut unknown: Vec<&str> = readouts.iter().map(|readout| readout.series.as_str()).collect();
    unknown.retain(|series| !known.contains(series));
    unknown.dedup();
    // What is published comes first.
    let published = readouts.first().map_or("", |readout| readout.series.as_str());
    for series in &unknown {
        let effect = match (part, *series == published) {
            ("training", true) => "the model estimates rates only",
            ("training", false) => "it is not read out",
            _ => "it has no score",
        };
        notes.push(format!("{series} is known in no bin of a {part} trial: {effect}"));
    }
    if unknown.contains(&published) {
        return Vec::new();
    }
    readouts.iter().filter(|readout| known.contains(&readout.series.as_str())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndt_protocol::bundle::quantity::Quantity;

    #[test]
    fn a_velocity_outside_of_all_trials_is_not_read_out() {
        let trial = |values: &[f32]| Trial { bins: 2, targets: values.to_vec(), ..Trial::default() };
        let readout = |quantity: Quantity, lag_ms| Readout {
            dims: 1,
            unit: quantity.unit().to_owned(),
            lag_ms,
            series: quantity.series().to_owned(),
        };
        let readouts = [(Quantity::Velocity, 0.0), (Quantity::Velocity, 100.0), (Quantity::Force, 0.0)];
        let readouts = readouts.map(|(quantity, lag_ms)| readout(quantity, lag_ms));
        let nan = f32::NAN;
        let mut notes = Vec::new();
        let found = known(&readouts, &[trial(&[1.0, nan, nan, nan, nan, nan])], "training", &mut notes);
        assert_eq!(found, readouts[..2], "a velocity that is known at one lag is kept at both");
        assert_eq!(notes, ["hand_force is known in no bin of a training trial: it is not read out"]);
        notes.clear();
        let found = known(&readouts, &[trial(&[nan, nan, 1.0, nan, nan, 1.0])], "training", &mut notes);
        assert_eq!(found, Vec::new());
        assert_eq!(
            notes,
            ["hand_vel is known in no bin of a training trial: the model estimates rates only"]
        );
    }
}
