//! What the readout head is fitted to: the behaviour of each bin, every column in its own standard deviations.

use super::batch::Batch;
use crate::data::{Dataset, Scale, Trial};

/// Mean and standard deviation of each column of the readouts over the training bins where it is known.
pub fn scales(data: &Dataset) -> Vec<Scale> {
    let dims = data.readout_dims();
    let scale = |column: usize| {
        let rows = data.train.iter().flat_map(|trial| trial.targets.chunks_exact(dims));
        Scale::of(rows.map(|row| f64::from(row[column])))
    };
    (0..dims).map(scale).collect()
}

/// Targets of a batch in standard deviations.
pub struct Targets {
    /// Standardised targets `[B, T, V]`; 0 where unknown.
    pub values: Vec<f32>,
    /// 1 where the target is known, else 0, `[B, T, V]`.
    pub known: Vec<f32>,
}

impl Targets {
    /// Targets of a batch of `trials`, standardised by `scales [V]`.
    pub fn of(batch: &Batch, trials: &[&Trial], scales: &[Scale]) -> Targets {
        let dims = scales.len();
        let mut values = vec![0.0; batch.trials * batch.bins * dims];
        let mut known = values.clone();
        for (at, trial) in trials.iter().enumerate() {
            let first = at * batch.bins * dims;
            let wanted = trial.targets.iter().enumerate();
            let is_target = |(at, value): &(usize, &f32)| value.is_finite() && trial.is_counted(at / dims);
            for (column, target) in wanted.filter(is_target) {
                values[first + column] = scales[column % dims].standardise(f64::from(*target)) as f32;
                known[first + column] = 1.0;
            }
        }
        Targets { values, known }
    }
}
