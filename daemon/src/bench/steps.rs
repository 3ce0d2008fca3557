//! Runs bins through the decoder and the guard on one thread, without a clock, a socket or a sleep. The work is the
//! same each time, for programs that count instructions (valgrind, perf).

use super::BenchError;
use super::golden_counts::GoldenCounts;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::engine;
use crate::guard::Guard;
use crate::input::Intake;
use crate::pipeline::PipelineError;
use ndt_protocol::{Bin, Bundle, Estimate};

/// The result of a run of `ndtd bench --steps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps {
    /// Number of estimates that came out.
    pub estimates: u64,
    /// Digest of all estimates, so that nothing is optimised away. The same steps give the same digest.
    pub checksum: u64,
    /// Name of the engine.
    pub engine: String,
}

/// Runs `steps` bins. The time of each bin is the instant at which it is due, so that nothing is ever late.
///
/// # Errors
/// [`BenchError`] when the engine cannot be loaded, the configuration does not fit the bundle, or the bundle has no
/// counts.
pub fn take_steps(config: &Config, bundle: &Bundle, steps: u64) -> Result<Steps, BenchError> {
    let settings = config.guard(&bundle.manifest).map_err(PipelineError::from)?;
    let engine = engine::load(&config.engine(), bundle)?;
    let name = engine.name();
    let decoder = Decoder::new(bundle, engine, &config.mask_channels, settings.time);
    let mut decoder = decoder.limiting_masked(config.max_masked_share);
    let mut guard = Guard::new(bundle, settings);
    let mut intake = Intake::new(bundle.manifest.bin_width_ns());
    let (counts, width_ns) = (GoldenCounts::of(bundle)?, bundle.manifest.bin_width_ns());
    let mut bin = Bin::empty();
    let mut done = Steps { estimates: 0, checksum: 0, engine: name };
    for seq in 0..steps {
        let now_ns = (seq + 1) * width_ns;
        counts.fill(seq, now_ns, now_ns, &mut bin);
        let Some(arrival) = intake.take(&mut bin) else { continue };
        guard.arrived(arrival);
        decoder.decode(&bin, 0, now_ns, &mut |estimate| {
            estimate.decoded_ns = now_ns;
            guard.decoded(estimate, now_ns, &mut |estimate| done.add(estimate));
        });
    }
    Ok(done)
}

impl Steps {
    fn add(&mut self, estimate: &Estimate) {
        self.estimates += 1;
        let outputs =
            estimate.rates().iter().chain(estimate.outputs()).map(|value| u64::from(value.to_bits()));
        let all = outputs.chain([estimate.seq, estimate.quality as u64]);
        // The multiplier of Knuth's linear congruential generator MMIX.
        self.checksum = all.fold(self.checksum, |digest, value| {
            (digest ^ value).wrapping_mul(6_364_136_223_846_793_005).rotate_left(23)
        });
    }
}
