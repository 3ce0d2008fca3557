//! A bundle's model in Burn: the reference that every engine of the daemon is compared with.
//!
//! It runs without dropout, and no bin's answer depends on a later bin.

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
    /// With lag biases this is one pass under the banded mask, for a long stream in parts that begin with the history on which their
    /// answers depend. Learned positions exist for one window only, so that each bin after the first window is the last of a window
    /// of its own.
    pub fn stream(&self, counts: &[f32], missing: &[f32]) -> (Vec<f32>, Vec<f32>) {
        self.watched(counts, missing, &mut |_| {})
    }

    /// As [`Reference::stream`]. Calls `watch` after each part, with the number of bins that are done.
    pub fn watched(
        &self,
        counts: &[f32],
        missing: &[f32],
        watch: &mut dyn FnMut(usize),
    ) -> (Vec<f32>, Vec<f32>) {
        const PART_BINS: usize = 4096;
        let architecture = &self.shape.architecture;
        let reach = architecture.reach_bins();
        let (part, first_part) = match architecture.positions {
            Positions::LagBias => (PART_BINS.max(4 * reach), PART_BINS.max(4 * reach)),
            Positions::Learned => (1, architecture.window_bins),
        };
        let whole = missing.len().min(first_part);
        let channels = self.shape.channels;
        let (mut log_rates, mut readouts) = self.batch(&counts[..whole * channels], &missing[..whole], 1);
        watch(whole);
        for start in (whole..missing.len()).step_by(part) {
            let (first, stop) = (start + 1 - reach, (start + part).min(missing.len()));
            let (rates, read) =
                self.batch(&counts[first * channels..stop * channels], &missing[first..stop], 1);
            log_rates.extend_from_slice(&rates[(start - first) * self.shape.units..]);
            readouts.extend_from_slice(&read[(start - first) * self.shape.readout_dims..]);
            watch(stop);
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
