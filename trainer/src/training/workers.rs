//! The gradient of a batch, computed in shards side by side.
//!
//! A shard is a few whole trials with an autodiff graph of its own. The losses of all shards add up to the batch's, and
//! so do their gradients. **Which trials a shard holds follows from the batch alone, and shards are added in their
//! order**, so that any number of cores gives the same weights.

use crate::model::NeuralDataTransformer;
use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bins of a shard: what one operation reads and writes then stays in a core's share of the cache.
const SHARD_BINS: usize = 1024;

/// Smallest number of shards of a batch, so that a few cores have work.
const SHARDS_MIN: usize = 4;

/// The trials of each shard of a batch of `trials` trials of `bins` bins each.
pub fn split(trials: usize, bins: usize) -> Vec<Range<usize>> {
    let count = (trials * bins).div_ceil(SHARD_BINS).max(SHARDS_MIN).min(trials.max(1));
    (0..count).map(|at| at * trials / count..(at + 1) * trials / count).collect()
}

/// One worker for each core. Burn's back end would share out each operation among the cores and gain nothing by it;
/// within a pool of one thread it does not.
pub struct Workers {
    pools: Vec<rayon::ThreadPool>,
}

impl Workers {
    /// As many workers as there are cores.
    pub fn new() -> Workers {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Workers::of(cores)
    }

    /// This many workers, or fewer if the system gives no more threads.
    pub fn of(count: usize) -> Workers {
        let pool = |_| rayon::ThreadPoolBuilder::new().num_threads(1).build().ok();
        Workers { pools: (0..count).filter_map(pool).collect() }
    }

    /// The sum of `loss(model, shard)` over `shards` shards, and its gradient.
    pub fn gradients(
        &self,
        model: &NeuralDataTransformer,
        device: &Device,
        shards: usize,
        loss: impl Fn(&NeuralDataTransformer, usize) -> Tensor<1> + Sync,
    ) -> (f64, GradientsParams) {
        let parts = self.map(shards, |shard| {
            // Graphs that share a weight are one graph, behind one lock: each shard gets a copy of the weights.
            let own = model.clone().fork(device);
            let loss = loss(&own, shard);
            let value = f64::from(loss.clone().into_scalar::<f32>());
            (value, GradientsParams::from_grads(loss.backward(), &own))
        });
        let mut sum = GradientsAccumulator::new();
        let mut value = 0.0;
        for (part, gradients) in parts {
            value += part;
            sum.accumulate(model, gradients);
        }
        (value, sum.grads())
    }

    /// The results of `job(0) .. job(count - 1)`, in order.
    fn map<T: Send>(&self, count: usize, job: impl Fn(usize) -> T + Sync) -> Vec<T> {
        if self.pools.len() < 2 {
            return (0..count).map(job).collect();
        }
        let next = AtomicUsize::new(0);
        let done = Mutex::new((0..count).map(|_| None).collect::<Vec<Option<T>>>());
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= count {
                    return;
                }
                let value = job(at);
                if let Ok(mut done) = done.lock() {
                    done[at] = Some(value);
                }
            }
        };
        std::thread::scope(|scope| {
            for pool in &self.pools {
                scope.spawn(|| pool.install(work));
            }
        });
        done.into_inner().unwrap_or_default().into_iter().flatten().collect()
    }
}

impl Default for Workers {
    fn default() -> Self {
        Workers::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trial_is_in_one_shard_in_order() {
        for (trials, bins) in [(64, 140), (64, 24), (13, 7), (3, 5000), (1, 1), (0, 0)] {
            let shards = split(trials, bins);
            let all: Vec<usize> = shards.iter().cloned().flatten().collect();
            assert_eq!(all, (0..trials).collect::<Vec<_>>(), "{trials} trials of {bins} bins: {shards:?}");
            assert!(trials == 0 || shards.iter().all(|shard| !shard.is_empty()));
        }
    }
}
