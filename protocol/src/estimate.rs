//! The daemon's answer to one bin: rates and velocity, when they were computed, and how far to trust them.

use crate::bundle::manifest::Manifest;
use crate::limits::{OUTPUTS_MAX, UNITS_MAX, VELOCITY_DIMS_MAX};

/// The kind of answer that an estimate is. Subscribers act on `Good` and decide what to do with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Quality {
    /// The estimate was computed from this bin, with as much history as the model wants.
    Good = 0,
    /// Computed from this bin, with less history than the model wants (at a start, at a segment's start, after a long
    /// gap).
    Warmup = 1,
    /// The bin never arrived. Computed from the bins before it; where these are too far away, the policy's answer
    /// (`decoded_ns` is then 0).
    Gap = 2,
    /// The bin was not computed in time. The velocity is the fallback decoder's, or the policy's.
    Late = 3,
    /// Nothing that comes may move an effector: the source is silent, all that it sends is refused, or the daemon is paused
    /// ([`Reasons::INHIBITED`]). The policy's answer; zeros while paused.
    Stale = 4,
    /// The model's answer is not usable: it is not finite, the source has not described its channels, too few channels have a
    /// count, or the bin holds values that no spike count can be. The velocity is the fallback decoder's, or the policy's answer.
    Fault = 5,
}

impl Quality {
    /// All qualities, in the order of their numbers.
    pub const ALL: [Quality; 6] =
        [Quality::Good, Quality::Warmup, Quality::Gap, Quality::Late, Quality::Stale, Quality::Fault];

    /// Name of the quality, as used in configuration, tables and JSON.
    pub fn name(self) -> &'static str {
        ["good", "warmup", "gap", "late", "stale", "fault"][self as usize]
    }

    /// Returns the quality with this number, if there is one.
    pub fn from_number(number: u8) -> Option<Quality> {
        Quality::ALL.get(usize::from(number)).copied()
    }
}

/// Why an estimate has its quality: a set of bits, so that several causes can be named at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reasons(pub u32);

impl Reasons {
    /// The bin began a segment, and the state was reset.
    pub const SEGMENT_START: Reasons = Reasons(1 << 0);
    /// The history is shorter than the bundle's warm-up.
    pub const SHORT_HISTORY: Reasons = Reasons(1 << 1);
    /// The bin is missing from the source's sequence.
    pub const MISSING_BIN: Reasons = Reasons(1 << 2);
    /// A gap was longer than the bundle's limit, and the state was reset.
    pub const LONG_GAP: Reasons = Reasons(1 << 3);
    /// At least one channel has no valid count.
    pub const INVALID_CHANNELS: Reasons = Reasons(1 << 4);
    /// A rate or velocity was not finite.
    pub const NOT_FINITE: Reasons = Reasons(1 << 5);
    /// The source was restarted (new stream id).
    pub const SOURCE_RESTART: Reasons = Reasons(1 << 6);
    /// The engine failed.
    pub const ENGINE_FAILED: Reasons = Reasons(1 << 7);
    /// The bin arrived, but its result was not there at the deadline.
    pub const DEADLINE_MISSED: Reasons = Reasons(1 << 8);
    /// The source sends nothing, although it is connected or not known to be gone.
    pub const PEER_SILENT: Reasons = Reasons(1 << 9);
    /// The connection to the source is lost.
    pub const PEER_GONE: Reasons = Reasons(1 << 10);
    /// The source's clock moved by more or less than the width of its bins.
    pub const CLOCK_JUMP: Reasons = Reasons(1 << 11);
    /// The velocity was limited to the configured speed or change of speed.
    pub const VELOCITY_LIMITED: Reasons = Reasons(1 << 12);
    /// The source went on with numbers that had already been answered as stale. From here on the numbers are the
    /// source's again.
    pub const RENUMBERED: Reasons = Reasons(1 << 13);
    /// The velocity was computed from this bin by the fallback bundle's linear decoder; the rates are held.
    pub const DEGRADED: Reasons = Reasons(1 << 14);
    /// The source has not described its bins yet, so that its channels and their order are not known to be the model's.
    pub const UNDESCRIBED: Reasons = Reasons(1 << 15);
    /// The source sends messages, and each of them since the last bin was refused (other channels, another width, ...).
    pub const REFUSED: Reasons = Reasons(1 << 16);
    /// The bin holds values that no spike count can be, so that its bytes are probably no counts of the expected type.
    pub const IMPLAUSIBLE_COUNTS: Reasons = Reasons(1 << 17);
    /// No channel has had a spike for a second or more, in which the bundle's mean counts let expect at least 30 spikes.
    pub const NO_SPIKES: Reasons = Reasons(1 << 18);
    /// More channels than the configuration allows have no count or are masked: too little is left to decode from.
    pub const TOO_FEW_CHANNELS: Reasons = Reasons(1 << 19);
    /// The bin arrived, or its result was there, when it was older than is allowed.
    pub const OLD_BIN: Reasons = Reasons(1 << 20);
    /// Another source sends to the same input. Its bins are refused while bins of the first one come.
    pub const SECOND_SOURCE: Reasons = Reasons(1 << 21);

