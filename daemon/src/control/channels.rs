//! The health of the channels: which ones died, are saturated, carry no value, carry another channel's counts, or were exchanged. Pure:
//! bins and the model's rates in, findings out. Memory is bounded: a kilobyte for each channel, and eight bytes for each
//! pair of up to 512 channels.
//!
//! | finding | what is seen |
//! |---|---|
//! | died | no spike for ten seconds and more, in which 30 were expected |
//! | saturated | for five seconds, most counts at half of the bundle's `count-max` or above, or the same count in every bin |
//! | missing | for five seconds, no value in most bins |
//! | doubled | two channels fire in the same bins (`pairs`) |
//! | exchanged | each of two channels is explained better by the rate that the model has for the other (`exchange`) |
//!
//! The first three are judged every five seconds. Pairs of channels are compared a few at each step, and a round takes about ten seconds.

pub mod bits;
mod exchange;
mod pairs;

use ndt_protocol::Bin;
use pairs::Pairs;
use serde::Serialize;

/// Length of the time over which single channels are judged, s.
const JUDGED_S: f64 = 5.0;

/// Shortest silence that is told, s.
const SILENT_S: f64 = 10.0;

/// Fewest spikes that must have been expected in a silence: none comes by chance in place of 30 once in e^30 silences of that length.
const EXPECTED_SPIKES: f64 = 30.0;

/// Share of the bins that makes a fault of a channel.
const MOST: f64 = 0.5;

/// Variance of the counts in units of their mean below which a channel that fires in every bin is stuck: a neuron with a refractory
/// period of 2 ms at 200 spikes/s stays above 0.3.
const STUCK: f64 = 0.1;

/// Steps of a round of comparisons of at most 1,024 channels.
const STEPS: usize = 300;

/// What is wrong with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// It fires no more.
    Died,
    /// Its counts are as high as the bundle allows, or higher, or always the same.
    Saturated,
    /// It has no value.
    Missing,
    /// It carries the counts of another channel.
    Doubled,
    /// Its counts are those of the other channel, and the other way round.
    Exchanged,
}

impl Fault {
    /// All faults.
    pub const ALL: [Fault; 5] =
        [Fault::Died, Fault::Saturated, Fault::Missing, Fault::Doubled, Fault::Exchanged];

    /// Name of the fault, as metrics and the page have it.
    pub fn name(self) -> &'static str {
        ["died", "saturated", "missing", "doubled", "exchanged"][self as usize]
    }
}

/// A channel that is not healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Position of the channel in the bundle, from 0.
    pub channel: usize,
    /// What is wrong with it.
    pub fault: Fault,
    /// Position of the other channel, where two are concerned.
    pub with: Option<usize>,
}

/// What is known of each channel.
#[derive(Debug, Clone)]
pub struct ChannelHealth {
    width_s: f64,
    count_max: f64,
    /// Mean count in training, spikes in a bin; 0 where it is not known.
    trained: Vec<f64>,
    judged_bins: usize,
    bins: usize,
    channels: Vec<Channel>,
    pairs: Pairs,
    found: Vec<Finding>,
}

/// Sums over the bins since the last judgement, and since the last spike.
#[derive(Debug, Clone, Copy, Default)]
struct Channel {
    valid: usize,
    too_high: usize,
    missing: usize,
    sum: f64,
    squares: f64,
    silent_bins: usize,
}

impl ChannelHealth {
    /// Expects bins that are `width_s` wide, whose counts are at most `count_max` and had the means `trained` in training, spikes in a
    /// bin; 0 where that is not known. `has_rates` says whether the model estimates the rates of channels.
    pub fn new(width_s: f64, count_max: u32, trained: Vec<f64>, has_rates: bool) -> ChannelHealth {
        let channels = trained.len();
        ChannelHealth {
            width_s,
            count_max: f64::from(count_max),
            judged_bins: (JUDGED_S / width_s).ceil().max(1.0) as usize,
            bins: 0,
            channels: vec![Channel::default(); channels],
            pairs: Pairs::new(channels, has_rates),
            found: Vec::new(),
            trained,
        }
    }

    /// Takes in a bin, with the rate that the model computed for a channel from this bin, spikes in a bin; `None` for a bin that was not
    /// computed. The rate of a channel that is no unit of the model is `NaN`.
    pub fn take_in(&mut self, bin: &Bin, rates: Option<&dyn Fn(usize) -> f32>) {
        for (at, (channel, count)) in self.channels.iter_mut().zip(bin.counts()).enumerate() {
            let is_too_high = bin.too_high.has(at);
            channel.too_high += usize::from(is_too_high);
            if !bin.is_valid(at) {
                channel.missing += usize::from(!is_too_high);
                channel.silent_bins = if is_too_high { 0 } else { channel.silent_bins };
                continue;
            }
            let count = f64::from(*count);
            channel.valid += 1;
            channel.sum += count;
            channel.squares += count * count;
            channel.silent_bins = if count > 0.0 { 0 } else { channel.silent_bins + 1 };
        }
        self.pairs.take_in(bin.counts(), rates);
        self.bins += 1;
        if self.bins >= self.judged_bins {
            self.judge();
        }
    }

    /// Judges each channel by itself, and begins its sums anew.
    fn judge(&mut self) {
        let all = std::mem::take(&mut self.bins) as f64;
        self.found.clear();
        for (at, channel) in self.channels.iter_mut().enumerate() {
            let silent = channel.silent_bins as f64;
            let is_dead = silent * self.width_s >= SILENT_S && silent * self.trained[at] >= EXPECTED_SPIKES;
            let mean = channel.sum / channel.valid.max(1) as f64;
            let variance = channel.squares / channel.valid.max(1) as f64 - mean * mean;
            let is_high = channel.too_high as f64 >= MOST * all
                || (channel.valid as f64 >= MOST * all && mean >= MOST * self.count_max);
            let is_stuck = channel.valid as f64 >= MOST * all && mean >= 1.0 && variance < STUCK * mean;
            let fault = match () {
                () if is_high || (is_stuck && all >= 20.0) => Some(Fault::Saturated),
                () if channel.missing as f64 >= MOST * all => Some(Fault::Missing),
                () if is_dead => Some(Fault::Died),
                () => None,
            };
            self.found.extend(fault.map(|fault| Finding { channel: at, fault, with: None }));
            *channel = Channel { silent_bins: channel.silent_bins, ..Channel::default() };
        }
    }

    /// Compares some of the pairs of channels. To be called about 30 times a second: a round then takes ten seconds for each 1,024
    /// channels, so that a step of a large array takes no longer than one of a small one.
    pub fn compare(&mut self) {
        let steps = STEPS * self.channels.len().div_ceil(1024).max(1);
        self.pairs.compare(self.channels.len().div_ceil(steps));
    }

    /// Compares all pairs of channels with one another.
    pub fn compare_all(&mut self) {
        self.pairs.begin();
        self.pairs.compare(self.channels.len().max(1));
    }

    /// What is wrong, in the order of the channels. A channel that is wrong by itself is not compared with others.
    pub fn findings(&self) -> Vec<Finding> {
        let is_told = |channel: usize| self.found.iter().any(|finding| finding.channel == channel);
        let of_pairs = self.pairs.found().iter().filter(|finding| !is_told(finding.channel));
        let mut findings: Vec<Finding> = self.found.iter().chain(of_pairs).copied().collect();
        findings.sort_unstable();
        findings
    }
}

#[cfg(test)]
mod tests;
