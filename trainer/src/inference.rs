//! The model as the daemon runs it, computed by Burn: without dropout, and never with a bin to come.
//!
//! A bundle's weights are loaded back into the Burn model, so that what is scored is what was exported.

use crate::dataset::{self, Trial};
use crate::export;
use crate::metrics::{BitsPerSpike, R2};
use crate::model::{ModelShape, NeuralDataTransformer};
use crate::precision;
use burn::tensor::{Device, Tensor, TensorData};
use ndt_protocol::binner::{BinError, Binner};
use ndt_protocol::bundle::folded;
use ndt_protocol::bundle::manifest::{Manifest, Positions, Velocity};
use ndt_protocol::bundle::precision::Precision;
use ndt_protocol::bundle::readouts;
use ndt_protocol::bundle::tensors::Tensors;
use ndt_protocol::bundle::{Bundle, BundleError};
use ndt_replay::session::{SelectError, Session};

/// A bundle's model in Burn: ln(spikes/s) and all readouts come out, the published velocity (m/s) first.
pub struct Reference {
    model: NeuralDataTransformer,
    precision: Precision,
    shape: ModelShape,
    device: Device,
}

impl Reference {
    /// Loads the weights that `manifest` describes.
    pub fn new(manifest: &Manifest, weights: &Tensors) -> Self {
        Reference::loaded(manifest, &joined(manifest, weights), Precision::F32)
    }

    /// The same in fewer bits: what a kernel of this precision computes.
    pub fn rounded(manifest: &Manifest, weights: &Tensors, precision: Precision) -> Self {
        let rounded = folded::rounded(&manifest.architecture, &joined(manifest, weights), precision);
        Reference::loaded(manifest, &rounded, precision)
    }

    fn loaded(manifest: &Manifest, weights: &Tensors, precision: Precision) -> Self {
        let shape = ModelShape {
            architecture: manifest.architecture,
            channels: manifest.channels(),
            units: manifest.units(),
            velocity_dims: manifest.velocity_dims() + manifest.further_dims(),
            causal: true,
            forward_bins: 0,
        };
        let device = Device::flex();
        let model = NeuralDataTransformer::from_tensors(&shape, weights, &device);
        Reference { model, precision, shape, device }
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
        let output = self.model.computing(
            self.precision,
            Tensor::from_data(counts, &self.device),
            Tensor::from_data(missing, &self.device),
            None,
        );
        let values = |x: Tensor<3>| x.into_data().iter::<f32>().collect::<Vec<f32>>();
        (values(output.log_rates), output.velocity.map_or_else(Vec::new, values))
    }
}

/// The weights with one head for all readouts.
pub(crate) fn joined(manifest: &Manifest, weights: &Tensors) -> Tensors {
    let mut joined = weights.clone();
    for part in ["weight", "bias"] {
        let Some((mut shape, further)) = joined.remove(&format!("further.{part}")) else { continue };
        let rows = further.len() / manifest.further_dims().max(1);
        let name = format!("velocity.{part}");
        let all = readouts::joined(manifest, folded::values(weights, &name), &further, rows);
        shape.last_mut().into_iter().for_each(|last| *last = all.len() / rows.max(1));
        joined.insert(name, (shape, all));
    }
    joined
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
    let mut bundle =
        export::bundle(manifest, weights, mean_counts, |counts, missing| reference.stream(counts, missing));
    bundle.check()?;
    precision::measure(&mut bundle, None);
    Ok(bundle)
}

/// What `evaluate` reports.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Evaluation {
    /// Which trials.
    pub split: String,
    /// How many.
    pub trials: usize,
    /// Bins scored.
    pub bins: usize,
    /// Bits/spike of the held-out units; absent without any.
    pub co_bps: Option<f64>,
    /// How good each readout is, the published velocity first; empty without behaviour.
    pub readouts: Vec<ReadoutR2>,
}

/// How good a readout is.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReadoutR2 {
    /// Behaviour series.
    pub series: String,
    /// From a bin's centre to the instant that is read out, ms.
    pub lag_ms: f64,
    /// R2 of each axis; absent where behaviour is not known.
    pub r2: Option<Vec<f64>>,
    /// Their mean.
    pub mean: Option<f64>,
}

/// Why a bundle cannot be evaluated on a session.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The bin width.
    #[error(transparent)]
    Bin(#[from] BinError),
    /// The split.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// No transformer.
    #[error("expected the bundle of a transformer, found a linear decoder, which ndt-train baselines scores")]
    Linear,
    /// The session lacks a unit of the bundle.
    #[error("expected unit {id} of the bundle in the recording, found {units} others")]
    Unit {
        /// The missing unit.
        id: i64,
        /// Units of the recording.
        units: usize,
    },
}

