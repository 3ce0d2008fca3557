//! Pairs of channels: two that carry the same counts, and two that were exchanged.
//!
//! * **Doubled**: their counts are above their means in the same bins, with a correlation that no two neurons have.
//! * **Exchanged**: the model predicts each unit from the whole population, so that the rate of a unit follows its neuron also where the
//!   neuron's counts come in on another channel. Of two exchanged channels, the counts of *each* are explained better by the rate of
//!   the *other*. That must hold for both, by a margin that chance does not reach, so that a unit that fires with others of its kind
//!   is not taken for one of them.
//!
//! Only channels whose own rate explains their counts worse than the rate itself lets expect are tried as exchanged: of `n` channels
//! these are few, where `n (n - 1) / 2` pairs would be many.

use super::bits::BitRows;
use super::{Fault, Finding};

/// Fewest bins that must be remembered before pairs are compared.
const BINS_MIN: usize = 1024;

/// Fewest bins above the mean that a channel must have to be compared.
const ABOVE_MIN: u32 = 40;

/// Correlation of two channels with the same counts. Neighbouring neurons stay below 0.3 in bins of 20 ms, and two electrodes that pick up
/// the same neuron among others below 0.7.
const DOUBLED: f64 = 0.8;

/// Share of the expected correlation of a channel with its own rate below which it is tried as exchanged.
const EXPLAINED: f64 = 0.8;

/// Most channels that are tried as exchanged: the ones that are explained worst.
const TRIED_MAX: usize = 256;

/// Standard errors by which another rate must explain a channel better: over all pairs that are tried, chance reaches four once in a
/// round, and both channels of a pair at once never.
const ERRORS: f64 = 4.0;

/// Factor and margin by which the correlation with the other's rate must be higher.
const FACTOR: f64 = 1.5;
const MARGIN: f64 = 0.02;

/// Bins over which the sums of a channel's rate and counts are taken.
const SUMS_BINS: f64 = super::bits::BINS as f64;

/// Compares channels with one another, a few at a time.
#[derive(Debug, Clone)]
pub struct Pairs {
    counts: BitRows,
    rates: Option<BitRows>,
    sums: Vec<Sums>,
    bins: u64,
    /// The channel that is compared next with all behind it.
    next: usize,
    /// What the round that is under way has found, and what the last one had.
    finding: Vec<Finding>,
    found: Vec<Finding>,
}

/// Means of a channel's rate and counts, which forget.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    count: f64,
    rate: f64,
    squared_count: f64,
    squared_rate: f64,
    product: f64,
}

impl Sums {
    fn take_in(&mut self, count: f64, rate: f64, keep: f64) {
        let move_to = |mean: &mut f64, value: f64| *mean += keep * (value - *mean);
        move_to(&mut self.count, count);
        move_to(&mut self.rate, rate);
        move_to(&mut self.squared_count, count * count);
        move_to(&mut self.squared_rate, rate * rate);
        move_to(&mut self.product, count * rate);
    }

    /// Correlation of the counts with the rate, and the one that the rate itself lets expect of Poisson counts.
    fn correlations(&self) -> (f64, f64) {
        let of_rate = (self.squared_rate - self.rate * self.rate).max(0.0);
        let of_count = (self.squared_count - self.count * self.count).max(0.0);
        let together = self.product - self.count * self.rate;
        let found = together / (of_rate * of_count).sqrt();
        let expected = (of_rate / (of_rate + self.rate)).sqrt();
        (if found.is_finite() { found } else { 0.0 }, if expected.is_finite() { expected } else { 0.0 })
    }
}

