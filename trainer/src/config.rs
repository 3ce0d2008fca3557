//! The trainer's configuration: every choice with its default, in the unit that its name tells.
//!
//! The file is TOML with kebab-case keys. Unknown keys are refused, and all problems are reported at once.

mod readouts;

pub use readouts::{Publish, Readouts};

use ndt_protocol::bundle::manifest::Positions;
use ndt_protocol::limits::{LAYERS_MAX, READOUTS_MAX, WIDTH_MAX};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Everything that shapes a fit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// The dimensions of the model.
    pub model: Model,
    /// What the model is shown in training, and what it is asked for.
    pub objective: Objective,
    /// What is read out of the model besides firing rates: the table `velocity`.
    #[serde(rename = "velocity")]
    pub readouts: Readouts,
    /// The teacher, whose rates redraw inputs and are targets.
    pub teacher: Teacher,
    /// How the weights are found.
    pub optimiser: Optimiser,
}

/// The dimensions of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Model {
    /// Width of the residual stream.
    pub width: usize,
    /// Number of encoder layers.
    pub layers: usize,
    /// Number of attention heads; divides `width`.
    pub heads: usize,
    /// Width of the feed-forward network.
    pub feedforward: usize,
    /// Time that one layer's attention spans, the bin itself included, ms.
    pub window_ms: f64,
    /// Position scheme: `lag-bias` or `learned`.
    pub positions: Positions,
    /// Length of the history from which on estimates are flagged as good, ms.
    pub warmup_ms: f64,
    /// Longest gap in the input that the model bridges, ms.
    pub max_gap_ms: f64,
}

/// What the model is shown in training, and what it is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Objective {
    /// Probability that a single count is hidden from the model and used as a label.
    pub coordinated_dropout: f64,
    /// Fraction of the bins that is hidden in whole.
    pub span_ratio: f64,
    /// Longest span of hidden bins.
    pub span_bins_max: usize,
    /// Epochs between which spans longer than one bin set in: none before the first epoch, all after the second.
    pub span_ramp_epochs: [usize; 2],
    /// What the model sees of a hidden span: `missing`, or the original transformer's `zeros`.
    pub span_input: SpanInput,
    /// Probability that a count in a span of zeros is replaced by a random one.
    pub random_counts: f64,
    /// Probability that a channel is hidden for a whole trial.
    pub channel_dropout: f64,
    /// Longest distance by which each spike is moved in training, ms.
    pub jitter_ms: f64,
    /// Probability that a channel's input in a trial is drawn anew from a teacher's rates; 0 needs no teacher.
    pub redrawn: f64,
    /// Weight of the loss for the teacher's rates of held-out units, beside the loss for recorded counts; 0 needs no
    /// teacher.
    pub teacher_weight: f64,
    /// Probability that a trial is entered at a random bin, so that the model learns to start anywhere.
    pub random_start: f64,
    /// Number of later bins whose counts are predicted, each by a head of its own that is not exported.
    pub forward_bins: usize,
    /// Weight of the loss for later bins, beside the loss for hidden counts.
    pub forward_weight: f64,
    /// Weight of the loss for readouts, beside the loss for hidden counts.
    #[serde(rename = "velocity-weight")]
    pub readout_weight: f64,
}

/// What the model sees of a hidden span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpanInput {
    /// Missing bins, which stand for a gap at run time.
    Missing,
    /// Zeros, some of them replaced by random counts, as in the original Neural Data Transformer.
    Zeros,
}

/// An acausal teacher of the causal model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Teacher {
    /// Largest number of epochs of each generation. The inputs of a generation are redrawn from the rates of the one
    /// before.
    pub epochs: Vec<usize>,
}

/// How the weights are found: by AdamW, with a linear warm-up and a cosine to zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Optimiser {
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Epochs of linear warm-up.
    pub warmup_epochs: usize,
    /// Largest number of epochs; the cosine schedule of the learning rate ends there.
    pub epochs: usize,
    /// Number of epochs without a better validation score after which the fit ends.
    pub patience_epochs: usize,
    /// Number of trials in a batch.
    pub batch_trials: usize,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay rate of Adam's second moment.
    pub beta2: f64,
    /// Largest common norm of all gradients of a step.
    pub gradient_norm_max: f64,
    /// Probability of dropout in read-in, layers and rates.
    pub dropout: f64,
    /// Seed of all random numbers of the fit.
    pub seed: u64,
}

