//! Recognises streams whose values could be spike counts and probably are none, or not of the channels that the model knows. All
//! of it is legal for a single bin, so that nothing is refused: what a stream shows over a second and more is told.

use ndt_protocol::{Bin, Bundle};

/// Shortest time over which a stream is judged, ns.
const JUDGED_NS: u64 = 1_000_000_000;

/// Fewest spikes that must have been expected of a channel before its silence is told: none comes by chance in place of 30 once in
/// e^30 silences of that length.
const EXPECTED_SPIKES: f32 = 30.0;

/// Fewest times that counts must have risen, and none fallen, before they are taken for sums since the start: some channel of a
/// population falls in nearly every bin.
const RISES: u32 = 20;

/// What is odd about a stream up to a bin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Odd {
    /// Whether most of the bin's counts above 0 are no whole numbers.
    pub fractional: bool,
    /// Whether counts have risen for a second and more without ever falling.
    pub rising: bool,
    /// Number of channels that have been silent although the bundle's mean counts let expect at least 30 spikes of each.
    pub silent_channels: u64,
}

/// Follows the bins of a stream. Owned by the decoder.
#[derive(Debug, Clone)]
pub struct Oddities {
    /// Mean count of each channel, spikes per bin; 0 for one that the model does not see, and for all of a bundle without golden counts,
    /// of which nothing is expected.
    means: Vec<f32>,
    /// Mean count of each channel, whether the model sees it or not.
    all_means: Vec<f32>,
    bins_min: u64,
    channels: Vec<Channel>,
    /// Number of bins since a count last fell, and number of times that one has risen since.
    bins: u64,
    rises: u32,
}

/// What is remembered of one channel.
#[derive(Debug, Clone, Copy, Default)]
struct Channel {
    /// The last count.
    count: f32,
    /// Number of spikes that were expected since the last one.
    expected: f32,
    /// Number of bins since the last spike.
    silent: u32,
}

impl Oddities {
    /// Expects the mean counts of `bundle`. `is_used` says whether the model sees a channel.
    pub fn new(bundle: &Bundle, is_used: impl Fn(usize) -> bool) -> Oddities {
        let channels = bundle.manifest.channels();
        let means = bundle.mean_counts().into_iter().chain(std::iter::repeat(0.0)).take(channels);
        let all_means: Vec<f32> = means.map(|mean| mean as f32).collect();
        let mut oddities = Oddities {
            means: all_means.clone(),
            all_means,
            bins_min: JUDGED_NS.div_ceil(bundle.manifest.bin_width_ns().max(1)),
            channels: vec![Channel::default(); channels],
            bins: 0,
            rises: 0,
        };
        oddities.watch(is_used);
        oddities
    }

    /// Changes which channels the model sees, and forgets the bins so far. Must not allocate, block, lock or log.
    pub fn watch(&mut self, is_used: impl Fn(usize) -> bool) {
        for (channel, (mean, of_channel)) in self.means.iter_mut().zip(&self.all_means).enumerate() {
            *mean = if is_used(channel) { *of_channel } else { 0.0 };
        }
        self.forget();
    }

    /// Number of channels of which spikes are expected.
    pub fn watched(&self) -> u64 {
        self.means.iter().filter(|mean| **mean > 0.0).count() as u64
    }

    /// Forgets the bins so far.
    pub fn forget(&mut self) {
        self.channels.fill(Channel::default());
        (self.bins, self.rises) = (0, 0);
    }

