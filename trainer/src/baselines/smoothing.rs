//! Smoothing and ridge, on the runs of this module's neighbours.

use super::data::{Data, Run};
use crate::ridge::{DecoderError, SmoothingDecoder, TrialCounts};

/// Fits [`SmoothingDecoder`], whose velocity has two components, to the velocity at the lag of this number.
pub fn fit(data: &Data, lag: usize) -> Result<SmoothingDecoder, DecoderError> {
    let velocity = |runs: &[Run]| -> Vec<Vec<[f64; 2]>> {
        let axes = |velocity: &[f32]| [f64::from(velocity[0]), f64::from(velocity[1])];
        runs.iter().map(|run| run.velocity[lag].chunks_exact(data.dims).map(axes).collect()).collect()
    };
    let (train, val) = (velocity(&data.train), velocity(&data.val));
    fn trials<'a>(runs: &'a [Run], velocity: &'a [Vec<[f64; 2]>]) -> Vec<TrialCounts<'a>> {
        let pairs = runs.iter().zip(velocity);
        pairs.map(|(run, velocity)| TrialCounts { counts: &run.counts, velocity }).collect()
    }
    SmoothingDecoder::fit(&trials(&data.train, &train), &trials(&data.val, &val), data.channels())
}