/// Scores a bundle on the trials of `split`, bin by bin as the daemon would: each bin's answer is computed from
/// the bins before it alone, cold at each trial's start, with the held-in units' counts as they are and the
/// held-out units' never.
///
/// # Errors
/// [`EvaluateError`] when the session does not fit the bundle, or has no such split.
pub fn evaluate(bundle: &Bundle, session: &Session, split: &str) -> Result<Evaluation, EvaluateError> {
    let manifest = &bundle.manifest;
    if manifest.linear.is_some() {
        return Err(EvaluateError::Linear);
    }
    let session = in_bundle_order(session, &manifest.unit_ids)?;
    let binner = Binner::new(manifest.bin_width_ms)?;
    let readouts = readouts::readouts(manifest);
    let dims: usize = readouts.iter().map(|readout| readout.dims).sum();
    let trials = dataset::trials(&session, &session.segments(Some(split))?, binner, &readouts);
    let heldout: Vec<bool> = manifest.unit_ids.iter().map(|id| !manifest.channel_ids.contains(id)).collect();
    let per_second = 1.0 / binner.width_s();
    let mut bits = BitsPerSpike::new(manifest.units());
    let mut r2: Vec<R2> = readouts.iter().map(|readout| R2::new(readout.dims)).collect();
    let reference = Reference::new(manifest, &bundle.weights);
    reference.bin_by_bin(
        &trials,
        &channel_columns(manifest),
        manifest.reach_bins(),
        &mut |trial, bin, log_rates, decoded| {
            let counts = &trials[trial].counts[bin * heldout.len()..];
            for unit in (0..heldout.len()).filter(|unit| heldout[*unit]) {
                let expected = f64::from(log_rates[unit]).exp() / per_second;
                bits.add(unit, f64::from(counts[unit]), expected);
            }
            let (mut truth, mut decoded) = (&trials[trial].velocity[bin * dims..][..dims], decoded);
            for (readout, r2) in readouts.iter().zip(&mut r2) {
                r2.add(&truth[..readout.dims], &decoded[..readout.dims]);
                (truth, decoded) = (&truth[readout.dims..], &decoded[readout.dims..]);
            }
        },
    );
    let scored = |(readout, r2): (Velocity, &R2)| ReadoutR2 {
        series: readout.series,
        lag_ms: readout.lag_ms,
        r2: r2.axes(),
        mean: r2.mean(),
    };
    Ok(Evaluation {
        split: split.to_owned(),
        trials: trials.len(),
        bins: trials.iter().map(|trial| trial.bins).sum(),
        co_bps: bits.score(),
        readouts: readouts.into_iter().zip(&r2).map(scored).collect(),
    })
}

/// Where each input channel stands among the units.
fn channel_columns(manifest: &Manifest) -> Vec<usize> {
    let column = |id: &i64| manifest.unit_ids.iter().position(|unit| unit == id);
    manifest.channel_ids.iter().filter_map(column).collect()
}

/// The session with the bundle's units in the bundle's order.
fn in_bundle_order(session: &Session, unit_ids: &[i64]) -> Result<Session, EvaluateError> {
    let unit = |id: &i64| {
        let found = session.units.iter().find(|unit| unit.id == *id).cloned();
        found.ok_or(EvaluateError::Unit { id: *id, units: session.units.len() })
    };
    let units = unit_ids.iter().map(unit).collect::<Result<Vec<_>, _>>()?;
    Ok(Session { units, ..session.clone() })
}

/// Takes the answer to one bin: `(trial, bin, log rates [N], velocity [V])`.
type Answer<'a> = dyn FnMut(usize, usize, &[f32], &[f32]) + 'a;

impl Reference {
    /// Answers each bin of each trial from the bins up to it, at most `reach` of them, and gives
    /// `(trial, bin, log rates [N], velocity [V])` to `answer`. Trials are run side by side, bins one after the other.
    fn bin_by_bin(&self, trials: &[Trial], channels: &[usize], reach: usize, answer: &mut Answer) {
        let longest = trials.iter().map(|trial| trial.bins).max().unwrap_or(0);
        for last in 0..longest {
            let first = (last + 1).saturating_sub(reach);
            let running: Vec<usize> = (0..trials.len()).filter(|trial| trials[*trial].bins > last).collect();
            let mut counts = Vec::with_capacity(running.len() * (last + 1 - first) * channels.len());
            for trial in &running {
                let units = trials[*trial].counts.len() / trials[*trial].bins;
                for row in trials[*trial].counts[first * units..(last + 1) * units].chunks_exact(units) {
                    counts.extend(channels.iter().map(|channel| row[*channel]));
                }
            }
            let missing = vec![0.0; running.len() * (last + 1 - first)];
            let (log_rates, velocity) = self.batch(&counts, &missing, running.len());
            let bins = last + 1 - first;
            for (at, trial) in running.into_iter().enumerate() {
                let row = at * bins + bins - 1;
                let (units, dims) = (self.shape.units, self.shape.velocity_dims);
                answer(trial, last, &log_rates[row * units..][..units], &velocity[row * dims..][..dims]);
            }
        }
    }
}
