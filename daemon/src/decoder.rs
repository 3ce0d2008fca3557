//! Decodes bins to estimates: order of bins, gaps, warm-up, the model's step, finite numbers. No I/O and no clock.
//!
//! **Invariant:** each bin gives at most one estimate, in the order of `seq`, and so does each missing bin of a gap that is no
//! longer than the bundle allows. A bin that is too old, or whose deadline has passed while newer bins wait, gives none: it
//! enters the state of the model only, and the guard has answered it. Every published number is finite.

pub mod fallback;
mod oddities;

use crate::engine::{Engine, Input, Output};
use crate::input::deadline::TimeLimits;
use ndt_protocol::bin::{ClockOffset, Due};
use ndt_protocol::bundle::folded;
use ndt_protocol::bundle::silence::Silence;
use ndt_protocol::limits::RATE_HZ_MAX;
use ndt_protocol::{Bin, Bundle, Estimate, Quality, Reasons};
use oddities::Oddities;

/// Declares counters that another thread reads as numbers, in the order of the fields.
macro_rules! counters {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $field:ident,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name {
            $($(#[$what])* pub $field: u64,)*
        }

        impl $name {
            /// Number of the counters.
            pub const COUNT: usize = [$(stringify!($field)),*].len();

            /// The counters as numbers.
            pub fn to_numbers(self) -> [u64; Self::COUNT] {
                [$(self.$field),*]
            }

            /// The counters of [`Self::to_numbers`].
            pub fn of_numbers([$($field),*]: [u64; Self::COUNT]) -> Self {
                $name { $($field),* }
            }
        }
    };
}

counters! {
    /// What the decoder has counted since its start.
    DecoderCounters {
        /// Bins dropped because a bin of their number had come before.
        duplicates,
        /// Bins dropped because they came after a later one, when their number had been treated as missing.
        reordered,
        /// Bins that only entered the state, because they were too old or their estimate would have come too late.
        observed,
        /// Missing bins that were not decoded as missing, because the gap was longer than the bundle's limit.
        unbridged,
        /// Times that a new stream reset the state.
        restarts,
        /// Times that the source's clock jumped.
        clock_jumps,
        /// Bins of a source that had not described its channels.
        undescribed,
        /// Bins with a value that no spike count can be.
        implausible,
        /// Bins within a silence of all channels, from its first second on.
        no_spikes,
        /// Bins of which more channels than allowed are masked or have no count.
        too_few_channels,
        /// Bins in which most of the counts above 0 are no whole numbers.
        fractional,
        /// Bins of a second and more in which counts rise and none ever falls.
        rising,
        /// Number of channels of the newest bin that have been silent for longer than the bundle lets expect.
        silent_channels,
        /// Number of channels of the bundle that the model sees and that have spikes in the bundle.
        watched_channels,
    }
}

/// A model and its position in the stream of bins. Owned by the decode thread.
pub struct Decoder {
    engine: Box<dyn Engine>,
    output: Output,
    estimate: Estimate,
    silence: Silence,
    oddities: Oddities,
    /// 0 for each masked channel and 1 for each other; empty if no channel is masked.
    mask: Vec<f32>,
    /// Number of channels that are masked in every bin.
    masked_always: usize,
    /// Highest number of channels that may be masked or have no count.
    masked_max: usize,
    /// Value that replaces the count of a channel without one; empty if that is 0 for all channels.
    absent: Vec<f32>,
    /// Counts of the present bin after masking.
    masked: Vec<f32>,
    limits: TimeLimits,
    bin_width_ns: i64,
    velocity_offset_ns: i64,
    warmup_bins: usize,
    max_gap_bins: u64,
    /// Stream and number of the next bin; `None` before the first bin.
    expected: Option<(u64, u64)>,
    /// Which of the last 64 numbers of the stream have come: bit `k` stands for the number `k` before the newest.
    came: u64,
    /// Number of bins since the last reset, including missing ones.
    history: usize,
    counters: DecoderCounters,
}

/// One step of the engine.
#[derive(Clone, Copy)]
struct Step {
    /// Number of bins before the bin that has arrived; 0 for that bin itself.
    back: u64,
    missing: bool,
    reasons: Reasons,
    /// Whether the bin is too late for an answer and only updates the engine's state.
    too_late: bool,
}

/// Values that stand for the counts of channels without one: the mean counts for a linear decoder; empty for a transformer,
/// which has seen 0 in training for a channel that is hidden.
pub fn absent(bundle: &Bundle) -> &[f32] {
    match bundle.manifest.linear {
        Some(_) => folded::values(&bundle.weights, "missing"),
        None => &[],
    }
}

/// Highest number of `channels` that may be masked or have no count, for a share from 0 to 1.
pub fn masked_max(channels: usize, share_max: f64) -> usize {
    // A share such as 0.3 is not exact: 30 of 100 channels are not more than it.
    (channels as f64 * share_max + 1e-9).floor() as usize
}

impl Decoder {
    /// Makes a decoder for `bundle` that computes with `engine`, and resets the engine. The channels in `masked_ids`, and the
    /// channels of a bin that carry no count, are replaced: for a transformer by silence, as training has shown it dead
    /// channels; for a linear decoder by their mean count. `limits` say when a bin is too late to be decoded.
    pub fn new(bundle: &Bundle, mut engine: Box<dyn Engine>, masked_ids: &[i64], limits: TimeLimits) -> Self {
        engine.reset();
        let manifest = &bundle.manifest;
        let mut estimate = Estimate::of(manifest);
        estimate.bundle = bundle.id();
        let oddities = Oddities::new(bundle, |_| true);
        let masked: Vec<bool> = manifest.channel_ids.iter().map(|id| masked_ids.contains(id)).collect();
        let absent = absent(bundle).to_vec();
        let bin_width_ns = manifest.bin_width_ns() as i64;
        let mut decoder = Decoder {
            engine,
            output: Output::for_bundle(bundle),
            estimate,
            silence: Silence::new(bundle),
            oddities,
            masked_always: 0,
            masked_max: manifest.channels(),
            masked: vec![0.0; manifest.channels()],
            mask: Vec::with_capacity(manifest.channels()),
            absent,
            limits,
            bin_width_ns,
            velocity_offset_ns: manifest.velocity_offset_ns(),
            warmup_bins: manifest.warmup_bins,
            max_gap_bins: manifest.max_gap_bins as u64,
            expected: None,
            came: 0,
            history: 0,
            counters: DecoderCounters::default(),
        };
        decoder.mask_channels(&masked);
        decoder
    }

    /// Changes which channels are masked, one entry for each channel, from the next bin on. Their state is kept: a channel that is
    /// no longer masked is seen again at once. Runs on the thread of the decoder, between two bins. Must not allocate, block, lock
    /// or log.
    pub fn mask_channels(&mut self, masked: &[bool]) {
        self.mask.clear();
        self.masked_always = masked.iter().filter(|is_masked| **is_masked).count();
        if self.masked_always > 0 {
            self.mask.extend(masked.iter().take(self.masked.len()).map(|is_masked| f32::from(!is_masked)));
        }
        let mask = &self.mask;
        self.oddities.watch(|channel| mask.get(channel) != Some(&0.0));
        self.counters.watched_channels = self.oddities.watched();
    }

    /// Forgets the history of bins, as the start of a segment does. The next estimates are warm-up. Runs on the thread of the decoder,
    /// between two bins. Must not allocate, block, lock or log.
    pub fn forget_history(&mut self) {
        self.reset();
    }

    /// Makes a fault of each bin of which more than this share of the channels is masked or has no count, from 0 to 1. Such a bin
    /// enters the state of the model like any other. A new decoder answers however few channels there are.
    pub fn limiting_masked(self, share_max: f64) -> Decoder {
        Decoder { masked_max: masked_max(self.masked.len(), share_max), ..self }
    }

    /// Returns the counters.
    pub fn counters(&self) -> DecoderCounters {
        self.counters
    }

    /// Returns the stream and the number of the next bin; `None` before the first one.
    pub fn next_bin(&self) -> Option<(u64, u64)> {
        self.expected
    }

    /// Number of bins since the last reset, including missing ones: how much the state of the model can know of.
    pub fn history_bins(&self) -> usize {
        self.history
    }

    /// Returns the estimate that was emitted last.
    pub fn last_estimate(&self) -> &Estimate {
        &self.estimate
    }

    /// Takes the place of another decoder that has been given the same bins: its counts since the start go on.
    pub fn continue_counts_of(&mut self, other: &Decoder) {
        let DecoderCounters { silent_channels, watched_channels, .. } = self.counters;
        self.counters = DecoderCounters { silent_channels, watched_channels, ..other.counters };
    }

    /// Decodes one bin at `now_ns`, and calls `emit` with the estimates of the bins that are missing before it and then with its
    /// own. `waiting` is the number of bins that wait behind this one. `emit` sets `decoded_ns`.
    ///
    /// Runs on the decode thread, once a bin. Must not allocate, block, lock or log.
    pub fn decode(&mut self, bin: &Bin, waiting: usize, now_ns: u64, emit: &mut dyn FnMut(&mut Estimate)) {
        let is_answered = now_ns > self.limits.answer_by_ns(bin.due, bin.arrival_ns);
        let too_late = self.limits.is_too_old(bin.due, now_ns) || (waiting > 0 && is_answered);
        let mut reasons = Reasons::default();
        self.estimate.lag_bins = u16::try_from(waiting).unwrap_or(u16::MAX);
        self.stamp_clock(bin);
        match self.expected {
            Some((stream, next)) if stream == bin.stream => {
                if bin.seq < next {
                    return self.drop_behind(next - 1 - bin.seq);
                }
                reasons = self.bridge(bin, bin.seq - next, too_late, emit);
            }
            Some(_) => {
                self.counters.restarts += 1;
                reasons = Reasons::SOURCE_RESTART;
                self.reset();
                self.silence.forget();
                self.oddities.forget();
            }
            None => {}
        }
        if bin.segment_start {
            reasons = reasons.with(Reasons::SEGMENT_START);
            self.reset();
        }
        let rise = match self.expected {
            Some((stream, next)) if stream == bin.stream => (bin.seq - next).saturating_add(1),
            _ => u64::MAX,
        };
        self.came = u32::try_from(rise).ok().and_then(|rise| self.came.checked_shl(rise)).unwrap_or(0) | 1;
        self.expected = Some((bin.stream, bin.seq.saturating_add(1)));
        if bin.clock_jumped {
            self.counters.clock_jumps += 1;
            reasons = reasons.with(Reasons::CLOCK_JUMP);
        }
        reasons = reasons.with(self.read_counts(bin));
        self.step(bin, Step { back: 0, missing: bin.is_missing(), reasons, too_late }, emit);
    }

    /// Runs a step of the engine whose result is discarded; state and estimates stay as they are. Returns whether the engine can
    /// do that. Runs on the decode thread while no bin waits.
    pub fn keep_warm(&mut self) -> bool {
        self.engine.keep_warm()
    }

    /// Counts a bin that is dropped, `behind` numbers before the newest: one that had come before, or one that comes too late. Of
    /// a number that is long past, it is not known which; it counts as a duplicate.
    fn drop_behind(&mut self, behind: u64) {
        if behind < 64 && self.came >> behind & 1 == 0 {
            self.came |= 1 << behind;
            self.counters.reordered += 1;
        } else {
            self.counters.duplicates += 1;
        }
    }

    fn stamp_clock(&mut self, bin: &Bin) {
        let unknown = ClockOffset { offset_ns: 0, uncertainty_ns: Estimate::CLOCK_UNKNOWN };
        let ClockOffset { offset_ns, uncertainty_ns } = bin.offset.unwrap_or(unknown);
        self.estimate.clock_offset_ns = offset_ns;
        self.estimate.clock_uncertainty_ns = uncertainty_ns;
        self.estimate.age_ns = if matches!(bin.due, Due::At(_)) { 0 } else { Estimate::AGE_UNKNOWN };
    }

    /// Returns what is to be said of the counts of a bin, and counts it.
    fn read_counts(&mut self, bin: &Bin) -> Reasons {
        let mut reasons = Reasons::default();
        if bin.invalid_channels() > 0 {
            reasons = reasons.with(Reasons::INVALID_CHANNELS);
        }
        if bin.second_source {
            reasons = reasons.with(Reasons::SECOND_SOURCE);
        }
        if bin.undescribed {
            self.counters.undescribed += 1;
            reasons = reasons.with(Reasons::UNDESCRIBED);
        }
        if self.lacks_channels(bin) {
            self.counters.too_few_channels += 1;
            reasons = reasons.with(Reasons::TOO_FEW_CHANNELS);
        }
        let is_used = |channel: usize| self.mask.get(channel) != Some(&0.0);
        if !bin.implausible.is_none()
            && (0..bin.channels()).any(|channel| bin.implausible.has(channel) && is_used(channel))
        {
            self.counters.implausible += 1;
            // Whether there are spikes in such bytes is not known.
            self.silence.forget();
            self.oddities.forget();
            return reasons.with(Reasons::IMPLAUSIBLE_COUNTS);
        }
        let odd = self.oddities.take_in(bin);
        self.counters.fractional += u64::from(odd.fractional);
        self.counters.rising += u64::from(odd.rising);
        self.counters.silent_channels = odd.silent_channels;
        if self.silence.takes_in(bin, is_used) {
            self.counters.no_spikes += 1;
            reasons = reasons.with(Reasons::NO_SPIKES);
        }
        reasons
    }

    /// Whether more channels of a bin than allowed are masked or have no count.
    fn lacks_channels(&self, bin: &Bin) -> bool {
        if bin.invalid_channels() + self.masked_always <= self.masked_max {
            return false;
        }
        // A channel may be masked and have no count either.
        let lacks = |channel: &usize| !bin.is_valid(*channel) || self.mask.get(*channel) == Some(&0.0);
        (0..bin.channels()).filter(lacks).count() > self.masked_max
    }

    /// Decodes the `missing` bins before `bin` as masked bins, or resets the state if they are too many.
    fn bridge(
        &mut self,
        bin: &Bin,
        missing: u64,
        too_late: bool,
        emit: &mut dyn FnMut(&mut Estimate),
    ) -> Reasons {
        if missing > self.max_gap_bins {
            self.counters.unbridged += missing;
            self.reset();
            return Reasons::LONG_GAP;
        }
        let reasons = if bin.undescribed { Reasons::UNDESCRIBED } else { Reasons::default() };
        for back in (1..=missing).rev() {
            self.step(bin, Step { back, missing: true, reasons, too_late }, emit);
        }
        Reasons::default()
    }

    /// Runs one step of the engine, and emits its estimate unless the bin is too late.
    fn step(&mut self, bin: &Bin, step: Step, emit: &mut dyn FnMut(&mut Estimate)) {
        // A channel without a count carries 0, which is the value that a transformer expects.
        let is_as_sent = self.mask.is_empty() && (self.absent.is_empty() || bin.invalid_channels() == 0);
        let counts = if is_as_sent {
            bin.counts()
        } else {
            for (channel, (masked, count)) in self.masked.iter_mut().zip(bin.counts()).enumerate() {
                let is_count = bin.is_valid(channel) && self.mask.get(channel) != Some(&0.0);
                *masked = if is_count { *count } else { self.absent.get(channel).copied().unwrap_or(0.0) };
            }
            &self.masked
        };
        let input = Input { counts, missing: step.missing };
        self.history += 1;
        if step.too_late {
            self.counters.observed += 1;
            if self.engine.observe(input).is_err() {
                self.reset();
            }
            return;
        }
        let stepped = self.engine.step(input, &mut self.output);
        let mut reasons = step.reasons;
        let finite = self.output.log_rates.iter().chain(&self.output.velocity).all(|value| value.is_finite());
        let quality = if stepped.is_err() || !finite {
            let cause = if stepped.is_err() { Reasons::ENGINE_FAILED } else { Reasons::NOT_FINITE };
            reasons = reasons.with(cause);
            // The state may hold numbers that are not finite, which would spoil the next bins too.
            self.reset();
            Quality::Fault
        } else {
            self.take_output();
            let is_implausible = reasons.contains(Reasons::IMPLAUSIBLE_COUNTS);
            if step.missing && !is_implausible {
                reasons = reasons.with(Reasons::MISSING_BIN);
            }
            let is_short = self.history < self.warmup_bins;
            if is_short {
                reasons = reasons.with(Reasons::SHORT_HISTORY);
            }
            // Its channels may be others or hardly any, or its bytes no counts: nothing that is computed from it may move anything.
            let is_unusable = [Reasons::UNDESCRIBED, Reasons::TOO_FEW_CHANNELS];
            let is_unusable = is_implausible || is_unusable.iter().any(|reason| reasons.contains(*reason));
            match (step.missing, is_short) {
                _ if is_unusable => Quality::Fault,
                (true, _) => Quality::Gap,
                (false, true) => Quality::Warmup,
                (false, false) => Quality::Good,
            }
        };
        self.stamp(bin, step.back);
        self.estimate.quality = quality;
        self.estimate.reasons = reasons;
        emit(&mut self.estimate);
    }

    fn stamp(&mut self, bin: &Bin, back: u64) {
        let estimate = &mut self.estimate;
        estimate.seq = bin.seq - back;
        estimate.stream = bin.stream;
        estimate.source_ns = bin.source_ns.saturating_sub(self.bin_width_ns.saturating_mul(back as i64));
        estimate.velocity_for_ns = estimate.source_ns.saturating_add(self.velocity_offset_ns);
        // A missing bin gets the arrival that it would have had.
        estimate.arrival_ns = bin.arrival_ns.saturating_sub(back.saturating_mul(self.bin_width_ns as u64));
    }

    /// Copies rates and velocity out of the engine. Not called on a fault: the estimate then keeps the last finite values.
    fn take_output(&mut self) {
        let log_rate_max = RATE_HZ_MAX.ln();
        for (rate, log_rate) in self.estimate.rates_mut().iter_mut().zip(&self.output.log_rates) {
            *rate = log_rate.min(log_rate_max).exp();
        }
        self.estimate.outputs_mut().copy_from_slice(&self.output.velocity);
    }

    fn reset(&mut self) {
        self.engine.reset();
        self.history = 0;
    }
}
