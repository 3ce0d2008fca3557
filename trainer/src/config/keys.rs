//! The keys of the configuration with their units and ranges: what [`super::Config::check`] checks, and what the reference page and the
//! schema say.

use ndt_protocol::limits::{LAYERS_MAX, WIDTH_MAX};
use toml::{Table, Value};

/// One key of the configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Name of the key with its table, such as `model.window-ms`.
    pub name: &'static str,
    /// Unit of the value, such as `ms` or `probability`; empty for a value without a unit.
    pub unit: &'static str,
    /// Lowest and highest value, or of each element of a list; `None` for a value that is no number.
    pub range: Option<(f64, f64)>,
}

const fn number(name: &'static str, unit: &'static str, low: f64, high: f64) -> Key {
    Key { name, unit, range: Some((low, high)) }
}

const fn choice(name: &'static str) -> Key {
    Key { name, unit: "", range: None }
}

/// Largest number of epochs, and of anything that is counted in epochs or trials.
const MANY: f64 = 1e6;

/// Largest seed: TOML has no larger whole number.
const SEED_MAX: f64 = i64::MAX as f64;

/// All keys, in the order of the configuration.
pub const KEYS: [Key; 54] = [
    number("data.bin-ms", "ms", 0.1, 1000.0),
    choice("data.units"),
    choice("data.behavior"),
    choice("data.time"),
    choice("data.split-by"),
    choice("data.split-column"),
    choice("data.train"),
    choice("data.val"),
    choice("data.test"),
    number("data.blocks", "fraction", 0.0, 1.0),
    choice("data.condition-column"),
    number("model.width", "", 1.0, WIDTH_MAX as f64),
    number("model.layers", "", 1.0, LAYERS_MAX as f64),
    number("model.heads", "", 1.0, WIDTH_MAX as f64),
    number("model.feedforward", "", 1.0, 4.0 * WIDTH_MAX as f64),
    number("model.window-ms", "ms", 1.0, 60_000.0),
    choice("model.positions"),
    number("model.warmup-ms", "ms", 0.0, 60_000.0),
    number("model.max-gap-ms", "ms", 0.0, 60_000.0),
    number("objective.coordinated-dropout", "probability", 0.0, 0.95),
    number("objective.span-ratio", "fraction of bins", 0.0, 0.95),
    number("objective.span-bins-max", "bins", 1.0, 1000.0),
    number("objective.span-ramp-epochs", "epochs", 0.0, MANY),
    choice("objective.span-input"),
    number("objective.random-counts", "probability", 0.0, 1.0),
    number("objective.channel-dropout", "probability", 0.0, 0.95),
    number("objective.jitter-ms", "ms", 0.0, 1000.0),
    number("objective.redrawn", "probability", 0.0, 1.0),
    number("objective.teacher-weight", "", 0.0, 1000.0),
    number("objective.cold", "fraction of trials", 0.0, 1.0),
    number("objective.shuffled", "fraction of windows", 0.0, 1.0),
    number("objective.gaps", "probability", 0.0, 1.0),
    number("objective.random-start", "probability", 0.0, 1.0),
    number("objective.forward-bins", "bins", 0.0, 64.0),
    number("objective.forward-weight", "", 0.0, 1000.0),
    number("objective.velocity-weight", "", 0.0, 1000.0),
    number("velocity.lags-ms", "ms", -10_000.0, 10_000.0),
    choice("velocity.publish"),
    choice("velocity.speed"),
    choice("velocity.acceleration"),
    choice("velocity.position"),
    choice("velocity.force"),
    choice("velocity.refit"),
    number("teacher.epochs", "epochs", 1.0, MANY),
    number("optimiser.learning-rate", "", 1e-9, 1.0),
    number("optimiser.warmup-epochs", "epochs", 0.0, MANY),
    number("optimiser.epochs", "epochs", 1.0, MANY),
    number("optimiser.patience-epochs", "epochs", 0.0, MANY),
    number("optimiser.batch-trials", "trials", 1.0, MANY),
    number("optimiser.weight-decay", "", 0.0, 10.0),
    number("optimiser.beta2", "", 0.5, 0.999_999),
    number("optimiser.gradient-norm-max", "", 1e-6, 1e9),
    number("optimiser.dropout", "probability", 0.0, 0.95),
    number("optimiser.seed", "", 0.0, SEED_MAX),
];

impl Key {
    /// The value of the key in a configuration's table.
    pub fn value<'a>(&self, config: &'a Table) -> Option<&'a Value> {
        let (table, key) = self.name.split_once('.')?;
        config.get(table)?.get(key)
    }

    /// What is wrong with the value in a configuration's table: one sentence for each number out of range.
    pub(super) fn problems(&self, config: &Table) -> Vec<String> {
        let (Some((low, high)), Some(value)) = (self.range, self.value(config)) else { return Vec::new() };
        let is_outside = |found: &f64| !(low..=high).contains(found);
        let problem = |found| format!("expected {} from {low} to {high}, found {found}", self.name);
        numbers(value).into_iter().filter(is_outside).map(problem).collect()
    }
}

/// The number, or the numbers of a list.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Float(number) => vec![*number],
        Value::Integer(number) => vec![*number as f64],
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn every_key_of_the_configuration_is_listed_in_its_order() {
        // The text keeps the order of the fields, which a table of TOML does not.
        let text = toml::to_string(&Config::default()).unwrap();
        let (mut table, mut found) = (String::new(), Vec::new());
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                table = name.to_owned();
            } else if let Some((key, _)) = line.split_once(" = ") {
                found.push(format!("{table}.{key}"));
            }
        }
        let listed: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(listed, found);
        let config = Config::default().table().unwrap();
        for key in KEYS {
            let is_number = !numbers(key.value(&config).unwrap()).is_empty();
            assert_eq!(is_number, key.range.is_some(), "{}", key.name);
        }
    }

    #[test]
    fn each_number_out_of_its_range_is_named() {
        let mut config = Config::default();
        (config.model.layers, config.objective.redrawn) = (0, f64::NAN);
        config.readouts.lags_ms = vec![0.0, 1e9];
        let error = config.check().unwrap_err().to_string();
        assert_eq!(
            error,
            "expected model.layers from 1 to 64, found 0; expected objective.redrawn from 0 to 1, found NaN; \
             expected velocity.lags-ms from -10000 to 10000, found 1000000000"
        );
        config = Config::default();
        config.optimiser.seed = u64::MAX;
        assert!(config.check().is_err());
    }
}