impl Default for Model {
    fn default() -> Self {
        Model {
            width: 64,
            layers: 4,
            heads: 2,
            feedforward: 128,
            window_ms: 400.0,
            positions: Positions::LagBias,
            warmup_ms: 100.0,
            max_gap_ms: 100.0,
        }
    }
}

impl Default for Objective {
    fn default() -> Self {
        Objective {
            coordinated_dropout: 0.3,
            span_ratio: 0.02,
            span_bins_max: 3,
            span_ramp_epochs: [0, 0],
            span_input: SpanInput::Missing,
            random_counts: 0.0,
            channel_dropout: 0.01,
            jitter_ms: 0.0,
            redrawn: 0.3,
            teacher_weight: 0.125,
            random_start: 0.0,
            forward_bins: 0,
            forward_weight: 0.2,
            readout_weight: 0.05,
        }
    }
}

impl Default for Teacher {
    fn default() -> Self {
        Teacher { epochs: vec![150, 200] }
    }
}

impl Default for Optimiser {
    fn default() -> Self {
        Optimiser {
            learning_rate: 6e-3,
            warmup_epochs: 10,
            epochs: 250,
            patience_epochs: 60,
            batch_trials: 64,
            weight_decay: 0.01,
            beta2: 0.98,
            gradient_norm_max: 1.0,
            dropout: 0.1,
            seed: 1,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// Path of the configuration file.
        path: PathBuf,
        /// The system's error message.
        error: std::io::Error,
    },
    /// The text of the file is not a configuration.
    #[error("{path}: expected a training configuration, found {found}")]
    Format {
        /// Path of the configuration file.
        path: PathBuf,
        /// The parser's message.
        found: String,
    },
    /// Some values are out of range or contradict each other.
    #[error("{}", .0.join("; "))]
    Check(Vec<String>),
}

impl Config {
    /// Reads and checks a configuration file. Keys that the file lacks have the defaults' values.
    ///
    /// # Errors
    /// [`ConfigError`], whose message is one sentence.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        Config::read_over(path, &Config::default())
    }

    /// As [`Config::read`], with other defaults.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn read_over(path: &Path, defaults: &Config) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Io { path: path.to_owned(), error })?;
        let format = |found: String| ConfigError::Format { path: path.to_owned(), found };
        let broken = |error: toml::de::Error| format(error.message().replace('\n', " "));
        // The file is parsed by itself first, so that an unknown key is named as it stands there.
        toml::from_str::<Config>(&text).map_err(broken)?;
        let mut table = toml::Table::try_from(defaults).map_err(|error| format(error.to_string()))?;
        override_with(&mut table, toml::from_str(&text).map_err(broken)?);
        let config: Config = table.try_into().map_err(broken)?;
        config.check()?;
        Ok(config)
    }

    /// Whether a part of the objective needs a teacher's rates.
    pub fn needs_teacher(&self) -> bool {
        self.objective.redrawn != 0.0 || self.objective.teacher_weight != 0.0
    }

    /// Checks the range of each value and the relations between them.
    ///
    /// # Errors
    /// [`ConfigError::Check`] with all problems.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Config { model, objective, readouts, teacher, optimiser } = self;
        let count = readouts.wanted().len() as f64;
        let lags = readouts.lags_ms.iter().map(|lag_ms| ("velocity.lags-ms", *lag_ms, -10_000.0, 10_000.0));
        let epochs = teacher.epochs.iter().map(|epochs| ("teacher.epochs", *epochs as f64, 1.0, 1e6));
        let mut ranges = [model.ranges(), objective.ranges()].concat();
        ranges.push(("a number of readouts", count, 1.0, READOUTS_MAX as f64));
        ranges.extend(lags.chain(epochs).chain(optimiser.ranges()));
        let is_outside = |&(_, found, low, high): &Bounded| !(low..=high).contains(&found);
        let problem = |(name, found, low, high): Bounded| {
            format!("expected {name} from {low} to {high}, found {found}")
        };
        let mut problems: Vec<String> = ranges.into_iter().filter(is_outside).map(problem).collect();
        if model.heads > 0 && !model.width.is_multiple_of(model.heads) {
            problems.push(format!(
                "expected model.heads to divide model.width {}, found {}",
                model.width, model.heads
            ));
        }
        if self.needs_teacher() && teacher.epochs.is_empty() {
            problems.push(
                "expected epochs of a teacher for objective.redrawn and objective.teacher-weight, found none"
                    .to_owned(),
            );
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Check(problems)) }
    }
}

