//! A linear decoder: velocity as a weighted sum of the counts of the last bins.
//!
//! Each count is added at once to all answers that depend on it: that of its own bin and those of the bins after it.
//! A channel without a spike therefore costs nothing, and no count has to be stored. A sum starts with the bias and
//! is complete when its bin has come, so that rounding errors do not accumulate from sum to sum.

use super::{Engine, Input, Output, StepFailed};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::folded::values;

/// The decoder and its state. It needs no thread: any thread that has counts can ask for a velocity.
#[derive(Debug, Clone)]
pub struct LinearDecoder {
    /// `[channels, window, dims]`: what one spike adds to the answers of its own bin and of the bins after it, m/s.
    spikes: Vec<f32>,
    /// What a missing bin, whose channels are taken to have their mean counts, adds to the answers of the bins in its window,
    /// `[window, dims]`, m/s.
    missing: Vec<f32>,
    /// Bias of the velocity, `[dims]`, m/s.
    bias: Vec<f32>,
    /// Velocity sums `[window, dims]`, m/s: the complete sum of the newest bin, followed by the partial sums of the bins after
    /// it.
    sums: Vec<f32>,
}

impl LinearDecoder {
    /// Makes the decoder of `bundle`, reset. `None` when the bundle holds a transformer. The bundle must have been
    /// checked.
    pub fn new(bundle: &Bundle) -> Option<LinearDecoder> {
        let window = bundle.manifest.linear?.window_bins;
        let (channels, dims) = (bundle.manifest.channels(), bundle.manifest.velocity_dims());
        let (weight, mean) = (values(&bundle.weights, "linear.weight"), values(&bundle.weights, "missing"));
        let mut spikes = Vec::with_capacity(weight.len());
        for channel in 0..channels {
            for lag in 0..window {
                spikes.extend_from_slice(&weight[(lag * channels + channel) * dims..][..dims]);
            }
        }
        let mut missing = vec![0.0; window * dims];
        for (spike, mean) in spikes.chunks_exact(window * dims).zip(mean) {
            missing.iter_mut().zip(spike).for_each(|(sum, weight)| *sum += mean * weight);
        }
        let bias = values(&bundle.weights, "linear.bias").to_vec();
        let mut decoder = LinearDecoder { spikes, missing, bias, sums: vec![0.0; window * dims] };
        decoder.forget();
        Some(decoder)
    }

    /// Takes in the counts of one bin, one for each channel. Must not allocate, block, lock or log.
    pub fn push(&mut self, counts: &[f32]) {
        self.advance();
        for (count, spike) in counts.iter().zip(self.spikes.chunks_exact(self.sums.len())) {
            if *count != 0.0 {
                self.sums.iter_mut().zip(spike).for_each(|(sum, weight)| *sum += count * weight);
            }
        }
    }

    /// Takes in a bin that never arrived. Must not allocate, block, lock or log.
    pub fn push_missing(&mut self) {
        self.advance();
        self.sums.iter_mut().zip(&self.missing).for_each(|(sum, weight)| *sum += weight);
    }

    /// Velocity for the newest bin, in m/s. Before the first bin: the velocity for zero counts.
    pub fn velocity(&self) -> &[f32] {
        &self.sums[..self.bias.len()]
    }

    /// Forgets all bins: all counts before the next bin are taken as 0.
    pub fn forget(&mut self) {
        for sum in self.sums.chunks_exact_mut(self.bias.len()) {
            sum.copy_from_slice(&self.bias);
        }
    }

    /// Shifts the sums by one bin: drops the sum of the newest bin, and starts a new sum, equal to the bias, at the end.
    fn advance(&mut self) {
        let dims = self.bias.len();
        let last = self.sums.len() - dims;
        self.sums.copy_within(dims.., 0);
        self.sums[last..].copy_from_slice(&self.bias);
    }
}

impl Engine for LinearDecoder {
    /// Computes the answer to one bin. Does not allocate and cannot fail.
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed> {
        self.observe(input)?;
        output.velocity.copy_from_slice(self.velocity());
        Ok(())
    }

    fn observe(&mut self, input: Input) -> Result<(), StepFailed> {
        if input.missing {
            self.push_missing()
        } else {
            self.push(input.counts)
        }
        Ok(())
    }

    fn name(&self) -> String {
        "linear f32".to_owned()
    }

    fn reset(&mut self) {
        self.forget();
    }
}
