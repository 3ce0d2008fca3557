//! The benchmark's tensors: what a model is trained on, what it predicts from, and what it is scored against.
//!
//! They hold the window around each trial's alignment in whole bins, and the same window of the behaviour, later by the
//! lag. Bins lie on the recording's grid: the first bin of a window is the first one that begins inside it. Windows may
//! overlap.

use super::array::Tensor;
use super::psth::{Psths, psths};
use super::recording::{Recording, TooLong};
use super::variant::Variant;
use super::windows::{Aligned, NoTrial, aligned};
use crate::data::dataset::oddities;
use ndt_replay::inspect::findings::same_twice;
use ndt_replay::session::Session;
use std::cell::{Cell, RefCell};

/// The splits that are trained on and predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Train on the split `train`, predict `val`.
    Val,
    /// Train on the splits `train` and `val`, predict `test`.
    Test,
}

/// The recorded data of one set of trials.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Spike counts of held-in neurons, which a model sees.
    pub heldin: Tensor,
    /// Spike counts of held-out neurons; `None` if no trial has them, as in the benchmark's test files.
    pub heldout: Option<Tensor>,
    /// Spike counts of held-in and held-out neurons after the window; `None` if no trial has them or the variant has no
    /// forward window.
    pub forward: Option<(Tensor, Tensor)>,
    /// Behaviour `[trials, bins, dims]`; `None` if no trial has it.
    pub behavior: Option<Tensor>,
}

/// All tensors of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensors {
    /// Name of the group in HDF5 files.
    pub group: String,
    /// Width of a bin, ms.
    pub bin_ms: usize,
    /// Ids of the held-in neurons, in the order of the tensors' last axis.
    pub heldin_ids: Vec<i64>,
    /// Ids of the held-out neurons, in the order of the tensors' last axis.
    pub heldout_ids: Vec<i64>,
    /// The trials to train on.
    pub train: Observed,
    /// The trials to predict.
    pub eval: Observed,
    /// PSTHs of training and evaluation trials; `None` if the evaluation trials lack neurons or no trial has a condition.
    pub psths: Option<Psths>,
    /// What was decided while the tensors were made, one sentence each.
    pub notes: Vec<String>,
}

/// Why recordings cannot be cut into tensors.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TensorError {
    /// The recordings are too long.
    #[error(transparent)]
    Long(#[from] TooLong),
    /// A window does not consist of whole bins.
    #[error("expected a {what} of whole {bin_ms} ms bins, found {found} ms")]
    Window {
        /// The window: `window` or `forward window`.
        what: &'static str,
        /// Width of a bin, ms.
        bin_ms: usize,
        /// Length of the window, ms.
        found: i64,
    },
    /// No trial to train on or to predict.
    #[error(transparent)]
    NoTrial(#[from] NoTrial),
    /// The same recording was given twice.
    #[error(
        "expected different recordings, found the spikes of recording {first} again in recording {second}"
    )]
    Twice {
        /// Number of the recording that comes first, counted from 1.
        first: usize,
        /// Number of the recording that repeats it.
        second: usize,
    },
    /// Co-smoothing lacks held-in or held-out neurons.
    #[error("expected held-in and held-out units, found {heldin} and {heldout}")]
    Neurons {
        /// Number of held-in units.
        heldin: usize,
        /// Number of held-out units.
        heldout: usize,
    },
}

impl Tensors {
    /// Cuts the sessions, which follow each other in this order, into the tensors of `variant`.
    ///
    /// # Errors
    /// [`TensorError`] when the windows do not consist of whole bins, or there are no trials or neurons for them.
    pub fn new(
        sessions: &[Session],
        variant: &Variant,
        bin_ms: usize,
        phase: Phase,
    ) -> Result<Tensors, TensorError> {
        Tensors::watched(sessions, variant, bin_ms, phase, &mut |_, _| ())
    }

