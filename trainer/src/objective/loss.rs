//! The terms of the loss: Poisson likelihood of spike counts, of the bins and of later bins, and squared error of
//! readouts.
//!
//! The terms are visible to [`super::shard`] alone: a term that is not added to the loss there is unused code, which the
//! compiler reports.

use burn::tensor::Tensor;

/// The value of a label that is no target; the original NDT uses the same number.
pub const IGNORED: f32 = -100.0;

/// Mean Poisson negative log likelihood `exp(z) - y z` (without the constant `ln y!`) of `labels [B, T, N]`, spikes per
/// bin, under `log_rates [B, T, N]`. Labels of [`IGNORED`] do not count; without any other label the loss is 0 and not
/// NaN.
pub(super) fn poisson_loss(log_rates: Tensor<3>, labels: Tensor<3>) -> Tensor<1> {
    let counted = labels.clone().greater_equal_elem(0.0).float();
    let labels = labels.clamp_min(0.0);
    let loss = (log_rates.clone().exp() - labels * log_rates) * counted.clone();
    loss.sum() / counted.sum().clamp_min(1.0)
}

/// Mean Poisson loss of the heads that predict the next `ahead` bins: `forward [B, T, K N]`, all units of the next bin
/// first, under `counts [B, T, N]`, which are [`IGNORED`] after a trial's end. Every unit of every later bin counts,
/// because it lies ahead of everything that the model has seen.
pub(super) fn forward_loss(forward: Tensor<3>, counts: Tensor<3>, ahead: usize) -> Tensor<1> {
    let [_, bins, units] = counts.dims();
    let mut sum = Tensor::zeros([1], &counts.device());
    let mut counted = Tensor::zeros([1], &counts.device());
    for ahead in 1..=ahead.min(bins.saturating_sub(1)) {
        let left = bins - ahead;
        let log_rates = forward.clone().narrow(2, (ahead - 1) * units, units).narrow(1, 0, left);
        let labels = counts.clone().narrow(1, ahead, left);
        let is_there = labels.clone().greater_equal_elem(0.0).float();
        let labels = labels.clamp_min(0.0);
        sum = sum + ((log_rates.clone().exp() - labels * log_rates) * is_there.clone()).sum();
        counted = counted + is_there.sum();
    }
    sum / counted.clamp_min(1.0)
}

/// Mean squared error of `readouts [B, T, V]` where `known [B, T, V]` is 1; 0 where nothing is known.
pub(super) fn readout_loss(readouts: Tensor<3>, targets: Tensor<3>, known: Tensor<3>) -> Tensor<1> {
    let error = (readouts - targets) * known.clone();
    (error.clone() * error).sum() / known.sum().clamp_min(1.0)
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
        let unknown = Tensor::<3>::zeros([1, 2, 2], &Device::flex());
        assert_eq!(value(readout_loss(tensor([[1.0; 2]; 2]), tensor([[0.0; 2]; 2]), unknown)), 0.0);
    }

    #[test]
    fn a_bin_is_compared_with_the_prediction_made_before_it() {
        // One unit, two bins ahead, three bins of which the last is padding.
        let forward =
            Tensor::<2>::from_data([[0.5, 9.0], [9.0, 9.0], [9.0, 9.0]], &Device::flex()).unsqueeze();
        let counts = Tensor::<2>::from_data([[7.0], [2.0], [IGNORED]], &Device::flex()).unsqueeze();
        let expected = 0.5f32.exp() - 2.0 * 0.5;
        assert!((value(forward_loss(forward, counts, 2)) - expected).abs() < 1e-6);
    }
}
