//! Resampling of spike times and 1 kHz samples to wide bins, as in the benchmark's `nwb_interface.py`.
//!
//! Time is counted in whole milliseconds from the start of the recording. Wide bins are counted from there too, and not
//! from a trial's start.

use std::f64::consts::PI;

/// Number of taps on either side of the centre of the anti-aliasing filter, which spans a quarter of a second each way.
/// The filter looks into the future and beyond a trial's edges: it is for scoring and not for live decoding.
const HALF: usize = 250;

/// The millisecond that contains an instant (s). The instant is first rounded to a nanosecond, so that a spike that was stored as
/// 0.00999999999 s counts as one at 10 ms.
pub fn millisecond(time_s: f64) -> i64 {
    to_milliseconds(time_s) as i64
}

/// Converts seconds to milliseconds, rounded to six decimals.
pub fn to_milliseconds(time_s: f64) -> f64 {
    (time_s * 1e3 * 1e6).round_ties_even() / 1e6
}

/// The low-pass filter that is applied before decimation by `factor`: a sinc with a cut-off at 1/`factor` of the Nyquist
/// frequency, under a Hamming window of 501 taps, which add up to 1.
pub fn low_pass(factor: usize) -> Vec<f64> {
    let tap = |at: usize| {
        let x = (at as f64 - HALF as f64) / factor as f64;
        let sinc = if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) };
        (0.54 - 0.46 * (2.0 * PI * at as f64 / (2 * HALF) as f64).cos()) * sinc
    };
    normalised((0..=2 * HALF).map(tap).collect())
}

/// Decimates `x`: every `factor`-th sample after [`low_pass`], without delay. Beyond its ends `x` counts as 0.
pub fn decimate(x: &[f64], factor: usize) -> Vec<f64> {
    let taps = low_pass(factor);
    let sample = |centre: usize| {
        let first = centre.saturating_sub(HALF);
        let near = &x[first..x.len().min(centre + HALF + 1)];
        // The filter is symmetric, so that it need not be reversed.
        near.iter().zip(&taps[first + HALF - centre..]).map(|(x, tap)| x * tap).sum()
    };
    (0..x.len()).step_by(factor).map(sample).collect()
}

/// Replaces unknown values (NaN) by linear interpolation between their neighbours, and at the ends by the nearest known
/// value. Without any known value nothing changes.
pub fn interpolate(x: &mut [f64]) {
    let mut last: Option<usize> = None;
    for at in 0..x.len() {
        if x[at].is_nan() {
            continue;
        }
        let value = x[at];
        match last {
            None => x[..at].fill(value),
            Some(last) => {
                let (from, slope) = (x[last], (value - x[last]) / (at - last) as f64);
                (last + 1..at).for_each(|between| x[between] = from + slope * (between - last) as f64);
            }
        }
        last = Some(at);
    }
    if let Some(last) = last {
        let value = x[last];
        x[last..].fill(value);
    }
}

/// The Gaussian kernel of PSTHs and of the benchmark's smoothing baseline: `floor(6 sd)` taps that add up to 1. The
/// centre of an even number of taps lies between two of them.
pub fn gaussian(sd_bins: f64) -> Vec<f64> {
    let taps = (6.0 * sd_bins) as usize;
    let centre = (taps as f64 - 1.0) / 2.0;
    normalised((0..taps).map(|at| (-((at as f64 - centre) / sd_bins).powi(2) / 2.0).exp()).collect())
}

/// Convolution with the length of `x`: `y[i] = sum over k of w[k] x[i + (n - 1) / 2 - k]`, where `x` counts as 0 beyond
/// its ends.
pub fn convolve_same(x: &[f64], w: &[f64]) -> Vec<f64> {
    let mut y = vec![0.0; x.len()];
    for (at, value) in x.iter().enumerate().filter(|(_, value)| **value != 0.0) {
        spread(at, w, x.len(), |to, weight| y[to] += weight * value);
    }
    y
}

/// Spreads a value at `at` by the kernel `w`: calls `add` with each place below `length` and its weight.
pub fn spread(at: usize, w: &[f64], length: usize, mut add: impl FnMut(usize, f64)) {
    let before = w.len().saturating_sub(1) / 2;
    for (k, weight) in w.iter().enumerate() {
        if let Some(to) = (at + k).checked_sub(before).filter(|to| *to < length) {
            add(to, *weight);
        }
    }
}

fn normalised(mut taps: Vec<f64>) -> Vec<f64> {
    let sum: f64 = taps.iter().sum();
    taps.iter_mut().for_each(|tap| *tap /= sum);
    taps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_bridged_and_ends_are_held() {
        let nan = f64::NAN;
        let mut x = [nan, 1.0, nan, nan, 4.0, nan];
        interpolate(&mut x);
        assert_eq!(x, [1.0, 1.0, 2.0, 3.0, 4.0, 4.0]);
        let mut unknown = [nan; 3];
        interpolate(&mut unknown);
        assert!(unknown.iter().all(|value| value.is_nan()));
    }

    #[test]
    fn a_kernel_longer_than_the_signal_is_cut_on_both_sides() {
        assert_eq!(convolve_same(&[0.0, 1.0], &[1.0, 2.0, 3.0, 4.0, 5.0]), [2.0, 3.0]);
    }

    #[test]
    fn a_constant_passes_the_low_pass_and_a_fast_wave_does_not() {
        let constant = decimate(&[3.0; 1000], 20);
        assert!(constant[20..30].iter().all(|value| (value - 3.0).abs() < 1e-9));
        let fast: Vec<f64> = (0..1000).map(|ms| (2.0 * PI * 0.2 * f64::from(ms)).sin()).collect();
        assert!(decimate(&fast, 20)[20..30].iter().all(|value| value.abs() < 1e-2));
    }
}
