//! The golden stream of a bundle: inputs whose expected outputs are stored with it, so that an engine can prove itself.
//!
//! The inputs are random counts at the recording's mean rates: a bundle carries no sample of a recording.

use ndt_protocol::limits::COUNT_MAX;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};

/// Bins of the golden stream: longer than most windows, and short enough to check at every start.
pub(crate) const GOLDEN_BINS: usize = 48;

/// Golden bins that are missing: one alone, and two in a row.
const GOLDEN_MISSING: [usize; 3] = [7, 20, 21];

/// Random counts `[T, C]` at the channels' means (spikes per bin), and which bins are missing `[T]`; `T` is
/// [`GOLDEN_BINS`].
pub(crate) fn golden_input(mean_counts: &[f64], seed: u64) -> (Vec<f32>, Vec<f32>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut counts = Vec::with_capacity(GOLDEN_BINS * mean_counts.len());
    for _ in 0..GOLDEN_BINS {
        for &mean in mean_counts {
            // A silent channel has no Poisson distribution; it stays silent.
            let count = Poisson::new(mean).map_or(0.0, |distribution| distribution.sample(&mut random));
            counts.push(count as f32);
        }
    }
    let missing = (0..GOLDEN_BINS).map(|bin| f32::from(GOLDEN_MISSING.contains(&bin))).collect();
    (counts, missing)
}

/// The highest count that a bundle accepts: a little more than twice the highest of `counts`, on which it was trained.
/// A higher count is a sign of a fault in the rig.
pub(crate) fn count_max<'a>(counts: impl Iterator<Item = &'a f32>) -> u32 {
    let highest = counts.fold(0.0, |highest: f32, count| highest.max(*count));
    (2 * highest as u32 + 10).min(COUNT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_inputs_follow_the_mean_and_repeat() {
        let (counts, missing) = golden_input(&[0.0, 5.0], 3);
        let sums = counts.chunks(2).fold([0.0, 0.0], |sum, bin| [sum[0] + bin[0], sum[1] + bin[1]]);
        assert_eq!(sums[0], 0.0);
        assert!((150.0..350.0).contains(&sums[1]), "{}", sums[1]);
        assert_eq!(missing.iter().sum::<f32>(), 3.0);
        assert_eq!(golden_input(&[0.0, 5.0], 3).0, counts);
    }
}
