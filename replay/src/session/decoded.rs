//! The behaviour of a recording that is decoded: series by name, columns of them, and velocities computed from positions.

use super::{Series, Session};
use ndt_protocol::bundle::behavior::{Behavior, Part, is_velocity, joined_unit};
use ndt_protocol::bundle::quantity::Quantity;
use ndt_protocol::limits::OUTPUTS_MAX;
use std::borrow::Cow;

/// Standard deviation of the filter by which a velocity is computed from positions, s.
const SLOPE_SD_S: f64 = 0.02;

/// Half the width of the filter, in standard deviations.
const SLOPE_REACH: f64 = 3.0;

/// How a velocity is computed from positions, for notes and reports.
pub const SLOPE: &str = "as the slope of a line fitted to the positions, weighted by a Gaussian of 20 ms to both sides, which is not \
                         causal: it makes the values to fit and to score against, and decoding does not need them";

/// Why a recording does not have a behaviour.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BehaviorError {
    /// There is no series of this name.
    #[error("expected a behaviour series {series}, found {found}")]
    Series {
        /// The name that was asked for.
        series: String,
        /// The series of the recording in words.
        found: String,
    },
    /// A series has no such column.
    #[error("expected columns from 0 to {} of {series}, found {found}", .dims.saturating_sub(1))]
    Column {
        /// Name of the series.
        series: String,
        /// The column that was asked for.
        found: usize,
        /// Number of its columns.
        dims: usize,
    },
    /// Series side by side have samples at other times.
    #[error("expected {series} to be sampled in the time of {first}, found no sample that both have")]
    Times {
        /// Name of the first series.
        first: String,
        /// Name of the other series.
        series: String,
    },
    /// There are no outputs, or too many.
    #[error(
        "expected 1 to {OUTPUTS_MAX} columns of behaviour, found {found} in {behavior}: choose some, such as {behavior}[0,1]"
    )]
    Outputs {
        /// The behaviour.
        behavior: String,
        /// Number of its columns.
        found: usize,
    },
}

/// Longest distance of two samples between which a series is interpolated where another one has its samples, s.
const GAP_S: f64 = 0.1;

impl Session {
    /// The behaviour as one series, whose name is the text of `behavior` and whose samples are at the times of its first part.
    ///
    /// # Errors
    /// [`BehaviorError`] when the recording lacks a series or column.
    pub fn decoded(&self, behavior: &Behavior) -> Result<Cow<'_, Series>, BehaviorError> {
        let found = self.parts_of(behavior)?;
        let (mut canonical, mut series) = (behavior.clone(), Vec::new());
        for (part, recorded) in canonical.parts.iter_mut().zip(&found) {
            if behavior.parts.len() > 1 && part.columns.is_empty() {
                part.columns = (0..recorded.dims).collect();
            }
            part.series.clone_from(&recorded.name);
        }
        let name = canonical.to_string();
        if let ([part], [recorded]) = (&canonical.parts[..], &found[..])
            && part.columns.is_empty()
            && !part.is_differentiated
        {
            return Ok(Cow::Borrowed(*recorded));
        }
        for (part, recorded) in canonical.parts.iter().zip(found) {
            let whole = if part.is_differentiated { slope(recorded) } else { recorded.clone() };
            series.push(if part.columns.is_empty() { whole } else { columns(&whole, &part.columns) });
        }
        let unit = |series: &Series| {
            let unit = series.unit.trim().replace(", ", " ");
            vec![if unit.is_empty() { "unknown".to_owned() } else { unit }; series.dims]
        };
        let unit = joined_unit(&series.iter().flat_map(unit).collect::<Vec<_>>());
        Ok(Cow::Owned(Series { name, unit, ..side_by_side(series)? }))
    }

    /// The recorded series of each part, checked.
    fn parts_of(&self, behavior: &Behavior) -> Result<Vec<&Series>, BehaviorError> {
        let mut found = Vec::new();
        let mut outputs = 0;
        for Part { series: name, columns, .. } in &behavior.parts {
            let series = self.series_or_ending(name).ok_or_else(|| BehaviorError::Series {
                series: name.clone(),
                found: self.behavior_in_words(),
            })?;
            if let Some(column) = columns.iter().find(|column| **column >= series.dims) {
                return Err(BehaviorError::Column {
                    series: name.clone(),
                    found: *column,
                    dims: series.dims,
                });
            }
            outputs += if columns.is_empty() { series.dims } else { columns.len() };
            found.push(series);
        }
        if !(1..=OUTPUTS_MAX).contains(&outputs) {
            return Err(BehaviorError::Outputs { behavior: behavior.to_string(), found: outputs });
        }
        Ok(found)
    }

    /// The series of this name; a name may be given with its containers, such as `Position/hand`.
    fn series_or_ending(&self, name: &str) -> Option<&Series> {
        let ending = || name.rsplit_once('/').and_then(|(_, ending)| self.series(ending));
        self.series(name).or_else(ending)
    }

    /// The names of the behaviour series.
    pub fn behavior_in_words(&self) -> String {
        let named = |series: &Series| match series.dims {
            1 => series.name.clone(),
            dims => format!("{} (columns 0 to {})", series.name, dims.saturating_sub(1)),
        };
        let names: Vec<String> = self.behavior.iter().map(named).collect();
        if names.is_empty() { "no series of numbers".to_owned() } else { names.join(", ") }
    }

    /// The behaviour that is decoded unless another one is asked for: `hand_vel`; else the first series that is called velocity or
    /// `..._vel`; else the velocity computed from `hand_pos`, or from the first series that is called position or `..._pos`; else EMG; else
    /// force. Series of the eyes are left out. `None` if the recording has
    /// none of these, or none of at most 32 columns.
    pub fn default_behavior(&self) -> Option<Behavior> {
        let fits = |series: &&Series| {
            let name = series.name.to_lowercase();
            (1..=OUTPUTS_MAX).contains(&series.dims) && !name.contains("eye") && !name.contains("gaze")
        };
        let usable = || self.behavior.iter().filter(fits);
        let ends = |series: &&Series, endings: [&str; 2]| {
            let name = series.name.to_lowercase();
            endings.iter().any(|ending| name.ends_with(ending))
        };
        let [velocity, position, force] = [Quantity::Velocity, Quantity::Position, Quantity::Force];
        let named = |name: &str| usable().find(|series| series.name == name);
        let as_is = named(velocity.series())
            .or_else(|| usable().find(|series| ends(series, ["velocity", "_vel"])))
            .or_else(|| usable().find(|series| is_velocity(&series.name, &series.unit)));
        let whole = |series: &Series, is_differentiated| Behavior {
            parts: vec![Part { series: series.name.clone(), columns: Vec::new(), is_differentiated }],
        };
        if let Some(series) = as_is {
            return Some(whole(series, false));
        }
        let positions = named(position.series())
            .or_else(|| usable().find(|series| ends(series, ["position", "_pos"])))
            .or_else(|| usable().find(|series| series.unit == position.unit()));
        if let Some(series) = positions {
            return Some(whole(series, true));
        }
        let contains =
            |what: &'static str| usable().find(move |series| series.name.to_lowercase().contains(what));
        let other = contains("emg").or_else(|| contains("force"));
        let other = other.or_else(|| usable().find(|series| series.unit == force.unit()));
        other.map(|series| whole(series, false))
    }
}

