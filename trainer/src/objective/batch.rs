//! Several trials side by side as a model takes them in, padded to the longest.

use super::loss::IGNORED;
use crate::data::trial::{Trial, rows};
use crate::model::dropout::Dropout;
use crate::model::{NeuralDataTransformer, Output};
use burn::tensor::{Device, Tensor, TensorData};
use std::ops::Range;

/// `B` trials, padded to the `T` bins of the longest; `C` input channels and `N` units. Flat arrays, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Number of trials, `B`.
    pub trials: usize,
    /// Bins of the longest trial, `T`.
    pub bins: usize,
    /// Counts that are shown to the model, `[B, T, C]`.
    pub inputs: Vec<f32>,
    /// 1 where a bin is missing, else 0, `[B, T]`.
    pub missing: Vec<f32>,
    /// Counts that the model must predict, `[B, T, N]`; [`IGNORED`] elsewhere.
    pub labels: Vec<f32>,
    /// All recorded counts, `[B, T, N]`, as labels of the heads that predict later bins; [`IGNORED`] after a trial's end, in its
    /// history and in a gap.
    pub counts: Vec<f32>,
    /// Bins of each trial, `[B]`.
    pub lengths: Vec<usize>,
}

/// What the model sees of one count.
pub(super) enum Shown {
    /// The given value; the count is not a label.
    As(f32),
    /// The model sees zero; the count is a label.
    Hidden,
    /// The given value, which is unrelated to the count; the count is a label.
    Instead(f32),
    /// Zero in a bin that is marked as missing; the count is a label.
    Missing,
}

impl Batch {
    /// Trials with every count of a held-in unit shown, and those of held-out units as labels: the input of scoring.
    pub fn unmasked(trials: &[&Trial], heldout: &[bool]) -> Batch {
        let mut batch = Batch::padded(trials, heldout);
        for (at, trial) in trials.iter().enumerate() {
            batch.fill(at, trial, &trial.counts, heldout, |_, _, count| Shown::As(count));
        }
        batch
    }

    /// The outputs of `model` for this batch, with or without the dropout of training.
    pub fn answer(
        &self,
        model: &NeuralDataTransformer,
        device: &Device,
        dropout: Option<&mut Dropout>,
    ) -> Output {
        let counts = self.tensor(&self.inputs, device);
        let missing = self.tensor(&self.missing, device).squeeze_dim::<2>(2);
        model.forward_trials(counts, missing, &self.lengths, dropout)
    }

    /// A flat array of this batch as a tensor `[B, T, *]`.
    pub fn tensor(&self, values: &[f32], device: &Device) -> Tensor<3> {
        let last = values.len() / (self.trials * self.bins).max(1);
        Tensor::from_data(TensorData::new(values.to_vec(), [self.trials, self.bins, last]), device)
    }

    /// Number of counts that the model is asked for.
    pub fn labelled(&self) -> usize {
        self.labels.iter().filter(|label| **label != IGNORED).count()
    }

    /// Number of bins that loss and scores count.
    pub fn counted(&self) -> usize {
        self.are_counted().filter(|counted| *counted).count()
    }

    /// Number of pairs of a bin and one of the next `ahead` bins of the same trial, if loss and scores count that one.
    pub fn pairs_ahead(&self, ahead: usize) -> usize {
        let places = self.are_counted().enumerate().filter(|(_, counted)| *counted);
        places.map(|(row, _)| (row % self.bins).min(ahead)).sum()
    }

    /// Whether loss and scores count each bin, `[B, T]`.
    fn are_counted(&self) -> impl Iterator<Item = bool> + '_ {
        let units = self.counts.len() / (self.trials * self.bins).max(1);
        self.counts.chunks_exact(units.max(1)).map(|counts| counts[0] != IGNORED)
    }

    /// A teacher's rates of the held-out units, `[B, T, N]`, and [`IGNORED`] elsewhere: the teacher has seen the very
    /// spikes of a unit that is shown.
    pub fn taught(&self, trials: &[&Trial], heldout: &[bool]) -> Vec<f32> {
        let units = heldout.len();
        let mut rates = vec![IGNORED; self.trials * self.bins * units];
        for (at, trial) in trials.iter().enumerate() {
            let wanted = trial.rates.iter().enumerate();
            let wanted = wanted.filter(|(at, _)| heldout[at % units] && trial.is_counted(at / units));
            for (column, rate) in wanted {
                rates[at * self.bins * units + column] = *rate;
            }
        }
        rates
    }

    /// A range of the batch's trials as a batch, with the same padding.
    pub fn part(&self, trials: Range<usize>) -> Batch {
        let part = |values: &[f32]| rows(values, self.trials, &trials);
        Batch {
            trials: trials.len(),
            bins: self.bins,
            inputs: part(&self.inputs),
            missing: part(&self.missing),
            labels: part(&self.labels),
            counts: part(&self.counts),
            lengths: self.lengths[trials.clone()].to_vec(),
        }
    }

    /// Makes a batch of zero inputs without labels, each trial padded to the longest one.
    pub(super) fn padded(trials: &[&Trial], heldout: &[bool]) -> Batch {
        let bins = trials.iter().map(|trial| trial.bins).max().unwrap_or(0);
        let channels = heldout.iter().filter(|heldout| !**heldout).count();
        let rows = trials.len() * bins;
        Batch {
            trials: trials.len(),
            bins,
            inputs: vec![0.0; rows * channels],
            missing: vec![0.0; rows],
            labels: vec![IGNORED; rows * heldout.len()],
            counts: vec![IGNORED; rows * heldout.len()],
            lengths: trials.iter().map(|trial| trial.bins).collect(),
        }
    }

    /// Fills in trial number `at` with its `counts [T, N]`. `shown(bin, unit, count)` is called once for each count of a
    /// held-in unit, bin by bin. History and gaps have no labels.
    pub(super) fn fill(
        &mut self,
        at: usize,
        trial: &Trial,
        counts: &[f32],
        heldout: &[bool],
        mut shown: impl FnMut(usize, usize, f32) -> Shown,
    ) {
        let units = heldout.len();
        let channels = heldout.iter().filter(|heldout| !**heldout).count();
        for (bin, counts) in counts.chunks_exact(units).enumerate() {
            let row = at * self.bins + bin;
            self.counts[row * units..][..units].copy_from_slice(counts);
            let labels = &mut self.labels[row * units..][..units];
            let mut inputs = self.inputs[row * channels..][..channels].iter_mut();
            for (unit, &count) in counts.iter().enumerate() {
                if heldout[unit] {
                    labels[unit] = count;
                    continue;
                }
                let Some(input) = inputs.next() else { continue };
                match shown(bin, unit, count) {
                    Shown::As(value) => *input = value,
                    Shown::Hidden => labels[unit] = count,
                    Shown::Instead(value) => (*input, labels[unit]) = (value, count),
                    Shown::Missing => (self.missing[row], labels[unit]) = (1.0, count),
                }
            }
            if !trial.is_counted(bin) {
                self.counts[row * units..][..units].fill(IGNORED);
                self.labels[row * units..][..units].fill(IGNORED);
            }
            if trial.is_missing(bin) {
                self.inputs[row * channels..][..channels].fill(0.0);
                self.missing[row] = 1.0;
            }
        }
    }
}

/// The values of a tensor, row-major.
pub fn values(x: Tensor<3>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}
