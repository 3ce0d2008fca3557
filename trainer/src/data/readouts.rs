//! What is read out of the model besides firing rates: behaviour of the recording (the velocity of the hand, or whatever else was chosen), and
//! further quantities of the hand ([`Quantity`]), each at a lag.
//!
//! A readout's target at a bin is the behaviour at the bin's centre plus the lag, linearly interpolated between samples.
//! A target that is not known is NaN.

use ndt_protocol::binner::Binner;
use ndt_protocol::bundle::behavior::Behavior;
use ndt_protocol::bundle::quantity::Quantity;
use ndt_protocol::limits::OUTPUTS_MAX;
use ndt_replay::session::{BehaviorError, Interval, SLOPE, Series, Session};
use std::borrow::Cow;

/// A readout as a bundle's manifest describes it: behaviour series, number of components, unit and lag.
pub use ndt_protocol::bundle::manifest::Readout;

/// Longest gap between two samples across which behaviour is interpolated, s.
const GAP_S: f64 = 0.1;

/// Number of columns of all readouts together.
pub fn dims(readouts: &[Readout]) -> usize {
    readouts.iter().map(|readout| readout.dims).sum()
}

/// Of the `wanted` readouts (quantity and lag in ms) those that every session has, and a note for each that is left out. `behavior`
/// stands in the place of the velocity; where it is empty, the first session's default does ([`Session::default_behavior`]). Without it in
/// every session there are no readouts.
///
/// # Errors
/// [`BehaviorError`] when a session lacks a behaviour that was asked for.
pub(super) fn available(
    sessions: &[Session],
    wanted: &[(Quantity, f64)],
    behavior: &[String],
) -> Result<(Vec<Readout>, Vec<String>), BehaviorError> {
    let (mut readouts, mut notes) = (Vec::new(), Vec::new());
    let default = || sessions.first().and_then(Session::default_behavior);
    let asked = (!behavior.is_empty()).then(|| Behavior::joined(behavior.iter().map(String::as_str)));
    let chosen = asked.clone().or_else(default);
    let other = chosen.filter(|chosen| chosen.to_string() != Quantity::Velocity.series());
    let decoded = match &other {
        None => shared(sessions, Quantity::Velocity)
            .map(|(dims, unit)| (Quantity::Velocity.series().to_owned(), dims, unit)),
        Some(chosen) => match same(sessions, chosen) {
            Err(error) if asked.is_some() => return Err(error),
            Err(error) => Err(error.to_string()),
            Ok(same) => same,
        },
    };
    let (series, dims, unit) = match decoded {
        Ok(decoded) => decoded,
        Err(why) => return Ok((readouts, vec![format!("{why}: the model estimates rates only")])),
    };
    if let Some(chosen) = &other {
        let why = if asked.is_some() { "as chosen" } else { "by default: there is no hand_vel" };
        notes.push(format!("{series} is decoded, {dims} columns in {unit}, {why}"));
        if chosen.parts.iter().any(|part| part.is_differentiated) {
            notes.push(format!("the velocity is computed {SLOPE}"));
        }
    }
    for &(quantity, lag_ms) in wanted {
        if quantity == Quantity::Velocity {
            readouts.push(Readout { dims, unit: unit.clone(), lag_ms, series: series.clone() });
            continue;
        }
        match shared(sessions, quantity) {
            Err(why) => notes.push(format!("{why}: it is not read out")),
            Ok((recorded, unit)) => readouts.push(Readout {
                dims: quantity.dims(recorded),
                unit,
                lag_ms,
                series: quantity.series().to_owned(),
            }),
        }
    }
    notes.dedup();
    Ok((readouts, notes))
}

/// Name, number of components and unit of a behaviour, the same in every session; otherwise why it is not.
fn same(
    sessions: &[Session],
    behavior: &Behavior,
) -> Result<Result<(String, usize, String), String>, BehaviorError> {
    let of = |session: &Session| {
        let series = session.decoded(behavior)?;
        Ok((series.name.clone(), series.dims, unit_text(&series).to_owned()))
    };
    let found = sessions.iter().map(of).collect::<Result<Vec<_>, BehaviorError>>()?;
    let Some((first, others)) = found.split_first() else {
        return Ok(Err(format!("no recording has {behavior}")));
    };
    let (name, dims, unit) = first;
    Ok(match others.iter().find(|other| *other != first) {
        Some((_, other_dims, other_unit)) => Err(format!(
            "{name} has {dims} columns in {unit} in one recording and {other_dims} in {other_unit} in another"
        )),
        None => Ok(first.clone()),
    })
}

/// The unit of a series, or a word for none.
fn unit_text(series: &Series) -> &str {
    let unit = series.unit.trim();
    if unit.is_empty() { "unknown" } else { unit }
}