/// Some columns of a series.
fn columns(series: &Series, wanted: &[usize]) -> Series {
    let rows = series.data.chunks_exact(series.dims.max(1));
    let data = rows.flat_map(|row| wanted.iter().map(|column| row[*column])).collect();
    Series { dims: wanted.len(), data, ..series.clone() }
}

/// Series side by side, at the times of the first one.
fn side_by_side(series: Vec<Series>) -> Result<Series, BehaviorError> {
    let mut all = series.into_iter();
    let Some(mut joined) = all.next() else {
        return Err(BehaviorError::Outputs { behavior: String::new(), found: 0 });
    };
    for next in all {
        let mut data = Vec::with_capacity(joined.timestamps.len() * (joined.dims + next.dims));
        let mut shared = 0;
        for (row, time) in joined.data.chunks_exact(joined.dims).zip(&joined.timestamps) {
            let values = next.at(*time, GAP_S);
            shared += usize::from(values.is_some());
            data.extend_from_slice(row);
            data.extend(values.unwrap_or_else(|| vec![f64::NAN; next.dims]));
        }
        if shared == 0 {
            return Err(BehaviorError::Times { first: joined.name, series: next.name });
        }
        joined.dims += next.dims;
        joined.data = data;
    }
    Ok(joined)
}

/// The velocity of a series of positions: at each sample, the slope of a line that is fitted to the known samples around it with
/// Gaussian weights. NaN where the position is unknown, or no other position is near.
fn slope(positions: &Series) -> Series {
    let Series { timestamps, dims, data, .. } = positions;
    let reach = SLOPE_REACH * SLOPE_SD_S;
    let mut velocity = Vec::with_capacity(data.len());
    let mut weights: Vec<[f64; 2]> = Vec::new();
    let (mut first, mut last) = (0, 0);
    for time in timestamps {
        first += timestamps[first..].iter().take_while(|other| **other < time - reach).count();
        last += timestamps[last..].iter().take_while(|other| **other <= time + reach).count();
        weights.clear();
        weights.extend(timestamps[first..last].iter().map(|other| {
            let from = other - time;
            [from, (-0.5 * (from / SLOPE_SD_S).powi(2)).exp()]
        }));
        for column in 0..*dims {
            let [mut sum, mut times, mut values, mut squares, mut products] = [0.0; 5];
            for (sample, [from, weight]) in (first..last).zip(&weights) {
                let value = data[sample * dims + column];
                if value.is_finite() {
                    sum += weight;
                    times += weight * from;
                    values += weight * value;
                    squares += weight * from * from;
                    products += weight * from * value;
                }
            }
            let spread = sum * squares - times * times;
            let is_known = spread > 1e-12 * sum * sum * SLOPE_SD_S * SLOPE_SD_S;
            velocity.push(if is_known { (sum * products - times * values) / spread } else { f64::NAN });
        }
    }
    let unit = match positions.unit.trim() {
        "" => "unknown/s".to_owned(),
        unit => format!("{unit}/s"),
    };
    Series { unit, data: velocity, ..positions.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, unit: &str, value: impl Fn(f64) -> Vec<f64>) -> Series {
        let timestamps: Vec<f64> = (0..1000).map(|sample| f64::from(sample) * 5e-3).collect();
        let rows: Vec<Vec<f64>> = timestamps.iter().map(|time| value(*time)).collect();
        Series {
            name: name.to_owned(),
            unit: unit.to_owned(),
            converted_from: None,
            dims: rows[0].len(),
            timestamps,
            data: rows.concat(),
        }
    }

    fn session(behavior: Vec<Series>) -> Session {
        let identifier = "made up".to_owned();
        Session {
            identifier,
            units: Vec::new(),
            observed: Vec::new(),
            trials: Vec::new(),
            behavior,
            source: Default::default(),
        }
    }

    fn all() -> Session {
        session(vec![
            series("eye_vel", "deg/s", |time| vec![time]),
            series("emg", "mV", |time| (0..12).map(|muscle| time + f64::from(muscle)).collect()),
            series("hand", "m", |time| vec![time.sin(), 2.0 * time]),
            series("finger_vel", "rad/s", |time| vec![time; 4]),
            series("hand_vel", "m/s", |time| vec![time, -time]),
        ])
    }

    #[test]
    fn the_default_is_the_first_of_the_order() {
        let mut session = all();
        for (expected, removed) in [
            (Some("hand_vel"), "hand_vel"),
            (Some("finger_vel"), "finger_vel"),
            (Some("velocity(hand)"), "hand"),
            (Some("emg"), "emg"),
            (None, ""),
        ] {
            assert_eq!(session.default_behavior().map(|behavior| behavior.to_string()).as_deref(), expected);
            session.behavior.retain(|series| series.name != removed);
        }
    }

    #[test]
    fn columns_and_several_series_stand_side_by_side_with_their_units() {
        let session = all();
        let both = session.decoded(&Behavior::parse("hand_vel[y] + emg[3,0]")).unwrap();
        assert_eq!(
            (both.name.as_str(), both.unit.as_str(), both.dims),
            ("hand_vel[1] + emg[3,0]", "m/s, mV, mV", 3)
        );
        assert_eq!(both.at(1.0, 0.1).unwrap(), [-1.0, 4.0, 1.0]);
        let whole = session.decoded(&Behavior::joined(["Velocity/hand_vel", "finger_vel"])).unwrap();
        assert_eq!(whole.name, "hand_vel[0,1] + finger_vel[0,1,2,3]");
    }

    #[test]
    fn a_velocity_is_the_slope_of_the_positions() {
        let session = all();
        let velocity = session.decoded(&Behavior::parse("velocity(hand)")).unwrap();
        assert_eq!((velocity.unit.as_str(), velocity.dims), ("m/s", 2));
        for time in [0.0, 1.0, 2.5, 4.9] {
            let found = velocity.at(time, 0.1).unwrap();
            assert!((found[0] - f64::cos(time)).abs() < 0.03 && (found[1] - 2.0).abs() < 1e-6, "{found:?}");
        }
        let few =
            Series { timestamps: vec![0.0], data: vec![1.0, 2.0], ..session.series("hand").unwrap().clone() };
        assert!(slope(&few).data.iter().all(|value| value.is_nan()), "one sample has no slope");
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_is() {
        let session = all();
        let error = |text: &str| session.decoded(&Behavior::parse(text)).unwrap_err().to_string();
        assert_eq!(
            error("hand_velocity"),
            "expected a behaviour series hand_velocity, found eye_vel, emg (columns 0 to 11), hand (columns 0 to 1), \
             finger_vel (columns 0 to 3), hand_vel (columns 0 to 1)"
        );
        assert_eq!(error("emg[12]"), "expected columns from 0 to 11 of emg, found 12");
        assert!(
            error("emg + emg + emg").starts_with("expected 1 to 32 columns of behaviour, found 36 in emg + ")
        );
    }
}
