//! Compares an engine with the golden vectors of its bundle, which the trainer computed.

use super::{Engine, EngineError, Input, Output};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::precision::Precision;

/// Largest allowed difference from the golden vectors in `f32`: ln(spikes/s) for log rates; for velocities, a part of the
/// largest golden velocity, but of 1 m/s at least.
pub const GOLDEN_TOLERANCE: f32 = 1e-4;

/// Largest differences of an engine's answers from the golden ones, found or allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Difference of log rates, ln(spikes/s).
    pub log_rates: f32,
    /// Difference of velocities, in the bundle's unit.
    pub velocity: f32,
}

/// Largest allowed difference from the golden vectors of `bundle` in this number format: half as much again as the
/// trainer computed, because a sum that is rounded in another order can fall to another level.
///
/// # Errors
/// [`EngineError::Unmeasured`] when the trainer did not measure this format.
pub fn tolerance(precision: Precision, bundle: &Bundle) -> Result<Difference, EngineError> {
    const MARGIN: f32 = 1.5;
    // A velocity in pixels/s has numbers, and rounding, a thousand times as large as one in m/s.
    let fastest =
        bundle.golden_velocity().iter().fold(1.0f32, |fastest, velocity| fastest.max(velocity.abs()));
    if precision == Precision::F32 {
        return Ok(Difference { log_rates: GOLDEN_TOLERANCE, velocity: GOLDEN_TOLERANCE * fastest });
    }
    let loss = bundle.manifest.precisions.get(&precision);
    let loss = loss.ok_or(EngineError::Unmeasured { precision: precision.name() })?;
    let room = |difference: f64, least: f32| MARGIN * difference as f32 + least;
    Ok(Difference {
        log_rates: room(loss.golden_log_rates, GOLDEN_TOLERANCE),
        velocity: room(loss.golden_velocity, GOLDEN_TOLERANCE * fastest),
    })
}

/// Runs the golden bins through `engine`, and returns the largest differences from the golden answers. Leaves the
/// engine reset.
///
/// # Errors
/// [`EngineError::NoGolden`] without golden bins, [`EngineError::Golden`] when a difference is above `tolerance`,
/// [`EngineError::Step`] when the engine fails.
pub fn reproduce_golden(
    engine: &mut dyn Engine,
    bundle: &Bundle,
    tolerance: Difference,
) -> Result<Difference, EngineError> {
    let (channels, units, dims) =
        (bundle.manifest.channels(), bundle.manifest.units(), bundle.manifest.velocity_dims());
    if bundle.golden_bins() == 0 {
        return Err(EngineError::NoGolden);
    }
    let golden = |name: &str| bundle.golden.get(name).map_or(&[][..], |(_, values)| values.as_slice());
    let golden_velocity = bundle.golden_velocity();
    let mut output = Output::for_bundle(bundle);
    let mut worst = Difference { log_rates: 0.0, velocity: 0.0 };
    engine.reset();
    for bin in 0..bundle.golden_bins() {
        let counts = &golden("counts")[bin * channels..][..channels];
        engine.step(Input { counts, missing: golden("missing")[bin] != 0.0 }, &mut output)?;
        let rates = difference(&output.log_rates, golden("log_rates").get(bin * units..).unwrap_or(&[]));
        let velocity = difference(&output.velocity, golden_velocity.get(bin * dims..).unwrap_or(&[]));
        for (what, found, tolerance) in
            [("log rates", rates, tolerance.log_rates), ("velocity", velocity, tolerance.velocity)]
        {
            // A NaN is in no range, so that it is refused too.
            if !(0.0..=tolerance).contains(&found) {
                return Err(EngineError::Golden { what, tolerance, found, bin });
            }
        }
        worst.log_rates = worst.log_rates.max(rates);
        worst.velocity = worst.velocity.max(velocity);
    }
    engine.reset();
    Ok(worst)
}

/// Returns the largest difference of two arrays; NaN if a difference is NaN.
pub(super) fn difference(found: &[f32], expected: &[f32]) -> f32 {
    let worse = |worst: f32, d: f32| if d > worst || d.is_nan() { d } else { worst };
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, worse)
}
