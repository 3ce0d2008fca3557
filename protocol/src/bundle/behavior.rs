//! The text that says which behaviour a model decodes: series of a recording, columns of them, and velocities that are computed
//! from positions.
//!
//! `hand_vel` is a whole series, `hand_vel[0,1]` or `hand_vel[x,y]` are two of its columns, `velocity(position)` is the velocity
//! that is computed from a series of positions, and `hand_vel[0,1] + emg[0,3]` are several side by side. Such a text is the
//! `series` of a [`Readout`]; every program that needs the behaviour evaluates it on a recording in the same way.

use super::manifest::Readout;
use super::quantity::Quantity;
use crate::limits::VELOCITY_DIMS_MAX;
use crate::lsl::LABELS_VELOCITY;
use std::fmt;

/// What stands between two parts.
const AND: &str = " + ";

/// Names of the first columns of a series.
const AXES: [&str; 3] = ["x", "y", "z"];

/// Behaviour that is decoded: one or more parts side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behavior {
    /// The parts, in the order of their columns.
    pub parts: Vec<Part>,
}

/// One series, or some of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Name of the series in the recording.
    pub series: String,
    /// Columns of the series, counted from 0; empty for all of them.
    pub columns: Vec<usize>,
    /// Whether the series holds positions, from which the velocity is computed.
    pub is_differentiated: bool,
}

impl Behavior {
    /// Reads a text. Whatever is no column list and no `velocity(...)` is part of a name.
    pub fn parse(text: &str) -> Behavior {
        Behavior { parts: text.split(AND).map(Part::parse).collect() }
    }

    /// Several texts side by side.
    pub fn joined<'a>(texts: impl IntoIterator<Item = &'a str>) -> Behavior {
        Behavior { parts: texts.into_iter().flat_map(|text| Behavior::parse(text).parts).collect() }
    }
}

impl Part {
    fn parse(text: &str) -> Part {
        let text = text.trim();
        let (text, mut columns) = match text.strip_suffix(']').and_then(|text| text.rsplit_once('[')) {
            Some((name, list)) => match columns(list) {
                Some(columns) => (name, columns),
                None => (text, Vec::new()),
            },
            None => (text, Vec::new()),
        };
        let inner = text.strip_prefix("velocity(").and_then(|text| text.strip_suffix(')'));
        let Some(inner) = inner else {
            return Part { series: text.trim().to_owned(), columns, is_differentiated: false };
        };
        let of = Part::parse(inner);
        if !of.columns.is_empty() {
            // Columns of columns are columns of the series.
            columns = match columns.is_empty() {
                true => of.columns,
                false => columns.iter().filter_map(|column| of.columns.get(*column).copied()).collect(),
            };
        }
        Part { series: of.series, columns, is_differentiated: true }
    }

    /// Name without the columns.
    fn name(&self) -> String {
        if self.is_differentiated { format!("velocity({})", self.series) } else { self.series.clone() }
    }
}

/// Reads a list of columns, each a number from 0 on or one of x, y and z.
fn columns(list: &str) -> Option<Vec<usize>> {
    let column = |text: &str| {
        let text = text.trim();
        let axis = AXES.iter().position(|axis| text.eq_ignore_ascii_case(axis));
        axis.or_else(|| text.parse().ok())
    };
    list.split(',').map(column).collect()
}

impl fmt::Display for Behavior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.parts.iter().enumerate() {
            let columns: Vec<String> = part.columns.iter().map(usize::to_string).collect();
            f.write_str(if at > 0 { AND } else { "" })?;
            f.write_str(&part.name())?;
            if !columns.is_empty() {
                write!(f, "[{}]", columns.join(","))?;
            }
        }
        Ok(())
    }
}

/// Whether a series of this name and unit is a velocity: it is computed as one, is called `velocity` or `..._vel`, or is in m/s.
pub fn is_velocity(series: &str, unit: &str) -> bool {
    let name = series.to_lowercase();
    let named = ["_vel", "velocity"].iter().any(|ending| name.ends_with(ending));
    named || name.starts_with("velocity(") || Quantity::of(series, unit) == Some(Quantity::Velocity)
}

/// Name and unit of one component of a readout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Name, unique among the components of a readout: `vx`, `vy` and `vz` of a velocity, else such as `emg[3]`.
    pub name: String,
    /// Unit of the value.
    pub unit: String,
}

