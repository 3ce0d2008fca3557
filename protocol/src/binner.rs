//! How spikes are counted in bins: half-open intervals, counted from the start of their segment, in whole
//! nanoseconds.
//!
//! [`Binner`] turns spike times into counts. No other code of the project does, so that the trainer, `play` and every
//! test have the same bin edges. [`Rebinner`] sums the narrow bins that a rig sends into the model's bins. Times are
//! rounded to a nanosecond before they are divided, as the benchmark's tools round to 1e-6 ms, so that a spike stored
//! as 0.00999999999 s counts as one at 10 ms.

use crate::limits::{BIN_WIDTH_MS_MAX, BIN_WIDTH_MS_MIN};

/// Why spikes cannot be counted in bins.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum BinError {
    /// The width cannot be used.
    #[error(
        "expected a bin width from {BIN_WIDTH_MS_MIN} to {BIN_WIDTH_MS_MAX} ms in whole microseconds, found {found} ms"
    )]
    Width {
        /// Width that was asked for, ms.
        found: f64,
    },
    /// The model's bin is not a whole multiple of the source's.
    #[error("expected a source bin that divides the model's {model_ms} ms, found {source_ms} ms")]
    DoesNotDivide {
        /// Width of the model's bin, ms.
        model_ms: f64,
        /// Width of the source's bin, ms.
        source_ms: f64,
    },
    /// A sample has the wrong number of channels.
    #[error("expected {expected} channels, found {found}")]
    Channels {
        /// Channels of the rebinner.
        expected: usize,
        /// Channels of the sample.
        found: usize,
    },
}

/// Divides segments into bins and counts the spikes in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binner {
    width_ns: i64,
}

impl Binner {
    /// Makes a binner for bins of `width_ms` milliseconds.
    ///
    /// # Errors
    /// [`BinError::Width`] unless the width is within the limits and a whole number of microseconds.
    pub fn new(width_ms: f64) -> Result<Self, BinError> {
        let width_us = width_ms * 1e3;
        if !(BIN_WIDTH_MS_MIN..=BIN_WIDTH_MS_MAX).contains(&width_ms)
            || (width_us - width_us.round()).abs() > 1e-6
        {
            return Err(BinError::Width { found: width_ms });
        }
        Ok(Binner { width_ns: width_us.round() as i64 * 1_000 })
    }

    /// Width of a bin, ns.
    pub fn width_ns(self) -> i64 {
        self.width_ns
    }

    /// Width of a bin, us.
    pub fn width_us(self) -> u32 {
        (self.width_ns / 1_000) as u32
    }

    /// Width of a bin, s.
    pub fn width_s(self) -> f64 {
        self.width_ns as f64 * 1e-9
    }

    /// Number of whole bins in `[start_s, stop_s)`. The rest at the end belongs to no bin.
    pub fn bins(self, start_s: f64, stop_s: f64) -> usize {
        (nanoseconds(stop_s - start_s) / self.width_ns).max(0) as usize
    }

    /// Number of the bin that holds time `t_s`, in a segment that starts at `start_s`; `None` before the segment.
    pub fn index(self, start_s: f64, t_s: f64) -> Option<usize> {
        usize::try_from(nanoseconds(t_s - start_s).div_euclid(self.width_ns)).ok()
    }

    /// Adds the spikes of one unit to the `bins` bins that start at `start_s`. Spike times are in seconds, ascending.
    /// Bin `t` is `counts[t * stride]`, so that `stride` units can share one `[bins, units]` array.
    pub fn count(self, spike_times: &[f64], start_s: f64, bins: usize, counts: &mut [f32], stride: usize) {
        // A spike half a nanosecond before the start is rounded into the first bin, hence the margin.
        let first = spike_times.partition_point(|&t| t < start_s - 1e-9);
        for &t in &spike_times[first..] {
            match self.index(start_s, t) {
                Some(bin) if bin >= bins => break,
                Some(bin) => counts[bin * stride] += 1.0,
                None => {}
            }
        }
    }
}

