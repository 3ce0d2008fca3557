//! Gradients as a whole: clipped by their common norm, and split between a session's layers and the body.
//!
//! Burn clips each parameter's gradient by itself, which changes the direction of the step. The usual rule, used here,
//! scales all gradients by one number.

use crate::model::NeuralDataTransformer;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// The gradients of `model`, scaled so that their common norm is at most `norm_max`.
pub fn clipped<M: Module>(gradients: GradientsParams, model: &M, norm_max: f64) -> GradientsParams {
    let mut squares = Squares { gradients: &gradients, sum: 0.0 };
    model.visit(&mut squares);
    let norm = squares.sum.sqrt();
    // A gradient that is not finite passes: the next loss shows that the fit has diverged.
    if norm.is_nan() || norm <= norm_max {
        return gradients;
    }
    let mut scaled = Scaled { from: gradients, to: GradientsParams::new(), scale: norm_max / norm };
    model.visit(&mut scaled);
    scaled.to
}

/// The gradients of a session's layers and those of the body. Without `readouts` the readout head is in neither.
pub fn split_layers(
    gradients: GradientsParams,
    model: &NeuralDataTransformer,
    readouts: bool,
) -> (GradientsParams, GradientsParams) {
    let mut taken = Taken { from: gradients, to: GradientsParams::new() };
    model.visit_session_layers(true, &mut taken);
    let Taken { from: body, to: session } = taken;
    if readouts {
        return (session, body);
    }
    let mut taken = Taken { from: session, to: GradientsParams::new() };
    model.visit_session_layers(false, &mut taken);
    (taken.to, body)
}

struct Squares<'a> {
    gradients: &'a GradientsParams,
    sum: f64,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.sum += f64::from((gradient.clone() * gradient).sum().into_scalar::<f32>());
        }
    }
}

struct Scaled {
    from: GradientsParams,
    to: GradientsParams,
    scale: f64,
}

impl ModuleVisitor for Scaled {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.from.remove::<D>(param.id) {
            self.to.register(param.id, gradient.mul_scalar(self.scale));
        }
    }
}

struct Taken {
    from: GradientsParams,
    to: GradientsParams,
}

impl ModuleVisitor for Taken {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.from.remove::<D>(param.id) {
            self.to.register(param.id, gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    /// Gradients 3 for each of four weights and 4 for each of two biases: the norm is sqrt(68).
    fn gradients(model: &Linear) -> GradientsParams {
        let device = Device::flex();
        let mut gradients = GradientsParams::new();
        gradients.register(model.weight.id, Tensor::<2>::full([2, 2], 3.0, &device));
        if let Some(bias) = &model.bias {
            gradients.register(bias.id, Tensor::<1>::full([2], 4.0, &device));
        }
        gradients
    }

    fn weight(gradients: &GradientsParams, model: &Linear) -> f32 {
        gradients.get::<2>(model.weight.id).map_or(f32::NAN, |gradient| gradient.max().into_scalar())
    }

    #[test]
    fn the_norm_of_all_gradients_together_is_bounded() {
        let model = LinearConfig::new(2, 2).init(&Device::flex());
        let halved = clipped(gradients(&model), &model, 68f64.sqrt() / 2.0);
        assert!((weight(&halved, &model) - 1.5).abs() < 1e-6);
        assert_eq!(weight(&clipped(gradients(&model), &model, 9.0), &model), 3.0);
    }
}
