//! Which units of a recording a command takes, and what they are called: the options that every command has that reads a recording.

use crate::session::Value;
use std::fmt;
use std::str::FromStr;

/// Units of a recording: selection, identity and held-out units.
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(feature = "options", derive(clap::Args))]
pub struct UnitOptions {
    /// Take only the units whose COLUMN has this VALUE, such as location=M1. Columns are those of the unit table and of its electrodes.
    /// May be given several times: all conditions must hold.
    #[cfg_attr(feature = "options", arg(long = "where", value_name = "COLUMN=VALUE"))]
    pub conditions: Vec<Condition>,
    /// Column of whole numbers that identifies a unit across recordings [default: the table's ids; where they only number the rows, the
    /// electrodes, if each unit has its own].
    #[cfg_attr(feature = "options", arg(long, value_name = "COLUMN"))]
    pub unit_id: Option<String>,
    /// Units to hold out: a fraction of the units, or none [default: those that the recording marks in the column heldout].
    #[cfg_attr(feature = "options", arg(long, value_name = "FRACTION"))]
    pub held_out: Option<HeldOut>,
    /// Seed by which --held-out draws units. The same seed holds out the same ids in every recording of the same units.
    #[cfg_attr(
        feature = "options",
        arg(long, value_name = "SEED", default_value_t = 0, requires = "held_out")
    )]
    pub held_out_seed: u64,
    /// State that units of the same id are the same units in all recordings, although the ids only number the rows of a table.
    #[cfg_attr(feature = "options", arg(long))]
    pub same_units: bool,
}

impl UnitOptions {
    /// The arguments of a command line that give these options.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> =
            self.conditions.iter().map(|condition| format!("--where={condition}")).collect();
        arguments.extend(self.unit_id.iter().map(|column| format!("--unit-id={column}")));
        if let Some(held_out) = self.held_out {
            arguments.push(match held_out {
                HeldOut::None => "--held-out=none".to_owned(),
                HeldOut::Fraction(part) => format!("--held-out={part}"),
            });
            arguments.push(format!("--held-out-seed={}", self.held_out_seed));
        }
        if self.same_units {
            arguments.push("--same-units".to_owned());
        }
        arguments
    }
}

/// A condition on one column, such as `location=M1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Name of the column.
    pub column: String,
    /// The value that a unit must have in it.
    pub value: String,
}

impl Condition {
    /// Whether a cell has the value: the same number where both are numbers, else the same text.
    pub fn holds(&self, cell: &Value) -> bool {
        let text = cell.to_string();
        match (self.value.parse::<f64>(), text.parse::<f64>()) {
            (Ok(wanted), Ok(found)) => wanted == found,
            _ if matches!(cell, Value::Bool(_)) => self.value.eq_ignore_ascii_case(&text),
            _ => self.value == text.trim(),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.column, self.value)
    }
}

/// Why a text is no option of the units.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitOptionError {
    /// The condition has no column or no value.
    #[error("expected COLUMN=VALUE, such as location=M1, found \"{found}\"")]
    Condition {
        /// The text.
        found: String,
    },
    /// The fraction is none.
    #[error("expected none or a fraction above 0 and below 1, such as 0.25, found \"{found}\"")]
    HeldOut {
        /// The text.
        found: String,
    },
}

impl FromStr for Condition {
    type Err = UnitOptionError;

    fn from_str(text: &str) -> Result<Condition, UnitOptionError> {
        let wrong = || UnitOptionError::Condition { found: text.to_owned() };
        let (column, value) = text.split_once('=').ok_or_else(wrong)?;
        let (column, value) = (column.trim().to_owned(), value.trim().to_owned());
        if column.is_empty() || value.is_empty() { Err(wrong()) } else { Ok(Condition { column, value }) }
    }
}

/// Which units are held out, in place of those that the recording marks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HeldOut {
    /// No unit.
    None,
    /// This part of the units.
    Fraction(f64),
}

impl HeldOut {
    /// Marks units by their ids; `true` is held out. Whether a unit of an id is drawn before another one depends on the seed and these
    /// two ids alone.
    pub fn mark(self, ids: &[i64], seed: u64) -> Vec<bool> {
        let HeldOut::Fraction(part) = self else { return vec![false; ids.len()] };
        let count = ((part * ids.len() as f64).round() as usize).clamp(1, ids.len().max(1));
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|&unit| (scattered(seed, ids[unit]), ids[unit]));
        let mut marks = vec![false; ids.len()];
        order.into_iter().take(count).for_each(|unit| marks[unit] = true);
        marks
    }
}

impl FromStr for HeldOut {
    type Err = UnitOptionError;

    fn from_str(text: &str) -> Result<HeldOut, UnitOptionError> {
        match text.parse::<f64>() {
            _ if text.eq_ignore_ascii_case("none") => Ok(HeldOut::None),
            Ok(part) if part > 0.0 && part < 1.0 => Ok(HeldOut::Fraction(part)),
            _ => Err(UnitOptionError::HeldOut { found: text.to_owned() }),
        }
    }
}

/// A number that looks random and depends on the seed and the id (the finaliser of SplitMix64).
fn scattered(seed: u64, id: i64) -> u64 {
    let mut mixed =
        seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(id as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_compares_numbers_as_numbers_and_text_as_text() {
        let holds = |condition: &str, cell: Value| condition.parse::<Condition>().unwrap().holds(&cell);
        assert!(holds("location=M1", Value::Text("M1".to_owned())));
        assert!(!holds("location=M1", Value::Text("M10".to_owned())));
        assert!(holds("shank = 2", Value::Float(2.0)) && holds("shank=2.0", Value::Int(2)));
        assert!(holds("good=True", Value::Bool(true)) && !holds("good=false", Value::Bool(true)));
        let error = "M1".parse::<Condition>().unwrap_err().to_string();
        assert_eq!(error, "expected COLUMN=VALUE, such as location=M1, found \"M1\"");
    }

    #[test]
    fn a_fraction_is_drawn_by_the_seed_and_the_ids_and_not_by_the_order() {
        let held_out = "0.25".parse::<HeldOut>().unwrap();
        let drawn = |ids: &[i64], seed| -> Vec<i64> {
            let marks = held_out.mark(ids, seed);
            let mut drawn: Vec<i64> =
                ids.iter().zip(marks).filter(|(_, mark)| *mark).map(|(id, _)| *id).collect();
            drawn.sort_unstable();
            drawn
        };
        let ids: Vec<i64> = (100..140).collect();
        let reversed: Vec<i64> = ids.iter().rev().copied().collect();
        assert_eq!(drawn(&ids, 1).len(), 10);
        assert_eq!(drawn(&ids, 1), drawn(&reversed, 1));
        assert_ne!(drawn(&ids, 1), drawn(&ids, 2));
        assert_eq!(HeldOut::None.mark(&ids, 0), vec![false; 40]);
        assert!("1".parse::<HeldOut>().is_err() && "nan".parse::<HeldOut>().is_err());
    }
}
