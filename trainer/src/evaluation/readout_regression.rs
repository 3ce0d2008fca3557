//! Readouts by ridge regression on what a fitted model computes: its final state, its log rates, or its rates.
//!
//! State and log rates are linear in the final state, so that a regression on them is a head like the one that was
//! trained, and replaces it where it validates better. The rates are not linear in the state: their regression, which
//! is what the benchmark does to any model, is reported and not kept.

use super::metrics::R2;
use crate::data::trial::rows;
use crate::data::{Dataset, Readout, Scale, Trial};
use crate::model::{ModelShape, NeuralDataTransformer};
use crate::objective::batch::Batch;
use crate::objective::history::parts;
use crate::ridge::{NormalEquations, Ridge};
use burn::tensor::{Device, Tensor};
use ndt_protocol::bundle::manifest::Architecture;
use ndt_protocol::bundle::tensors::Tensors;
use serde::Serialize;
use std::ops::Range;

/// Ridge penalties to choose from.
const PENALTIES: [f64; 9] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3, 1e4];

/// Validation scores of one readout, by what it is regressed on. Each is the mean of the axes' R2.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReadoutScore {
    /// Behaviour series.
    pub series: String,
    /// From a bin's centre to the instant that is read out, ms.
    pub lag_ms: f64,
    /// R2 of the head that was trained together with the rates.
    pub head: Option<f64>,
    /// R2 of a regression on the final state.
    pub state: Option<f64>,
    /// R2 of a regression on the log rates.
    pub log_rates: Option<f64>,
    /// R2 of a regression on the rates.
    pub rates: Option<f64>,
    /// R2 of the readout that is exported, the best of the first three.
    pub exported: Option<f64>,
}

/// A fitted model whose readouts are scored.
#[derive(Clone, Copy)]
pub struct Fitted<'a> {
    /// Shapes of the weights.
    pub shape: &'a ModelShape,
    /// Weights as trained.
    pub weights: &'a Tensors,
    /// Scales of the readouts' columns.
    pub scales: &'a [Scale],
}

/// Scores every readout of a fitted model on the validation trials. With `replace`, also gives the weights in which
/// each head is replaced by a regression that validates better.
pub fn regress(fitted: Fitted, data: &Dataset, replace: bool) -> (Vec<ReadoutScore>, Tensors) {
    let mut weights = fitted.weights.clone();
    let mut scores = Vec::new();
    if data.readouts.is_empty() {
        return (scores, weights);
    }
    let device = Device::flex();
    let model = NeuralDataTransformer::from_tensors(fitted.shape, fitted.weights, &device);
    let architecture = &fitted.shape.architecture;
    let [train, val] =
        [&data.train, &data.val].map(|trials| Features::of(&model, architecture, data, trials, &device));
    let mut first = 0;
    for readout in &data.readouts {
        let columns = first..first + readout.dims;
        first = columns.end;
        let regressions = Regressions { fitted, readout, columns, train: &train, val: &val };
        let (score, better) = regressions.compare();
        let Some(ridge) = better.filter(|_| replace) else {
            scores.push(ReadoutScore { exported: score.head, ..score });
            continue;
        };
        for (name, at, value) in regressions.head(&ridge) {
            if let Some((_, values)) = weights.get_mut(name) {
                values[at] = value;
            }
        }
        scores.push(score);
    }
    (scores, weights)
}

/// What the model computes in each bin of all trials, one row a bin.
struct Features {
    state: Vec<f64>,
    log_rates: Vec<f64>,
    rates: Vec<f64>,
    /// The trained head's answers, in standard deviations.
    readouts: Vec<f64>,
    /// The readouts' targets.
    targets: Vec<f32>,
}

impl Features {
    /// Runs each trial from a cold start, with all held-in counts shown.
    fn of(
        model: &NeuralDataTransformer,
        architecture: &Architecture,
        data: &Dataset,
        trials: &[Trial],
        device: &Device,
    ) -> Features {
        let mut features = Features {
            state: Vec::new(),
            log_rates: Vec::new(),
            rates: Vec::new(),
            readouts: Vec::new(),
            targets: Vec::new(),
        };
        let trials = trials.iter().filter(|trial| trial.bins > 0);
        for part in trials.flat_map(|trial| parts(trial, architecture)) {
            let output = Batch::unmasked(&[&part], &data.heldout).answer(model, device, None);
            let counted = part.history..part.bins;
            let values = |x: Tensor<3>| {
                let x = x.narrow(1, counted.start, counted.len());
                x.into_data().iter::<f64>().collect::<Vec<f64>>()
            };
            let log_rates = values(output.log_rates);
            features.rates.extend(log_rates.iter().map(|rate| rate.exp()));
            features.log_rates.extend(log_rates);
            features.state.extend(values(output.state));
            features.readouts.extend(output.readouts.map(values).unwrap_or_default());
            features.targets.extend(rows(&part.targets, part.bins, &counted));
        }
        features
    }
}

