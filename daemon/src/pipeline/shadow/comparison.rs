//! What two models say of the same live bins, side by side: how far their outputs agree, how likely each makes the counts, and how
//! long each takes.
//!
//! The decode thread adds up, and stores each figure in an atomic, which the control plane reads. Figures that are read together may
//! therefore be one bin apart.

use ndt_protocol::bundle::manifest::Manifest;
use ndt_protocol::limits::OUTPUTS_MAX;
use ndt_protocol::{Bin, Estimate};
use serde::Serialize;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Rate below which a count is not asked for its likelihood, spikes per bin: a rate of 0 would make any spike infinitely unlikely.
const RATE_MIN: f64 = 1e-6;

/// Buckets of a histogram of step times: eight for each doubling, from 1 ns on.
const BUCKETS: usize = 8 * 40;

/// Sums over bins, owned by the decode thread.
pub struct Comparison {
    /// Position of the channel that each unit is; `None` for a unit that is no input.
    channel_of: Vec<Option<usize>>,
    width_s: f64,
    bins: u64,
    spikes: f64,
    /// Log likelihood of the counts under each model, without the terms that depend on the counts alone.
    log_likelihood: [f64; 2],
    outputs: [Sums; OUTPUTS_MAX],
}

/// Sums over one output of both models.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    of: [f64; 2],
    of_squares: [f64; 2],
    of_products: f64,
    of_squared_differences: f64,
    largest_difference: f64,
}

/// The figures as the control plane reads them.
#[derive(Debug, Default)]
pub struct Figures {
    bins: AtomicU64,
    /// Bits of: RMS difference, largest difference, correlation, log likelihood a bin of both models, spikes.
    numbers: [AtomicU64; 6],
    steps: [Steps; 2],
}

/// How long the steps of a model took.
#[derive(Debug)]
struct Steps {
    counts: [AtomicU32; BUCKETS],
    max_ns: AtomicU64,
}

impl Default for Steps {
    fn default() -> Steps {
        Steps { counts: std::array::from_fn(|_| AtomicU32::new(0)), max_ns: AtomicU64::new(0) }
    }
}

/// Two models over the same live bins: the one that is published, and the one in shadow.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Bins of which both models had a good estimate.
    pub bins: u64,
    /// Root of the mean squared difference of the outputs, in the bundle's unit.
    pub rms_difference: f64,
    /// Largest difference of an output, in the bundle's unit.
    pub max_difference: f64,
    /// Pearson correlation of the outputs, as the mean over outputs that vary; `None` where none does.
    pub correlation: Option<f64>,
    /// What one spike of a unit that is an input is less or more surprising under the model in shadow, bits: the difference of the
    /// Poisson log likelihoods, each under the rate that the model gives for the same bin, whose counts it has seen.
    pub bits_per_spike_gained: Option<f64>,
    /// Steps of the model that is published.
    pub present: StepTimes,
    /// Steps of the model in shadow.
    pub shadow: StepTimes,
}

/// Times from the start of a step to its estimate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepTimes {
    /// Median, us, within 9 %.
    pub p50_us: f64,
    /// Longest, us.
    pub max_us: f64,
}

impl Comparison {
    /// Makes the sums for two models with the channels and units of `manifest`. Not for real-time threads.
    pub fn new(manifest: &Manifest) -> Comparison {
        let position = |unit: &i64| manifest.channel_ids.iter().position(|channel| channel == unit);
        Comparison {
            channel_of: manifest.unit_ids.iter().map(position).collect(),
            width_s: manifest.bin_width_ms * 1e-3,
            bins: 0,
            spikes: 0.0,
            log_likelihood: [0.0; 2],
            outputs: [Sums::default(); OUTPUTS_MAX],
        }
    }

    /// Adds the good estimates of both models for one bin, and stores the figures. Runs on the decode thread, once a bin. Must not
    /// allocate, block, lock or log.
    pub fn take_in(&mut self, bin: &Bin, present: &Estimate, shadow: &Estimate, figures: &Figures) {
        self.bins += 1;
        for (unit, channel) in self.channel_of.iter().enumerate() {
            let Some(channel) = channel.filter(|channel| bin.is_valid(*channel)) else { continue };
            let count = f64::from(bin.counts()[channel]);
            self.spikes += count;
            for (sum, estimate) in self.log_likelihood.iter_mut().zip([present, shadow]) {
                let rate = f64::from(estimate.rates()[unit]) * self.width_s;
                *sum += count * rate.max(RATE_MIN).ln() - rate;
            }
        }
        let pairs = present.outputs().iter().zip(shadow.outputs());
        for (sums, (a, b)) in self.outputs.iter_mut().zip(pairs) {
            sums.add(f64::from(*a), f64::from(*b));
        }
        self.store(present.outputs().len(), figures);
    }

