//! Defaults for what a configuration leaves open: by rules that follow from the data, or by a named preset.

use crate::config::{Config, ConfigError, KEYS, SpanInput};
use crate::data::Dataset;
use ndt_protocol::bundle::manifest::Positions;

/// Mean spikes per bin and unit below which single counts carry so little information that more of them are hidden at
/// once.
const SPARSE: f64 = 0.1;

/// Bins of a window of the default model, as which long trials are counted.
const WINDOW_BINS: usize = 154;

/// The properties of a dataset on which the rules for default values depend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kind {
    /// Mean spikes per bin and unit.
    pub spikes_per_bin: f64,
    /// Number of training trials; of long ones, and of time without trials, the number of windows.
    pub trials: usize,
    /// Whether any unit is held out.
    pub has_heldout: bool,
}

impl Kind {
    /// The properties of this dataset.
    pub fn of(data: &Dataset) -> Kind {
        Kind::of_all(std::slice::from_ref(data))
    }

    /// The properties of several datasets that are fitted side by side.
    pub fn of_all(data: &[Dataset]) -> Kind {
        let means: Vec<f64> = data.iter().flat_map(Dataset::mean_counts).collect();
        Kind {
            spikes_per_bin: means.iter().sum::<f64>() / means.len().max(1) as f64,
            trials: data
                .iter()
                .flat_map(|data| &data.train)
                .map(|trial| (trial.bins / WINDOW_BINS).max(1))
                .sum(),
            has_heldout: data.iter().any(Dataset::has_heldout),
        }
    }
}

/// The keys whose defaults follow from the data, and how: what the reference page of the configuration says.
pub const RULES: [(&str, &str); 3] = [
    ("objective.coordinated-dropout", "0.5 for data of fewer than 0.1 spikes per bin and unit, else 0.3"),
    ("objective.velocity-weight", "0.1 where no unit is held out, else 0.05"),
    ("optimiser.batch-trials", "an eighth of the training trials, at least 8 and at most 64"),
];

/// Defaults, and from what they follow.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// The configuration that consists of them.
    pub config: Config,
    /// The keys that follow from the data, each with the property of the data that decided it.
    decided: Vec<(&'static str, String)>,
    /// The name of the preset that they are; `None` for those that follow from the data.
    preset: Option<&'static str>,
}

impl Defaults {
    /// The defaults for data of this kind.
    ///
    /// On 480 reaching trials with 0.45 spikes per bin, hiding 0.7 instead of 0.3 of the counts costs 0.015 bits/spike. On
    /// the benchmark's sparser recordings (MC_Maze in 5 ms bins) hyperparameter searches of other groups found half of the
    /// counts best. A weight of the readouts above 0.05 costs co-smoothing, which does not matter where no unit is held
    /// out.
    pub fn of(kind: Kind) -> Defaults {
        let mut config = Config::default();
        let Kind { spikes_per_bin, trials, has_heldout } = kind;
        config.objective.coordinated_dropout = if spikes_per_bin < SPARSE { 0.5 } else { 0.3 };
        let mut decided =
            vec![("objective.coordinated-dropout", format!("{spikes_per_bin:.3} spikes per bin and unit"))];
        if !has_heldout {
            config.objective.readout_weight = 0.1;
            decided.push(("objective.velocity-weight", "no unit is held out".to_owned()));
        }
        // A batch holds about an eighth of the trials, because an epoch of few steps teaches little.
        let batch = (trials / 8).clamp(8, 64);
        if batch < config.optimiser.batch_trials {
            config.optimiser.batch_trials = batch;
            decided.push(("optimiser.batch-trials", format!("{trials} training trials")));
        }
        Defaults { config, decided, preset: None }
    }

    /// What became of the defaults in `config`: one sentence for each key that follows from the data, with the value that was
    /// taken.
    ///
    /// # Errors
    /// [`ConfigError::Check`] for a value that TOML cannot hold.
    pub fn notes(&self, config: &Config) -> Result<Vec<String>, ConfigError> {
        let (defaults, taken) = (self.config.table()?, config.table()?);
        let mut notes: Vec<String> =
            self.preset.iter().map(|name| format!("defaults of the preset {name}")).collect();
        for (name, reason) in &self.decided {
            let Some(key) = KEYS.iter().find(|key| key.name == *name) else { continue };
            let (Some(default), Some(taken)) = (key.value(&defaults), key.value(&taken)) else { continue };
            notes.push(if default == taken {
                format!("{name} = {taken}: {reason}")
            } else {
                format!("{name} = {taken} as configured; the default is {default}: {reason}")
            });
        }
        Ok(notes)
    }