/// Everything that the regressions of one readout need.
struct Regressions<'a> {
    fitted: Fitted<'a>,
    readout: &'a Readout,
    /// The readout's columns among all.
    columns: Range<usize>,
    train: &'a Features,
    val: &'a Features,
}

impl Regressions<'_> {
    /// The scores, and a regression on the state that is better than the trained head.
    fn compare(&self) -> (ReadoutScore, Option<Ridge>) {
        let (width, units) = (self.fitted.shape.architecture.width, self.fitted.shape.units);
        let state = self.best(|features| &features.state, width);
        let log_rates = self.best(|features| &features.log_rates, units);
        let rates = self.best(|features| &features.rates, units);
        let score = |found: &Option<(f64, Ridge)>| found.as_ref().map(|(score, _)| *score);
        let head = self.r2(&self.head_answers());
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

    /// The rows of `values [bins, columns]` whose target is known, and these targets.
    fn known(&self, features: &Features, values: &[f64], columns: usize) -> (Vec<f64>, Vec<f64>) {
        let dims = self.fitted.scales.len();
        let mut rows = (Vec::new(), Vec::new());
        for (targets, row) in features.targets.chunks_exact(dims).zip(values.chunks_exact(columns)) {
            let targets = &targets[self.columns.clone()];
            if targets.iter().all(|value| value.is_finite()) {
                rows.0.extend(row);
                rows.1.extend(targets.iter().map(|value| f64::from(*value)));
            }
        }
        rows
    }

    /// The regression that validates best, with its score; `None` where it has no solution.
    fn best(&self, values: impl Fn(&Features) -> &Vec<f64>, columns: usize) -> Option<(f64, Ridge)> {
        let (x, y) = self.known(self.train, values(self.train), columns);
        let equations = NormalEquations::new(&x, columns, &y, self.readout.dims).ok()?;
        let fits = PENALTIES.iter().filter_map(|alpha| equations.solve(*alpha).ok());
        let scored = fits.filter_map(|ridge| Some((self.r2(&ridge.predict(values(self.val)))?, ridge)));
        scored.max_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// R2 of `decoded [bins, dims]` on the validation bins, mean of the axes.
    fn r2(&self, decoded: &[f64]) -> Option<f64> {
        let mut r2 = R2::new(self.readout.dims);
        let targets = self.val.targets.chunks_exact(self.fitted.scales.len());
        for (targets, decoded) in targets.zip(decoded.chunks_exact(self.readout.dims)) {
            let decoded: Vec<f32> = decoded.iter().map(|value| *value as f32).collect();
            r2.add(&targets[self.columns.clone()], &decoded);
        }
        r2.mean()
    }

    /// The trained head's answers on the validation bins, `[bins, dims]`, in the readout's unit.
    fn head_answers(&self) -> Vec<f64> {
        let rows = self.val.readouts.chunks_exact(self.fitted.scales.len());
        let restored = |row: &[f64]| {
            let columns = self.columns.clone().map(|column| self.fitted.scales[column].restore(row[column]));
            columns.collect::<Vec<f64>>()
        };
        rows.flat_map(restored).collect()
    }

    /// Converts a regression on log rates into one on the state that the log rates are computed from.
    fn through_log_rates(&self, ridge: &Ridge) -> Option<Ridge> {
        let (_, weight) = self.fitted.weights.get("rates.weight")?;
        let (_, bias) = self.fitted.weights.get("rates.bias")?;
        let zero = vec![0.0; bias.len()];
        let (bias, origin) = (
            ridge.predict(&bias.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>()),
            ridge.predict(&zero),
        );
        let rows = weight.chunks_exact(zero.len());
        let through = |row: &[f32]| {
            let row: Vec<f64> = row.iter().map(|value| f64::from(*value)).collect();
            let predicted = ridge.predict(&row);
            let slope = predicted.iter().zip(&origin).map(|(with, without)| with - without);
            slope.collect::<Vec<f64>>()
        };
        Some(Ridge::of(rows.flat_map(through).collect(), bias))
    }

    /// The head's weights that this regression replaces: name, place and value, in standard deviations.
    fn head(&self, ridge: &Ridge) -> Vec<(&'static str, usize, f32)> {
        let all = self.fitted.scales.len();
        let scale = |axis: usize| self.fitted.scales[self.columns.start + axis];
        let weights = ridge.weights().iter().enumerate().map(|(at, weight)| {
            let (row, axis) = (at / self.readout.dims, at % self.readout.dims);
            let value = weight / scale(axis).deviation;
            ("readouts.weight", row * all + self.columns.start + axis, value as f32)
        });
        let biases = ridge.intercept().iter().enumerate().map(|(axis, bias)| {
            ("readouts.bias", self.columns.start + axis, scale(axis).standardise(*bias) as f32)
        });
        weights.chain(biases).collect()
    }
}