    /// As [`Tensors::new`]. Calls `watch` after each window that is cut, with the number of windows done and the number of all.
    ///
    /// # Errors
    /// As [`Tensors::new`].
    pub fn watched(
        sessions: &[Session],
        variant: &Variant,
        bin_ms: usize,
        phase: Phase,
        watch: &mut dyn FnMut(usize, usize),
    ) -> Result<Tensors, TensorError> {
        let bins = whole_bins("window", variant.to_ms - variant.from_ms, bin_ms, 1)?;
        let forward_bins = whole_bins("forward window", variant.forward_ms, bin_ms, 0)?;
        if let Some((first, second)) = same_twice(sessions) {
            return Err(TensorError::Twice { first, second });
        }
        let recording = Recording::new(sessions, bin_ms)?;
        let (heldin_ids, heldout_ids) = recording.neurons();
        if heldin_ids.is_empty() || heldout_ids.is_empty() {
            return Err(TensorError::Neurons { heldin: heldin_ids.len(), heldout: heldout_ids.len() });
        }
        let (train_splits, eval_splits): (&[&str], &[&str]) = match phase {
            Phase::Val => (&["train"], &["val"]),
            Phase::Test => (&["train", "val"], &["test"]),
        };
        let mut notes = oddities(sessions);
        let count = |split: &&str| recording.trials().filter(|(trial, _)| trial.is_in(split)).count();
        let trials = ["train", "val"].iter().map(count).sum();
        let doubt = variant.doubt([heldin_ids.len(), heldout_ids.len(), trials]);
        notes.extend(doubt.map(|seen| format!("{seen}: the group has the data set's name all the same")));
        let train = aligned(&recording, variant, train_splits, &mut notes)?;
        let eval = aligned(&recording, variant, eval_splits, &mut notes)?;
        let behavior = recording.behavior(&variant.behavior);
        // Counts of held-in and held-out neurons in two windows, and behaviour.
        let all = (train.len() + eval.len()) * if behavior.is_some() { 5 } else { 4 };
        let (done, watch) = (Cell::new(0), RefCell::new(watch));
        let cut = || {
            done.set(done.get() + 1);
            watch.borrow_mut()(done.get(), all);
        };
        let observed = |trials: &[Aligned<'_>]| {
            let counts = |ids: &[i64], first: fn(&Aligned<'_>) -> i64, bins: usize| {
                let of_trial = |trial| {
                    cut();
                    recording.counts(ids, first(trial), bins)
                };
                let values = trials.iter().flat_map(of_trial).collect();
                Tensor { shape: [trials.len(), bins, ids.len()], values }
            };
            let samples = behavior.as_ref().map(|behavior| {
                let of_trial = |trial: &Aligned<'_>| {
                    cut();
                    behavior.window(trial.behavior, bins)
                };
                let values = trials.iter().flat_map(of_trial).collect();
                Tensor { shape: [trials.len(), bins, behavior.dims], values }
            });
            let forward = |ids| counts(ids, |trial| trial.forward, forward_bins).known();
            Observed {
                heldin: counts(&heldin_ids, |trial| trial.first, bins),
                heldout: counts(&heldout_ids, |trial| trial.first, bins).known(),
                forward: forward(&heldin_ids).zip(forward(&heldout_ids)),
                behavior: samples.and_then(Tensor::known),
            }
        };
        let (train_observed, eval_observed) = (observed(&train), observed(&eval));
        let neurons = [heldin_ids.as_slice(), &heldout_ids].concat();
        let averaged = eval_observed
            .heldout
            .is_some()
            .then(|| psths(&recording, variant, &neurons, bins, &train, &eval));
        let tensors = Tensors {
            group: variant.group(bin_ms),
            bin_ms,
            heldin_ids,
            heldout_ids,
            train: train_observed,
            eval: eval_observed,
            psths: averaged.filter(|psths| psths.rates.shape[0] > 0),
            notes,
        };
        Ok(tensors.noted())
    }

    /// Adds a note for everything that the recordings lack, such as behaviour.
    fn noted(mut self) -> Tensors {
        for (part, observed) in [("training", &self.train), ("evaluation", &self.eval)] {
            let unknown = observed.heldin.values.iter().filter(|count| count.is_nan()).count();
            let bins = unknown / self.heldin_ids.len();
            if bins > 0 {
                self.notes.push(format!("{bins} bins of {part} windows were not observed and are NaN"));
            }
            let missing = [
                ("held-out spikes", observed.heldout.is_none()),
                ("spikes after the window", observed.forward.is_none()),
                ("behaviour", observed.behavior.is_none()),
            ];
            for (what, _) in missing.iter().filter(|(_, missing)| *missing) {
                self.notes.push(format!("no {what} in the {part} trials"));
            }
        }
        if self.psths.is_none() {
            self.notes.push("no PSTHs: they need held-out spikes and conditions".to_owned());
        }
        self
    }
}

fn whole_bins(what: &'static str, found: i64, bin_ms: usize, least: usize) -> Result<usize, TensorError> {
    let length = usize::try_from(found).ok().filter(|length| bin_ms > 0 && length.is_multiple_of(bin_ms));
    let bins = length.map(|length| length / bin_ms).filter(|bins| *bins >= least);
    bins.ok_or(TensorError::Window { what, bin_ms, found })
}
