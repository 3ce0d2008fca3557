//! Pairs of channels: two that carry the same counts, and two that were exchanged (`exchange`).
//!
//! **Doubled** channels are above their means in the same bins, with a correlation that no two neurons have.

use super::bits::BitRows;
use super::exchange::{self, Exchanges};
use super::{Fault, Finding};

/// Fewest bins that must be remembered before pairs are compared.
const BINS_MIN: usize = 1024;

/// Fewest bins above the mean that a channel must have to be compared.
const ABOVE_MIN: u32 = 40;

/// Correlation of two channels with the same counts. Neighbouring neurons stay below 0.3 in bins of 20 ms, and two electrodes that pick up
/// the same neuron among others below 0.7.
const DOUBLED: f64 = 0.8;

/// Compares channels with one another, a few at a time.
#[derive(Debug, Clone)]
pub struct Pairs {
    counts: BitRows,
    channels: usize,
    /// `None` where the model has no rates, or there are too many channels.
    exchanges: Option<Exchanges>,
    /// The channel that is compared next with all behind it.
    next: usize,
    /// What the round that is under way has found, and what the last one had.
    finding: Vec<Finding>,
    found: Vec<Finding>,
}

impl Pairs {
    /// Compares so many channels, and the rates of the model where it `has_rates`.
    pub fn new(channels: usize, has_rates: bool) -> Pairs {
        Pairs {
            counts: BitRows::new(channels),
            channels,
            exchanges: (has_rates && channels <= exchange::CHANNELS_MAX).then(|| Exchanges::new(channels)),
            next: 0,
            finding: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Takes in the counts of a bin, and the rates of the same bin where they were computed.
    pub fn take_in(&mut self, counts: &[f32], rates: Option<&dyn Fn(usize) -> f32>) {
        match (&mut self.exchanges, rates) {
            (Some(exchanges), Some(rates)) => exchanges.take_in(counts, rates),
            (Some(exchanges), None) => exchanges.skip(),
            (None, _) => {}
        }
        self.counts.take_in(counts.iter().copied());
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
        let all = self.channels;
        let above: Vec<u32> = (0..all).map(|channel| self.counts.above(channel)).collect();
        for channel in self.next..(self.next + channels).min(all) {
            self.find_doubles(channel, &above);
        }
        self.next += channels;
        if self.next >= all {
            let exchanged = self.exchanges.as_ref().map_or_else(Vec::new, Exchanges::found);
            exchanged.into_iter().for_each(|(one, other)| self.tell(Fault::Exchanged, one, other));
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

    fn tell(&mut self, fault: Fault, one: usize, other: usize) {
        let of = |channel, with| Finding { channel, fault, with: Some(with) };
        self.finding.extend([of(one, other), of(other, one)]);
    }
}
