//! A bundle's weights as the kernels want them: what can be computed beforehand is folded in.

use ndt_protocol::Bundle;
use ndt_protocol::tensors::Tensors;

/// `y = x W + b` before it is packed, `W` stored `[inputs, outputs]`.
pub struct Affine {
    /// `[inputs, outputs]`.
    pub weight: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

impl Affine {
    /// The layer of this name.
    pub fn of(weights: &Tensors, name: &str) -> Affine {
        let part = |part: &str| values(weights, &format!("{name}.{part}")).to_vec();
        Affine { weight: part("weight"), bias: part("bias") }
    }

    /// Times a number.
    pub fn scaled(mut self, scale: f32) -> Affine {
        self.weight.iter_mut().chain(&mut self.bias).for_each(|value| *value *= scale);
        self
    }

    /// Several of the same inputs as one.
    pub fn beside(parts: impl IntoIterator<Item = Affine>) -> Affine {
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

    /// The same behind a norm whose scale and shift are taken over: `(n * g + s) W + b = n (g W) + (s W + b)`.
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

/// The linear layers of one encoder layer, behind their norms.
pub struct EncoderLayer {
    /// Query, key and value in one; the queries come scaled by `1/sqrt(head width)`.
    pub attention: Affine,
    /// Attended values to the row.
    pub output: Affine,
    /// Feed-forward, up.
    pub up: Affine,
    /// Feed-forward, down.
    pub down: Affine,
    /// `[heads, window]`; empty with learned positions.
    pub lag_bias: Vec<f32>,
}

impl EncoderLayer {
    /// Layer number `layer`.
    pub fn of(bundle: &Bundle, layer: usize) -> EncoderLayer {
        let architecture = bundle.manifest.architecture;
        let weights = &bundle.weights;
        let name = |part: &str| format!("layer.{layer}.{part}");
        let part = |part: &str| Affine::of(weights, &name(part));
        let scale = 1.0 / ((architecture.width / architecture.heads) as f32).sqrt();
        let parts = [part("attention.query").scaled(scale), part("attention.key"), part("attention.value")];
        EncoderLayer {
            attention: Affine::beside(parts).after_norm(weights, &name("norm1")),
            output: part("attention.output"),
            up: part("feedforward.up").after_norm(weights, &name("norm2")),
            down: part("feedforward.down"),
            lag_bias: values(weights, &name("attention.lag_bias")).to_vec(),
        }
    }
}

/// Rates and velocity in one, behind the last norm.
pub fn readout(weights: &Tensors) -> Affine {
    let mut parts = vec![Affine::of(weights, "rates")];
    if weights.contains_key("velocity.weight") {
        parts.push(Affine::of(weights, "velocity"));
    }
    Affine::beside(parts).after_norm(weights, "norm")
}

/// The bundle's check has made sure that the arrays of its architecture are there; others are empty.
pub fn values<'a>(weights: &'a Tensors, name: &str) -> &'a [f32] {
    weights.get(name).map_or(&[][..], |(_, values)| values.as_slice())
}
