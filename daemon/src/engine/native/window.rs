//! The window recomputed at each bin, for learned positions: every bin moves all of them, so that nothing can be kept.
//! Sums are taken in a fixed order: the same bins give the same bits.

use super::affine::values;
use crate::engine::{Engine, Input, Output, StepFailed};
use ndt_protocol::Bundle;
use ndt_protocol::tensors::Tensors;

const NORM_EPSILON: f32 = 1e-5;

/// The kernel with its weights and its state.
pub struct Window {
    readin: Linear,
    missing: Vec<f32>,
    /// `[window, width]`.
    position: Vec<f32>,
    layers: Vec<Layer>,
    norm: Norm,
    rates: Linear,
    velocity: Option<Linear>,
    width: usize,
    window: usize,
    /// Bins since the last reset.
    seen: usize,
    /// Read-ins of the last bins, a ring of `[window, width]`.
    readins: Vec<f32>,
    /// The window's rows on their way through the layers, `[window, width]`.
    rows: Vec<f32>,
    scratch: Scratch,
}

/// `y = x W + b`, `W` stored `[inputs, outputs]`.
struct Linear {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

struct Layer {
    norm1: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    norm2: Norm,
    up: Linear,
    down: Linear,
    /// Keys and values of the window's rows, `[window, width]`.
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// Room for one row's intermediate results.
struct Scratch {
    row: Vec<f32>,
    normed: Vec<f32>,
    query: Vec<f32>,
    attended: Vec<f32>,
    scores: Vec<f32>,
    hidden: Vec<f32>,
}

impl Window {
    /// A kernel for `bundle`, reset. Allocates all that it will ever need.
    pub fn new(bundle: &Bundle) -> Self {
        let architecture = bundle.manifest.architecture;
        let (width, window) = (architecture.width, architecture.window_bins);
        let weights = &bundle.weights;
        Window {
            readin: linear(weights, "readin"),
            missing: values(weights, "missing").to_vec(),
            position: values(weights, "position").to_vec(),
            layers: (0..architecture.layers).map(|layer| Layer::new(bundle, layer)).collect(),
            norm: norm(weights, "norm"),
            rates: linear(weights, "rates"),
            velocity: weights.contains_key("velocity.weight").then(|| linear(weights, "velocity")),
            width,
            window,
            seen: 0,
            readins: vec![0.0; window * width],
            rows: vec![0.0; window * width],
            scratch: Scratch {
                row: vec![0.0; width],
                normed: vec![0.0; width],
                query: vec![0.0; width],
                attended: vec![0.0; width],
                scores: vec![0.0; window],
                hidden: vec![0.0; architecture.feedforward],
            },
        }
    }

    fn read_in(&mut self, input: Input) {
        if input.missing {
            self.scratch.row.copy_from_slice(&self.missing);
        } else {
            self.readin.apply_sparse(input.counts, &mut self.scratch.row);
        }
    }

    /// Keeps the row's read-in, which is all that later bins need of it.
    fn keep_read_in(&mut self) {
        let newest = self.seen % self.window;
        self.readins[newest * self.width..][..self.width].copy_from_slice(&self.scratch.row);
    }

    /// The whole window through all layers; the newest row is left in the scratch.
    fn recompute(&mut self) {
        let (width, window) = (self.width, self.window);
        let newest = self.seen % window;
        let in_view = (self.seen + 1).min(window);
        for place in 0..in_view {
            let slot = (newest + window + place + 1 - in_view) % window;
            let row = &mut self.rows[place * width..][..width];
            row.copy_from_slice(&self.readins[slot * width..][..width]);
            add(row, &self.position[place * width..][..width]);
        }
        let last_layer = self.layers.len() - 1;
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let scratch = &mut self.scratch;
            // Keys and values of a row are needed by later rows only, so one pass over the rows is enough.
            for place in 0..in_view {
                scratch.row.copy_from_slice(&self.rows[place * width..][..width]);
                layer.project(&scratch.row, place, &mut scratch.normed, &mut scratch.query);
                // Of the last layer only the newest row is read out.
                if index < last_layer || place + 1 == in_view {
                    layer.attend(place, scratch);
                    layer.finish(scratch);
                    self.rows[place * width..][..width].copy_from_slice(&scratch.row);
                }
            }
        }
    }
}

impl Engine for Window {
    /// Does not allocate and cannot fail.
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed> {
        self.read_in(input);
        self.keep_read_in();
        self.recompute();
        self.norm.apply(&self.scratch.row, &mut self.scratch.normed);
        self.rates.apply(&self.scratch.normed, &mut output.log_rates);
        if let Some(velocity) = &self.velocity {
            velocity.apply(&self.scratch.normed, &mut output.velocity);
        }
        self.seen += 1;
        Ok(())
    }

    fn observe(&mut self, input: Input) -> Result<(), StepFailed> {
        self.read_in(input);
        self.keep_read_in();
        self.seen += 1;
        Ok(())
    }