    /// Takes in a bin that came, and returns what is odd about the stream so far.
    ///
    /// Runs on the decode thread and on the source thread, once a bin. Must not allocate, block, lock or log.
    pub fn take_in(&mut self, bin: &Bin) -> Odd {
        let (mut counted, mut fractions, mut silent_channels, mut has_fallen) = (0, 0, 0, false);
        let (are_valid, mut rises) = (bin.invalid_channels() == 0, 0u32);
        let bins_min = u32::try_from(self.bins_min).unwrap_or(u32::MAX);
        let channels = self.channels.iter_mut().zip(bin.counts()).zip(&self.means);
        for (at, ((channel, count), mean)) in channels.enumerate() {
            if !are_valid && !bin.is_valid(at) {
                continue;
            }
            let before = std::mem::replace(&mut channel.count, *count);
            if *count > 0.0 {
                has_fallen |= *count < before;
                rises += u32::from(*count > before);
                counted += 1;
                // Counts are small. To ask for the fraction would call a function of the system on most machines.
                fractions += u32::from((*count as i32) as f32 != *count);
                (channel.expected, channel.silent) = (0.0, 0);
                continue;
            }
            has_fallen |= before > 0.0;
            channel.expected += mean;
            channel.silent = channel.silent.saturating_add(1);
            silent_channels += u64::from(channel.silent >= bins_min && channel.expected >= EXPECTED_SPIKES);
        }
        self.rises = self.rises.saturating_add(rises);
        if has_fallen {
            (self.bins, self.rises) = (0, 0);
        }
        self.bins += 1;
        Odd {
            fractional: 2 * fractions > counted,
            rising: self.bins >= self.bins_min && self.rises >= RISES,
            silent_channels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndt_protocol::CountRange;

    /// Follows bins of 20 ms of four channels with these means.
    fn odd(means: [f32; 4], bins: impl IntoIterator<Item = [f32; 4]>) -> Vec<Odd> {
        let (means, channels) = (means.to_vec(), vec![Channel::default(); 4]);
        let all_means = means.clone();
        let mut oddities = Oddities { means, all_means, bins_min: 50, channels, bins: 0, rises: 0 };
        let mut bin = Bin::empty();
        let mut take_in = |counts: [f32; 4]| {
            bin.fill(counts.into_iter(), CountRange::new(1000, 20.0));
            oddities.take_in(&bin)
        };
        bins.into_iter().map(&mut take_in).collect()
    }

    #[test]
    fn rates_in_place_of_counts_are_known_by_their_fractions() {
        let found = odd([0.5; 4], [[0.25, 0.5, 1.0, 0.0], [1.5, 1.0, 2.0, 0.0], [0.0; 4], [f32::NAN; 4]]);
        assert_eq!(found.iter().map(|odd| odd.fractional).collect::<Vec<_>>(), [true, false, false, false]);
    }

    #[test]
    fn sums_since_the_start_are_known_because_they_never_fall_and_constant_counts_are_none() {
        let of = |bins: &mut dyn Iterator<Item = [f32; 4]>| -> Vec<usize> {
            let found = odd([0.5; 4], bins).into_iter().enumerate();
            found.filter(|(_, odd)| odd.rising).map(|(bin, _)| bin).collect()
        };
        let sums = |bin: usize| [bin as f32, (bin / 2) as f32, 3.0, 0.0];
        assert_eq!(of(&mut (0..52).map(sums)), [49, 50, 51]);
        // A single fall begins the second anew.
        let counts = |bin: usize| if bin == 30 { [0.0; 4] } else { sums(bin) };
        assert_eq!(of(&mut (0..81).map(counts)), [79, 80]);
        assert_eq!(of(&mut std::iter::repeat_n([4.0, 1.0, 0.0, 2.0], 500)), [0; 0]);
        assert_eq!(of(&mut (0..500).map(|bin| [f32::from(bin % 3 == 0), 0.0, 1.0, 1.0])), [0; 0]);
    }

    #[test]
    fn channels_that_are_silent_for_long_are_counted_where_spikes_are_expected() {
        let silent = |means, bins: usize| {
            let last = odd(means, std::iter::repeat_n([1.0, 0.0, 0.0, f32::NAN], bins)).pop().unwrap();
            last.silent_channels
        };
        // A second at least, and 30 expected spikes: a channel without a count, or without spikes in the bundle, is not silent.
        assert_eq!([49, 50].map(|bins| silent([5.0, 5.0, 0.0, 5.0], bins)), [0, 1]);
        assert_eq!([119, 120].map(|bins| silent([0.25; 4], bins)), [0, 2]);
        let back = odd([5.0; 4], (0..60).map(|bin| [f32::from(bin == 59), 1.0, 0.0, 0.0])).pop().unwrap();
        assert_eq!(back.silent_channels, 2);
    }
}
