//! The clock: behaviour as a function of the time since the trial's start, and of nothing else.
//!
//! Trials that are alike score high without one spike. A decoder that is not above the clock has learned when a reach happens, and not
//! which one it is.

use super::runs::{Runs, is_known, r2};

/// Mean behaviour at each bin of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Clock {
    /// Mean of the training runs at each bin `[T, V]`, as far as any of them lasts; the mean of all bins where none is known.
    means: Vec<f32>,
    /// Mean of all bins `[V]`, for later bins than those.
    mean: Vec<f32>,
    validation_r2: f64,
}

impl Clock {
    /// Takes the means over the training runs, at the lag of this index; `None` without a bin of known behaviour. There is nothing to
    /// choose.
    pub fn fit(data: &Runs, lag: usize) -> Option<Clock> {
        let dims = data.dims;
        let longest = data.train.iter().map(|run| run.bins).max()?;
        let (mut sums, mut counts) = (vec![0.0f64; longest * dims], vec![0.0f64; longest]);
        for run in &data.train {
            let known = run.velocity[lag].chunks_exact(dims).enumerate().filter(|(_, row)| is_known(row));
            for (bin, row) in known {
                counts[bin] += 1.0;
                sums[bin * dims..][..dims]
                    .iter_mut()
                    .zip(row)
                    .for_each(|(sum, value)| *sum += f64::from(*value));
            }
        }
        let all: f64 = counts.iter().sum();
        if all == 0.0 {
            return None;
        }
        let total = |dim: usize| sums.iter().skip(dim).step_by(dims).sum::<f64>();
        let mean: Vec<f32> = (0..dims).map(|dim| (total(dim) / all) as f32).collect();
        let at = |(bin, sums): (usize, &[f64])| match counts[bin] {
            0.0 => mean.clone(),
            count => sums.iter().map(|sum| (sum / count) as f32).collect(),
        };
        let means = sums.chunks_exact(dims).enumerate().flat_map(at).collect();
        let mut clock = Clock { means, mean, validation_r2: f64::NAN };
        let channels = data.channels();
        let score = r2(&data.val, lag, dims, |counts| clock.decode(counts.len() / channels));
        clock.validation_r2 = score.mean().unwrap_or(f64::NAN);
        Some(clock)
    }

    /// The behaviour `[T, V]` of a run of so many bins.
    pub fn decode(&self, bins: usize) -> Vec<f32> {
        let known = self.means.iter().chain(self.mean.iter().cycle());
        known.copied().take(bins * self.mean.len()).collect()
    }

    /// R2 on the validation runs, mean over the components.
    pub fn validation_r2(&self) -> f64 {
        self.validation_r2
    }
}
