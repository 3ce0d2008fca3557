//! The model's parameters by the names that they have in a bundle.

use burn::module::Param;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::Tensor;

/// A parameter to be read or replaced.
pub(super) enum Weight<'a> {
    Vector(&'a mut Param<Tensor<1>>),
    Matrix(&'a mut Param<Tensor<2>>),
}

/// Parameters with their names, in the model's order.
pub(super) type Named<'a> = Vec<(String, Weight<'a>)>;

/// Appends the weight and the bias of a linear map to `named`.
pub(super) fn linear<'a>(name: &str, linear: &'a mut Linear, named: &mut Named<'a>) {
    named.push((format!("{name}.weight"), Weight::Matrix(&mut linear.weight)));
    if let Some(bias) = &mut linear.bias {
        named.push((format!("{name}.bias"), Weight::Vector(bias)));
    }
}

/// Adds weight and bias of a layer normalisation.
pub(super) fn norm<'a>(name: &str, norm: &'a mut LayerNorm, named: &mut Named<'a>) {
    named.push((format!("{name}.weight"), Weight::Vector(&mut norm.gamma)));
    if let Some(bias) = &mut norm.beta {
        named.push((format!("{name}.bias"), Weight::Vector(bias)));
    }
}
