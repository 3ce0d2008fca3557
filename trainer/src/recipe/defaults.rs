//! Defaults for what a configuration leaves open: by rules that follow from the data, or by a named preset.

use crate::config::{Config, SpanInput};
use crate::data::Dataset;
use ndt_protocol::bundle::manifest::Positions;

/// Mean spikes per bin and unit below which single counts carry so little information that more of them are hidden at
/// once.
const SPARSE: f64 = 0.1;

/// The properties of a dataset on which the rules for default values depend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kind {
    /// Mean spikes per bin and unit.
    pub spikes_per_bin: f64,
    /// Number of training trials.
    pub trials: usize,
    /// Whether any unit is held out.
    pub has_heldout: bool,
}

impl Kind {
    /// The properties of this dataset.
    pub fn of(data: &Dataset) -> Kind {
        let means = data.mean_counts();
        Kind {
            spikes_per_bin: means.iter().sum::<f64>() / means.len().max(1) as f64,
            trials: data.train.len(),
            has_heldout: data.has_heldout(),
        }
    }
}

/// The defaults for data of this kind, and what was decided, one sentence each.
///
/// On 480 reaching trials with 0.45 spikes per bin, hiding 0.7 instead of 0.3 of the counts costs 0.015 bits/spike. On
/// the benchmark's sparser recordings (MC_Maze in 5 ms bins) hyperparameter searches of other groups found half of the
/// counts best. A weight of the readouts above 0.05 costs co-smoothing, which does not matter where no unit is held
/// out.
pub fn for_data(kind: Kind) -> (Config, Vec<String>) {
    let mut config = Config::default();
    let mut notes = Vec::new();
    let Kind { spikes_per_bin, trials, has_heldout } = kind;
    config.objective.coordinated_dropout = if spikes_per_bin < SPARSE { 0.5 } else { 0.3 };
    notes.push(format!(
        "{spikes_per_bin:.3} spikes per bin and unit: {} of the counts are hidden",
        config.objective.coordinated_dropout
    ));
    if !has_heldout {
        config.objective.readout_weight = 0.1;
        notes.push("no unit is held out: velocity-weight is 0.1".to_owned());
    }
    // A batch holds about an eighth of the trials, because an epoch of few steps teaches little.
    let batch = (trials / 8).clamp(8, 64);
    if batch < config.optimiser.batch_trials {
        config.optimiser.batch_trials = batch;
        notes.push(format!("{trials} training trials: {batch} trials in a batch"));
    }
    (config, notes)
}

/// The preset of the original Neural Data Transformer (Ye & Pandarinath 2021, in the configuration of its benchmark
/// entry), as far as this model can follow it: learned positions, whole bins masked by zeros and random counts in spans
/// that lengthen over a ramp, high dropout, no coordinated dropout, no teacher.
///
/// The model still differs: it is causal, reads counts in linearly, leaves nothing visible of what it is asked for, and
/// adapts the fraction of masked bins to the width of the spans, which the original does not. It runs a fraction of the
/// original's 50,000 epochs.
pub fn ndt() -> Config {
    let mut config = Config::default();
    config.model.positions = Positions::Learned;
    config.model.window_ms = 1000.0;
    let objective = &mut config.objective;
    (objective.coordinated_dropout, objective.channel_dropout) = (0.0, 0.0);
    (objective.span_ratio, objective.span_bins_max) = (0.25, 5);
    (objective.span_input, objective.random_counts) = (SpanInput::Zeros, 0.2);
    objective.span_ramp_epochs = [160, 240];
    (objective.redrawn, objective.teacher_weight) = (0.0, 0.0);
    let optimiser = &mut config.optimiser;
    (optimiser.learning_rate, optimiser.weight_decay, optimiser.beta2) = (1e-3, 5e-5, 0.999);
    (optimiser.warmup_epochs, optimiser.epochs, optimiser.patience_epochs) = (50, 500, 120);
    (optimiser.gradient_norm_max, optimiser.dropout) = (200.0, 0.3);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_follow_the_data_and_say_so() {
        let (reaching, notes) = for_data(Kind { spikes_per_bin: 0.45, trials: 480, has_heldout: true });
        let mut expected = Config::default();
        expected.optimiser.batch_trials = 60;
        assert_eq!((reaching, notes.len()), (expected, 2));
        let (maze, notes) = for_data(Kind { spikes_per_bin: 0.015, trials: 75, has_heldout: false });
        assert_eq!(maze.objective.coordinated_dropout, 0.5);
        assert_eq!((maze.optimiser.batch_trials, maze.objective.readout_weight), (9, 0.1));
        assert_eq!(
            notes,
            [
                "0.015 spikes per bin and unit: 0.5 of the counts are hidden",
                "no unit is held out: velocity-weight is 0.1",
                "75 training trials: 9 trials in a batch"
            ]
        );
    }

    #[test]
    fn presets_are_configurations() {
        ndt().check().unwrap();
    }
}
