//! The trainer's configuration: every choice with its default, in the units that its name says.
//!
//! Kebab-case TOML; unknown keys are refused, and all problems are reported at once.

use crate::dataset::{POSITION_SERIES, SPEED_SERIES, VELOCITY_SERIES};
use crate::masking::{Masking, SpanInput};
use ndt_protocol::bundle::manifest::Positions;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Everything that shapes a fit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// The model.
    pub model: Model,
    /// What is hidden and what is asked for.
    pub objective: Objective,
    /// What is read out beside the rates.
    pub velocity: Velocity,
    /// Who says at which rates units fired.
    pub teacher: Teacher,
    /// How the weights are found.
    pub optimiser: Optimiser,
}

/// The model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Model {
    /// Width of the residual stream.
    pub width: usize,
    /// Encoder layers.
    pub layers: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// Width of the feed-forward layer.
    pub feedforward: usize,
    /// What one layer sees, the bin itself included.
    pub window_ms: f64,
    /// `lag-bias` or `learned`.
    pub positions: Positions,
    /// History from which on estimates are called good.
    pub warmup_ms: f64,
    /// Longest gap that the model bridges.
    pub max_gap_ms: f64,
}

/// What is hidden and what is asked for; see `masking.rs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Objective {
    /// Probability that a single count is hidden and asked for.
    pub coordinated_dropout: f64,
    /// Part of the bins that is hidden whole.
    pub span_ratio: f64,
    /// Longest span of hidden bins.
    pub span_bins_max: usize,
    /// Epochs between which spans longer than one bin set in: none before the first, all after the second.
    pub span_ramp_epochs: [usize; 2],
    /// What the model sees of a span: `missing`, or the original's `zeros`.
    pub span_input: SpanInput,
    /// Probability that a count in a span of zeros is a random one instead.
    pub random_counts: f64,
    /// Probability that a channel is hidden for a whole trial.
    pub channel_dropout: f64,
    /// Each spike moves by up to this in training.
    pub jitter_ms: f64,
    /// Probability that a channel's input in a trial is drawn anew from a teacher's rates; 0 needs no teacher.
    pub redrawn: f64,
    /// Weight of the teacher's rates of held-out units as targets, beside what was recorded.
    pub teacher_weight: f64,
    /// Probability that a trial is entered at a random bin, so that a cold start anywhere is known.
    pub random_start: f64,
    /// Bins ahead whose counts are asked for, each by a head of its own that is not exported.
    pub forward_bins: usize,
    /// Weight of the later bins' loss beside that of the hidden counts.
    pub forward_weight: f64,
    /// Weight of the velocity's loss beside the rates'.
    pub velocity_weight: f64,
}

/// What is read out of the hand, all of it linear in the final state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Velocity {
    /// From a bin's centre to the instants that velocities are for; each is a readout.
    pub lags_ms: Vec<f64>,
    /// Which of them is published, if the daemon is not told otherwise.
    pub publish: Publish,
    /// Whether the hand's speed is read out too, at each lag.
    pub speed: bool,
    /// Whether the hand's position is read out too, at each lag.
    pub position: bool,
    /// Whether readouts are fitted anew by ridge regression on the final state, where that is better.
    pub refit: bool,
}

/// Which velocity is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Publish {
    /// The first of the lags.
    First,
    /// The lag that validates best.
    Best,
}

/// An acausal teacher of the causal model; see `teacher.rs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Teacher {
    /// Epochs of each generation at most; a generation's inputs are redrawn from the one before.
    pub epochs: Vec<usize>,
}

/// How the weights are found: AdamW with warm-up and a cosine to zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Optimiser {
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Epochs of linear warm-up.
    pub warmup_epochs: usize,
    /// Epochs at most; the cosine ends here.
    pub epochs: usize,
    /// Epochs without a better validation score before the end.
    pub patience_epochs: usize,
    /// Trials in a batch.
    pub batch_trials: usize,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Adam's second moment.
    pub beta2: f64,
    /// Largest norm of one parameter's gradient.
    pub gradient_norm_max: f64,
    /// Dropout of the read-in, the layers and the read-out.
    pub dropout: f64,
    /// Everything random follows from it.
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
            velocity_weight: 0.05,
        }
    }
}

impl Default for Velocity {
    fn default() -> Self {
        Velocity {
            lags_ms: vec![0.0, 100.0],
            publish: Publish::First,
            speed: false,
            position: false,
            refit: true,
        }
    }
}

impl Velocity {
    /// Series and lag of each readout, the velocities first.
    pub fn wanted(&self) -> Vec<(&'static str, f64)> {
        let series = [(VELOCITY_SERIES, true), (SPEED_SERIES, self.speed), (POSITION_SERIES, self.position)];
        let wanted = series.into_iter().filter(|(_, wanted)| *wanted);
        wanted.flat_map(|(series, _)| self.lags_ms.iter().map(move |lag_ms| (series, *lag_ms))).collect()
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
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The text is no configuration.
    #[error("{path}: expected a training configuration, found {found}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// What the parser says.
        found: String,
    },
    /// Values that cannot be.
    #[error("{}", .0.join("; "))]
    Check(Vec<String>),
}