/// The series of each readout that is not one of the quantities of the hand, as a session has it; `None` for the others.
pub(super) fn decoded<'a>(session: &'a Session, readouts: &[Readout]) -> Vec<Option<Cow<'a, Series>>> {
    let mut found: Vec<Option<Cow<'a, Series>>> = Vec::with_capacity(readouts.len());
    for (at, readout) in readouts.iter().enumerate() {
        let again = readouts[..at].iter().position(|before| before.series == readout.series);
        let series = match again {
            Some(before) => found[before].clone(),
            None if quantity_of(readout).is_some() => None,
            None => session.decoded(&Behavior::parse(&readout.series)).ok(),
        };
        found.push(series.filter(|series| unit_text(series) == readout.unit && series.dims == readout.dims));
    }
    found
}

/// The quantity that has the name of a readout.
fn quantity_of(readout: &Readout) -> Option<Quantity> {
    readout.quantity().filter(|quantity| quantity.series() == readout.series)
}

/// Says that a series is missing, and which ones there are.
fn absent(sessions: &[Session], name: &str) -> String {
    let [session] = sessions else { return format!("not every recording has {name}") };
    let found: Vec<&str> = session.behavior.iter().map(|series| series.name.as_str()).collect();
    if found.is_empty() {
        return format!("the recording has no behaviour and so no {name}");
    }
    format!("the recording has no series {name} (--behavior chooses one of {})", found.join(", "))
}

/// Number of components of the series that a quantity is computed from, and the quantity's unit, both the same in every
/// session; otherwise why the sessions do not share the quantity.
fn shared(sessions: &[Session], quantity: Quantity) -> Result<(usize, String), String> {
    let name = quantity.series();
    let series: Option<Vec<&Series>> = sessions.iter().map(|session| recorded(session, quantity)).collect();
    let series = series.filter(|series| series.iter().all(|series| series.dims > 0));
    let series = series.ok_or_else(|| absent(sessions, name))?;
    let unit = |series: &&Series| unit_of(quantity, series);
    let Some((dims, first)) = series.first().map(|series| (series.dims, unit(series))) else {
        return Err(absent(sessions, name));
    };
    if let Some(other) = series.iter().find(|series| series.dims != dims) {
        return Err(format!("{name} has {dims} components in one recording and {} in another", other.dims));
    }
    if let Some(other) = series.iter().map(unit).find(|unit| *unit != first) {
        return Err(format!("{name} is in {first} in one recording and in {other} in another"));
    }
    if dims > OUTPUTS_MAX {
        return Err(format!("{name} has {dims} components, of which at most {OUTPUTS_MAX} can be read out"));
    }
    Ok((dims, first))
}

/// The unit of a quantity that is computed from this series. A unit that belongs to no quantity is kept as it is recorded; a
/// series in the unit of another quantity is taken as if it were in its own.
fn unit_of(quantity: Quantity, series: &Series) -> String {
    let recorded = series.unit.trim();
    if Quantity::ALL.iter().any(|quantity| quantity.unit() == recorded) {
        return quantity.unit().to_owned();
    }
    let recorded = if recorded.is_empty() { "unknown" } else { recorded };
    let is_change_of_it = quantity == Quantity::Acceleration && series.name != quantity.series();
    if is_change_of_it { format!("{recorded}/s") } else { recorded.to_owned() }
}

/// The series of a session that a quantity is computed from.
fn recorded(session: &Session, quantity: Quantity) -> Option<&Series> {
    quantity.recorded_series().iter().find_map(|name| session.series(name))
}

/// Targets of all readouts in the bins of an interval, `[T, R]`. Behaviour after the interval's end belongs to another
/// trial and counts as unknown, and so does behaviour in another unit than the readout's. `decoded` is what [`decoded`] returns.
pub(super) fn targets(
    session: &Session,
    interval: Interval,
    bins: usize,
    binner: Binner,
    readouts: &[Readout],
    decoded: &[Option<Cow<'_, Series>>],
) -> Vec<f32> {
    let columns = dims(readouts);
    let mut targets = vec![f32::NAN; bins * columns];
    let mut first = 0;
    for (readout, decoded) in readouts.iter().zip(decoded) {
        let quantity = quantity_of(readout);
        let series = match quantity {
            Some(quantity) => {
                recorded(session, quantity).filter(|series| unit_of(quantity, series) == readout.unit)
            }
            None => decoded.as_deref(),
        };
        let behaviour = Behaviour { series, end: interval.stop, bin_s: binner.width_s() };
        for bin in 0..bins {
            let instant = interval.start + (bin as f64 + 0.5) * binner.width_s() + readout.lag_ms * 1e-3;
            let Some(target) = behaviour.value(quantity, instant) else { continue };
            let to = &mut targets[bin * columns + first..][..readout.dims];
            to.iter_mut().zip(target).for_each(|(to, value)| *to = value as f32);
        }
        first += readout.dims;
    }
    targets
}

/// What a session holds of the behaviour that one readout decodes.
struct Behaviour<'a> {
    series: Option<&'a Series>,
    /// End of the trial, s. Later samples are not used.
    end: f64,
    /// Width of a bin, s.
    bin_s: f64,
}

