//! Cross-validation over the calibration trials: what each step would have been worth on trials that it was not fitted to.
//!
//! Validation and test trials choose nothing here. The folds are blocks of trials that follow one another, because a later recording
//! differs from the calibration as one block of it differs from the others. Time that is not divided into trials is cut into windows first.

use super::choice::{Candidate, Choice, Outcome, Rule, Why};
use super::fractions::Fractions;
use super::paced::Paced;
use super::{FinetuneError, FinetuneWatch};
use crate::data::{Dataset, Scale, Trial};
use crate::objective::history::window_bins;
use crate::objective::loss::IGNORED;
use crate::training::trainer::Trainer;
use crate::training::validation::{Answer, answers};
use ndt_protocol::bundle::tensors::Tensors;

/// Number of folds, and smallest number of trials that are cross-validated.
pub(super) const FOLDS: usize = 4;

/// The fractions to choose from.
const GRID: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// Chooses how far the weights are taken, by one fit for each fold. `is_new [N]` tells which units the bundle does not know.
///
/// # Errors
/// [`FinetuneError`] as for the fit of one fold.
pub(super) fn choose(
    job: &Paced,
    data: &Dataset,
    is_new: &[bool],
    watch: &mut FinetuneWatch,
) -> Result<Choice, FinetuneError> {
    let window = window_bins(&job.bundle.manifest.architecture);
    let trials: Vec<Trial> = match data.train.len() {
        FOLDS.. => data.train.clone(),
        _ => data.train.iter().flat_map(|trial| trial.windows(window, 0)).collect(),
    };
    let is_known = !is_new.contains(&true);
    if trials.len() < FOLDS {
        let fractions = if is_known { Fractions::NONE } else { Fractions::WHOLE };
        return Ok(Choice { fractions, why: Why::TooFew { trials: trials.len(), folds: FOLDS } });
    }
    let steps = steps(is_new);
    let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); steps.len()];
    let scales = crate::objective::targets::scales(data);
    for fold in 0..FOLDS {
        let held = fold * trials.len() / FOLDS..(fold + 1) * trials.len() / FOLDS;
        let train = [&trials[..held.start], &trials[held.end..]].concat();
        let of_fold = Dataset { train, val: Vec::new(), test: Vec::new(), ..data.clone() };
        let (mut trainer, start) = job.start(&of_fold)?;
        job.fit(&mut trainer, fold + 1, watch)?;
        let fitted = trainer.model.tensors();
        let mut fold = Fold { trainer, start, fitted, trials: &trials[held], scales: &scales, is_new };
        let of_states = steps.chunks(GRID.len()).zip(outcomes.chunks_mut(GRID.len()));
        of_states.for_each(|(steps, outcomes)| fold.score(steps[0].state, outcomes));
    }
    let candidates = combined(&steps, &outcomes, is_new);
    let rule = Rule { readout_weight: job.config.objective.readout_weight, keeps_scores: is_known };
    let gained = rule.choose(&candidates);
    let fractions = gained.map_or(Fractions::NONE, |(fractions, _)| fractions);
    let gains = gained.map(|(_, gains)| gains);
    Ok(Choice { fractions, why: Why::Folds { folds: FOLDS, trials: trials.len(), gains } })
}

/// The steps that are scored: every fraction of the state with every fraction of the rates, those of one state side by side. Where no unit
/// is known the read-in begins at random, and half the way from there is nothing that a fit would lead to.
fn steps(is_new: &[bool]) -> Vec<Fractions> {
    let states = if is_new.contains(&false) { &GRID[..] } else { &[0.0, 1.0] };
    let rates =
        |state: &f64| GRID.map(|rates| Fractions { state: *state, known_rates: rates, new_rates: rates });
    states.iter().flat_map(rates).collect()
}

/// All candidates, the warm start first. The likelihoods of units add up, so that one with other fractions for known and for new units
/// needs no run of its own.
fn combined(steps: &[Fractions], outcomes: &[Vec<Outcome>], is_new: &[bool]) -> Vec<Candidate> {
    let is_mixed = is_new.contains(&true) && is_new.contains(&false);
    let mut candidates = Vec::new();
    for (known, of_known) in steps.iter().zip(outcomes) {
        for (new, of_new) in steps.iter().zip(outcomes).filter(|(new, _)| new.state == known.state) {
            if !is_mixed && known != new {
                continue;
            }
            let fractions = Fractions { new_rates: new.new_rates, ..*known };
            let pairs = of_known.iter().zip(of_new);
            let outcomes = pairs.map(|(known, new)| Outcome { nats: [known.nats[0], new.nats[1]], ..*known });
            candidates.push(Candidate { fractions, outcomes: outcomes.collect() });
        }
    }
    candidates
}

/// A fit of one fold, and the trials that it has not seen.
struct Fold<'a> {
    trainer: Trainer<'a>,
    start: Tensors,
    fitted: Tensors,
    trials: &'a [Trial],
    /// Those of all calibration trials, in which squared errors are counted.
    scales: &'a [Scale],
    is_new: &'a [bool],
}

impl Fold<'_> {
    /// Adds to `outcomes`, one list for each fraction of [`GRID`] that the rates are taken, what the model with this fraction of the
    /// state is worth on each trial.
    ///
    /// Log rates are linear in the weights of the rates: those of any fraction lie on the line between the two ends, and the model is
    /// run at the ends alone.
    fn score(&mut self, state: f64, outcomes: &mut [Vec<Outcome>]) {
        let mut from = Vec::new();
        self.set(state, 0.0);
        answers(&self.trainer, self.trials, |answer| from.push(answer.log_rates.to_vec()));
        self.set(state, 1.0);
        let mut from = from.into_iter();
        answers(&self.trainer, self.trials, |answer| {
            let from = from.next().unwrap_or_default();
            for (fraction, outcomes) in GRID.iter().zip(&mut *outcomes) {
                let between = |(from, to): (&f32, &f32)| from + *fraction as f32 * (to - from);
                let log_rates: Vec<f32> = from.iter().zip(answer.log_rates).map(between).collect();
                let answer = Answer { log_rates: &log_rates, ..*answer };
                outcomes.push(outcome(&answer, &self.trainer.scales, self.scales, self.is_new));
            }
        });
    }

    /// Takes the state and the rates so far on the way to the fitted weights.
    fn set(&mut self, state: f64, rates: f64) {
        let step = Fractions { state, known_rates: rates, new_rates: rates };
        self.trainer.set(&step.between(&self.start, &self.fitted, self.is_new));
    }
}

/// What one answer is worth. Squared errors are in standard deviations by `scales`.
fn outcome(answer: &Answer, own: &[Scale], scales: &[Scale], is_new: &[bool]) -> Outcome {
    let mut outcome = Outcome::default();
    for (at, (label, log_rate)) in answer.labels.iter().zip(answer.log_rates).enumerate() {
        if *label != IGNORED {
            let (label, log_rate) = (f64::from(*label), f64::from(*log_rate));
            outcome.nats[usize::from(is_new[at % is_new.len()])] += label * log_rate - log_rate.exp();
            outcome.labels += 1.0;
            outcome.spikes += label;
        }
    }
    let columns = scales.len().max(1);
    for (at, (value, target)) in answer.readouts.iter().zip(&answer.trial.targets).enumerate() {
        if target.is_finite() && answer.trial.is_counted(at / columns) {
            let decoded = own[at % columns].restore(f64::from(*value));
            outcome.squares += ((decoded - f64::from(*target)) / scales[at % columns].deviation).powi(2);
            outcome.values += 1.0;
        }
    }
    outcome
}
