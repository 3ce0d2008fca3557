//! One bin of spike counts, on its way from a source to the decoder.

pub mod arrival;
pub mod count;

use crate::limits::CHANNELS_MAX;
pub use arrival::{Arrival, Velocity};
use count::{CountRange, RefusedChannels};

/// The counts of all channels in one bin. Stored inline, so that passing one on never allocates.
#[derive(Clone)]
pub struct Bin {
    /// Number of the bin, counted from the source's first; a jump in the numbers is a gap.
    pub seq: u64,
    /// Identity of the source's run. After a restart it is another one, and `seq` starts again.
    pub stream: u64,
    /// End of the bin by the source's own clock, ns (a recording's time, or the rig's clock).
    pub source_ns: i64,
    /// When the bin was complete on this machine, `CLOCK_MONOTONIC` ns.
    pub arrival_ns: u64,
    /// Whether a segment of continuous data starts with this bin: nothing before it may be used.
    pub segment_start: bool,
    /// Whether the source has not described its channels yet, although its transport asks it to.
    pub undescribed: bool,
    /// Whether another source has sent to the same input in the last second; its bins were refused.
    pub second_source: bool,
    /// When the bin was sent, ns by the monotonic clock of its sender; 0 if unknown.
    pub sent_ns: u64,
    /// Offset of the source's clock from this machine's, if the transport measures it.
    pub clock: Option<ClockOffset>,
    /// Offset of the source's clock from this machine's, as the daemon knows it; `None` before it has looked.
    pub offset: Option<ClockOffset>,
    /// Whether the source's clock moved by more or less than the bins since the last one.
    pub clock_jumped: bool,
    /// When the bin was due, by what is known of the source's clock.
    pub due: Due,
    /// Channels whose value no spike count can be. They are among those without a valid count.
    pub implausible: RefusedChannels,
    /// Channels with more spikes than the bundle accepts. They are among those without a valid count.
    pub too_high: RefusedChannels,
    channels: u32,
    valid: u32,
    counts: [f32; CHANNELS_MAX],
    validity: [u64; CHANNELS_MAX / 64],
}

/// When a bin was due: when it would have arrived, had it come as quickly as the quickest bins of its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Due {
    /// Not known, or the source's clock does not run at the rate of ours.
    #[default]
    Unknown,
    /// At this time, `CLOCK_MONOTONIC` ns of this machine.
    At(u64),
    /// So long before it arrived that others came in the meantime, at a time that is not known yet.
    Before,
}

/// The offset between two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffset {
    /// What must be added to the source's time to get `CLOCK_MONOTONIC` of this machine, ns.
    pub offset_ns: i64,
    /// How far the offset may be wrong, ns.
    pub uncertainty_ns: u64,
}

impl Bin {
    /// Makes an empty bin without channels.
    pub const fn empty() -> Self {
        Bin {
            seq: 0,
            stream: 0,
            source_ns: 0,
            arrival_ns: 0,
            segment_start: false,
            undescribed: false,
            second_source: false,
            sent_ns: 0,
            clock: None,
            offset: None,
            clock_jumped: false,
            due: Due::Unknown,
            implausible: RefusedChannels::NONE,
            too_high: RefusedChannels::NONE,
            channels: 0,
            valid: 0,
            counts: [0.0; CHANNELS_MAX],
            validity: [0; CHANNELS_MAX / 64],
        }
    }

    /// Fills the bin with counts from an iterator of at most [`CHANNELS_MAX`] values; further values are ignored.
    ///
    /// A value that `range` does not accept makes its channel invalid. The channel's count is then stored as zero, which is
    /// what the model saw in training for a dropped channel. A value that no spike count can be is noted in
    /// [`Bin::implausible`], and one that is only too high for the bundle in [`Bin::too_high`].
    pub fn fill(&mut self, counts: impl Iterator<Item = f32>, range: CountRange) {
        self.validity = [0; CHANNELS_MAX / 64];
        for refused in
            [&mut self.implausible, &mut self.too_high].into_iter().filter(|refused| !refused.is_none())
        {
            *refused = RefusedChannels::NONE;
        }
        self.channels = 0;
        self.valid = 0;
        for (channel, count) in counts.take(CHANNELS_MAX).enumerate() {
            let is_count = range.accepts(count);
            if !is_count && range.is_implausible(count) {
                self.implausible.note(channel, count);
            } else if !is_count && !count.is_nan() {
                self.too_high.note(channel, count);
            }
            self.counts[channel] = if is_count { count } else { 0.0 };
            self.validity[channel / 64] |= u64::from(is_count) << (channel % 64);
            self.valid += u32::from(is_count);
            self.channels += 1;
        }
    }

