//! Readouts fitted anew on what training ended with: ridge regression of behaviour on the final state, the log rates or
//! the rates.
//!
//! State and log rates are linear in the final state, so that a regression on them is a head like the one it replaces
//! and is exported in its place, where it validates better. The rates are not; their regression, which is what the
//! benchmark does to any model, is told and not kept.

use crate::dataset::{Dataset, Trial};
use crate::masking;
use crate::metrics::R2;
use crate::model::NeuralDataTransformer;
use crate::ridge::{NormalEquations, Ridge};
use crate::training::Fit;
use burn::tensor::{Device, Tensor, TensorData};
use ndt_protocol::bundle::manifest::Velocity;
use serde::Serialize;
use std::ops::Range;

/// Ridge penalties that are tried.
const PENALTIES: [f64; 9] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4];

/// How well one readout validates, by what it is regressed on.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReadoutScore {
    /// Behaviour series.
    pub series: String,
    /// From the bin's centre to the instant that is read out, ms.
    pub lag_ms: f64,
    /// R2 of the head that was fitted with the rates, mean of the axes.
    pub head: Option<f64>,
    /// R2 of a regression on the final state.
    pub state: Option<f64>,
    /// R2 of a regression on the log rates.
    pub log_rates: Option<f64>,
    /// R2 of a regression on the rates.
    pub rates: Option<f64>,
    /// R2 of what is exported, the best of the first three.
    pub exported: Option<f64>,
}

/// Scores every readout of `fit`, and exchanges those heads that a regression betters, if that is wanted.
pub fn refit(fit: &mut Fit, data: &Dataset, exchange: bool) {
    if data.readouts.is_empty() {
        return;
    }
    let device = Device::flex();
    let model = NeuralDataTransformer::from_tensors(&fit.shape, &fit.weights, &device);
    let [train, val] = [&data.train, &data.val].map(|trials| Features::of(&model, data, trials, &device));
    let mut first = 0;
    for readout in &data.readouts {
        let columns = first..first + readout.dims;
        first = columns.end;
        let found = Regressions { fit, readout, columns, train: &train, val: &val };
        let (score, better) = found.compare();
        let Some(ridge) = better.filter(|_| exchange) else {
            fit.readouts.push(ReadoutScore { exported: score.head, ..score });
            continue;
        };
        for (name, at, value) in found.head(&ridge) {
            if let Some((_, values)) = fit.weights.get_mut(name) {
                values[at] = value;
            }
        }
        fit.readouts.push(score);
    }
    fit.scores.velocity_r2 = fit.readouts[0].exported;
}

/// What can be regressed on, for each bin of all trials.
struct Features {
    state: Vec<f64>,
    log_rates: Vec<f64>,
    rates: Vec<f64>,
    /// The head's answer, in standard deviations.
    velocity: Vec<f64>,
    /// The readouts' true values, m/s and m.
    truth: Vec<f32>,
}

impl Features {
    /// With everything shown, each trial from a cold start.
    fn of(model: &NeuralDataTransformer, data: &Dataset, trials: &[Trial], device: &Device) -> Features {
        let mut features = Features {
            state: Vec::new(),
            log_rates: Vec::new(),
            rates: Vec::new(),
            velocity: Vec::new(),
            truth: Vec::new(),
        };
        for trial in trials.iter().filter(|trial| trial.bins > 0) {
            let batch = masking::unmasked(&[trial], &data.heldout);
            let channels = batch.inputs.len() / trial.bins;
            let counts = TensorData::new(batch.inputs, [1, trial.bins, channels]);
            let missing = Tensor::zeros([1, trial.bins], device);
            let output = model.forward(Tensor::from_data(counts, device), missing, None);
            let values = |x: Tensor<3>| x.into_data().iter::<f64>().collect::<Vec<f64>>();
            let log_rates = values(output.log_rates);
            features.rates.extend(log_rates.iter().map(|rate| rate.exp()));
            features.log_rates.extend(log_rates);
            features.state.extend(values(output.state));
            features.velocity.extend(output.velocity.map(values).unwrap_or_default());
            features.truth.extend(&trial.velocity);
        }
        features
    }
}

struct Regressions<'a> {
    fit: &'a Fit,
    readout: &'a Velocity,
    /// The readout's columns among all.
    columns: Range<usize>,
    train: &'a Features,
    val: &'a Features,
}

