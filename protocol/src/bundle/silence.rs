//! Recognises a source that sends bins without a single spike, although the model expects some: the spike detection stands
//! still, or the counts are lost on their way.

use crate::{Bin, Bundle};

/// Shortest silence that is told, ns: a population may fall silent for a few hundred milliseconds, as in anaesthesia.
const SILENCE_NS: u64 = 1_000_000_000;

/// Fewest spikes that must have been expected in the silence. With independent spikes, none comes by chance in place of 30 once
/// in e^30 silences of that length, which is never in the life of a rig.
const EXPECTED_SPIKES: f64 = 30.0;

/// Follows the bins of a stream. Owned by whoever decodes it.
#[derive(Debug, Clone)]
pub struct Silence {
    /// Mean count of each channel, spikes per bin; empty for a bundle without golden counts, of which nothing is expected.
    mean_counts: Vec<f64>,
    bins_min: u64,
    /// Number of bins since the last spike, and number of spikes that were expected in them.
    bins: u64,
    expected: f64,
}

impl Silence {
    /// Expects the mean counts of `bundle`.
    pub fn new(bundle: &Bundle) -> Silence {
        let bins_min = SILENCE_NS.div_ceil(bundle.manifest.bin_width_ns().max(1));
        Silence { mean_counts: bundle.mean_counts(), bins_min, bins: 0, expected: 0.0 }
    }

    /// Forgets the bins so far.
    pub fn forget(&mut self) {
        (self.bins, self.expected) = (0, 0.0);
    }

    /// Takes in a bin that came, and returns whether it belongs to a silence. `is_used` says whether the model sees a channel.
    ///
    /// A daemon runs it on its decode thread, once a bin. It ends at the first spike. Must not allocate, block,
    /// lock or log.
    pub fn takes_in(&mut self, bin: &Bin, is_used: impl Fn(usize) -> bool) -> bool {
        let has_spike = |(channel, count): (usize, &f32)| *count > 0.0 && is_used(channel);
        if bin.counts().iter().enumerate().any(has_spike) {
            self.forget();
            return false;
        }
        let means = self.mean_counts.iter().enumerate();
        let seen = means.filter(|(channel, _)| bin.is_valid(*channel) && is_used(*channel));
        self.expected += seen.map(|(_, mean)| mean).sum::<f64>();
        self.bins += 1;
        self.bins >= self.bins_min && self.expected >= EXPECTED_SPIKES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CountRange;

    /// Follows bins of 20 ms of two channels with these means, of which the second is masked if it is said so.
    fn told(mean_counts: [f64; 2], is_masked: bool, bins: impl IntoIterator<Item = [f32; 2]>) -> Vec<usize> {
        let mean_counts = mean_counts.to_vec();
        let mut silence = Silence { mean_counts, bins_min: 50, bins: 0, expected: 0.0 };
        let mut bin = Bin::empty();
        let mut is_told = |counts: [f32; 2]| {
            bin.fill(counts.into_iter(), CountRange::new(50, 20.0));
            silence.takes_in(&bin, |channel| channel == 0 || !is_masked)
        };
        bins.into_iter().enumerate().filter(|(_, counts)| is_told(*counts)).map(|(at, _)| at).collect()
    }

    #[test]
    fn a_silence_is_told_once_enough_spikes_were_expected_and_a_second_has_passed() {
        let zeros = |bins| std::iter::repeat_n([0.0, 0.0], bins);
        assert_eq!(told([5.0, 5.0], false, zeros(52)), [49, 50, 51], "a second, whatever is expected");
        assert_eq!(told([0.25, 0.0], false, zeros(121)), [119, 120], "30 spikes, however long that takes");
        assert_eq!(
            told([0.0, 0.0], false, zeros(5_000)),
            [0; 0],
            "of a silent population nothing is expected"
        );
        // One spike is enough, but not on a channel that the model does not see; without a count there is nothing to expect.
        let with = |counts: [f32; 2]| zeros(40).chain([counts]).chain(zeros(40));
        assert_eq!(told([5.0, 5.0], false, with([0.0, 1.0])), [0; 0]);
        assert_eq!(told([5.0, 5.0], true, with([0.0, 1.0])).first(), Some(&49));
        assert_eq!(told([0.0, 5.0], true, zeros(5_000)), [0; 0]);
        assert_eq!(told([5.0, 0.0], false, std::iter::repeat_n([f32::NAN, 0.0], 500)), [0; 0]);
    }
}