    /// Fills the bin with what [`Bin::counts_or_nan`] gave of another one, and with the channels that the other refused a count.
    pub(crate) fn restore(
        &mut self,
        counts: impl Iterator<Item = f32>,
        [implausible, too_high]: [RefusedChannels; 2],
    ) {
        (self.channels, self.valid, self.validity) = (0, 0, [0; CHANNELS_MAX / 64]);
        for (channel, count) in counts.take(CHANNELS_MAX).enumerate() {
            let is_count = !count.is_nan();
            self.counts[channel] = if is_count { count } else { 0.0 };
            self.validity[channel / 64] |= u64::from(is_count) << (channel % 64);
            self.valid += u32::from(is_count);
            self.channels += 1;
        }
        (self.implausible, self.too_high) = (implausible, too_high);
    }

    /// Counts, one for each channel; 0 for an invalid channel.
    pub fn counts(&self) -> &[f32] {
        &self.counts[..self.channels as usize]
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.channels as usize
    }

    /// Whether `channel` has a valid count.
    pub fn is_valid(&self, channel: usize) -> bool {
        channel < self.channels() && self.validity[channel / 64] >> (channel % 64) & 1 == 1
    }

    /// Counts as they are sent: NaN for an invalid channel.
    pub fn counts_or_nan(&self) -> impl Iterator<Item = f32> + '_ {
        let count = |(channel, count): (usize, &f32)| if self.is_valid(channel) { *count } else { f32::NAN };
        self.counts().iter().enumerate().map(count)
    }

    /// Number of channels without a valid count.
    pub fn invalid_channels(&self) -> usize {
        (self.channels - self.valid) as usize
    }

    /// Whether a channel carries no value at all, which is sent as NaN.
    pub fn lacks_a_value(&self) -> bool {
        let invalid = self.invalid_channels();
        // A sum of narrow bins may have a channel that was refused for both reasons.
        let is_refused = |channel| self.implausible.has(channel) || self.too_high.has(channel);
        invalid > self.implausible.count() + self.too_high.count()
            || (invalid > 0
                && (0..self.channels()).any(|channel| !self.is_valid(channel) && !is_refused(channel)))
    }

    /// Whether no channel has a valid count. To the model, this is a missing bin.
    pub fn is_missing(&self) -> bool {
        self.valid == 0
    }
}

impl std::fmt::Debug for Bin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bin")
            .field("seq", &self.seq)
            .field("source_ns", &self.source_ns)
            .field("arrival_ns", &self.arrival_ns)
            .field("segment_start", &self.segment_start)
            .field("channels", &self.channels)
            .field("valid", &self.valid)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_no_count_makes_its_channel_invalid_and_silent() {
        let mut bin = Bin::empty();
        bin.fill([2.0, f32::NAN, -1.0, f32::INFINITY, 21.0, 0.0].into_iter(), CountRange::new(20, 20.0));
        assert_eq!(bin.counts(), [2.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let valid: Vec<bool> = (0..7).map(|channel| bin.is_valid(channel)).collect();
        assert_eq!(valid, [true, false, false, false, false, true, false]);
        assert_eq!(bin.invalid_channels(), 4);
        assert!(!bin.is_missing());
        assert_eq!((bin.implausible.count(), bin.implausible.example()), (2, Some((2, -1.0))));
        assert_eq!((bin.too_high.count(), bin.too_high.example()), (1, Some((4, 21.0))));
        assert!(bin.lacks_a_value());
        bin.fill([2.0, 21.0, -1.0].into_iter(), CountRange::new(20, 20.0));
        assert!(!bin.lacks_a_value() && bin.invalid_channels() == 2, "both are said apart");
    }

    #[test]
    fn filling_again_forgets_the_last_bin() {
        let mut bin = Bin::empty();
        let range = CountRange::new(1, 20.0);
        bin.fill((0..130).map(|_| -1.0), range);
        bin.fill([f32::NAN; 70].into_iter(), range);
        assert_eq!(bin.channels(), 70);
        assert!(bin.is_missing() && bin.implausible.is_none());
        assert!((0..130).all(|channel| !bin.is_valid(channel)));
    }

    #[test]
    fn channels_beyond_the_limit_are_not_taken() {
        let mut bin = Bin::empty();
        bin.fill((0..CHANNELS_MAX + 5).map(|_| 1.0), CountRange::new(1, 20.0));
        assert_eq!(bin.channels(), CHANNELS_MAX);
    }
}
