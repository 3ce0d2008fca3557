//! The model as the daemon runs it, computed by Burn: without dropout, and never with a bin to come.
//!
//! A bundle's weights are loaded back into the Burn model, so that what is scored is what was exported.

use crate::export;
use crate::model::{Dropouts, ModelShape, NeuralDataTransformer};
use burn::tensor::{Device, Tensor, TensorData};
use ndt_protocol::bundle::{Bundle, BundleError};
use ndt_protocol::manifest::{Manifest, Positions};
use ndt_protocol::tensors::Tensors;

/// A bundle's model in Burn: ln(spikes/s) and m/s come out.
pub struct Reference {
    model: NeuralDataTransformer,
    shape: ModelShape,
    device: Device,
}

impl Reference {
    /// Loads the weights that `manifest` describes.
    pub fn new(manifest: &Manifest, weights: &Tensors) -> Self {
        let shape = ModelShape {
            architecture: manifest.architecture,
            channels: manifest.channels(),
            units: manifest.units(),
            velocity_dims: manifest.velocity_dims(),
            dropouts: Dropouts::default(),
        };
        let device = Device::flex();
        Reference { model: NeuralDataTransformer::from_tensors(&shape, weights, &device), shape, device }
    }

    /// A cold-started stream `counts [T, C]`, `missing [T]` to log rates `[T, N]` and velocity `[T, V]`.
    ///
    /// With lag biases this is one pass under the banded mask. A learned table has positions for one window:
    /// beyond it each bin is the last of a window of its own.
    pub fn stream(&self, counts: &[f32], missing: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let window = self.shape.architecture.window_bins;
        let bins = missing.len();
        let whole = match self.shape.architecture.positions {
            Positions::LagBias => bins,
            Positions::Learned => bins.min(window),
        };
        let (mut log_rates, mut velocity) =
            self.batch(&counts[..whole * self.shape.channels], &missing[..whole], 1);
        for last in whole..bins {
            let first = last + 1 - window;
            let counts = &counts[first * self.shape.channels..(last + 1) * self.shape.channels];
            let (rates, speeds) = self.batch(counts, &missing[first..=last], 1);
            log_rates.extend_from_slice(&rates[rates.len() - self.shape.units..]);
            velocity.extend_from_slice(&speeds[speeds.len() - self.shape.velocity_dims..]);
        }
        (log_rates, velocity)
    }

    /// Several stretches of equal length at once: `counts [B, T, C]`, `missing [B, T]`.
    pub fn batch(&self, counts: &[f32], missing: &[f32], trials: usize) -> (Vec<f32>, Vec<f32>) {
        let bins = missing.len() / trials.max(1);
        if bins == 0 {
            return (Vec::new(), Vec::new());
        }
        let counts = TensorData::new(counts.to_vec(), [trials, bins, self.shape.channels]);
        let missing = TensorData::new(missing.to_vec(), [trials, bins]);
        let output = self
            .model
            .forward(Tensor::from_data(counts, &self.device), Tensor::from_data(missing, &self.device));
        let values = |x: Tensor<3>| x.into_data().iter::<f32>().collect::<Vec<f32>>();
        (values(output.log_rates), output.velocity.map_or_else(Vec::new, values))
    }
}

/// Burn's answer to a stream, with the weights of `bundle`.
///
/// # Errors
/// [`BundleError::Check`] when weights and manifest do not fit.
pub fn reference_stream(
    bundle: &Bundle,
    counts: &[f32],
    missing: &[f32],
) -> Result<(Vec<f32>, Vec<f32>), BundleError> {
    bundle.check()?;
    Ok(Reference::new(&bundle.manifest, &bundle.weights).stream(counts, missing))
}

/// A whole bundle of folded `weights`: graphs written, golden vectors computed by Burn.
/// `mean_counts` are the channels' mean spikes per bin, for the golden input.
///
/// # Errors
/// [`BundleError::Check`] when weights and manifest do not fit.
pub fn reference_bundle(
    manifest: Manifest,
    weights: Tensors,
    mean_counts: &[f64],
) -> Result<Bundle, BundleError> {
    let reference = Reference::new(&manifest, &weights);
    let bundle =
        export::bundle(manifest, weights, mean_counts, |counts, missing| reference.stream(counts, missing));
    bundle.check()?;
    Ok(bundle)
}
