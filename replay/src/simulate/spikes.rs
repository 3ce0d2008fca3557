//! Spikes from a rate: a Poisson process with a refractory period, sampled as a recording system samples.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::Exp1;

/// Sampling rate of the recording system, in Hz. Spike times are whole samples.
const SAMPLES_HZ: f64 = 30_000.0;
const SAMPLES_PER_MS: u64 = 30;

/// Refractory period, in ms: a unit never fires again sooner.
const REFRACTORY_MS: u64 = 2;

/// Draws the spikes of one trial and appends their times, in seconds of the session. `rates` holds the rate at each
/// millisecond of the trial, in spikes/s.
///
/// Spikes are drawn at the highest rate of the trial and thinned to the rate of their millisecond; a spike within the
/// refractory period of the last one is dropped.
pub(super) fn fire(rates: &[f64], start_ms: u64, random: &mut ChaCha8Rng, spike_times: &mut Vec<f64>) {
    let highest = rates.iter().copied().fold(0.0, f64::max);
    if highest <= 0.0 {
        return;
    }
    let mut at_s = 0.0;
    let mut free_from = 0;
    loop {
        at_s += random.sample::<f64, _>(Exp1) / highest;
        let sample = (at_s * SAMPLES_HZ) as u64;
        let Some(rate) = rates.get((sample / SAMPLES_PER_MS) as usize) else { return };
        let is_kept = random.random::<f64>() * highest < *rate;
        if is_kept && sample >= free_from {
            spike_times.push((start_ms * SAMPLES_PER_MS + sample) as f64 / SAMPLES_HZ);
            free_from = sample + REFRACTORY_MS * SAMPLES_PER_MS;
        }
    }
}