impl Behaviour<'_> {
    /// The recorded value at an instant (s); `None` where it is not known.
    fn at(&self, instant: f64) -> Option<Vec<f64>> {
        self.series.filter(|_| instant < self.end + 1e-9)?.at(instant, GAP_S)
    }

    /// The value of a quantity at an instant (s); `None` where it is not known. Without a quantity, the recorded value.
    fn value(&self, quantity: Option<Quantity>, instant: f64) -> Option<Vec<f64>> {
        match quantity {
            Some(Quantity::Speed) => Some(vec![length(&self.at(instant)?)]),
            Some(Quantity::Acceleration) => self.acceleration(instant),
            Some(Quantity::Velocity | Quantity::Position | Quantity::Force) | None => self.at(instant),
        }
    }

    /// The acceleration at an instant (s) as recorded, or else the central difference of the velocity over one bin, because
    /// a difference of neighbouring samples would be mostly noise.
    fn acceleration(&self, instant: f64) -> Option<Vec<f64>> {
        if self.series?.name == Quantity::Acceleration.series() {
            return self.at(instant);
        }
        let half = self.bin_s / 2.0;
        let (before, after) = (self.at(instant - half)?, self.at(instant + half)?);
        Some(before.iter().zip(after).map(|(before, after)| (after - before) / self.bin_s).collect())
    }
}

