//! Decoders that are linear in the last bins' counts, and their bundles, which the daemon can run.

use super::runs::{LAGS_MS, Runs};
use super::smoothing::SmoothingDecoder;
use super::wiener::Wiener;
use crate::export::golden::{GOLDEN_BINS, count_max, golden_input};
use ndt_protocol::bundle::manifest::{Architecture, FORMAT_VERSION, Linear, Manifest, Readout, Training};
use ndt_protocol::bundle::origin::Origin;
use ndt_protocol::bundle::tensors::Tensors;
use ndt_protocol::bundle::{Bundle, BundleError};
use std::collections::BTreeMap;

/// Longest gap that the decoder bridges, ms: the default of a transformer, so that both flag the same bins as good.
const MAX_GAP_MS: f64 = 100.0;

/// Length of the history from which on estimates are flagged as good, ms: the default of a transformer. Both kinds of
/// decoders are fitted on cold-started trials.
const WARMUP_MS: f64 = 100.0;

/// The answers of a linear decoder's bundle to a cold-started stream `counts [T, C]`, `missing [T]`: velocity `[T, V]`.
pub fn answers(bundle: &Bundle, counts: &[f32], missing: &[f32]) -> Vec<f32> {
    let values = |name: &str| -> Vec<f64> {
        bundle
            .weights
            .get(name)
            .map_or_else(Vec::new, |(_, values)| values.iter().map(|v| f64::from(*v)).collect())
    };
    let filter = LinearFilter {
        weights: values("linear.weight"),
        bias: values("linear.bias"),
        window_bins: bundle.manifest.linear.map_or(0, |linear| linear.window_bins),
        lag: 0,
        validation_r2: f64::NAN,
    };
    filter.stream(counts, missing, &values("missing"))
}

/// A linear decoder: `velocity[t] = bias + sum over k of weights[k] counts[t - k]`.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearFilter {
    /// Weights `[window, C, V]`, m/s per spike; the newest bin first.
    pub weights: Vec<f64>,
    /// Velocity of zero counts, `[V]`, m/s.
    pub bias: Vec<f64>,
    /// Number of bins of the window.
    pub window_bins: usize,
    /// Index of the decoded lag in [`LAGS_MS`].
    pub lag: usize,
    /// R2 on the validation runs, mean over the components.
    pub validation_r2: f64,
}

impl LinearFilter {
    /// A Wiener filter as a linear decoder.
    pub fn wiener(fit: &Wiener, lag: usize) -> LinearFilter {
        let (weights, bias) = fit.taps();
        LinearFilter {
            weights,
            bias: bias.to_vec(),
            window_bins: fit.history_bins(),
            lag,
            validation_r2: fit.validation_r2(),
        }
    }

    /// Smoothing and ridge as a linear decoder: the ridge's weights at each lag, scaled by the smoothing's tap.
    pub fn smoothing(fit: &SmoothingDecoder, lag: usize) -> LinearFilter {
        let ridge = fit.ridge();
        let of_tap = |tap: &f64| ridge.weights().iter().map(|weight| tap * weight).collect::<Vec<f64>>();
        LinearFilter {
            weights: fit.taps().iter().flat_map(of_tap).collect(),
            bias: ridge.intercept().to_vec(),
            window_bins: fit.taps().len(),
            lag,
            validation_r2: fit.validation_r2(),
        }
    }

    /// Decodes a cold-started stream `counts [T, C]`: velocity `[T, V]`, m/s. In a bin that is `missing [T]` the
    /// channels' `means [C]` take the place of the counts.
    pub fn stream(&self, counts: &[f32], missing: &[f32], means: &[f64]) -> Vec<f32> {
        let (channels, dims) = (means.len(), self.bias.len());
        let mut velocity = Vec::with_capacity(missing.len() * dims);
        for bin in 0..missing.len() {
            let mut sums = self.bias.clone();
            for lag in 0..self.window_bins.min(bin + 1) {
                for (channel, mean) in means.iter().enumerate() {
                    let count = f64::from(counts[(bin - lag) * channels + channel]);
                    let count = if missing[bin - lag] == 0.0 { count } else { *mean };
                    let weights = &self.weights[(lag * channels + channel) * dims..];
                    sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight * count);
                }
            }
            velocity.extend(sums.iter().map(|sum| *sum as f32));
        }
        velocity
    }

    /// The bundle of a decoder that was fitted to `data`, golden vectors included.
    ///
    /// # Errors
    /// [`BundleError::Check`] when the decoder exceeds a bundle's limits.
    pub fn bundle(&self, data: &Runs, training: Training) -> Result<Bundle, BundleError> {
        let means = data.mean_counts();
        let (channels, dims) = (means.len(), self.bias.len());
        let in_bins = |ms: f64| (ms / data.bin_width_ms).round() as usize;
        let counts = data.train.iter().chain(&data.val).flat_map(|run| &run.counts);
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            id: "0".repeat(64),
            bin_width_ms: data.bin_width_ms,
            warmup_bins: in_bins(WARMUP_MS).min(self.window_bins),
            max_gap_bins: in_bins(MAX_GAP_MS),
            count_max: count_max(counts),
            channel_ids: data.channel_ids.clone(),
            unit_ids: Vec::new(),
            architecture: Architecture::NONE,
            linear: Some(Linear { window_bins: self.window_bins }),
            readouts: vec![Readout {
                dims,
                unit: data.unit.clone(),
                lag_ms: LAGS_MS[self.lag],
                series: data.series.clone(),
            }],
            published: 0,
            training,
            scores: BTreeMap::from([("velocity-r2".to_owned(), self.validation_r2)]),
            precisions: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        let (counts, missing) = golden_input(&means, manifest.training.seed);
        let velocity = self.stream(&counts, &missing, &means);
        let array =
            |name: &str, shape: &[usize], values: Vec<f32>| (name.to_owned(), (shape.to_vec(), values));
        let singles = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<f32>>();
        let bundle = Bundle {
            manifest,
            weights: Tensors::from([
                array("linear.weight", &[self.window_bins, channels, dims], singles(&self.weights)),
                array("linear.bias", &[dims], singles(&self.bias)),
                array("missing", &[channels], singles(&means)),
            ]),
            step_onnx: Vec::new(),
            window_onnx: Vec::new(),
            golden: Tensors::from([
                array("counts", &[GOLDEN_BINS, channels], counts),
                array("missing", &[GOLDEN_BINS], missing),
                array("readouts", &[GOLDEN_BINS, dims], velocity),
            ]),
            origin: Origin { splits: data.splits.clone(), ..Origin::default() },
        };
        bundle.check()?;
        Ok(bundle)
    }
}
