//! A bundle's model in Burn: the reference that every engine of the daemon is compared with.
//!
//! It runs without dropout, and no bin's answer depends on a later bin.

use crate::data::Trial;
use crate::model::{ModelShape, NeuralDataTransformer};
use burn::tensor::{Device, Tensor, TensorData};
use ndt_protocol::bundle::folded;
use ndt_protocol::bundle::manifest::{Manifest, Positions};
use ndt_protocol::bundle::precision::Precision;
use ndt_protocol::bundle::tensors::Tensors;
use ndt_protocol::bundle::{Bundle, BundleError};

/// A bundle's model, whose outputs are ln(spikes/s) and all readouts in SI units, in the manifest's order.
pub struct Reference {
    model: NeuralDataTransformer,
    precision: Precision,
    shape: ModelShape,
    device: Device,
}

/// The model's outputs for one bin.
pub struct Answer<'a> {
    /// Number of the trial.
    pub trial: usize,
    /// Number of the bin, counted from the trial's start.
    pub bin: usize,
    /// ln(spikes/s) of all units, `[N]`.
    pub log_rates: &'a [f32],
    /// All readouts, `[R]`.
    pub readouts: &'a [f32],
}

impl Reference {
    /// Loads the weights that `manifest` describes.
    pub fn new(manifest: &Manifest, weights: &Tensors) -> Self {
        Reference::loaded(manifest, weights, Precision::F32)
    }

    /// Loads the weights for a computation in fewer bits: the outputs are what a kernel of this precision computes.
    pub fn rounded(manifest: &Manifest, weights: &Tensors, precision: Precision) -> Self {
        let rounded = folded::rounded(&manifest.architecture, weights, precision);
        Reference::loaded(manifest, &rounded, precision)
    }

    fn loaded(manifest: &Manifest, weights: &Tensors, precision: Precision) -> Self {
        let shape = ModelShape {
            architecture: manifest.architecture,
            channels: manifest.channels(),
            units: manifest.units(),
            readout_dims: manifest.readout_dims(),
            causal: true,
            forward_bins: 0,
        };
        let device = Device::flex();
        let model = NeuralDataTransformer::from_tensors(&shape, weights, &device);
        Reference { model, precision, shape, device }
    }

    /// Runs a cold-started stream `counts [T, C]`, `missing [T]`; returns log rates `[T, N]` and readouts `[T, R]`.
    ///
    /// With lag biases this is one pass under the banded mask. Learned positions exist for one window only, so that
    /// each bin after the first window is the last of a window of its own.
    pub fn stream(&self, counts: &[f32], missing: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let window = self.shape.architecture.window_bins;
        let bins = missing.len();
        let whole = match self.shape.architecture.positions {
            Positions::LagBias => bins,
            Positions::Learned => bins.min(window),
        };
        let (mut log_rates, mut readouts) =
            self.batch(&counts[..whole * self.shape.channels], &missing[..whole], 1);
        for last in whole..bins {
            let first = last + 1 - window;
            let counts = &counts[first * self.shape.channels..(last + 1) * self.shape.channels];
            let (rates, read) = self.batch(counts, &missing[first..=last], 1);
            log_rates.extend_from_slice(&rates[rates.len() - self.shape.units..]);
            readouts.extend_from_slice(&read[read.len() - self.shape.readout_dims..]);
        }
        (log_rates, readouts)
    }

    /// Runs several cold-started streams of equal length at once: `counts [B, T, C]`, `missing [B, T]`. Returns log rates
    /// `[B, T, N]` and readouts `[B, T, R]`.
    pub fn batch(&self, counts: &[f32], missing: &[f32], trials: usize) -> (Vec<f32>, Vec<f32>) {
        let bins = missing.len() / trials.max(1);
        if bins == 0 {
            return (Vec::new(), Vec::new());
        }
        let counts = TensorData::new(counts.to_vec(), [trials, bins, self.shape.channels]);
        let missing = TensorData::new(missing.to_vec(), [trials, bins]);
        let output = self.model.forward_in(
            self.precision,
            Tensor::from_data(counts, &self.device),
            Tensor::from_data(missing, &self.device),
            None,
        );
        let values = |x: Tensor<3>| x.into_data().iter::<f32>().collect::<Vec<f32>>();
        (values(output.log_rates), output.readouts.map_or_else(Vec::new, values))
    }

    /// Answers each bin of each trial from at most `reach` bins up to it, and hands the answer to `take`. Trials run
    /// side by side, bins one after the other. `channels` are the columns of the input channels among the trials'
    /// units.
    pub fn bin_by_bin(
        &self,
        trials: &[Trial],
        channels: &[usize],
        reach: usize,
        take: &mut dyn FnMut(Answer),
    ) {
        let longest = trials.iter().map(|trial| trial.bins).max().unwrap_or(0);
        for last in 0..longest {
            let first = (last + 1).saturating_sub(reach);
            let bins = last + 1 - first;
            let running: Vec<usize> = (0..trials.len()).filter(|trial| trials[*trial].bins > last).collect();
            let mut counts = Vec::with_capacity(running.len() * bins * channels.len());
            for trial in &running {
                let units = trials[*trial].counts.len() / trials[*trial].bins;
                for row in trials[*trial].counts[first * units..(last + 1) * units].chunks_exact(units) {
                    counts.extend(channels.iter().map(|channel| row[*channel]));
                }
            }
            let missing = vec![0.0; running.len() * bins];
            let (log_rates, readouts) = self.batch(&counts, &missing, running.len());
            for (at, trial) in running.into_iter().enumerate() {
                let row = at * bins + bins - 1;
                let (units, dims) = (self.shape.units, self.shape.readout_dims);
                take(Answer {
                    trial,
                    bin: last,
                    log_rates: &log_rates[row * units..][..units],
                    readouts: &readouts[row * dims..][..dims],
                });
            }
        }
    }
}

/// Burn's answer to a cold-started stream with the weights of `bundle`, as [`Reference::stream`].
///
/// # Errors
/// [`BundleError::Check`] when weights and manifest do not fit each other.
pub fn reference_stream(
    bundle: &Bundle,
    counts: &[f32],
    missing: &[f32],
) -> Result<(Vec<f32>, Vec<f32>), BundleError> {
    bundle.check()?;
    Ok(Reference::new(&bundle.manifest, &bundle.weights).stream(counts, missing))
}