    /// The preset of the original Neural Data Transformer (Ye & Pandarinath 2021, in the configuration of its benchmark
    /// entry), as far as this model can follow it: learned positions, whole bins masked by zeros and random counts in spans
    /// that lengthen over a ramp, high dropout, no coordinated dropout, no teacher.
    ///
    /// The model still differs: it is causal, reads counts in linearly, leaves nothing visible of what it is asked for, and
    /// adapts the fraction of masked bins to the width of the spans, which the original does not. It runs a fraction of the
    /// original's 50,000 epochs.
    pub fn ndt() -> Defaults {
        let mut config = Config::default();
        config.model.positions = Positions::Learned;
        config.model.window_ms = 1000.0;
        let objective = &mut config.objective;
        (objective.coordinated_dropout, objective.channel_dropout) = (0.0, 0.0);
        (objective.span_ratio, objective.span_bins_max) = (0.25, 5);
        (objective.span_input, objective.random_counts) = (SpanInput::Zeros, 0.2);
        objective.span_ramp_epochs = [160, 240];
        (objective.redrawn, objective.teacher_weight) = (0.0, 0.0);
        objective.cold = 1.0;
        let optimiser = &mut config.optimiser;
        (optimiser.learning_rate, optimiser.weight_decay, optimiser.beta2) = (1e-3, 5e-5, 0.999);
        (optimiser.warmup_epochs, optimiser.epochs, optimiser.patience_epochs) = (50, 500, 120);
        (optimiser.gradient_norm_max, optimiser.dropout) = (200.0, 0.3);
        Defaults { config, decided: Vec::new(), preset: Some("ndt") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The notes about the defaults for this kind of data where nothing is configured.
    fn notes(kind: Kind) -> Vec<String> {
        let defaults = Defaults::of(kind);
        defaults.notes(&defaults.config).unwrap()
    }

    #[test]
    fn rules_follow_the_data_and_say_so() {
        let kind = Kind { spikes_per_bin: 0.45, trials: 480, has_heldout: true };
        let mut expected = Config::default();
        expected.optimiser.batch_trials = 60;
        assert_eq!((Defaults::of(kind).config, notes(kind).len()), (expected, 2));
        let kind = Kind { spikes_per_bin: 0.015, trials: 75, has_heldout: false };
        let maze = Defaults::of(kind).config;
        assert_eq!(maze.objective.coordinated_dropout, 0.5);
        assert_eq!((maze.optimiser.batch_trials, maze.objective.readout_weight), (9, 0.1));
        assert_eq!(
            notes(kind),
            [
                "objective.coordinated-dropout = 0.5: 0.015 spikes per bin and unit",
                "objective.velocity-weight = 0.1: no unit is held out",
                "optimiser.batch-trials = 9: 75 training trials"
            ]
        );
    }

    #[test]
    fn notes_tell_what_was_taken_and_not_what_would_have_been() {
        let defaults = Defaults::of(Kind { spikes_per_bin: 0.45, trials: 480, has_heldout: true });
        let mut config = defaults.config.clone();
        config.objective.coordinated_dropout = 0.1;
        assert_eq!(
            defaults.notes(&config).unwrap()[0],
            "objective.coordinated-dropout = 0.1 as configured; the default is 0.3: 0.450 spikes per bin and unit"
        );
    }

    #[test]
    fn only_keys_with_a_rule_follow_from_the_data() {
        let fixed = Config::default().table().unwrap();
        for (spikes_per_bin, trials, has_heldout) in
            [(0.01, 1, false), (0.2, 100, true), (5.0, 10_000, false)]
        {
            let table = Defaults::of(Kind { spikes_per_bin, trials, has_heldout }).config.table().unwrap();
            for key in KEYS.iter().filter(|key| key.value(&table) != key.value(&fixed)) {
                assert!(RULES.iter().any(|(name, _)| *name == key.name), "expected a rule for {}", key.name);
            }
        }
    }

    #[test]
    fn presets_are_configurations() {
        Defaults::ndt().config.check().unwrap();
    }
}