/// A key, its value, and the lowest and highest value that it may have.
type Bounded = (&'static str, f64, f64, f64);

impl Model {
    fn ranges(&self) -> Vec<Bounded> {
        vec![
            ("model.width", self.width as f64, 1.0, WIDTH_MAX as f64),
            ("model.layers", self.layers as f64, 1.0, LAYERS_MAX as f64),
            ("model.heads", self.heads as f64, 1.0, self.width as f64),
            ("model.feedforward", self.feedforward as f64, 1.0, 4.0 * WIDTH_MAX as f64),
            ("model.window-ms", self.window_ms, 1.0, 60_000.0),
            ("model.warmup-ms", self.warmup_ms, 0.0, 60_000.0),
            ("model.max-gap-ms", self.max_gap_ms, 0.0, 60_000.0),
        ]
    }
}

impl Objective {
    fn ranges(&self) -> Vec<Bounded> {
        vec![
            ("objective.coordinated-dropout", self.coordinated_dropout, 0.0, 0.95),
            ("objective.span-ratio", self.span_ratio, 0.0, 0.95),
            ("objective.span-bins-max", self.span_bins_max as f64, 1.0, 1000.0),
            ("objective.random-counts", self.random_counts, 0.0, 1.0),
            ("objective.channel-dropout", self.channel_dropout, 0.0, 0.95),
            ("objective.jitter-ms", self.jitter_ms, 0.0, 1000.0),
            ("objective.redrawn", self.redrawn, 0.0, 1.0),
            ("objective.teacher-weight", self.teacher_weight, 0.0, 1000.0),
            ("objective.random-start", self.random_start, 0.0, 1.0),
            ("objective.forward-bins", self.forward_bins as f64, 0.0, 64.0),
            ("objective.forward-weight", self.forward_weight, 0.0, 1000.0),
            ("objective.velocity-weight", self.readout_weight, 0.0, 1000.0),
        ]
    }
}

impl Optimiser {
    fn ranges(&self) -> Vec<Bounded> {
        vec![
            ("optimiser.learning-rate", self.learning_rate, 1e-9, 1.0),
            ("optimiser.epochs", self.epochs as f64, 1.0, 1e6),
            ("optimiser.batch-trials", self.batch_trials as f64, 1.0, 1e6),
            ("optimiser.weight-decay", self.weight_decay, 0.0, 10.0),
            ("optimiser.beta2", self.beta2, 0.5, 0.999_999),
            ("optimiser.gradient-norm-max", self.gradient_norm_max, 1e-6, 1e9),
            ("optimiser.dropout", self.dropout, 0.0, 0.95),
        ]
    }
}

/// Replaces the values of `lower` by those that `upper` has, table by table.
fn override_with(lower: &mut toml::Table, upper: toml::Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(toml::Value::Table(lower)), toml::Value::Table(upper)) => override_with(lower, upper),
            (_, value) => {
                lower.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_a_file_does_not_have_are_those_of_the_given_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fit.toml");
        let mut defaults = Config::default();
        (defaults.objective.coordinated_dropout, defaults.optimiser.batch_trials) = (0.5, 8);
        std::fs::write(&path, "[objective]\nredrawn = 0.0\n[velocity]\nlags-ms = [60.0]\n").unwrap();
        let read = Config::read_over(&path, &defaults).unwrap();
        let mut expected = defaults.clone();
        expected.objective.redrawn = 0.0;
        expected.readouts.lags_ms = vec![60.0];
        assert_eq!(read, expected);

        std::fs::write(&path, "[objective]\nredrawm = 0.0\n").unwrap();
        let error = Config::read_over(&path, &defaults).unwrap_err().to_string();
        assert!(
            error.contains("expected a training configuration, found unknown field `redrawm`"),
            "{error}"
        );
        std::fs::write(&path, "[objective]\nredrawn = 2.0\n[model]\nlayers = 0\n").unwrap();
        let error = Config::read_over(&path, &defaults).unwrap_err().to_string();
        assert!(error.contains("model.layers") && error.contains("objective.redrawn"), "{error}");
    }
}
