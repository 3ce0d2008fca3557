//! The choice of how far a fine-tuning takes the weights, from what each step is worth on trials that it was not fitted to.
//!
//! Pure: numbers in, a choice out. A step is taken only if it lowers the loss, which weighs likelihood and readouts as the fit does, by
//! more than one standard error over trials. Where the bundle knows all units, it must besides lower neither score and raise one of
//! them by at least 0.01. Of these steps the one with the lowest loss is taken.

use super::fractions::Fractions;
use serde::Serialize;
use std::fmt;

/// Smallest gain, in bits/spike or in R2, for which a bundle that knows all units is changed. Later trials differ from the calibration,
/// so that a gain of a few thousandths on it is none on them.
const GAIN_MIN: f64 = 0.01;

/// What a model is worth on one trial.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Outcome {
    /// Poisson log likelihood of the labels, without a constant, nats: of units that the bundle knows, and of the others.
    pub nats: [f64; 2],
    /// Number of counts that the model was asked for.
    pub labels: f64,
    /// Spikes in these counts.
    pub spikes: f64,
    /// Sum of the readouts' squared errors, in standard deviations.
    pub squares: f64,
    /// Number of readout values whose truth is known.
    pub values: f64,
}

/// A step and its outcome in each trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// How far the weights are taken.
    pub fractions: Fractions,
    /// The outcome in each trial; the same trials for all candidates.
    pub outcomes: Vec<Outcome>,
}

/// A difference to the bundle as it was, over all trials.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gain {
    /// The difference; positive is better.
    pub mean: f64,
    /// Its standard error over trials.
    pub standard_error: f64,
}

/// What a step gains over the bundle as it was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gains {
    /// In the likelihood of the counts that the model is asked for, bits/spike.
    pub bits_per_spike: Gain,
    /// In the variance that the readouts explain, mean of all their columns; `None` without readouts.
    pub r2: Option<Gain>,
}

/// Why the weights were taken as far as they were.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Why {
    /// No epoch was asked for.
    NoEpoch,
    /// The whole step was asked for.
    Asked,
    /// There are too few trials for folds.
    TooFew {
        /// Number of trials.
        trials: usize,
        /// Number of folds, and of trials that they need.
        folds: usize,
    },
    /// Cross-validation over the calibration trials.
    Folds {
        /// Number of folds.
        folds: usize,
        /// Number of trials, or of windows of long time.
        trials: usize,
        /// What the step gains on trials that it was not fitted to; `None` if the bundle was kept as it was.
        gains: Option<Gains>,
    },
}

/// How far the weights were taken, and why.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Choice {
    /// How far.
    pub fractions: Fractions,
    /// Why.
    pub why: Why,
}

/// The rule by which a step is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Weight of squared errors beside the likelihood in the loss, as in the fit.
    pub readout_weight: f64,
    /// Whether neither score may fall, and one must rise by what is worth a change. A bundle has no scores to keep where it does not
    /// know all units.
    pub keeps_scores: bool,
}

impl Rule {
    /// The candidate with the lowest loss among those that are better than the first one, the bundle as it was, and what it gains;
    /// `None` if none is better.
    pub fn choose(&self, candidates: &[Candidate]) -> Option<(Fractions, Gains)> {
        let (first, others) = candidates.split_first()?;
        let compared = others.iter().map(|candidate| {
            let compared = Compared { before: &first.outcomes, after: &candidate.outcomes };
            (candidate.fractions, compared.gains(), compared.loss(self.readout_weight))
        });
        let better = compared.filter(|(_, gains, loss)| self.is_better(gains, loss));
        let best = better.max_by(|(.., a), (.., b)| a.mean.total_cmp(&b.mean));
        best.map(|(fractions, gains, _)| (fractions, gains))
    }

    /// A step that changes one score alone leaves the other where it is, which is not to lower it.
    fn is_better(&self, gains: &Gains, loss: &Gain) -> bool {
        let (bits, r2) = (gains.bits_per_spike.mean, gains.r2.map_or(0.0, |r2| r2.mean));
        let keeps_scores = bits >= 0.0 && r2 >= 0.0 && bits.max(r2) >= GAIN_MIN;
        (keeps_scores || !self.keeps_scores) && loss.mean > loss.standard_error
    }
}

/// Outcomes of two models in the same trials.
struct Compared<'a> {
    before: &'a [Outcome],
    after: &'a [Outcome],
}

impl Compared<'_> {
    fn gains(&self) -> Gains {
        let spikes_bits = self.total(|outcome| outcome.spikes) * std::f64::consts::LN_2;
        let values = self.total(|outcome| outcome.values);
        let r2 = || self.gain(|before, after| (before.squares - after.squares) / values);
        Gains {
            bits_per_spike: self.gain(|before, after| nats(before, after) / spikes_bits.max(1.0)),
            r2: (values > 0.0).then(r2),
        }
    }

    /// By how much the loss falls: mean likelihood of a label and weighted mean squared error of a readout.
    fn loss(&self, readout_weight: f64) -> Gain {
        let labels = self.total(|outcome| outcome.labels).max(1.0);
        let values = self.total(|outcome| outcome.values).max(1.0);
        self.gain(|before, after| {
            nats(before, after) / labels + readout_weight * (before.squares - after.squares) / values
        })
    }

    fn total(&self, of: impl Fn(&Outcome) -> f64) -> f64 {
        self.before.iter().map(of).sum()
    }

    /// The sum of what each trial contributes, and its standard error.
    fn gain(&self, of: impl Fn(&Outcome, &Outcome) -> f64) -> Gain {
        let parts: Vec<f64> =
            self.before.iter().zip(self.after).map(|(before, after)| of(before, after)).collect();
        let count = parts.len() as f64;
        let sum: f64 = parts.iter().sum();
        let squares: f64 = parts.iter().map(|part| (part - sum / count).powi(2)).sum();
        Gain { mean: sum, standard_error: (squares * count / (count - 1.0)).sqrt() }
    }
}

