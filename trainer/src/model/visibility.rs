//! Which bins a bin may attend to: earlier ones, or in a teacher, which never runs live, later ones too.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// The visibility of each pair of `T` bins: whether the one may attend to the other.
pub struct Visibility {
    /// For each pair of bins, the index of its lag in the table of lag biases, `[T * T]`.
    pub(super) lags: Tensor<1, Int>,
    /// What is added to the score of each pair: 0, or [`HIDDEN`] where the one does not see the other. `[1, 1, T, T]`, or
    /// `[B, 1, T, T]` where trials differ.
    pub(super) hidden: Tensor<4>,
    /// Number of bins, `T`.
    pub(super) bins: usize,
}

/// Added to the score of a hidden pair of bins. It is finite, so that no row can become NaN; its exponential is 0 beside that of
/// the bin itself, which is always visible.
const HIDDEN: f32 = -1e9;

impl Visibility {
    /// Causal: bin `t` sees bins `t - window + 1 ..= t`.
    pub fn past(bins: usize, window: usize, device: &Device) -> Self {
        let lags = pairs(bins).map(|(to, from)| to.saturating_sub(from).min(window - 1)).collect();
        let hidden = pairs(bins).map(|(to, from)| from > to || to - from >= window);
        Visibility::new(lags, hidden.map(hide).collect(), 1, bins, device)
    }

    /// Acausal: bin `t` sees the bins at a distance below `window` on both sides, up to the end of its trial.
    /// `lengths [B]` are the trials' bins.
    pub fn around(bins: usize, window: usize, lengths: &[usize], device: &Device) -> Self {
        let lag = |to: usize, from: usize| (to + window - 1).saturating_sub(from).min(2 * (window - 1));
        let lags = pairs(bins).map(|(to, from)| lag(to, from)).collect();
        let hidden = lengths.iter().flat_map(|length| {
            pairs(bins).map(|(to, from)| to.abs_diff(from) >= window || (from >= *length && from != to))
        });
        Visibility::new(lags, hidden.map(hide).collect(), lengths.len(), bins, device)
    }

    fn new(lags: Vec<usize>, hidden: Vec<f32>, trials: usize, bins: usize, device: &Device) -> Self {
        let lags: Vec<i64> = lags.into_iter().map(|lag| lag as i64).collect();
        Visibility {
            lags: Tensor::from_data(TensorData::new(lags, [bins * bins]), device),
            hidden: Tensor::from_data(TensorData::new(hidden, [trials, 1, bins, bins]), device),
            bins,
        }
    }
}

/// All pairs of bins, `(to, from)`.
fn pairs(bins: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..bins).flat_map(move |to| (0..bins).map(move |from| (to, from)))
}

fn hide(hidden: bool) -> f32 {
    if hidden { HIDDEN } else { 0.0 }
}