fn nanoseconds(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

/// Sums `parts` consecutive narrow bins of a source into one bin of the model.
#[derive(Debug, Clone)]
pub struct Rebinner {
    parts: usize,
    filled: usize,
    sums: Vec<f32>,
}

impl Rebinner {
    /// Makes a rebinner from `source_ms` to `model_ms` bins of `channels` channels. Allocates once.
    ///
    /// # Errors
    /// [`BinError::Width`] for a width that cannot be used, [`BinError::DoesNotDivide`] when the source's width does
    /// not divide the model's.
    pub fn new(source_ms: f64, model_ms: f64, channels: usize) -> Result<Self, BinError> {
        let source = Binner::new(source_ms)?;
        let model = Binner::new(model_ms)?;
        if model.width_ns % source.width_ns != 0 {
            return Err(BinError::DoesNotDivide { model_ms, source_ms });
        }
        Ok(Rebinner {
            parts: (model.width_ns / source.width_ns) as usize,
            filled: 0,
            sums: vec![0.0; channels],
        })
    }

    /// Number of narrow bins in one bin of the model.
    pub fn parts(&self) -> usize {
        self.parts
    }

    /// Adds a narrow bin, and returns the sums when a bin of the model is complete. A segment start discards an
    /// incomplete bin. A channel without a count (NaN) in any part has none in the sum, because a sum over less time
    /// would be a lower rate. Runs on the source thread for every sample; does not allocate.
    ///
    /// # Errors
    /// [`BinError::Channels`] for a sample with another number of channels, which is then ignored.
    pub fn push(&mut self, counts: &[f32], segment_start: bool) -> Result<Option<&[f32]>, BinError> {
        if counts.len() != self.sums.len() {
            return Err(BinError::Channels { expected: self.sums.len(), found: counts.len() });
        }
        if segment_start || self.filled == self.parts {
            self.filled = 0;
        }
        if self.filled == 0 {
            self.sums.fill(0.0);
        }
        for (sum, count) in self.sums.iter_mut().zip(counts) {
            *sum += count;
        }
        self.filled += 1;
        Ok((self.filled == self.parts).then_some(self.sums.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges_are_those_of_the_benchmark() {
        // The published rounding rule, on times that lie on and beside an edge; see `binning.json` of the benchmark's
        // vectors.
        let times =
            [0.0004999, 0.001, 0.0019999999, 0.0021, 0.0049999, 0.005, 0.00999999999, 0.0123, 0.0123, 0.0149];
        let index: Vec<usize> =
            times.iter().filter_map(|&t| Binner::new(1.0).unwrap().index(0.0, t)).collect();
        // 0.0019999999 s is 1999999.9 ns: a benchmark millisecond of 1.9999999 rounds (6 decimals) to 2.
        assert_eq!(index, [0, 1, 2, 2, 4, 5, 10, 12, 12, 14]);
        let mut wide = [0.0; 3];
        Binner::new(5.0).unwrap().count(&times, 0.0, 3, &mut wide, 1);
        assert_eq!(wide, [5.0, 1.0, 4.0]);
    }

    #[test]
    fn bins_are_whole_and_widths_are_checked() {
        let binner = Binner::new(20.0).unwrap();
        assert_eq!(binner.bins(10.0, 10.7), 35);
        assert_eq!(binner.bins(10.0, 10.699), 34);
        assert_eq!(binner.bins(10.0, 9.0), 0);
        for width in [0.0, -5.0, f64::NAN, f64::INFINITY, 0.0123456, 20_000.0] {
            assert!(Binner::new(width).is_err(), "{width}");
        }
        assert_eq!(
            Binner::new(0.0).unwrap_err().to_string(),
            "expected a bin width from 0.1 to 10000 ms in whole microseconds, found 0 ms"
        );
    }

    #[test]
    fn a_model_bin_that_does_not_divide_is_refused() {
        let error = Rebinner::new(3.0, 20.0, 4).unwrap_err();
        assert_eq!(error.to_string(), "expected a source bin that divides the model's 20 ms, found 3 ms");
    }

    #[test]
    fn a_segment_start_discards_what_was_begun_and_a_missing_part_is_missing() {
        let mut rebinner = Rebinner::new(5.0, 10.0, 2).unwrap();
        assert_eq!(rebinner.push(&[9.0, 9.0], true), Ok(None));
        assert_eq!(rebinner.push(&[1.0, 1.0], true), Ok(None));
        let sums = rebinner.push(&[2.0, f32::NAN], false).unwrap().unwrap();
        assert_eq!(sums[0], 3.0);
        assert!(sums[1].is_nan());
        assert_eq!(rebinner.push(&[1.0], false), Err(BinError::Channels { expected: 2, found: 1 }));
    }

    proptest! {
        #[test]
        fn narrow_bins_rebinned_are_the_wide_bins(
            times in proptest::collection::vec(0.0f64..2.0, 0..200), start_ms in 0u32..50,
        ) {
            let mut times = times;
            times.sort_by(f64::total_cmp);
            let start = f64::from(start_ms) * 1e-3;
            let mut narrow = vec![0.0; 400];
            Binner::new(5.0).unwrap().count(&times, start, 400, &mut narrow, 1);
            let mut wide = vec![0.0; 100];
            Binner::new(20.0).unwrap().count(&times, start, 100, &mut wide, 1);
            let mut rebinner = Rebinner::new(5.0, 20.0, 1).unwrap();
            let mut summed = Vec::new();
            for (t, count) in narrow.iter().enumerate() {
                summed.extend(rebinner.push(&[*count], t == 0).unwrap().map(|sums| sums[0]));
            }
            prop_assert_eq!(summed, wide);
        }
    }
}
