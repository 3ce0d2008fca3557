//! A linear decoder: velocity as a weighted sum of the last bins' counts.
//!
//! Each count is spread over the answers that it will be part of, its own bin's and those of the bins after it, so that a
//! channel without a spike costs nothing and no count has to be kept. A sum begins with the bias and is complete when its
//! bin has come: nothing runs on from one sum to the next, and rounding does not pile up.

use super::{Engine, Input, Output, StepFailed};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::folded::values;

/// The decoder with its state. Needs no thread: whoever has counts can ask for a velocity.
#[derive(Debug, Clone)]
pub struct LinearDecoder {
    /// `[C, window, V]`: what one spike adds to the answers of its own bin and of those after it.
    spikes: Vec<f32>,
    /// `[window, V]`: what a missing bin adds, in which each channel counts for its mean.
    missing: Vec<f32>,
    /// `[V]`, m/s.
    bias: Vec<f32>,
    /// `[window, V]`: the sum of the newest bin, and what is known so far of those of the bins after it.
    sums: Vec<f32>,
}

impl LinearDecoder {
    /// The decoder of `bundle`, which has been checked, reset; `None` where that is a transformer.
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

    /// Takes in a bin that never came. The same rules hold.
    pub fn push_missing(&mut self) {
        self.advance();
        self.sums.iter_mut().zip(&self.missing).for_each(|(sum, weight)| *sum += weight);
    }

    /// Velocity of the newest bin, m/s; of none that of silence.
    pub fn velocity(&self) -> &[f32] {
        &self.sums[..self.bias.len()]
    }

    /// Forgets all bins: a count before the next one is 0.
    pub fn forget(&mut self) {
        for sum in self.sums.chunks_exact_mut(self.bias.len()) {
            sum.copy_from_slice(&self.bias);
        }
    }

    /// The newest bin's sum goes; that of the last bin to which the next one's counts belong begins.
    fn advance(&mut self) {
        let dims = self.bias.len();
        let last = self.sums.len() - dims;
        self.sums.copy_within(dims.., 0);
        self.sums[last..].copy_from_slice(&self.bias);
    }
}

impl Engine for LinearDecoder {
    /// Does not allocate and cannot fail.
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