impl Pairs {
    /// Compares so many channels, and the rates of the model where it `has_rates`.
    pub fn new(channels: usize, has_rates: bool) -> Pairs {
        Pairs {
            counts: BitRows::new(channels),
            rates: has_rates.then(|| BitRows::new(channels)),
            sums: vec![Sums::default(); channels],
            bins: 0,
            next: 0,
            finding: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Takes in the counts of a bin and the rates of the same bin. A bin without rates is left out where the model has any.
    pub fn take_in(&mut self, counts: &[f32], rates: Option<&dyn Fn(usize) -> f32>) {
        match (&mut self.rates, rates) {
            (Some(rows), Some(rate)) => {
                rows.take_in((0..counts.len()).map(rate));
                let keep = 1.0 / (self.bins as f64 + 1.0).min(SUMS_BINS);
                for (channel, (sums, count)) in self.sums.iter_mut().zip(counts).enumerate() {
                    sums.take_in(f64::from(*count), f64::from(rate(channel)), keep);
                }
            }
            (Some(_), None) => return,
            (None, _) => {}
        }
        self.counts.take_in(counts.iter().copied());
        self.bins += 1;
    }

    /// What the last round has found.
    pub fn found(&self) -> &[Finding] {
        &self.found
    }

    /// Begins a new round.
    pub fn begin(&mut self) {
        (self.next, self.finding) = (0, Vec::new());
    }

    /// Compares the next `channels` with all others, and ends the round after the last one.
    pub fn compare(&mut self, channels: usize) {
        if self.counts.bins() < BINS_MIN {
            return;
        }
        let all = self.sums.len();
        let above: Vec<u32> = (0..all).map(|channel| self.counts.above(channel)).collect();
        for channel in self.next..(self.next + channels).min(all) {
            self.find_doubles(channel, &above);
        }
        self.next += channels;
        if self.next >= all {
            self.find_exchanges();
            self.found = std::mem::take(&mut self.finding);
            self.next = 0;
        }
    }

    /// `above` is the number of bins in which each channel is above its mean.
    fn find_doubles(&mut self, channel: usize, above: &[u32]) {
        let mine = above[channel];
        if mine < ABOVE_MIN {
            return;
        }
        for (other, others) in above.iter().copied().enumerate().skip(channel + 1) {
            // Signals that correlate so highly are above their means about equally often.
            let is_near = f64::from(mine.min(others)) >= DOUBLED * DOUBLED * f64::from(mine.max(others));
            if is_near && self.counts.correlation(channel, &self.counts, other) >= DOUBLED {
                self.tell(Fault::Doubled, channel, other);
            }
        }
    }

    fn find_exchanges(&mut self) {
        let Some(rates) = &self.rates else { return };
        let mut tried: Vec<(f64, usize)> = Vec::new();
        for (channel, sums) in self.sums.iter().enumerate() {
            let (found, expected) = sums.correlations();
            if self.counts.above(channel) >= ABOVE_MIN && found < EXPLAINED * expected {
                tried.push((found / expected, channel));
            }
        }
        tried.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
        tried.truncate(TRIED_MAX);
        let mut exchanged = Vec::new();
        for (at, &(_, one)) in tried.iter().enumerate() {
            for &(_, other) in &tried[at + 1..] {
                let least = self.gain(rates, one, other).min(self.gain(rates, other, one));
                if least > 0.0 {
                    exchanged.push((least, one.min(other), one.max(other)));
                }
            }
        }
        // Each channel belongs to its best pair.
        exchanged.sort_unstable_by(|one, other| other.0.total_cmp(&one.0));
        let mut is_used = vec![false; self.sums.len()];
        for (_, one, other) in exchanged {
            if !is_used[one] && !is_used[other] {
                (is_used[one], is_used[other]) = (true, true);
                self.tell(Fault::Exchanged, one, other);
            }
        }
    }

    /// How much better the counts of `channel` are explained by the rate of `other` than by their own; 0 where it may be chance.
    fn gain(&self, rates: &BitRows, channel: usize, other: usize) -> f64 {
        let own = rates.correlation(channel, &self.counts, channel);
        let others = rates.correlation(other, &self.counts, channel);
        let between = rates.correlation(channel, rates, other);
        let error = (2.0 * (1.0 - between).max(0.0) / self.counts.bins() as f64).sqrt();
        let is_clear = others - own > ERRORS * error && others > FACTOR * own.max(0.0) + MARGIN;
        if is_clear { others - own } else { 0.0 }
    }

    fn tell(&mut self, fault: Fault, one: usize, other: usize) {
        let of = |channel, with| Finding { channel, fault, with: Some(with) };
        self.finding.extend([of(one, other), of(other, one)]);
    }
}