fn nats(before: &Outcome, after: &Outcome) -> f64 {
    after.nats.iter().sum::<f64>() - before.nats.iter().sum::<f64>()
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Fractions { state, known_rates, new_rates } = self.fractions;
        let how_far = match self.fractions {
            Fractions::NONE => "kept the bundle as it was".to_owned(),
            Fractions::WHOLE => "took the whole step".to_owned(),
            _ if known_rates == new_rates => {
                format!("took {state} of the step, and {known_rates} of that of the rates")
            }
            _ => format!(
                "took {state} of the step, {known_rates} of that of the rates of known units and {new_rates} of that of new ones"
            ),
        };
        write!(f, "{how_far}: ")?;
        match self.why {
            Why::NoEpoch => write!(f, "no epoch was asked for"),
            Why::Asked => write!(f, "it was asked for"),
            Why::TooFew { trials, folds } => {
                write!(f, "{trials} trials are too few for {folds} folds")
            }
            Why::Folds { folds, trials, gains: None } => {
                write!(f, "in {folds} folds of {trials} trials no step was clearly better")
            }
            Why::Folds { folds, trials, gains: Some(Gains { bits_per_spike, r2 }) } => {
                write!(f, "in {folds} folds of {trials} trials it gains {bits_per_spike} bits/spike")?;
                r2.map_or(Ok(()), |r2| write!(f, " and {r2} of R2"))
            }
        }
    }
}

impl fmt::Display for Gain {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:.4} (standard error {:.4})", self.mean, self.standard_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { readout_weight: 0.05, keeps_scores: true };

    /// A candidate that differs from an outcome of zeros by these nats and squared errors in each of four trials.
    fn candidate(fraction: f64, nats: [f64; 4], squares: [f64; 4]) -> Candidate {
        let of_trial = |(nats, squares)| Outcome {
            nats: [nats, 0.0],
            labels: 100.0,
            spikes: 10.0,
            squares: 60.0 + squares,
            values: 60.0,
        };
        let outcomes = nats.into_iter().zip(squares).map(of_trial).collect();
        Candidate { fractions: Fractions::all(fraction), outcomes }
    }

    fn chosen(others: &[Candidate]) -> Option<f64> {
        let kept = candidate(0.0, [0.0; 4], [0.0; 4]);
        let candidates: Vec<Candidate> = std::iter::once(kept).chain(others.iter().cloned()).collect();
        RULE.choose(&candidates).map(|(fractions, _)| fractions.state)
    }

    #[test]
    fn a_step_that_is_no_better_than_the_bundle_is_not_taken() {
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[candidate(0.5, [0.0; 4], [0.0; 4])]), None, "a tie");
        let within_error = [9.0, -8.0, 7.0, -6.0];
        assert_eq!(chosen(&[candidate(0.5, within_error, [0.0; 4])]), None);
        assert_eq!(chosen(&[candidate(0.5, [f64::NAN; 4], [0.0; 4])]), None);
        assert_eq!(chosen(&[candidate(0.5, [0.01; 4], [0.0; 4])]), None, "0.0014 bits/spike");
    }

    #[test]
    fn a_step_that_lowers_either_score_is_not_taken_however_much_it_raises_the_other() {
        assert_eq!(chosen(&[candidate(0.5, [50.0; 4], [1.0; 4])]), None);
        assert_eq!(chosen(&[candidate(0.5, [-0.1; 4], [-50.0; 4])]), None);
        assert_eq!(chosen(&[candidate(0.5, [0.0; 4], [-1.0, -2.0, -1.0, -2.0])]), Some(0.5));
        assert_eq!(chosen(&[candidate(0.5, [1.0, 2.0, 1.0, 2.0], [0.0; 4])]), Some(0.5));
        let candidates = [candidate(0.0, [0.0; 4], [0.0; 4]), candidate(1.0, [-0.1; 4], [-50.0; 4])];
        let new_units = Rule { keeps_scores: false, ..RULE };
        assert!(new_units.choose(&candidates).is_some(), "a bundle without scores has none to keep");
    }

    #[test]
    fn the_lowest_loss_wins_among_the_steps_that_are_better() {
        let steps = [
            candidate(0.25, [1.0; 4], [0.0; 4]),
            candidate(0.5, [3.0; 4], [-1.0; 4]),
            candidate(0.75, [2.0; 4], [-1.0; 4]),
            candidate(1.0, [9.0; 4], [1.0; 4]),
        ];
        assert_eq!(chosen(&steps), Some(0.5));
    }

    #[test]
    fn gains_are_in_the_units_of_the_scores() {
        let kept = candidate(0.0, [0.0; 4], [0.0; 4]);
        let better = candidate(1.0, [2.0, 4.0, 2.0, 4.0], [-6.0, -12.0, -6.0, -12.0]);
        let (_, gains) = RULE.choose(&[kept, better]).unwrap();
        assert!((gains.bits_per_spike.mean - 12.0 / (40.0 * 2f64.ln())).abs() < 1e-12);
        let r2 = gains.r2.unwrap();
        // 36 of 240; the sum of four numbers whose standard deviation is 12 / 240 / 2 * 2 / sqrt(3).
        assert!((r2.mean - 0.15).abs() < 1e-12);
        assert!((r2.standard_error - 2.0 * (12.0f64).sqrt() / 240.0).abs() < 1e-12, "{r2:?}");
    }
}
