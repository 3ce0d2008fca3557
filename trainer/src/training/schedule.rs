//! Learning rates over the epochs of a fit: a linear warm-up, then half a cosine to zero.

use crate::config::Optimiser;

/// The learning rate of a transformer after `epoch` epochs, fractions included.
pub fn learning_rate(config: &Optimiser, epoch: f64) -> f64 {
    let warmup = config.warmup_epochs.min(config.epochs / 2).max(1) as f64;
    if epoch < warmup {
        return config.learning_rate * (epoch + 1.0).min(warmup) / warmup;
    }
    let part = (epoch - warmup) / (config.epochs as f64 - warmup).max(1.0);
    config.learning_rate * half_cosine(part)
}

/// Half a cosine: 1 at `part` 0, and 0 at `part` 1.
pub fn half_cosine(part: f64) -> f64 {
    0.5 * (1.0 + (std::f64::consts::PI * part).cos())
}