/// Length of a vector.
fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|axis| axis * axis).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session in which every series that a quantity can be computed from holds `value(time)` in x and `-value(time)` in
    /// y, in the unit of the quantity of that name.
    fn session(value: impl Fn(f64) -> f64) -> Session {
        let timestamps: Vec<f64> = (0..1000).map(|sample| f64::from(sample) * 1e-3).collect();
        let data: Vec<f64> = timestamps.iter().flat_map(|&time| [value(time), -value(time)]).collect();
        let series = |quantity: Quantity| Series {
            name: quantity.series().to_owned(),
            unit: quantity.unit().to_owned(),
            converted_from: None,
            dims: 2,
            timestamps: timestamps.clone(),
            data: data.clone(),
        };
        Session {
            identifier: "made up".to_owned(),
            units: Vec::new(),
            observed: Vec::new(),
            trials: Vec::new(),
            behavior: Quantity::ALL.map(series).to_vec(),
            source: Default::default(),
        }
    }

    /// Targets of one quantity in the 20 ms bins from 0.1 s to 0.3 s.
    fn targets_of(session: &Session, quantity: Quantity, lag_ms: f64) -> (Readout, Vec<f32>) {
        let binner = Binner::new(20.0).unwrap();
        let interval = Interval { start: 0.1, stop: 0.3 };
        let (readouts, notes) = available(std::slice::from_ref(session), &[(quantity, lag_ms)], &[]).unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        let decoded = decoded(session, &readouts);
        let targets = targets(session, interval, 10, binner, &readouts, &decoded);
        (readouts[0].clone(), targets)
    }

    #[test]
    fn the_target_of_every_quantity_is_its_value_at_the_bins_centre() {
        for quantity in Quantity::ALL {
            let (readout, targets) = targets_of(&session(|time| 3.0 * time), quantity, 0.0);
            let expected = |time: f64| match quantity {
                Quantity::Velocity | Quantity::Acceleration | Quantity::Position | Quantity::Force => {
                    vec![3.0 * time, -3.0 * time]
                }
                Quantity::Speed => vec![3.0 * time * 2f64.sqrt()],
            };
            assert_eq!(targets.len(), 10 * readout.dims, "{quantity:?}");
            for (bin, target) in targets.chunks_exact(readout.dims).enumerate() {
                for (found, expected) in target.iter().zip(expected(0.11 + 0.02 * bin as f64)) {
                    assert!((f64::from(*found) - expected).abs() < 1e-4, "{quantity:?}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn what_is_computed_from_the_series_of_another_quantity_is_no_copy_of_it() {
        let value = |time: f64| 3.0 * time * time;
        let all = session(value);
        for quantity in Quantity::ALL {
            for source in quantity.recorded_series().iter().filter(|name| **name != quantity.series()) {
                let mut session = all.clone();
                session.behavior.retain(|series| series.name == *source || series.name == "hand_vel");
                let (readout, targets) = targets_of(&session, quantity, 0.0);
                for (bin, target) in targets.chunks_exact(readout.dims).enumerate() {
                    let copied = value(0.11 + 0.02 * bin as f64);
                    let difference = (f64::from(target[0]) - copied).abs();
                    assert!(difference > 1e-3, "{quantity:?} is a copy of {source}");
                }
            }
        }
    }

    #[test]
    fn an_acceleration_that_is_not_recorded_is_the_change_of_the_velocity() {
        let mut session = session(|time| 3.0 * time);
        session.behavior.retain(|series| series.name != "hand_acc");
        let (readout, targets) = targets_of(&session, Quantity::Acceleration, 0.0);
        assert_eq!((readout.series.as_str(), readout.unit.as_str(), readout.dims), ("hand_acc", "m/s^2", 2));
        for target in targets.chunks_exact(2) {
            assert!((target[0] - 3.0).abs() < 1e-4 && (target[1] + 3.0).abs() < 1e-4, "{target:?}");
        }
        let (_, later) = targets_of(&session, Quantity::Acceleration, 100.0);
        let known = later.chunks_exact(2).filter(|target| target[0].is_finite()).count();
        assert_eq!(known, 5, "the last of these bins ends with the trial");
    }

    #[test]
    fn a_target_after_the_end_of_its_trial_is_unknown() {
        for quantity in Quantity::ALL {
            let (readout, targets) = targets_of(&session(|time| 3.0 * time), quantity, 100.0);
            let known = targets.chunks_exact(readout.dims).map(|target| target[0].is_finite());
            let known = known.filter(|known| *known).count();
            assert_eq!(known, 5, "{quantity:?}: 100 ms of the 200 ms are within the trial");
        }
    }

    #[test]
    fn a_quantity_that_a_recording_lacks_is_left_out_with_a_note() {
        let others = Quantity::ALL.into_iter().filter(|quantity| *quantity != Quantity::Velocity);
        for quantity in others {
            let mut session = session(|time| time);
            session.behavior.retain(|series| !quantity.recorded_series().contains(&series.name.as_str()));
            session.behavior.extend(self::session(|time| time).series("hand_vel").cloned());
            let is_computed = quantity.recorded_series().contains(&"hand_vel");
            let (readouts, notes) = available(&[session], &[(quantity, 0.0)], &[]).unwrap();
            assert_eq!((readouts.len(), notes.len()), (usize::from(is_computed), usize::from(!is_computed)));
        }
    }

    /// The session with its velocity in another unit.
    fn in_unit(unit: &str) -> Session {
        let mut session = session(|time| time);
        session.behavior.retain(|series| series.name == "hand_vel");
        session.behavior[0].unit = unit.to_owned();
        session
    }

    #[test]
    fn a_unit_that_is_not_understood_is_carried_through() {
        let wanted =
            [Quantity::Velocity, Quantity::Speed, Quantity::Acceleration].map(|quantity| (quantity, 0.0));
        let units = |unit: &str| {
            let (readouts, notes) = available(&[in_unit(unit)], &wanted, &[]).unwrap();
            assert_eq!(notes, Vec::<String>::new());
            readouts.into_iter().map(|readout| readout.unit).collect::<Vec<_>>()
        };
        assert_eq!(units("pixels/s"), ["pixels/s", "pixels/s", "pixels/s/s"]);
        assert_eq!(units(""), ["unknown", "unknown", "unknown/s"]);
        assert_eq!(units("m"), ["m/s", "m/s", "m/s^2"], "the unit of another quantity must be a mistake");
        assert!(Quantity::ALL.iter().all(|quantity| quantity.unit() != "pixels/s"));
    }

    #[test]
    fn values_in_different_units_are_never_mixed() {
        let (readouts, notes) =
            available(&[in_unit("m/s"), in_unit("pixels/s")], &[(Quantity::Velocity, 0.0)], &[]).unwrap();
        let expected =
            "hand_vel is in m/s in one recording and in pixels/s in another: the model estimates rates only";
        assert_eq!((readouts, notes), (Vec::new(), vec![expected.to_owned()]));
        let (readouts, _) = available(&[in_unit("m/s")], &[(Quantity::Velocity, 0.0)], &[]).unwrap();
        let (binner, interval) = (Binner::new(20.0).unwrap(), Interval { start: 0.1, stop: 0.3 });
        let known = |session: &Session| {
            let decoded = decoded(session, &readouts);
            let targets = targets(session, interval, 10, binner, &readouts, &decoded);
            targets.iter().filter(|target| target.is_finite()).count()
        };
        assert_eq!((known(&in_unit("m/s")), known(&in_unit("pixels/s"))), (20, 0));
    }
}
