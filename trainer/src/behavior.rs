//! What the velocity head is fitted to and scored by: the readouts of a dataset, each column in its own standard deviations.

use crate::dataset::{Dataset, Trial};
use crate::export::VelocityScale;
use crate::masking::Batch;
use crate::metrics::R2;

/// Mean and standard deviation of each column over the training bins where it is known.
pub fn scales(data: &Dataset) -> Vec<VelocityScale> {
    let dims = data.velocity_dims();
    let scale = |axis: usize| {
        let rows = data.train.iter().flat_map(|trial| trial.velocity.chunks_exact(dims));
        let known: Vec<f64> =
            rows.map(|row| f64::from(row[axis])).filter(|value| value.is_finite()).collect();
        let count = known.len().max(1) as f64;
        let mean = known.iter().sum::<f64>() / count;
        let deviation = (known.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
        // A hand that never moved is not scaled.
        VelocityScale { mean, deviation: if deviation > 0.0 { deviation } else { 1.0 } }
    };
    (0..dims).map(scale).collect()
}

/// Standardised targets and 1 where they are known, both `[B, T, V]`.
pub fn targets(batch: &Batch, trials: &[&Trial], scales: &[VelocityScale]) -> (Vec<f32>, Vec<f32>) {
    let dims = scales.len();
    let mut target = vec![0.0; batch.trials * batch.bins * dims];
    let mut known = target.clone();
    for (at, trial) in trials.iter().enumerate() {
        let first = at * batch.bins * dims;
        for (column, value) in trial.velocity.iter().enumerate().filter(|(_, value)| value.is_finite()) {
            let scale = scales[column % dims];
            target[first + column] = ((f64::from(*value) - scale.mean) / scale.deviation) as f32;
            known[first + column] = 1.0;
        }
    }
    (target, known)
}

/// Adds what the head says of the first readout, `dims` columns of `velocity [B, T, V]` in standard deviations.
pub fn score(
    batch: &Batch,
    trials: &[&Trial],
    velocity: &[f32],
    scales: &[VelocityScale],
    dims: usize,
    r2: &mut R2,
) {
    let mut decoded = vec![0.0; dims];
    for (at, trial) in trials.iter().enumerate() {
        for (bin, truth) in trial.velocity.chunks_exact(scales.len().max(1)).enumerate() {
            let row = (at * batch.bins + bin) * scales.len();
            for ((decoded, value), scale) in decoded.iter_mut().zip(&velocity[row..]).zip(scales) {
                *decoded = (f64::from(*value) * scale.deviation + scale.mean) as f32;
            }
            r2.add(&truth[..dims], &decoded);
        }
    }
}
