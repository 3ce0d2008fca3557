//! The values of a configuration key in a sweep: a list or a range.

use rand::{Rng, RngExt};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// The values of one key.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// The values of a list.
    List(Vec<Value>),
    /// The numbers of a range.
    Range(Range),
}

/// A range of numbers, both ends included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Lowest number of the range.
    pub low: f64,
    /// Highest number of the range.
    pub high: f64,
    /// Distance from one number to the next; `None` for any number of the range.
    pub step: Option<f64>,
    /// Whether draws are uniform in the logarithm instead of in the number itself.
    pub is_log: bool,
    /// Whether only whole numbers belong to the range.
    pub is_integer: bool,
}

/// Significant digits of a drawn number: more make no difference to a fit and are hard to read.
const DIGITS: i32 = 4;

/// Largest number of steps of a range.
const STEPS_MAX: f64 = 10_000.0;

impl Values {
    /// All values in order; `None` for a range without steps.
    pub fn all(&self) -> Option<Vec<Value>> {
        match self {
            Values::List(values) => Some(values.clone()),
            Values::Range(range) => {
                let step = range.step?;
                Some((0..range.steps()).map(|at| range.value(range.low + at as f64 * step)).collect())
            }
        }
    }

    /// A random value; `None` for an empty list.
    pub fn draw(&self, random: &mut impl Rng) -> Option<Value> {
        match self {
            Values::List(values) if values.is_empty() => None,
            Values::List(values) => values.get(random.random_range(0..values.len())).cloned(),
            Values::Range(range) => Some(range.draw(random)),
        }
    }
}

impl Range {
    fn steps(&self) -> usize {
        // A range from 0.1 to 0.3 by 0.1 must have three values in spite of rounding.
        self.step.map_or(0, |step| ((self.high - self.low) / step + 1e-9).floor() as usize + 1)
    }

    fn draw(&self, random: &mut impl Rng) -> Value {
        if let Some(step) = self.step {
            return self.value(self.low + random.random_range(0..self.steps()) as f64 * step);
        }
        // A margin of one half on both sides makes the outermost whole numbers as likely as the others.
        let margin = if self.is_integer { 0.5 } else { 0.0 };
        let (low, high) = (self.low - margin, self.high + margin);
        let part: f64 = random.random_range(0.0..1.0);
        let drawn =
            if self.is_log { (low.ln() + part * (high / low).ln()).exp() } else { low + part * (high - low) };
        self.value(drawn.clamp(self.low, self.high))
    }

    fn value(&self, number: f64) -> Value {
        if self.is_integer {
            return Value::Integer(number.round() as i64);
        }
        let rounded = format!("{number:.*e}", (DIGITS - 1) as usize).parse().unwrap_or(number);
        Value::Float(rounded.clamp(self.low, self.high))
    }
}

/// Reads the table `[space]`. `default` returns the default value of a key, whose type the values must have. Problems
/// are added to `problems`.
pub fn read(
    space: &Table,
    default: &dyn Fn(&str) -> Option<Value>,
    problems: &mut Vec<String>,
) -> BTreeMap<String, Values> {
    let mut found = BTreeMap::new();
    for (key, value) in leaves(space) {
        let place = format!("space.{key}");
        let values = match &value {
            Value::Array(values) if values.is_empty() => {
                Err(vec![format!("{place}: expected values, found none")])
            }
            Value::Array(values) => Ok(Values::List(values.clone())),
            Value::Table(table) => range(table, &place, default(&key)).map(Values::Range),
            other => Err(vec![format!("{place}: expected a list or {{ low, high }}, found {other}")]),
        };
        match values {
            Ok(values) => drop(found.insert(key, values)),
            Err(more) => problems.extend(more),
        }
    }
    found
}

/// All dotted keys of a table with their values. A range and an empty table count as values.
pub fn leaves(table: &Table) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner)
                if !inner.is_empty() && !inner.contains_key("low") && !inner.contains_key("high") =>
            {
                found.extend(leaves(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)));
            }
            _ => found.push((key.clone(), value.clone())),
        }
    }
    found
}