    /// The daemon is paused by an order: all outputs are zero, whatever the model has computed. The rates go on.
    pub const INHIBITED: Reasons = Reasons(1 << 22);
    /// Another bundle computes from here on, by an order: [`Estimate::bundle`] has changed.
    pub const SWAPPED: Reasons = Reasons(1 << 23);

    const NAMES: [&'static str; 24] = [
        "segment-start",
        "short-history",
        "missing-bin",
        "long-gap",
        "invalid-channels",
        "not-finite",
        "source-restart",
        "engine-failed",
        "deadline-missed",
        "peer-silent",
        "peer-gone",
        "clock-jump",
        "velocity-limited",
        "renumbered",
        "degraded",
        "undescribed",
        "refused",
        "implausible-counts",
        "no-spikes",
        "too-few-channels",
        "old-bin",
        "second-source",
        "inhibited",
        "swapped",
    ];

    /// Returns the bits of both sets.
    pub fn with(self, other: Reasons) -> Reasons {
        Reasons(self.0 | other.0)
    }

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Reasons) -> bool {
        self.0 & other.0 == other.0
    }

    /// Names of the bits that are set. Unknown bits have no name.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().enumerate().filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| *name)
    }
}

/// The answer to one bin. Stored inline, so that passing one on never allocates.
#[derive(Clone)]
pub struct Estimate {
    /// Number of the bin.
    pub seq: u64,
    /// Identity of the source's run.
    pub stream: u64,
    /// End of the bin by the source's clock, ns.
    pub source_ns: i64,
    /// When the bin was complete on this machine, `CLOCK_MONOTONIC` ns. For a bin that never arrived: when it was
    /// due.
    pub arrival_ns: u64,
    /// When the model had computed the result, `CLOCK_MONOTONIC` ns; 0 if it computed none in time.
    pub decoded_ns: u64,
    /// When the estimate was handed to the transport, `CLOCK_MONOTONIC` ns; 0 before that.
    pub published_ns: u64,
    /// What must be added to the source's time to get `CLOCK_MONOTONIC` of this machine, ns; see
    /// [`Estimate::clock_uncertainty_ns`].
    pub clock_offset_ns: i64,
    /// How far the offset may be wrong, ns; [`Estimate::CLOCK_UNKNOWN`] when nothing is known about it.
    pub clock_uncertainty_ns: u64,
    /// Time from the bin's end to the publication of the estimate, ns: `published_ns - (source_ns + clock_offset_ns)`, as far as
    /// the source's clock is known. It may be wrong by [`Estimate::clock_uncertainty_ns`]. [`Estimate::AGE_UNKNOWN`] when
    /// the source's clock is not known or does not run at the rate of ours. Before publication, 0 stands for one that will be
    /// known.
    pub age_ns: i64,
    /// Instant that the velocity is for, by the source's clock, ns.
    pub velocity_for_ns: i64,
    /// Kind of answer.
    pub quality: Quality,
    /// Why the estimate has this quality.
    pub reasons: Reasons,
    /// Number of later bins that had been received and not yet answered.
    pub lag_bins: u16,
    /// Id of the bundle that computed the estimate: sha256 of its contents.
    pub bundle: [u8; 32],
    units: u32,
    /// Number of outputs.
    outputs: u16,
    /// Number of them that are components of a velocity, the first ones.
    dims: u16,
    rates: [f32; UNITS_MAX],
    values: [f32; OUTPUTS_MAX],
}

impl Estimate {
    /// Uncertainty of a clock offset about which nothing is known.
    pub const CLOCK_UNKNOWN: u64 = u64::MAX;

    /// Age of an estimate about whose source time nothing is known.
    pub const AGE_UNKNOWN: i64 = i64::MIN;

    /// Makes an estimate of zeros for `units` units and `outputs` outputs (0 without a readout). Up to three outputs are the
    /// components of a velocity, unless [`Estimate::with_velocity`] says otherwise.
    ///
    /// # Panics
    /// When either is above its limit, which never happens for a checked bundle.
    pub const fn zero(units: usize, outputs: usize) -> Self {
        assert!(units <= UNITS_MAX && outputs <= OUTPUTS_MAX);
        Estimate {
            seq: 0,
            stream: 0,
            source_ns: 0,
            arrival_ns: 0,
            decoded_ns: 0,
            published_ns: 0,
            clock_offset_ns: 0,
            clock_uncertainty_ns: Self::CLOCK_UNKNOWN,
            age_ns: Self::AGE_UNKNOWN,
            velocity_for_ns: 0,
            quality: Quality::Warmup,
            reasons: Reasons(0),
            lag_bins: 0,
            bundle: [0; 32],
            units: units as u32,
            outputs: outputs as u16,
            dims: if outputs <= VELOCITY_DIMS_MAX { outputs as u16 } else { 0 },
            rates: [0.0; UNITS_MAX],
            values: [0.0; OUTPUTS_MAX],
        }
    }