    fn reset(&mut self) {
        self.seen = 0;
    }
}

impl Layer {
    fn new(bundle: &Bundle, layer: usize) -> Self {
        let architecture = bundle.manifest.architecture;
        let weights = &bundle.weights;
        let name = |part: &str| format!("layer.{layer}.{part}");
        let rows = architecture.window_bins * architecture.width;
        Layer {
            norm1: norm(weights, &name("norm1")),
            query: linear(weights, &name("attention.query")),
            key: linear(weights, &name("attention.key")),
            value: linear(weights, &name("attention.value")),
            output: linear(weights, &name("attention.output")),
            heads: architecture.heads,
            norm2: norm(weights, &name("norm2")),
            up: linear(weights, &name("feedforward.up")),
            down: linear(weights, &name("feedforward.down")),
            keys: vec![0.0; rows],
            values: vec![0.0; rows],
        }
    }

    /// The row's query into `query`, its key and value into their `slot`.
    fn project(&mut self, row: &[f32], slot: usize, normed: &mut [f32], query: &mut [f32]) {
        let width = row.len();
        self.norm1.apply(row, normed);
        self.query.apply(normed, query);
        self.key.apply(normed, &mut self.keys[slot * width..][..width]);
        self.value.apply(normed, &mut self.values[slot * width..][..width]);
    }

    /// What the query of the row at `place` sees of the rows up to it.
    fn attend(&self, place: usize, scratch: &mut Scratch) {
        let width = scratch.row.len();
        let head_width = width / self.heads;
        let scale = 1.0 / (head_width as f32).sqrt();
        let scores = &mut scratch.scores[..=place];
        for head in 0..self.heads {
            let columns = head * head_width..(head + 1) * head_width;
            let query = &scratch.query[columns.clone()];
            for (at, score) in scores.iter_mut().enumerate() {
                *score = dot(query, &self.keys[at * width..][columns.clone()]) * scale;
            }
            softmax(scores);
            let attended = &mut scratch.attended[columns.clone()];
            attended.fill(0.0);
            for (at, weight) in scores.iter().enumerate() {
                add_scaled(attended, *weight, &self.values[at * width..][columns.clone()]);
            }
        }
    }

    /// Adds the attended values and the feed-forward layer to the row.
    fn finish(&self, scratch: &mut Scratch) {
        self.output.apply(&scratch.attended, &mut scratch.normed);
        add(&mut scratch.row, &scratch.normed);
        self.norm2.apply(&scratch.row, &mut scratch.normed);
        self.up.apply(&scratch.normed, &mut scratch.hidden);
        for value in &mut scratch.hidden {
            *value = value.max(0.0);
        }
        self.down.apply(&scratch.hidden, &mut scratch.normed);
        add(&mut scratch.row, &scratch.normed);
    }
}

impl Linear {
    /// Row by row of the weight: the inner loop runs over outputs, without a reduction, in memory order.
    fn apply(&self, x: &[f32], y: &mut [f32]) {
        y.copy_from_slice(&self.bias);
        for (x, row) in x.iter().zip(self.weight.chunks_exact(y.len())) {
            add_scaled(y, *x, row);
        }
    }

    /// The same for an input that is mostly zeros, as spike counts are: a silent channel costs nothing.
    fn apply_sparse(&self, x: &[f32], y: &mut [f32]) {
        y.copy_from_slice(&self.bias);
        for (x, row) in x.iter().zip(self.weight.chunks_exact(y.len())) {
            if *x != 0.0 {
                add_scaled(y, *x, row);
            }
        }
    }
}

impl Norm {
    fn apply(&self, x: &[f32], y: &mut [f32]) {
        let count = x.len() as f32;
        let mean = x.iter().sum::<f32>() / count;
        let variance = x.iter().map(|value| (value - mean) * (value - mean)).sum::<f32>() / count;
        let scale = 1.0 / (variance + NORM_EPSILON).sqrt();
        for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(&self.weight).zip(&self.bias) {
            *y = (x - mean) * scale * weight + bias;
        }
    }
}

fn softmax(scores: &mut [f32]) {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - highest).exp();
        sum += *score;
    }
    let scale = 1.0 / sum;
    for score in scores.iter_mut() {
        *score *= scale;
    }
}

/// Eight running sums, which the compiler keeps in one vector register.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0f32; 8];
    for (a, b) in a8.iter().zip(b8) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

fn add(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

fn add_scaled(y: &mut [f32], scale: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += scale * x;
    }
}

fn linear(weights: &Tensors, name: &str) -> Linear {
    Linear {
        weight: values(weights, &format!("{name}.weight")).to_vec(),
        bias: values(weights, &format!("{name}.bias")).to_vec(),
    }
}

fn norm(weights: &Tensors, name: &str) -> Norm {
    Norm {
        weight: values(weights, &format!("{name}.weight")).to_vec(),
        bias: values(weights, &format!("{name}.bias")).to_vec(),
    }
}
