//! What a model loses in fewer bits, measured when it is exported and written into its bundle.
//!
//! The kernels that compute in fewer bits are the daemon's. Here Burn computes what they are defined to compute
//! ([`ndt_protocol::bundle::precision`]), and the project's tests compare the two.

use crate::data::{Dataset, Readout};
use crate::evaluation::Reference;
use crate::evaluation::metrics::{BitsPerSpike, R2};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Positions;
use ndt_protocol::bundle::precision::{Loss, Precision, ValidationLoss};

/// Writes into the bundle's manifest what each lower precision loses on the golden stream and, with `data`, on its
/// validation trials. Models with learned positions are always computed in 32 bits, so that nothing is measured.
pub fn measure(bundle: &mut Bundle, data: Option<&Dataset>) {
    if bundle.manifest.architecture.positions == Positions::Learned {
        return;
    }
    let validation = |precision| data.map(|data| Validation::of(bundle, data, precision));
    let whole = validation(Precision::F32);
    let measured = [Precision::Bf16, Precision::Int8].map(|precision| {
        let pair = whole.as_ref().zip(validation(precision));
        let validation = pair.and_then(|(whole, rounded)| whole.loss_of(&rounded));
        (precision, Loss { validation, ..golden(bundle, precision) })
    });
    bundle.manifest.precisions.extend(measured);
}

/// The loss of a precision on the golden stream.
fn golden(bundle: &Bundle, precision: Precision) -> Loss {
    let values = |name: &str| bundle.golden.get(name).map_or(&[][..], |(_, values)| values.as_slice());
    let reference = Reference::rounded(&bundle.manifest, &bundle.weights, precision);
    let (log_rates, readouts) = reference.stream(values("counts"), values("missing"));
    Loss {
        golden_log_rates: largest(&log_rates, values("log_rates")),
        golden_velocity: largest_of_velocities(&bundle.manifest.readouts, &readouts, values("readouts")),
        validation: None,
    }
}

/// The largest absolute difference of the readouts that can be published, m/s. A position or a force has another unit and
/// another spread, and would widen the tolerance that the published velocity is held to.
fn largest_of_velocities(readouts: &[Readout], found: &[f32], expected: &[f32]) -> f64 {
    let is_publishable = |readout: &Readout| readouts[0].series == readout.series;
    let of_readout = |readout: &Readout| std::iter::repeat_n(is_publishable(readout), readout.dims);
    let is_velocity: Vec<bool> = readouts.iter().flat_map(of_readout).collect();
    let of_velocities = |values: &[f32]| -> Vec<f32> {
        let columns = values.iter().zip(is_velocity.iter().cycle());
        columns.filter(|(_, is_velocity)| **is_velocity).map(|(value, _)| *value).collect()
    };
    largest(&of_velocities(found), &of_velocities(expected))
}

/// Returns the largest absolute difference between `found` and `expected`.
fn largest(found: &[f32], expected: &[f32]) -> f64 {
    let differences = found.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs()));
    differences.fold(0.0, f64::max)
}

/// Answers to all validation trials, and their scores.
struct Validation {
    log_rates: Vec<f32>,
    bits_per_spike: Option<f64>,
    velocity_r2: Option<f64>,
}

impl Validation {
    /// Runs every trial from a cold start in one pass, which causal attention makes the same as bin by bin.
    fn of(bundle: &Bundle, data: &Dataset, precision: Precision) -> Validation {
        let reference = Reference::rounded(&bundle.manifest, &bundle.weights, precision);
        let (units, dims) = (data.units(), data.readout_dims());
        let velocity = bundle.manifest.velocity_columns();
        let scores_all = !data.has_heldout();
        let scored: Vec<usize> = (0..units).filter(|unit| scores_all || data.heldout[*unit]).collect();
        let channels: Vec<usize> = data.channels().collect();
        let bin_s = data.bin_width_ms * 1e-3;
        let (mut bits, mut r2) = (BitsPerSpike::new(units), R2::new(velocity.len()));
        let mut all = Vec::new();
        for trial in &data.val {
            let (log_rates, readouts) = reference.stream(&trial.counts_of(&channels), &vec![0.0; trial.bins]);
            for (counts, log_rates) in trial.counts.chunks_exact(units).zip(log_rates.chunks_exact(units)) {
                for unit in &scored {
                    bits.add(*unit, f64::from(counts[*unit]), f64::from(log_rates[*unit]).exp() * bin_s);
                }
            }
            if dims > 0 {
                let pairs = trial.targets.chunks_exact(dims).zip(readouts.chunks_exact(dims));
                pairs.for_each(|(truth, decoded)| {
                    r2.add(&truth[velocity.clone()], &decoded[velocity.clone()])
                });
            }
            all.extend(log_rates);
        }
        Validation { log_rates: all, bits_per_spike: bits.score(), velocity_r2: r2.mean() }
    }

    /// Returns the loss of `other` relative to `self`; `None` where there are no scores to compare.
    fn loss_of(&self, other: &Validation) -> Option<ValidationLoss> {
        let squares = self.log_rates.iter().zip(&other.log_rates).map(|(a, b)| f64::from(a - b).powi(2));
        Some(ValidationLoss {
            log_rates_rms: (squares.sum::<f64>() / self.log_rates.len() as f64).sqrt(),
            log_rates_max: largest(&other.log_rates, &self.log_rates),
            bits_per_spike: self.bits_per_spike? - other.bits_per_spike?,
            velocity_r2: self.velocity_r2.zip(other.velocity_r2).map(|(whole, rounded)| whole - rounded),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndt_protocol::bundle::quantity::Quantity;

    #[test]
    fn the_tolerance_of_the_velocity_does_not_depend_on_a_position_or_a_speed() {
        let readout = |quantity: Quantity, dims| Readout {
            dims,
            unit: quantity.unit().into(),
            lag_ms: 0.0,
            series: quantity.series().into(),
        };
        let readouts =
            [readout(Quantity::Velocity, 2), readout(Quantity::Speed, 1), readout(Quantity::Position, 2)];
        let expected = [0.0; 10];
        // Two bins: velocity, velocity, speed, position, position.
        let found = [0.01, 0.0, 9.0, 7.0, 8.0, 0.0, -0.02, 9.0, 7.0, 8.0];
        assert!((largest_of_velocities(&readouts, &found, &expected) - 0.02).abs() < 1e-9);
    }
}