    fn store(&self, outputs: usize, figures: &Figures) {
        let (bins, outputs) = (self.bins as f64, &self.outputs[..outputs]);
        let squared: f64 = outputs.iter().map(|sums| sums.of_squared_differences).sum();
        let rms = (squared / (bins * outputs.len() as f64)).sqrt();
        let max = outputs.iter().map(|sums| sums.largest_difference).fold(0.0, f64::max);
        let correlations = outputs.iter().filter_map(|sums| sums.correlation(bins));
        let (sum, varying) = correlations.fold((0.0, 0.0), |(sum, n), r| (sum + r, n + 1.0));
        let [present, shadow] = self.log_likelihood;
        let rms = if outputs.is_empty() { 0.0 } else { rms };
        let numbers = [rms, max, sum / varying, present, shadow, self.spikes];
        for (stored, number) in figures.numbers.iter().zip(numbers) {
            stored.store(number.to_bits(), Relaxed);
        }
        figures.bins.store(self.bins, Relaxed);
    }
}

impl Sums {
    fn add(&mut self, a: f64, b: f64) {
        self.of[0] += a;
        self.of[1] += b;
        self.of_squares[0] += a * a;
        self.of_squares[1] += b * b;
        self.of_products += a * b;
        self.of_squared_differences += (a - b) * (a - b);
        self.largest_difference = self.largest_difference.max((a - b).abs());
    }

    /// Pearson correlation over `bins` bins; `None` where an output does not vary.
    fn correlation(&self, bins: f64) -> Option<f64> {
        let spread = |at: usize| self.of_squares[at] - self.of[at] * self.of[at] / bins;
        let together = self.of_products - self.of[0] * self.of[1] / bins;
        let product = spread(0) * spread(1);
        (product > 0.0).then(|| together / product.sqrt())
    }
}

impl Figures {
    /// Notes a step of the model that is published. Runs on the decode thread, once a bin.
    pub fn present_step(&self, ns: u64) {
        self.steps[0].add(ns);
    }

    /// Notes a step of the model in shadow. Runs on the decode thread, once a bin.
    pub fn shadow_step(&self, ns: u64) {
        self.steps[1].add(ns);
    }

    /// Reads the figures.
    pub fn report(&self) -> Report {
        let numbers = [0, 1, 2, 3, 4, 5].map(|at: usize| f64::from_bits(self.numbers[at].load(Relaxed)));
        let [rms_difference, max_difference, correlation, present, shadow, spikes] = numbers;
        let bins = self.bins.load(Relaxed);
        let is_known = bins > 0 && correlation.is_finite();
        let gained = (shadow - present) / spikes / std::f64::consts::LN_2;
        Report {
            bins,
            rms_difference,
            max_difference,
            correlation: is_known.then_some(correlation),
            bits_per_spike_gained: (spikes > 0.0).then_some(gained),
            present: self.steps[0].times(),
            shadow: self.steps[1].times(),
        }
    }
}

impl Steps {
    fn add(&self, ns: u64) {
        self.counts[bucket(ns)].fetch_add(1, Relaxed);
        self.max_ns.fetch_max(ns, Relaxed);
    }

    fn times(&self) -> StepTimes {
        let counts: Vec<u64> = self.counts.iter().map(|count| u64::from(count.load(Relaxed))).collect();
        let half = counts.iter().sum::<u64>().div_ceil(2);
        let mut seen = 0;
        let median = counts.iter().position(|count| {
            seen += count;
            half > 0 && seen >= half
        });
        let p50_us = median.map_or(0.0, |bucket| (bucket as f64 / 8.0).exp2() * 1e-3);
        StepTimes { p50_us, max_us: self.max_ns.load(Relaxed) as f64 * 1e-3 }
    }
}

/// The bucket of a time: eight times its binary logarithm.
fn bucket(ns: u64) -> usize {
    let eighths = (ns.max(1) as f64).log2() * 8.0;
    (eighths.round() as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_step_is_found_within_its_bucket() {
        let figures = Figures::default();
        assert_eq!(figures.report().shadow, StepTimes { p50_us: 0.0, max_us: 0.0 });
        for ns in [10_000, 20_000, 20_000, 21_000, 3_000_000] {
            figures.shadow_step(ns);
        }
        let StepTimes { p50_us, max_us } = figures.report().shadow;
        assert!((p50_us / 20.0 - 1.0).abs() < 0.09 && max_us == 3_000.0, "{p50_us} {max_us}");
        assert_eq!([bucket(0), bucket(1), bucket(u64::MAX)], [0, 0, BUCKETS - 1]);
    }

    #[test]
    fn outputs_that_agree_up_to_a_factor_correlate_and_differ() {
        let mut sums = Sums::default();
        for x in [1.0, 2.0, 3.0, 4.0] {
            sums.add(x, 2.0 * x);
        }
        assert!((sums.correlation(4.0).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!((sums.largest_difference, sums.of_squared_differences), (4.0, 30.0));
        let mut constant = Sums::default();
        (0..4).for_each(|x| constant.add(1.0, f64::from(x)));
        assert_eq!(constant.correlation(4.0), None);
    }
}