    /// Makes an estimate of zeros for the units and the published readout of a bundle.
    ///
    /// # Panics
    /// As [`Estimate::zero`].
    pub fn of(manifest: &Manifest) -> Self {
        let dims =
            manifest.velocity().filter(|readout| readout.is_velocity()).map_or(0, |readout| readout.dims);
        Estimate::zero(manifest.units(), manifest.velocity_dims()).with_velocity(dims)
    }

    /// Says how many of the outputs are components of a velocity: the first `dims` of them, at most all.
    #[must_use]
    pub fn with_velocity(mut self, dims: usize) -> Self {
        self.dims = dims.min(self.outputs.into()).min(VELOCITY_DIMS_MAX) as u16;
        self
    }

    /// Copies another estimate of the same bundle. Copies only the used part of the inline storage.
    pub fn copy_from(&mut self, other: &Estimate) {
        self.copy_stamps(other);
        (self.units, self.outputs, self.dims) = (other.units, other.outputs, other.dims);
        self.rates_mut().copy_from_slice(other.rates());
        self.outputs_mut().copy_from_slice(other.outputs());
    }

    /// Copies everything of another estimate but its rates and outputs.
    pub fn copy_stamps(&mut self, other: &Estimate) {
        self.seq = other.seq;
        self.stream = other.stream;
        self.source_ns = other.source_ns;
        self.arrival_ns = other.arrival_ns;
        self.decoded_ns = other.decoded_ns;
        self.published_ns = other.published_ns;
        self.clock_offset_ns = other.clock_offset_ns;
        self.clock_uncertainty_ns = other.clock_uncertainty_ns;
        self.age_ns = other.age_ns;
        self.velocity_for_ns = other.velocity_for_ns;
        self.quality = other.quality;
        self.reasons = other.reasons;
        self.lag_bins = other.lag_bins;
        self.bundle = other.bundle;
    }

    /// Notes that the estimate is handed to the transport at `now_ns`, and how old it is then.
    pub fn published_at(&mut self, now_ns: u64) {
        self.published_ns = now_ns;
        if self.age_ns != Self::AGE_UNKNOWN {
            let end_ns = self.source_ns.saturating_add(self.clock_offset_ns);
            self.age_ns = i64::try_from(now_ns).unwrap_or(i64::MAX).saturating_sub(end_ns);
        }
    }

    /// Age in nanoseconds; `None` when it is not known.
    pub fn age(&self) -> Option<i64> {
        (self.age_ns != Self::AGE_UNKNOWN).then_some(self.age_ns)
    }

    /// Firing rates, spikes/s, in the unit order of the bundle.
    pub fn rates(&self) -> &[f32] {
        &self.rates[..self.units as usize]
    }

    /// Firing rates for writing, spikes/s.
    pub fn rates_mut(&mut self) -> &mut [f32] {
        &mut self.rates[..self.units as usize]
    }

    /// The behaviour that is decoded, each component in the unit of the bundle's manifest; empty when the model has no readout.
    pub fn outputs(&self) -> &[f32] {
        &self.values[..self.outputs.into()]
    }

    /// The behaviour for writing, in the units of the bundle's manifest.
    pub fn outputs_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.outputs.into()]
    }

    /// The velocity among the outputs, in the unit of the bundle's manifest, mostly m/s; empty when none is decoded.
    pub fn velocity(&self) -> &[f32] {
        &self.values[..self.dims.into()]
    }

    /// The velocity for writing, in the unit of the bundle's manifest.
    pub fn velocity_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.dims.into()]
    }
}

impl std::fmt::Debug for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Estimate")
            .field("seq", &self.seq)
            .field("source_ns", &self.source_ns)
            .field("quality", &self.quality)
            .field("reasons", &self.reasons.names().collect::<Vec<_>>())
            .field("lag_bins", &self.lag_bins)
            .field("outputs", &self.outputs())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_numbers_are_the_wire_and_never_change() {
        let numbers: Vec<(u8, &str)> =
            Quality::ALL.iter().map(|quality| (*quality as u8, quality.name())).collect();
        assert_eq!(
            numbers,
            [(0, "good"), (1, "warmup"), (2, "gap"), (3, "late"), (4, "stale"), (5, "fault")]
        );
        assert!(
            (0..6).all(|number| Quality::from_number(number).map(|quality| quality as u8) == Some(number))
        );
        assert_eq!(Quality::from_number(6), None);
    }

    #[test]
    fn reasons_are_named_together() {
        let reasons = Reasons::MISSING_BIN.with(Reasons::SHORT_HISTORY);
        assert_eq!(reasons.names().collect::<Vec<_>>(), ["short-history", "missing-bin"]);
        assert!(reasons.contains(Reasons::MISSING_BIN) && !reasons.contains(Reasons::NOT_FINITE));
    }
}
