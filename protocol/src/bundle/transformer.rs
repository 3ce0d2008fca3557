//! The constants of the transformer's arithmetic, on which the trainer, the exported graphs and the daemon agree.

use crate::bundle::manifest::Architecture;

/// The number that is added to the variance in every layer norm, as in PyTorch and Burn.
pub const NORM_EPSILON: f32 = 1e-5;

/// The attention score of a bin that must not be seen. After the softmax it has no weight beside any real score. It is
/// finite because infinities would give NaN when no bin is in view.
pub const MASKED_SCORE: f32 = -1e30;

/// Factor of every attention score before the softmax: `1/sqrt(head width)`.
pub fn score_scale(architecture: &Architecture) -> f32 {
    1.0 / ((architecture.width / architecture.heads) as f32).sqrt()
}
