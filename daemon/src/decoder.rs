//! From bins to estimates: order, gaps, warm-up, the model, finite numbers. No I/O and no clock.
//!
//! **Invariant:** every bin that is taken gives exactly one estimate, in the order of `seq`, and so does
//! every bin that is missing within the bundle's longest gap. Nothing that is not finite leaves here.

use crate::engine::{Engine, Input, Output};
use ndt_protocol::limits::RATE_HZ_MAX;
use ndt_protocol::{Bin, Bundle, Estimate, Quality, Reasons};

/// What the decoder has met, counted since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Estimates given, by quality.
    pub estimates: [u64; 6],
    /// Bins dropped because their number had been decoded already.
    pub duplicates: u64,
    /// Missing bins for which no estimate was given, because the gap was longer than the bundle's limit.
    pub skipped: u64,
    /// Times that the state was reset by a new stream.
    pub restarts: u64,
}

/// The model with its place in the stream.
pub struct Decoder {
    engine: Box<dyn Engine>,
    output: Output,
    estimate: Estimate,
    bin_width_ns: i64,
    velocity_offset_ns: i64,
    warmup_bins: usize,
    max_gap_bins: u64,
    /// The stream and the number that its next bin should have.
    expected: Option<(u64, u64)>,
    /// Bins since the last reset, missing ones included.
    history: usize,
    counters: Counters,
}

impl Decoder {
    /// A decoder for `bundle` on `engine`, which is reset.
    pub fn new(bundle: &Bundle, mut engine: Box<dyn Engine>) -> Self {
        engine.reset();
        let manifest = &bundle.manifest;
        let mut estimate = Estimate::zero(manifest.units(), manifest.velocity_dims());
        estimate.bundle = bundle.id();
        Decoder {
            engine,
            output: Output::for_bundle(bundle),
            estimate,
            bin_width_ns: (manifest.bin_width_ms * 1e6).round() as i64,
            velocity_offset_ns: manifest.velocity_offset_ns(),
            warmup_bins: manifest.warmup_bins,
            max_gap_bins: manifest.max_gap_bins as u64,
            expected: None,
            history: 0,
            counters: Counters::default(),
        }
    }

    /// What has been met so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes one bin and gives its estimate to `emit`, after those of the bins missing before it.
    /// `lag_bins` is how many more bins wait behind this one. `emit` stamps `decoded_ns`.
    ///
    /// Runs on the decode thread, once a bin. Must not allocate, block, lock or log.
    pub fn decode(&mut self, bin: &Bin, lag_bins: usize, emit: &mut dyn FnMut(&mut Estimate)) {
        let mut reasons = Reasons::default();
        match self.expected {
            Some((stream, next)) if stream == bin.stream => {
                if bin.seq < next {
                    self.counters.duplicates += 1;
                    return;
                }
                reasons = self.bridge(bin, bin.seq - next, emit);
            }
            Some(_) => {
                self.counters.restarts += 1;
                reasons = Reasons::SOURCE_RESTART;
                self.reset();
            }
            None => {}
        }
        if bin.segment_start {
            reasons = reasons.with(Reasons::SEGMENT_START);
            self.reset();
        }
        self.expected = Some((bin.stream, bin.seq + 1));
        if bin.invalid_channels() > 0 {
            reasons = reasons.with(Reasons::INVALID_CHANNELS);
        }
        self.estimate.lag_bins = u16::try_from(lag_bins).unwrap_or(u16::MAX);
        self.answer(bin, 0, bin.is_missing(), reasons, emit);
    }

    /// Gives the estimates of the `missing` bins before `bin`, or resets where they are too many.
    fn bridge(&mut self, bin: &Bin, missing: u64, emit: &mut dyn FnMut(&mut Estimate)) -> Reasons {
        if missing > self.max_gap_bins {
            self.counters.skipped += missing;
            self.reset();
            return Reasons::LONG_GAP;
        }
        for back in (1..=missing).rev() {
            self.answer(bin, back, true, Reasons::default(), emit);
        }
        Reasons::default()
    }

    /// The estimate of the bin `back` bins before `bin` (0: of `bin` itself).
    fn answer(
        &mut self,
        bin: &Bin,
        back: u64,
        missing: bool,
        reasons: Reasons,
        emit: &mut dyn FnMut(&mut Estimate),
    ) {
        let stepped = self.engine.step(Input { counts: bin.counts(), missing }, &mut self.output);
        self.history += 1;
        let mut reasons = reasons;
        let finite = self.output.log_rates.iter().chain(&self.output.velocity).all(|value| value.is_finite());
        let quality = if stepped.is_err() || !finite {
            let cause = if stepped.is_err() { Reasons::ENGINE_FAILED } else { Reasons::NOT_FINITE };
            reasons = reasons.with(cause);
            // Whatever is in the state now would spoil the bins to come.
            self.reset();
            Quality::Fault
        } else {
            self.take_output();
            if missing {
                reasons = reasons.with(Reasons::MISSING_BIN);
            }
            if self.history < self.warmup_bins {
                reasons = reasons.with(Reasons::SHORT_HISTORY);
            }
            match (missing, self.history < self.warmup_bins) {
                (true, _) => Quality::Gap,
                (false, true) => Quality::Warmup,
                (false, false) => Quality::Good,
            }
        };
        let estimate = &mut self.estimate;
        estimate.seq = bin.seq - back;
        estimate.stream = bin.stream;
        estimate.source_ns = bin.source_ns.saturating_sub(self.bin_width_ns.saturating_mul(back as i64));
        estimate.velocity_for_ns = estimate.source_ns.saturating_add(self.velocity_offset_ns);
        estimate.arrival_ns = bin.arrival_ns;
        estimate.quality = quality;
        estimate.reasons = reasons;
        self.counters.estimates[quality as usize] += 1;
        emit(estimate);
    }

    /// On a fault this is not called: the estimate then holds the values of the last one that was finite.
    fn take_output(&mut self) {
        let log_rate_max = RATE_HZ_MAX.ln();
        for (rate, log_rate) in self.estimate.rates_mut().iter_mut().zip(&self.output.log_rates) {
            *rate = log_rate.min(log_rate_max).exp();
        }
        self.estimate.velocity_mut().copy_from_slice(&self.output.velocity);
    }

    fn reset(&mut self) {
        self.engine.reset();
        self.history = 0;
    }
}
