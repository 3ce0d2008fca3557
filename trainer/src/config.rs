//! The trainer's configuration: every choice with its default, in the unit that its name tells.
//!
//! [`ConfigFile`] is a file of such choices (TOML with kebab-case keys). [`KEYS`] holds each key's unit and range. A reference page,
//! a schema for editors and a configuration with comments are made from the types ([`meanings`], [`schema`], [`commented`]).

mod document;
mod file;
mod keys;
mod readouts;
mod recording;

pub use document::{Meaning, commented, meanings, range, schema};
pub use file::{ConfigError, ConfigFile};
pub use keys::{KEYS, Key};
pub use readouts::{Publish, Readouts};
pub use recording::{Data, Selected, SplitBy, Time, Units};

use ndt_protocol::bundle::manifest::Positions;
use ndt_protocol::limits::READOUTS_MAX;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Everything that shapes a fit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// What of a recording the model takes in.
    pub data: Data,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// How the model knows the order of bins: by a learned bias for each head and lag (`lag-bias`), or by a learned table over
    /// the window (`learned`).
    #[schemars(schema_with = "positions")]
    pub positions: Positions,
    /// Length of the history from which on estimates are flagged as good, ms.
    pub warmup_ms: f64,
    /// Longest gap in the input that the model bridges, ms.
    pub max_gap_ms: f64,
}

/// What the model is shown in training, and what it is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Fraction of the trials that are shown alone, each from a cold start; the others follow each other in windows of a stream.
    pub cold: f64,
    /// Fraction of the windows in which trials follow each other in random order, and not in that of the recording.
    pub shuffled: f64,
    /// Probability that a trial of a window comes after a gap of up to `model.max-gap-ms`.
    pub gaps: f64,
    /// Probability that a trial alone, or a window, is entered at a random bin, so that the model learns to start anywhere.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SpanInput {
    /// Missing bins, which stand for a gap at run time.
    Missing,
    /// Zeros, some of them replaced by random counts, as in the original Neural Data Transformer.
    Zeros,
}

/// An acausal teacher of the causal model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Teacher {
    /// Largest number of epochs of each generation. The inputs of a generation are redrawn from the rates of the one
    /// before.
    pub epochs: Vec<usize>,
}

/// How the weights are found: by AdamW, with a linear warm-up and a cosine to zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
            cold: 0.5,
            shuffled: 0.5,
            gaps: 0.1,
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

/// The schema of [`Positions`], which belongs to the bundle's manifest and knows nothing of schemas.
fn positions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["lag-bias", "learned"] })
}

impl Config {
    /// Whether a part of the objective needs a teacher's rates.
    pub fn needs_teacher(&self) -> bool {
        self.objective.redrawn != 0.0 || self.objective.teacher_weight != 0.0
    }

    /// The configuration as a table: every key with its value.
    ///
    /// # Errors
    /// [`ConfigError::Check`] for a value that TOML cannot hold.
    pub fn table(&self) -> Result<toml::Table, ConfigError> {
        toml::Table::try_from(self).map_err(|error| ConfigError::Check(vec![error.to_string()]))
    }

    /// Checks the range of each value and the relations between them.
    ///
    /// # Errors
    /// [`ConfigError::Check`] with all problems.
    pub fn check(&self) -> Result<(), ConfigError> {
        let table = self.table()?;
        let mut problems: Vec<String> = KEYS.iter().flat_map(|key| key.problems(&table)).collect();
        let (model, readouts) = (&self.model, self.readouts.wanted().len());
        if !(1..=READOUTS_MAX).contains(&readouts) {
            problems
                .push(format!("expected a number of readouts from 1 to {READOUTS_MAX}, found {readouts}"));
        }
        problems.extend(self.data.problems());
        if model.heads > 0 && !model.width.is_multiple_of(model.heads) {
            problems.push(format!(
                "expected model.heads to divide model.width {}, found {}",
                model.width, model.heads
            ));
        }
        if self.needs_teacher() && self.teacher.epochs.is_empty() {
            problems.push(
                "expected epochs of a teacher for objective.redrawn and objective.teacher-weight, found none"
                    .to_owned(),
            );
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Check(problems)) }
    }
}
