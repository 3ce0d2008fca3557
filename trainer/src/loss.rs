//! The Poisson loss of NDT: `exp(z) - y z`, averaged over the labels that are not ignored.

use burn::tensor::Tensor;

/// A label that is no target, as the original NDT writes it.
pub const IGNORED: f32 = -100.0;

/// Mean Poisson negative log likelihood (without the constant `ln y!`) of `labels [B, T, N]`, spikes per bin,
/// under `log_rates [B, T, N]`. Labels of [`IGNORED`] do not count; without any other the loss is 0, not NaN.
pub fn poisson_loss(log_rates: Tensor<3>, labels: Tensor<3>) -> Tensor<1> {
    let counted = labels.clone().greater_equal_elem(0.0).float();
    let labels = labels.clamp_min(0.0);
    let loss = (log_rates.clone().exp() - labels * log_rates) * counted.clone();
    loss.sum() / counted.sum().clamp_min(1.0)
}

/// Mean squared error of `velocity [B, T, V]` where `known [B, T, 1]` is 1; 0 where nothing is known.
pub fn velocity_loss(velocity: Tensor<3>, target: Tensor<3>, known: Tensor<3>) -> Tensor<1> {
    let dims = velocity.dims()[2] as f64;
    let error = (velocity - target) * known.clone();
    (error.clone() * error).sum() / known.sum().mul_scalar(dims).clamp_min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn tensor(values: [[f32; 2]; 2]) -> Tensor<3> {
        Tensor::<2>::from_data(values, &Device::flex()).unsqueeze()
    }

    fn value(loss: Tensor<1>) -> f32 {
        loss.into_scalar()
    }

    #[test]
    fn the_loss_is_the_hand_computed_mean_of_the_labels_that_count() {
        let log_rates = tensor([[0.0, 1.0], [-1.0, 2.0]]);
        let labels = tensor([[1.0, IGNORED], [0.0, 3.0]]);
        let expected = ((1.0 - 0.0) + (-1f32).exp() + (2f32.exp() - 6.0)) / 3.0;
        assert!((value(poisson_loss(log_rates, labels)) - expected).abs() < 1e-6);
    }

    #[test]
    fn an_empty_mask_is_zero_and_not_nan() {
        let nothing = tensor([[IGNORED; 2]; 2]);
        assert_eq!(value(poisson_loss(tensor([[5.0; 2]; 2]), nothing)), 0.0);
        let unknown = Tensor::<3>::zeros([1, 2, 1], &Device::flex());
        assert_eq!(value(velocity_loss(tensor([[1.0; 2]; 2]), tensor([[0.0; 2]; 2]), unknown)), 0.0);
    }
}
