//! Which values can be spike counts. What cannot be one is told from what is merely not accepted, because it means that a rig
//! sends something else than counts: integers in place of floats, another byte order, voltages or normalised rates.

use crate::limits::{CHANNELS_MAX, COUNT_POSITIVE_MIN, COUNTS_PER_MS_MAX};

/// The values that a bundle accepts as the count of one channel in one bin, and those that can be a count at all.
///
/// Values are compared by their bits: a thread that flushes small numbers to zero, as the real-time threads do, takes a
/// subnormal number for 0 in any other comparison. The bits of positive numbers are in the order of the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountRange {
    accepted_max_bits: u32,
    possible_max_bits: u32,
}

impl CountRange {
    /// Makes the range of a bundle that accepts counts up to `count_max` in bins of `width_ms` milliseconds.
    pub fn new(count_max: u32, width_ms: f64) -> CountRange {
        let accepted_max = count_max as f32;
        let possible_max = ((COUNTS_PER_MS_MAX * width_ms).ceil() as f32).max(accepted_max);
        CountRange { accepted_max_bits: accepted_max.to_bits(), possible_max_bits: possible_max.to_bits() }
    }

    /// Whether the value is a count that the bundle accepts: 0, or from [`COUNT_POSITIVE_MIN`] to the bundle's highest count.
    pub fn accepts(self, value: f32) -> bool {
        is_between(value, self.accepted_max_bits)
    }

    /// Whether no spike count can be this value: negative, infinite, positive and below [`COUNT_POSITIVE_MIN`], or more spikes
    /// than [`COUNTS_PER_MS_MAX`] allows. NaN is no value, and means that there is no count.
    pub fn is_implausible(self, value: f32) -> bool {
        !value.is_nan() && !is_between(value, self.possible_max_bits)
    }
}

/// Whether a value is 0 or from the smallest positive count to the number of these bits.
fn is_between(value: f32, max_bits: u32) -> bool {
    // Without the black box, the compiler turns the comparison with 0 back into one of floats.
    let bits = std::hint::black_box(value.to_bits());
    let is_zero = bits << 1 == 0;
    is_zero || (COUNT_POSITIVE_MIN.to_bits()..=max_bits).contains(&bits)
}

/// The channels of a bin that were refused a count for one reason, such as a value that no spike count can be. Stored inline.
#[derive(Debug, Clone, PartialEq)]
pub struct RefusedChannels {
    channels: [u64; CHANNELS_MAX / 64],
    count: u32,
    /// Index of a channel, and its value.
    example: (u32, f32),
}

impl RefusedChannels {
    /// No channel.
    pub const NONE: RefusedChannels =
        RefusedChannels { channels: [0; CHANNELS_MAX / 64], count: 0, example: (0, 0.0) };

    /// Whether no channel was refused a count.
    pub fn is_none(&self) -> bool {
        self.count == 0
    }

    /// Number of channels that were refused a count.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Whether `channel` was refused its count.
    pub fn has(&self, channel: usize) -> bool {
        channel < CHANNELS_MAX && self.channels[channel / 64] >> (channel % 64) & 1 == 1
    }

    /// The first of the channels that was noted, and its value.
    pub fn example(&self) -> Option<(usize, f32)> {
        let (channel, value) = self.example;
        (!self.is_none()).then_some((channel as usize, value))
    }

    /// Notes the value of a channel. The channel must be below [`CHANNELS_MAX`].
    pub(crate) fn note(&mut self, channel: usize, value: f32) {
        if self.is_none() {
            self.example = (channel as u32, value);
        }
        self.count += u32::from(!self.has(channel));
        self.channels[channel / 64] |= 1 << (channel % 64);
    }

    /// Takes in the channels of another bin, for a bin that is a sum of several.
    pub fn merge(&mut self, other: &RefusedChannels) {
        let Some(example) = other.example() else { return };
        if self.is_none() {
            self.example = (example.0 as u32, example.1);
        }
        self.channels.iter_mut().zip(&other.channels).for_each(|(mine, others)| *mine |= others);
        self.count = self.channels.iter().map(|channels| channels.count_ones()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_spike_count_can_be_is_told_from_what_is_not_accepted() {
        let range = CountRange::new(30, 20.0);
        for count in [0.0, -0.0, 1e-30, 0.25, 1.0, 30.0] {
            assert!(range.accepts(count) && !range.is_implausible(count), "{count:e}");
        }
        // Too many for the bundle, and not for a neuron's neighbourhood; no count at all.
        for value in [30.5, 31.0, 200.0, f32::NAN] {
            assert!(!range.accepts(value) && !range.is_implausible(value), "{value:e}");
        }
        for value in [-1e-40, -1.0, 1e-40, 9e-31, 200.5, 1e9, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!range.accepts(value) && range.is_implausible(value), "{value:e}");
        }
    }

    #[test]
    fn integers_and_the_other_byte_order_are_never_counts() {
        let range = CountRange::new(1000, 20.0);
        for count in 1..=13u32 {
            let float = count as f32;
            for bytes in [count.to_le_bytes(), count.to_be_bytes(), float.to_be_bytes()] {
                let value = f32::from_le_bytes(bytes);
                assert!(range.is_implausible(value) && !range.accepts(value), "{count}: {value:e}");
            }
        }
    }

    #[test]
    fn a_bundle_that_accepts_more_than_is_thought_possible_is_believed() {
        let range = CountRange::new(40, 1.0);
        assert!(range.accepts(40.0) && range.is_implausible(40.5));
    }

    #[test]
    fn the_channels_of_a_sum_are_those_of_all_its_parts() {
        let (mut sum, mut part) = (RefusedChannels::NONE, RefusedChannels::NONE);
        assert_eq!((sum.is_none(), sum.example()), (true, None));
        part.note(70, -1.0);
        part.note(3, -2.0);
        part.note(70, -3.0);
        sum.merge(&part);
        sum.merge(&RefusedChannels::NONE);
        assert_eq!((sum.count(), sum.example()), (2, Some((70, -1.0))));
        assert_eq!([3, 4, 70, CHANNELS_MAX].map(|channel| sum.has(channel)), [true, false, true, false]);
    }
}
