//! The last bins of many signals, one bit a bin: whether a signal was above its own running mean. Correlations of such bits cost a few
//! instructions for 64 bins, so that hundreds of channels can be compared with one another while bins come.

/// Words of 64 bins for each signal.
const WORDS: usize = 128;

/// Number of bins that are remembered: nearly three minutes of 20 ms bins, in a kilobyte for each signal.
pub const BINS: usize = 64 * WORDS;

/// Bins over which a running mean is taken, once so many have come.
const MEAN_BINS: f32 = 1024.0;

/// A ring of bits for each signal.
#[derive(Debug, Clone)]
pub struct BitRows {
    signals: usize,
    words: Vec<u64>,
    means: Vec<f32>,
    /// Number of bins taken in so far.
    bins: u64,
}

impl BitRows {
    /// Makes an empty ring for so many signals.
    pub fn new(signals: usize) -> BitRows {
        BitRows { signals, words: vec![0; WORDS * signals], means: vec![0.0; signals], bins: 0 }
    }

    /// Takes in one bin: the value of each signal.
    pub fn take_in(&mut self, values: impl Iterator<Item = f32>) {
        let at = (self.bins % BINS as u64) as usize;
        let keep = 1.0 / (self.bins as f32 + 1.0).min(MEAN_BINS);
        for (signal, value) in values.take(self.signals).enumerate() {
            let mean = &mut self.means[signal];
            *mean += keep * (value - *mean);
            let word = &mut self.words[signal * WORDS + at / 64];
            *word = *word & !(1 << (at % 64)) | u64::from(value > *mean) << (at % 64);
        }
        self.bins += 1;
    }

    /// Number of bins that are remembered.
    pub fn bins(&self) -> usize {
        self.bins.min(BINS as u64) as usize
    }

    fn row(&self, signal: usize) -> &[u64] {
        &self.words[signal * WORDS..][..WORDS]
    }

    /// Number of remembered bins in which the signal was above its mean.
    pub fn above(&self, signal: usize) -> u32 {
        self.row(signal).iter().map(|word| word.count_ones()).sum()
    }

    /// Correlation of the bits of a signal with those of a signal of `other`, which has taken in the same bins; 0 where either is
    /// constant.
    pub fn correlation(&self, signal: usize, other: &BitRows, of: usize) -> f64 {
        let (mine, others) = (self.row(signal), other.row(of));
        let both: u32 = mine.iter().zip(others).map(|(one, two)| (one & two).count_ones()).sum();
        let n = self.bins() as f64;
        let (a, b) = (f64::from(self.above(signal)), f64::from(other.above(of)));
        let spread = (a * (n - a) * b * (n - b)).sqrt();
        if spread == 0.0 { 0.0 } else { (n * f64::from(both) - a * b) / spread }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correlation_is_that_of_what_lies_above_the_mean() {
        let mut rows = BitRows::new(3);
        // The second signal is the first one, scaled; the third is its opposite.
        for bin in 0..2 * BINS + 100 {
            let value = if bin % 3 == 0 { 1.0 } else { 0.0 };
            rows.take_in([value, 5.0 * value, 1.0 - value].into_iter());
        }
        let found = [1, 2].map(|other| rows.correlation(0, &rows, other));
        assert!((found[0] - 1.0).abs() < 1e-9 && (found[1] + 1.0).abs() < 1e-9, "{found:?}");
        assert_eq!(rows.bins(), BINS);
        assert!(rows.above(0).abs_diff(BINS as u32 / 3) <= 1);
        let constant = BitRows::new(1);
        assert_eq!(constant.correlation(0, &constant, 0), 0.0);
    }
}