impl Regressions<'_> {
    /// The scores, and a regression on the state that is better than the head.
    fn compare(&self) -> (ReadoutScore, Option<Ridge>) {
        let (width, units) = (self.fit.shape.architecture.width, self.fit.shape.units);
        let state = self.best(|features| &features.state, width);
        let log_rates = self.best(|features| &features.log_rates, units);
        let rates = self.best(|features| &features.rates, units);
        let score = |found: &Option<(f64, Ridge)>| found.as_ref().map(|(score, _)| *score);
        let head = self.r2(&self.decoded());
        let scores = ReadoutScore {
            series: self.readout.series.clone(),
            lag_ms: self.readout.lag_ms,
            head,
            state: score(&state),
            log_rates: score(&log_rates),
            rates: score(&rates),
            exported: None,
        };
        let log_rates = log_rates.map(|(score, ridge)| (score, self.through_log_rates(&ridge)));
        let best = state.into_iter().chain(log_rates.into_iter().filter_map(|(s, ridge)| Some((s, ridge?))));
        let best = best.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| Some(*score) > head);
        let exported = best.as_ref().map(|(score, _)| *score).or(head);
        (ReadoutScore { exported, ..scores }, best.map(|(_, ridge)| ridge))
    }

    /// Rows of `features` where the readout is known, and its values there.
    fn known(&self, features: &Features, values: &[f64], columns: usize) -> (Vec<f64>, Vec<f64>) {
        let dims = self.fit.velocity.len();
        let mut rows = (Vec::new(), Vec::new());
        for (truth, row) in features.truth.chunks_exact(dims).zip(values.chunks_exact(columns)) {
            let truth = &truth[self.columns.clone()];
            if truth.iter().all(|value| value.is_finite()) {
                rows.0.extend(row);
                rows.1.extend(truth.iter().map(|value| f64::from(*value)));
            }
        }
        rows
    }

    /// The regression that validates best; none where it cannot be fitted.
    fn best(&self, values: impl Fn(&Features) -> &Vec<f64>, columns: usize) -> Option<(f64, Ridge)> {
        let (x, y) = self.known(self.train, values(self.train), columns);
        let equations = NormalEquations::new(&x, columns, &y, self.readout.dims).ok()?;
        let fits = PENALTIES.iter().filter_map(|alpha| equations.solve(*alpha).ok());
        let scored = fits.filter_map(|ridge| Some((self.r2(&ridge.predict(values(self.val)))?, ridge)));
        scored.max_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// R2 of `decoded [rows, dims]` on the validation bins, mean of the axes.
    fn r2(&self, decoded: &[f64]) -> Option<f64> {
        let mut r2 = R2::new(self.readout.dims);
        let truth = self.val.truth.chunks_exact(self.fit.velocity.len());
        for (truth, decoded) in truth.zip(decoded.chunks_exact(self.readout.dims)) {
            let decoded: Vec<f32> = decoded.iter().map(|value| *value as f32).collect();
            r2.add(&truth[self.columns.clone()], &decoded);
        }
        r2.mean()
    }

    /// What the head says of the validation bins, m/s or m.
    fn decoded(&self) -> Vec<f64> {
        let rows = self.val.velocity.chunks_exact(self.fit.velocity.len());
        let scaled = |row: &[f64]| {
            let columns = self.columns.clone().map(|column| (row[column], self.fit.velocity[column]));
            columns.map(|(value, scale)| value * scale.deviation + scale.mean).collect::<Vec<f64>>()
        };
        rows.flat_map(scaled).collect()
    }

    /// A regression on log rates as one on the state that they are computed from.
    fn through_log_rates(&self, ridge: &Ridge) -> Option<Ridge> {
        let (_, weight) = self.fit.weights.get("rates.weight")?;
        let (_, bias) = self.fit.weights.get("rates.bias")?;
        let zero = vec![0.0; bias.len()];
        let (bias, origin) = (
            ridge.predict(&bias.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>()),
            ridge.predict(&zero),
        );
        let rows = weight.chunks_exact(zero.len());
        let through = |row: &[f32]| {
            let row: Vec<f64> = row.iter().map(|value| f64::from(*value)).collect();
            ridge
                .predict(&row)
                .iter()
                .zip(&origin)
                .map(|(with, without)| with - without)
                .collect::<Vec<f64>>()
        };
        Some(Ridge::of(rows.flat_map(through).collect(), bias))
    }

    /// The head's weights that this regression sets: name, place and value, in standard deviations.
    fn head(&self, ridge: &Ridge) -> Vec<(&'static str, usize, f32)> {
        let all = self.fit.velocity.len();
        let scale = |axis: usize| self.fit.velocity[self.columns.start + axis];
        let weights = ridge.weights().iter().enumerate().map(|(at, weight)| {
            let (row, axis) = (at / self.readout.dims, at % self.readout.dims);
            let value = weight / scale(axis).deviation;
            ("velocity.weight", row * all + self.columns.start + axis, value as f32)
        });
        let biases = ridge.intercept().iter().enumerate().map(|(axis, bias)| {
            let value = (bias - scale(axis).mean) / scale(axis).deviation;
            ("velocity.bias", self.columns.start + axis, value as f32)
        });
        weights.chain(biases).collect()
    }
}
