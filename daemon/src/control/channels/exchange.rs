//! Two channels that were exchanged: the counts of *each* follow the rate that the model has for the *other*.
//!
//! The model predicts each unit from the whole population, so that the rate of a unit follows its neuron also where the counts of the
//! neuron come in on another channel. A rate may also follow the count that it was computed from. Counts are therefore held against
//! the rates of the bin *before*, which cannot have seen them.

use super::bits::BINS;

/// Most channels among which exchanges are looked for: a bin costs as many products as there are pairs of them.
pub const CHANNELS_MAX: usize = 512;

/// Standard errors by which the others' rates must explain two channels better: over all pairs of a few hundred channels, chance reaches
/// this once in some rounds, and the other conditions hardly ever.
const ERRORS: f64 = 4.0;

/// Factor and margin by which the correlations with the others' rates must be higher, so that two units of the same kind, which follow
/// each other's rates nearly as well as their own, are not taken for exchanged.
const FACTOR: f64 = 1.5;
const MARGIN: f64 = 0.02;

/// Share of the channels whose own rates must explain at least half of what they let expect: what a model that explains fewer says of
/// the others is not believed.
const BELIEVED: f64 = 0.25;

/// Fewest spikes in a bin of a channel that is judged.
const COUNT_MIN: f64 = 1e-3;

/// Means of the counts, of the rates before them and of their products, which forget.
#[derive(Debug, Clone)]
pub struct Exchanges {
    channels: usize,
    /// Rates of the bin before; empty where it had none.
    before: Vec<f32>,
    bins: u64,
    counts: Vec<Moments>,
    rates: Vec<Moments>,
    /// Mean product of the rate of one channel with the counts of another, and with the rate of another, `[channels, channels]`.
    rate_count: Vec<f32>,
    rate_rate: Vec<f32>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    mean: f32,
    square: f32,
}

impl Moments {
    fn take_in(&mut self, value: f32, keep: f32) {
        self.mean += keep * (value - self.mean);
        self.square += keep * (value * value - self.square);
    }

    fn variance(self) -> f64 {
        (f64::from(self.square) - f64::from(self.mean) * f64::from(self.mean)).max(0.0)
    }
}

impl Exchanges {
    /// Looks for exchanges among so many channels.
    pub fn new(channels: usize) -> Exchanges {
        let (moments, products) = (vec![Moments::default(); channels], vec![0.0; channels * channels]);
        Exchanges {
            channels,
            before: Vec::new(),
            bins: 0,
            counts: moments.clone(),
            rates: moments,
            rate_count: products.clone(),
            rate_rate: products,
        }
    }

    /// Takes in a bin whose rates are not known.
    pub fn skip(&mut self) {
        self.before.clear();
    }

    /// Takes in the counts and the rates of a bin. The rate of a channel that is no unit of the model is `NaN`.
    pub fn take_in(&mut self, counts: &[f32], rate: &dyn Fn(usize) -> f32) {
        let n = self.channels;
        if self.before.len() == n && counts.len() == n {
            let keep = 1.0 / (self.bins as f32 + 1.0).min(BINS as f32);
            self.bins += 1;
            for (channel, (before, count)) in self.before.iter().zip(counts).enumerate() {
                self.rates[channel].take_in(*before, keep);
                self.counts[channel].take_in(*count, keep);
                let row = channel * n..(channel + 1) * n;
                let products = self.rate_count[row.clone()].iter_mut().zip(counts);
                products.for_each(|(mean, other)| *mean += keep * (before * other - *mean));
                let products = self.rate_rate[row].iter_mut().zip(&self.before);
                products.for_each(|(mean, other)| *mean += keep * (before * other - *mean));
            }
        }
        let finite = |rate: f32| if rate.is_finite() { rate } else { 0.0 };
        self.before.clear();
        self.before.extend((0..n).map(|channel| finite(rate(channel))));
    }

    /// Correlation of the counts of a channel with the rate of another.
    fn explained(&self, channel: usize, by: usize) -> f64 {
        let product = self.rate_count[by * self.channels + channel];
        correlation(product, self.rates[by], self.counts[channel])
    }

    /// Pairs of channels that look exchanged, the lower one first; each channel in one at most.
    pub fn found(&self) -> Vec<(usize, usize)> {
        let is_judged = |channel: &usize| f64::from(self.counts[*channel].mean) >= COUNT_MIN;
        let judged: Vec<usize> = (0..self.channels).filter(is_judged).collect();
        let is_explained = |channel: &&usize| {
            let rate = self.rates[**channel];
            let expected = (rate.variance() / (rate.variance() + f64::from(rate.mean))).sqrt();
            self.explained(**channel, **channel) >= 0.5 * expected && expected > 0.0
        };
        let explained = judged.iter().filter(is_explained).count();
        if (explained as f64) < BELIEVED * judged.len() as f64 {
            return Vec::new();
        }
        let mut pairs = Vec::new();
        for (at, &one) in judged.iter().enumerate() {
            let others = judged[at + 1..].iter();
            pairs.extend(others.filter_map(|other| Some((self.errors(one, *other)?, one, *other))));
        }
        pairs.sort_unstable_by(|one, other| other.0.total_cmp(&one.0));
        let mut is_used = vec![false; self.channels];
        pairs.retain(|&(_, one, other)| {
            let is_free = !is_used[one] && !is_used[other];
            if is_free {
                (is_used[one], is_used[other]) = (true, true);
            }
            is_free
        });
        pairs.into_iter().map(|(_, one, other)| (one, other)).collect()
    }

    /// Standard errors by which the rates of two channels explain each other's counts better than their own; `None` where it may be
    /// chance, or they are of the same kind.
    fn errors(&self, one: usize, other: usize) -> Option<f64> {
        let own = [self.explained(one, one), self.explained(other, other)];
        let crossed = [self.explained(one, other), self.explained(other, one)];
        let between =
            correlation(self.rate_rate[one * self.channels + other], self.rates[one], self.rates[other]);
        let bins = self.bins.min(BINS as u64) as f64;
        let errors = (crossed[0] - own[0] + crossed[1] - own[1]) / (4.0 * (1.0 - between) / bins).sqrt();
        let is_clear = crossed[0] > own[0] && crossed[1] > own[1] && errors > ERRORS;
        let is_other = crossed[0] + crossed[1] > FACTOR * (own[0].max(0.0) + own[1].max(0.0)) + 2.0 * MARGIN;
        (is_clear && is_other).then_some(errors)
    }
}

/// Correlation of two signals with these moments and this mean product; 0 where either is constant.
fn correlation(product: f32, one: Moments, other: Moments) -> f64 {
    let together = f64::from(product) - f64::from(one.mean) * f64::from(other.mean);
    let spread = (one.variance() * other.variance()).sqrt();
    if spread > 1e-12 { together / spread } else { 0.0 }
}