impl Config {
    /// Reads and checks a configuration; keys that it does not have are the defaults'.
    ///
    /// # Errors
    /// [`ConfigError`], one sentence.
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
        // By itself first, so that an unknown key is named as it stands.
        toml::from_str::<Config>(&text).map_err(broken)?;
        let mut table = toml::Table::try_from(defaults).map_err(|error| format(error.to_string()))?;
        lay_over(&mut table, toml::from_str(&text).map_err(broken)?);
        let config: Config = table.try_into().map_err(broken)?;
        config.check()?;
        Ok(config)
    }

    /// Looks at the values.
    ///
    /// # Errors
    /// [`ConfigError::Check`] with every problem.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Config { model, objective, velocity, teacher, optimiser } = self;
        let mut problems = Vec::new();
        let mut expect = |name: &str, found: f64, low: f64, high: f64| {
            if !(low..=high).contains(&found) {
                problems.push(format!("expected {name} from {low} to {high}, found {found}"));
            }
        };
        expect("model.width", model.width as f64, 1.0, ndt_protocol::limits::WIDTH_MAX as f64);
        expect("model.layers", model.layers as f64, 1.0, ndt_protocol::limits::LAYERS_MAX as f64);
        expect("model.heads", model.heads as f64, 1.0, model.width as f64);
        expect(
            "model.feedforward",
            model.feedforward as f64,
            1.0,
            4.0 * ndt_protocol::limits::WIDTH_MAX as f64,
        );
        expect("model.window-ms", model.window_ms, 1.0, 60_000.0);
        expect("model.warmup-ms", model.warmup_ms, 0.0, 60_000.0);
        expect("model.max-gap-ms", model.max_gap_ms, 0.0, 60_000.0);
        expect("objective.coordinated-dropout", objective.coordinated_dropout, 0.0, 0.95);
        expect("objective.span-ratio", objective.span_ratio, 0.0, 0.95);
        expect("objective.span-bins-max", objective.span_bins_max as f64, 1.0, 1000.0);
        expect("objective.random-counts", objective.random_counts, 0.0, 1.0);
        expect("objective.channel-dropout", objective.channel_dropout, 0.0, 0.95);
        expect("objective.jitter-ms", objective.jitter_ms, 0.0, 1000.0);
        expect("objective.redrawn", objective.redrawn, 0.0, 1.0);
        expect("objective.teacher-weight", objective.teacher_weight, 0.0, 1000.0);
        expect("objective.random-start", objective.random_start, 0.0, 1.0);
        expect("objective.forward-bins", objective.forward_bins as f64, 0.0, 64.0);
        expect("objective.forward-weight", objective.forward_weight, 0.0, 1000.0);
        expect("objective.velocity-weight", objective.velocity_weight, 0.0, 1000.0);
        let readouts = velocity.wanted().len();
        expect("a number of readouts", readouts as f64, 1.0, ndt_protocol::limits::READOUTS_MAX as f64);
        for lag_ms in &velocity.lags_ms {
            expect("velocity.lags-ms", *lag_ms, -10_000.0, 10_000.0);
        }
        for epochs in &teacher.epochs {
            expect("teacher.epochs", *epochs as f64, 1.0, 1e6);
        }
        expect("optimiser.learning-rate", optimiser.learning_rate, 1e-9, 1.0);
        expect("optimiser.epochs", optimiser.epochs as f64, 1.0, 1e6);
        expect("optimiser.batch-trials", optimiser.batch_trials as f64, 1.0, 1e6);
        expect("optimiser.weight-decay", optimiser.weight_decay, 0.0, 10.0);
        expect("optimiser.beta2", optimiser.beta2, 0.5, 0.999_999);
        expect("optimiser.gradient-norm-max", optimiser.gradient_norm_max, 1e-6, 1e9);
        expect("optimiser.dropout", optimiser.dropout, 0.0, 0.95);
        if model.heads > 0 && !model.width.is_multiple_of(model.heads) {
            problems.push(format!(
                "expected model.heads to divide model.width {}, found {}",
                model.width, model.heads
            ));
        }
        let wants_teacher = objective.redrawn > 0.0 || objective.teacher_weight > 0.0;
        if wants_teacher && teacher.epochs.is_empty() {
            problems.push(
                "expected epochs of a teacher for objective.redrawn and objective.teacher-weight, found none"
                    .to_owned(),
            );
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Check(problems)) }
    }

    /// The objective's part in masking, in bins of `bin_width_ms`, in an epoch.
    pub fn masking(&self, bin_width_ms: f64, epoch: usize) -> Masking {
        let objective = &self.objective;
        let [begin, end] = objective.span_ramp_epochs;
        let ramp = (epoch as f64 - begin as f64) / (end.saturating_sub(begin)).max(1) as f64;
        Masking {
            dropout: objective.coordinated_dropout,
            span_ratio: objective.span_ratio,
            span_bins_max: objective.span_bins_max,
            wide_spans: if epoch >= end { 1.0 } else { ramp.clamp(0.0, 1.0) },
            span_input: objective.span_input,
            random_counts: objective.random_counts,
            channel_dropout: objective.channel_dropout,
            jitter_bins: (objective.jitter_ms / bin_width_ms).round() as usize,
            redrawn: objective.redrawn,
        }
    }
}

/// Values of `upper` in the place of those of `lower`, table by table.
fn lay_over(lower: &mut toml::Table, upper: toml::Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(toml::Value::Table(lower)), toml::Value::Table(upper)) => lay_over(lower, upper),
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
        expected.velocity.lags_ms = vec![60.0];
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
