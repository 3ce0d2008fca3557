//! A bundle's weights as a kernel uses them: everything that can be computed beforehand is folded into them.
//!
//! This module is in the protocol, and not beside the kernels, because number formats of fewer bits are defined by
//! rounding *these* weights ([`crate::bundle::precision`]), and the trainer measures what that costs: [`rounded`]
//! unfolds the rounded weights again.

use crate::bundle::manifest::Architecture;
use crate::bundle::precision::{self, Precision};
use crate::bundle::tensors::Tensors;
use crate::bundle::transformer::score_scale;
use std::ops::Range;

/// An affine map `y = x W + b`, before a kernel packs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// `W`, `[inputs, outputs]`, row by row.
    pub weight: Vec<f32>,
    /// Bias `b`, `[outputs]`.
    pub bias: Vec<f32>,
}

impl Affine {
    /// Reads the map `name.weight`, `name.bias`.
    pub fn read(weights: &Tensors, name: &str) -> Affine {
        let part = |part: &str| values(weights, &format!("{name}.{part}")).to_vec();
        Affine { weight: part("weight"), bias: part("bias") }
    }

    /// Multiplies weights and bias by a number.
    pub fn scaled(mut self, scale: f32) -> Affine {
        self.weight.iter_mut().chain(&mut self.bias).for_each(|value| *value *= scale);
        self
    }

    /// Joins several maps of the same inputs into one, with their outputs side by side.
    pub fn side_by_side(parts: impl IntoIterator<Item = Affine>) -> Affine {
        let parts: Vec<Affine> = parts.into_iter().collect();
        let inputs = parts.first().map_or(0, |part| part.weight.len() / part.bias.len().max(1));
        let row = |input: usize| {
            parts.iter().flat_map(move |part| {
                part.weight[input * part.bias.len()..][..part.bias.len()].iter().copied()
            })
        };
        Affine {
            weight: (0..inputs).flat_map(row).collect(),
            bias: parts.iter().flat_map(|part| part.bias.iter().copied()).collect(),
        }
    }

    /// Rounds the weights to the number format `precision`. All weights of one output share a scale.
    pub fn rounded(mut self, precision: Precision) -> Affine {
        let outputs = self.bias.len();
        for output in 0..outputs {
            let mut row: Vec<f32> = self.weight.iter().skip(output).step_by(outputs).copied().collect();
            precision::rounded(&mut row, precision);
            self.weight.iter_mut().skip(output).step_by(outputs).zip(row).for_each(|(to, from)| *to = from);
        }
        self
    }

    /// Returns the map to the outputs `from..from + count`.
    fn outputs(&self, from: usize, count: usize) -> Affine {
        let rows = self.weight.chunks_exact(self.bias.len());
        Affine {
            weight: rows.flat_map(|row| row[from..from + count].iter().copied()).collect(),
            bias: self.bias[from..from + count].to_vec(),
        }
    }

    /// Folds in the scale and shift of the norm before the map: `(n * g + s) W + b = n (g W) + (s W + b)`.
    pub fn after_norm(mut self, weights: &Tensors, name: &str) -> Affine {
        let (scales, shifts) =
            (values(weights, &format!("{name}.weight")), values(weights, &format!("{name}.bias")));
        let outputs = self.bias.len();
        let mut bias: Vec<f64> = self.bias.iter().map(|bias| f64::from(*bias)).collect();
        for (row, (scale, shift)) in self.weight.chunks_exact_mut(outputs).zip(scales.iter().zip(shifts)) {
            for (weight, bias) in row.iter_mut().zip(&mut bias) {
                *bias += f64::from(*shift) * f64::from(*weight);
                *weight *= scale;
            }
        }
        self.bias = bias.into_iter().map(|bias| bias as f32).collect();
        self
    }
}

/// The affine maps of one encoder layer, with its norms folded in.
pub struct EncoderLayer {
    /// Normalised row to query, key and value, side by side; queries come out scaled by `1/sqrt(head width)`.
    pub attention: Affine,
    /// Map from the attended values to the residual row.
    pub output: Affine,
    /// Map from the normalised row to the hidden layer of the feed-forward network.
    pub up: Affine,
    /// Map from the hidden layer to the residual row.
    pub down: Affine,
    /// Lag biases, `[heads, window]`; empty with learned positions.
    pub lag_bias: Vec<f32>,
}

impl EncoderLayer {
    /// Reads encoder layer number `layer`.
    pub fn read(architecture: &Architecture, weights: &Tensors, layer: usize) -> EncoderLayer {
        let name = |part: &str| format!("layer.{layer}.{part}");
        let part = |part: &str| Affine::read(weights, &name(part));
        let parts = [
            part("attention.query").scaled(score_scale(architecture)),
            part("attention.key"),
            part("attention.value"),
        ];
        EncoderLayer {
            attention: Affine::side_by_side(parts).after_norm(weights, &name("norm1")),
            output: part("attention.output"),
            up: part("feedforward.up").after_norm(weights, &name("norm2")),
            down: part("feedforward.down"),
            lag_bias: values(weights, &name("attention.lag_bias")).to_vec(),
        }
    }
}

/// Reads the map from the last row to log rates and the columns `columns` of all readouts, side by side, with the last norm
/// folded in.
pub fn readout(weights: &Tensors, columns: Range<usize>) -> Affine {
    let mut parts = vec![Affine::read(weights, "rates")];
    if !columns.is_empty() {
        parts.push(Affine::read(weights, "readouts").outputs(columns.start, columns.len()));
    }
    Affine::side_by_side(parts).after_norm(weights, "norm")
}

/// Returns the values of an array; empty when there is none. [`crate::Bundle::check`] makes sure that the arrays of
/// the architecture are there.
pub fn values<'a>(weights: &'a Tensors, name: &str) -> &'a [f32] {
    weights.get(name).map_or(&[][..], |(_, values)| values.as_slice())
}

/// Returns weights with which a model that computes in `f32` gives what a model in the number format `precision`
/// gives, except that cached keys and values are not rounded. Norms neither scale nor shift; all other weights are
/// folded and rounded.
pub fn rounded(architecture: &Architecture, weights: &Tensors, precision: Precision) -> Tensors {
    let mut unfolded = weights.clone();
    for (name, (_, values)) in &mut unfolded {
        if name.contains("norm") {
            values.fill(if name.ends_with("weight") { 1.0 } else { 0.0 });
        }
    }
    let mut put = |name: String, affine: Affine| {
        for (part, values) in [("weight", affine.weight), ("bias", affine.bias)] {
            if let Some((_, old)) = unfolded.get_mut(&format!("{name}.{part}")) {
                *old = values;
            }
        }
    };
    let width = architecture.width;
    for layer in 0..architecture.layers {
        let EncoderLayer { attention, output, up, down, .. } =
            EncoderLayer::read(architecture, weights, layer);
        let attention = attention.rounded(precision);
        let name = |part: &str| format!("layer.{layer}.{part}");
        put(name("attention.query"), attention.outputs(0, width).scaled(1.0 / score_scale(architecture)));
        put(name("attention.key"), attention.outputs(width, width));
        put(name("attention.value"), attention.outputs(2 * width, width));
        put(name("attention.output"), output.rounded(precision));
        put(name("feedforward.up"), up.rounded(precision));
        put(name("feedforward.down"), down.rounded(precision));
    }
    let (units, dims) = (values(weights, "rates.bias").len(), values(weights, "readouts.bias").len());
    let readout = readout(weights, 0..dims).rounded(precision);
    put("rates".to_owned(), readout.outputs(0, units));
    put("readouts".to_owned(), readout.outputs(units, dims));
    unfolded
}
