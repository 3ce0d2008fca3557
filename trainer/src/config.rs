//! The trainer's configuration: every choice with its default, in the units that its name says.
//!
//! Kebab-case TOML; unknown keys are refused, and all problems are reported at once.

use crate::masking::Masking;
use ndt_protocol::manifest::Positions;
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
    /// From a bin's centre to the instant that its velocity is for.
    pub velocity_lag_ms: f64,
    /// History from which on estimates are called good.
    pub warmup_ms: f64,
    /// Longest gap that the model bridges.
    pub max_gap_ms: f64,
}

/// What is hidden and what is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Objective {
    /// Probability that a single count is hidden and asked for.
    pub coordinated_dropout: f64,
    /// Part of the bins that is hidden whole, as a missing bin is.
    pub span_ratio: f64,
    /// Longest span of hidden bins.
    pub span_bins_max: usize,
    /// Probability that a channel is hidden for a whole trial.
    pub channel_dropout: f64,
    /// Weight of the velocity's loss beside the rates'.
    pub velocity_weight: f64,
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
            velocity_lag_ms: 0.0,
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
            channel_dropout: 0.01,
            velocity_weight: 0.03,
        }
    }
}

impl Default for Optimiser {
    fn default() -> Self {
        Optimiser {
            learning_rate: 6e-3,
            warmup_epochs: 10,
            epochs: 150,
            patience_epochs: 40,
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
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// [`ConfigError`], one sentence.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Io { path: path.to_owned(), error })?;
        let config: Config = toml::from_str(&text).map_err(|error| ConfigError::Format {
            path: path.to_owned(),
            found: error.message().replace('\n', " "),
        })?;
        config.check()?;
        Ok(config)
    }

    /// Looks at the values.
    ///
    /// # Errors
    /// [`ConfigError::Check`] with every problem.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Config { model, objective, optimiser } = self;
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
        expect("model.velocity-lag-ms", model.velocity_lag_ms, -10_000.0, 10_000.0);
        expect("model.warmup-ms", model.warmup_ms, 0.0, 60_000.0);
        expect("model.max-gap-ms", model.max_gap_ms, 0.0, 60_000.0);
        expect("objective.coordinated-dropout", objective.coordinated_dropout, 0.0, 0.95);
        expect("objective.span-ratio", objective.span_ratio, 0.0, 0.95);
        expect("objective.span-bins-max", objective.span_bins_max as f64, 1.0, 1000.0);
        expect("objective.channel-dropout", objective.channel_dropout, 0.0, 0.95);
        expect("objective.velocity-weight", objective.velocity_weight, 0.0, 1000.0);
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
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Check(problems)) }
    }

    /// The objective's part in masking.
    pub fn masking(&self) -> Masking {
        Masking {
            dropout: self.objective.coordinated_dropout,
            span_ratio: self.objective.span_ratio,
            span_bins_max: self.objective.span_bins_max,
            channel_dropout: self.objective.channel_dropout,
        }
    }
}