fn range(table: &Table, place: &str, default: Option<Value>) -> Result<Range, Vec<String>> {
    let mut problems = Vec::new();
    for key in table.keys().filter(|key| !["low", "high", "step", "scale"].contains(&key.as_str())) {
        problems.push(format!("{place}: expected low, high, step or scale, found {key}"));
    }
    let mut number = |key: &str| match table.get(key) {
        Some(Value::Float(number)) if number.is_finite() => Some(*number),
        Some(Value::Integer(number)) => Some(*number as f64),
        Some(other) => {
            problems.push(format!("{place}: expected a number for {key}, found {other}"));
            None
        }
        None => None,
    };
    let (low, high, step) = (number("low"), number("high"), number("step"));
    let is_log = match table.get("scale").map(|scale| scale.as_str().unwrap_or_default()) {
        None | Some("linear") => false,
        Some("log") => true,
        Some(_) => {
            problems.push(format!("{place}: expected scale linear or log, found {}", table["scale"]));
            false
        }
    };
    let (Some(low), Some(high)) = (low, high) else {
        if problems.is_empty() {
            problems.push(format!("{place}: expected low and high, found {}", Value::Table(table.clone())));
        }
        return Err(problems);
    };
    let whole = |key: &str| table.get(key).is_none_or(Value::is_integer);
    let is_integer = match default {
        Some(default) => default.is_integer(),
        None => whole("low") && whole("high") && whole("step"),
    };
    if low >= high {
        problems.push(format!("{place}: expected low below high, found {low} and {high}"));
    }
    if is_log && low <= 0.0 {
        problems.push(format!("{place}: expected low above 0 on a log scale, found {low}"));
    }
    if is_integer && [Some(low), Some(high), step].iter().flatten().any(|number| number.fract() != 0.0) {
        problems.push(format!("{place}: expected whole numbers, found {}", Value::Table(table.clone())));
    }
    if let Some(step) = step.filter(|step| *step <= 0.0 || (high - low) / *step > STEPS_MAX) {
        problems
            .push(format!("{place}: expected a step above 0 and at most {STEPS_MAX} steps, found {step}"));
    }
    if is_log && step.is_some() {
        problems.push(format!("{place}: expected scale log or a step, found both"));
    }
    if problems.is_empty() { Ok(Range { low, high, step, is_log, is_integer }) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn parse(text: &str, default: Option<Value>) -> Result<Values, Vec<String>> {
        let mut problems = Vec::new();
        let found = read(&toml::from_str(text).unwrap(), &|_| default.clone(), &mut problems);
        found.into_values().next().ok_or(problems)
    }

    #[test]
    fn draws_stay_in_their_range_and_reach_both_ends() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let check = |text: &str, default: Value, low: f64, high: f64, random: &mut ChaCha8Rng| {
            let values = parse(text, Some(default.clone())).unwrap();
            let drawn: Vec<Value> = (0..2000).map(|_| values.draw(random).unwrap()).collect();
            let number = |value: &Value| value.as_float().or(value.as_integer().map(|n| n as f64)).unwrap();
            assert!(drawn.iter().all(|value| value.type_str() == default.type_str()), "{text}");
            let numbers: Vec<f64> = drawn.iter().map(number).collect();
            assert!(numbers.iter().all(|number| (low..=high).contains(number)), "{text}");
            numbers
        };
        let integers = check("k = { low = 2, high = 5 }", Value::Integer(1), 2.0, 5.0, &mut random);
        for expected in 2..=5 {
            let count = integers.iter().filter(|found| **found == f64::from(expected)).count();
            assert!((400..600).contains(&count), "{expected} came {count} times of 2000, seed 5");
        }
        let text = "k = { low = 1e-3, high = 1e-1, scale = \"log\" }";
        let logs = check(text, Value::Float(1.0), 1e-3, 1e-1, &mut random);
        let below = logs.iter().filter(|found| **found < 1e-2).count();
        assert!(
            (900..1100).contains(&below),
            "half of a log range is below its middle, found {below}, seed 5"
        );
        let linear = check("k = { low = 0, high = 1 }", Value::Float(1.0), 0.0, 1.0, &mut random);
        assert!(linear.iter().any(|found| *found > 0.4 && *found < 0.6));
    }

    #[test]
    fn a_range_with_steps_has_its_values() {
        let floats = parse("k = { low = 0.1, high = 0.3, step = 0.1 }", Some(Value::Float(0.0))).unwrap();
        assert_eq!(floats.all().unwrap(), [Value::Float(0.1), Value::Float(0.2), Value::Float(0.3)]);
        let integers = parse("k = { low = 16, high = 40, step = 16 }", Some(Value::Integer(0))).unwrap();
        assert_eq!(integers.all().unwrap(), [Value::Integer(16), Value::Integer(32)]);
        assert_eq!(parse("k = { low = 1, high = 2 }", None).unwrap().all(), None);
    }

    #[test]
    fn what_is_no_range_is_refused_with_every_reason() {
        let text = "k = { low = 0, high = -1, scale = \"log\", step = 0, hight = 3 }";
        let problems = parse(text, Some(Value::Float(0.0))).unwrap_err();
        assert_eq!(problems.len(), 5, "{problems:#?}");
        for (text, expected) in [
            ("k = []", "space.k: expected values, found none"),
            ("k = 3", "space.k: expected a list or { low, high }, found 3"),
            ("k = { low = 1 }", "space.k: expected low and high, found { low = 1 }"),
            ("k = { low = 1.5, high = 3 }", "space.k: expected whole numbers, found"),
            (
                "k = { low = 1, high = 3, scale = \"exp\" }",
                "space.k: expected scale linear or log, found \"exp\"",
            ),
            ("k = { low = \"1\", high = 3 }", "space.k: expected a number for low, found \"1\""),
        ] {
            let problems = parse(text, Some(Value::Integer(1))).unwrap_err();
            assert!(problems.len() == 1 && problems[0].starts_with(expected), "{text}: {problems:?}");
        }
    }
}
