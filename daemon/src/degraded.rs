//! The fallback bundle: a linear decoder that says of each bin what hand velocity it is, in case the model does not.
//!
//! It runs on the source thread, so that nothing the model does can hold it up, and its answer goes to the guard with the
//! news of the bin. No clock: what it says follows from the bins that were taken in, in a replay as in real time.

use crate::config::Config;
use crate::decoder::Decoder;
use crate::engine::{self, EngineError};
use ndt_protocol::bundle::BundleError;
use ndt_protocol::bundle::manifest::{Manifest, Velocity};
use ndt_protocol::limits::VELOCITY_DIMS_MAX;
use ndt_protocol::{Bin, Bundle, Estimate, Quality};
use std::path::{Path, PathBuf};

/// A linear decoder with its place in the stream. Owned by the source thread.
pub struct Degraded {
    decoder: Decoder,
}

/// Why a bundle cannot be fallen back to.
#[derive(Debug, thiserror::Error)]
#[error("fallback bundle {path}: {problem}")]
pub struct DegradedError {
    /// Which bundle.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a fallback bundle.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Its golden vectors are not reproduced.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It is no linear decoder: another transformer would be as late.
    #[error("expected a linear decoder, found a transformer")]
    NotLinear,
    /// It is of other channels.
    #[error("expected the model's {expected} channel ids in the model's order, found {found} that differ")]
    Channels {
        /// How many the model has.
        expected: usize,
        /// How many the fallback bundle has.
        found: usize,
    },
    /// It is of other bins.
    #[error("expected bins of {expected} ms as of the model, found bins of {found} ms")]
    BinWidth {
        /// The model's, ms.
        expected: f64,
        /// The fallback bundle's, ms.
        found: f64,
    },
    /// It says something else than what is published.
    #[error("expected the velocity that is published, {expected}, found {found}")]
    Velocity {
        /// The model's.
        expected: String,
        /// The fallback bundle's.
        found: String,
    },
}

impl Degraded {
    /// Reads the bundle at `path` to stand in for `model`, whose velocity is the one to be published, and has it reproduce
    /// its golden vectors. The channels of `masked_ids` count for their mean. Not for real-time threads.
    ///
    /// # Errors
    /// [`DegradedError`] when it is no linear decoder of the model's bins and of its published velocity.
    pub fn load(path: &Path, model: &Bundle, masked_ids: &[i64]) -> Result<Degraded, DegradedError> {
        let refuse = |problem: Problem| DegradedError { path: path.to_owned(), problem };
        let bundle = Bundle::read(path).map_err(|error| refuse(error.into()))?;
        fits(&bundle.manifest, &model.manifest).map_err(refuse)?;
        // Whatever the model is run by: a linear decoder has no other engine than the default.
        let engine =
            engine::load(&Config::default().engine(), &bundle).map_err(|error| refuse(error.into()))?;
        // It is asked for each bin as it comes, and the guard keeps the deadline: no bin is too late for it.
        Ok(Degraded { decoder: Decoder::new(&bundle, engine, masked_ids, u64::MAX) })
    }

    /// Takes in a bin and says its velocity, m/s; `None` of one whose number has passed, and while there is less history
    /// than the bundle wants. Runs on the source thread, once a bin, before anybody else hears of it: 1 us for 71 channels and
    /// 31 us for 4,096, of 15 bins. Must not allocate, block, lock or log.
    pub fn velocity(&mut self, bin: &Bin) -> Option<[f32; VELOCITY_DIMS_MAX]> {
        let mut said = None;
        // Bins missing before it come first, and are gaps.
        self.decoder.decode(bin, 0, bin.arrival_ns, &mut |estimate: &mut Estimate| {
            said = (estimate.quality == Quality::Good).then(|| {
                let mut velocity = [0.0; VELOCITY_DIMS_MAX];
                velocity[..estimate.velocity().len()].copy_from_slice(estimate.velocity());
                velocity
            });
        });
        said
    }
}

/// Whether the fallback bundle says of the model's bins what is published of them.
fn fits(fallback: &Manifest, model: &Manifest) -> Result<(), Problem> {
    if fallback.linear.is_none() {
        return Err(Problem::NotLinear);
    }
    if fallback.channel_ids != model.channel_ids {
        let [expected, found] = [model, fallback].map(Manifest::channels);
        return Err(Problem::Channels { expected, found });
    }
    if fallback.bin_width_ns() != model.bin_width_ns() {
        let [expected, found] = [model, fallback].map(|manifest| manifest.bin_width_ms);
        return Err(Problem::BinWidth { expected, found });
    }
    let [expected, found] = [model, fallback].map(|manifest| described(manifest.velocity.as_ref()));
    if expected != found {
        return Err(Problem::Velocity { expected, found });
    }
    Ok(())
}

fn described(velocity: Option<&Velocity>) -> String {
    velocity.map_or_else(
        || "none".to_owned(),
        |Velocity { dims, unit, lag_ms, .. }| {
            format!("{dims} components in {unit} for {lag_ms} ms after the bin's centre")
        },
    )
}