impl Readout {
    /// Whether the readout is a velocity of at most three components, which programs may move something with.
    pub fn is_velocity(&self) -> bool {
        let behavior = Behavior::parse(&self.series);
        let [part] = &behavior.parts[..] else { return false };
        let are_axes = part.columns.iter().all(|column| *column < VELOCITY_DIMS_MAX);
        self.dims <= VELOCITY_DIMS_MAX && are_axes && is_velocity(&part.name(), &self.unit)
    }

    /// Name and unit of each component, in order.
    pub fn components(&self) -> Vec<Component> {
        let behavior = Behavior::parse(&self.series);
        let mut names: Vec<String> = Vec::with_capacity(self.dims);
        for part in &behavior.parts {
            // Only a single part can be a whole series.
            let columns =
                if part.columns.is_empty() { (0..self.dims).collect() } else { part.columns.clone() };
            let is_scalar = part.columns.is_empty() && self.dims == 1;
            for column in columns {
                names.push(match LABELS_VELOCITY.get(column).filter(|_| self.is_velocity()) {
                    Some(label) => (*label).to_owned(),
                    None if is_scalar => part.name(),
                    None => format!("{}[{column}]", part.name()),
                });
            }
        }
        let units: Vec<&str> = self.unit.split(", ").collect();
        let unit = |at: usize| if units.len() == self.dims { units[at] } else { self.unit.as_str() };
        let components = names.into_iter().take(self.dims).enumerate();
        components.map(|(at, name)| Component { name, unit: unit(at).to_owned() }).collect()
    }
}

/// The unit of components side by side: theirs where all have the same, else a list with one for each.
pub fn joined_unit(units: &[String]) -> String {
    match units {
        [first, others @ ..] if others.iter().all(|unit| unit == first) => first.clone(),
        _ => units.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readout(series: &str, unit: &str, dims: usize) -> Readout {
        Readout { dims, unit: unit.to_owned(), lag_ms: 0.0, series: series.to_owned() }
    }

    fn names(readout: &Readout) -> Vec<String> {
        readout.components().into_iter().map(|Component { name, unit }| format!("{name} {unit}")).collect()
    }

    #[test]
    fn a_text_is_read_as_it_is_written() {
        for text in
            ["hand_vel", "hand_vel[0,1]", "velocity(position)", "velocity(pos)[0] + emg[0,3]", "a (b)[raw]"]
        {
            assert_eq!(Behavior::parse(text).to_string(), text);
        }
        for (text, canonical) in [
            ("hand_vel[x, z]", "hand_vel[0,2]"),
            ("velocity(pos[2,1])", "velocity(pos)[2,1]"),
            ("velocity(pos[2,1])[1]", "velocity(pos)[1]"),
        ] {
            assert_eq!(Behavior::parse(text).to_string(), canonical);
        }
        let joined = Behavior::joined(["hand_vel[x,y]", "emg[0]"]);
        assert_eq!(joined.to_string(), "hand_vel[0,1] + emg[0]");
    }

    #[test]
    fn components_have_names_and_units() {
        assert_eq!(names(&readout("hand_vel", "m/s", 2)), ["vx m/s", "vy m/s"]);
        assert_eq!(names(&readout("hand_vel[1]", "m/s", 1)), ["vy m/s"]);
        assert_eq!(names(&readout("velocity(position)", "pixels/s", 2)), ["vx pixels/s", "vy pixels/s"]);
        assert_eq!(names(&readout("finger_vel", "rad/s", 4))[3], "finger_vel[3] rad/s");
        let some = readout("finger_vel[0,3]", "rad/s", 2);
        assert_eq!(
            names(&some),
            ["finger_vel[0] rad/s", "finger_vel[3] rad/s"],
            "a fourth finger is no axis"
        );
        assert_eq!(names(&readout("force", "N", 1)), ["force N"]);
        let both = readout("hand_vel[0,1] + emg[3]", "m/s, m/s, mV", 3);
        assert_eq!(names(&both), ["hand_vel[0] m/s", "hand_vel[1] m/s", "emg[3] mV"]);
        assert!(!both.is_velocity() && !readout("emg", "mV", 12).is_velocity());
        assert!(!readout("position", "m", 2).is_velocity() && readout("velocity", "deg/s", 2).is_velocity());
    }
}
