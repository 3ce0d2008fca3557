//! Intervals of scores by the bootstrap: how far a score moves when other trials, or other blocks of time, had been recorded.
//!
//! Parts are drawn with replacement, as many as there are, again and again; the interval holds the middle 95 % of the scores. The same
//! parts and the same seed give the same interval.

use super::metrics::{BitsPerSpike, R2};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Number of draws.
const DRAWS: usize = 1000;

/// Part of the scores that lies below the interval, and above it.
const TAIL: f64 = 0.025;

/// Smallest number of parts that say anything.
const PARTS_MIN: usize = 4;

/// A score that can be added up over parts.
pub trait Summed: Clone {
    /// Adds what another part has seen.
    fn merge(&mut self, other: &Self);

    /// The score of everything that was added.
    fn score(&self) -> Option<f64>;
}

impl Summed for BitsPerSpike {
    fn merge(&mut self, other: &Self) {
        BitsPerSpike::merge(self, other);
    }

    fn score(&self) -> Option<f64> {
        BitsPerSpike::score(self)
    }
}

impl Summed for R2 {
    fn merge(&mut self, other: &Self) {
        R2::merge(self, other);
    }

    fn score(&self) -> Option<f64> {
        self.mean()
    }
}

/// The sum of all parts; `None` without parts.
pub fn sum<S: Summed>(parts: &[S]) -> Option<S> {
    let (first, others) = parts.split_first()?;
    let mut sum = first.clone();
    others.iter().for_each(|part| sum.merge(part));
    Some(sum)
}

/// The interval of the score over `parts`; `None` for fewer than 4 of them, or where most draws have no score.
pub fn interval<S: Summed>(parts: &[S], seed: u64) -> Option<[f64; 2]> {
    if parts.len() < PARTS_MIN {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut scores = Vec::with_capacity(DRAWS);
    for _ in 0..DRAWS {
        let mut drawn = parts[random.random_range(0..parts.len())].clone();
        for _ in 1..parts.len() {
            drawn.merge(&parts[random.random_range(0..parts.len())]);
        }
        scores.extend(drawn.score().filter(|score| score.is_finite()));
    }
    if scores.len() < DRAWS / 2 {
        return None;
    }
    scores.sort_unstable_by(f64::total_cmp);
    let at = |part: f64| scores[((scores.len() - 1) as f64 * part).round() as usize];
    Some([at(TAIL), at(1.0 - TAIL)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_the_score_shrinks_with_more_parts_and_repeats_with_its_seed() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut part = || {
            let mut r2 = R2::new(1);
            for _ in 0..20 {
                let truth: f32 = random.random_range(-1.0..1.0);
                r2.add(&[truth], &[truth + random.random_range(-0.5..0.5)]);
            }
            r2
        };
        let parts: Vec<R2> = (0..200).map(|_| part()).collect();
        let score = sum(&parts).and_then(|r2| r2.mean()).unwrap();
        let [few, many] = [&parts[..20], &parts[..]].map(|parts| interval(parts, 1).unwrap());
        assert!(many[0] < score && score < many[1], "{many:?} {score}");
        // The standard error over 200 parts of 20 bins is about 0.006.
        assert!(many[1] - many[0] < 0.04 && few[1] - few[0] > many[1] - many[0], "{few:?} {many:?}");
        assert_eq!(Some(many), interval(&parts, 1));
        assert_eq!(interval(&parts[..3], 1), None);
    }
}
