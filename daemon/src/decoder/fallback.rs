//! The fallback decoder: a linear decoder beside the model, whose velocity is published for a bin that the model does not
//! answer in time.
//!
//! It runs on the source thread, so that nothing the model does can delay it, and its velocity reaches the guard with the
//! arrival of the bin. It has no clock: its velocity follows from the bins alone, in a replay as in real time.

use crate::config::Config;
use crate::decoder::Decoder;
use crate::engine::{self, EngineError};
use crate::input::Velocity;
use crate::input::deadline::TimeLimits;
use ndt_protocol::bundle::BundleError;
use ndt_protocol::bundle::manifest::{Manifest, Readout};
use ndt_protocol::limits::OUTPUTS_MAX;
use ndt_protocol::{Bin, Bundle, Estimate, Quality};
use std::path::{Path, PathBuf};

/// A linear decoder and its history. Owned by the source thread.
pub struct FallbackDecoder {
    decoder: Decoder,
}

/// Why a bundle cannot be the fallback.
#[derive(Debug, thiserror::Error)]
#[error("fallback bundle {path}: {problem}")]
pub struct FallbackError {
    /// Path of the bundle.
    pub path: PathBuf,
    /// What is wrong with the bundle.
    pub problem: Problem,
}

/// What is wrong with a fallback bundle.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The engine does not reproduce its golden vectors.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The bundle holds a transformer, which would be as late as the model.
    #[error("expected a linear decoder, found a transformer")]
    NotLinear,
    /// The bundle has other channels than the model.
    #[error("expected the model's {expected} channel ids in the model's order, found {found} that differ")]
    Channels {
        /// Number of channels of the model.
        expected: usize,
        /// Number of channels of the fallback bundle.
        found: usize,
    },
    /// The bundle has bins of another width.
    #[error("expected bins of {expected} ms as of the model, found bins of {found} ms")]
    BinWidth {
        /// Bin width of the model, ms.
        expected: f64,
        /// Bin width of the fallback bundle, ms.
        found: f64,
    },
    /// The bundle decodes another velocity than the one that is published.
    #[error("expected the velocity that is published, {expected}, found {found}")]
    Velocity {
        /// Velocity of the model.
        expected: String,
        /// Velocity of the fallback bundle.
        found: String,
    },
}

impl FallbackDecoder {
    /// Reads the bundle at `path` as the fallback of `model`, whose velocity is published, and checks that it reproduces its
    /// golden vectors. The channels of `masked_ids` are replaced by their mean count, and a bin of which more than `masked_share_max`
    /// of the channels is masked or has no count has no velocity. Not for real-time threads.
    ///
    /// # Errors
    /// [`FallbackError`] when the bundle is no linear decoder of the model's bins and of its published velocity.
    pub fn load(
        path: &Path,
        model: &Bundle,
        masked_ids: &[i64],
        masked_share_max: f64,
    ) -> Result<FallbackDecoder, FallbackError> {
        let refuse = |problem: Problem| FallbackError { path: path.to_owned(), problem };
        let bundle = Bundle::read(path).map_err(|error| refuse(error.into()))?;
        fits(&bundle.manifest, &model.manifest).map_err(refuse)?;
        // The engine of the model does not matter: a linear decoder has only the default one.
        let engine =
            engine::load(&Config::default().engine(), &bundle).map_err(|error| refuse(error.into()))?;
        // It decodes each bin as it comes, and the guard keeps the deadline: no bin is too late for it.
        let decoder = Decoder::new(&bundle, engine, masked_ids, TimeLimits::NONE);
        Ok(FallbackDecoder { decoder: decoder.limiting_masked(masked_share_max) })
    }

    /// Its decoder, for an order that changes it between two bins.
    pub fn decoder_mut(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    /// Takes in a bin and returns its velocity, m/s; `None` for a bin whose number has passed, and while there is less history
    /// than the bundle needs. Runs on the source thread, once a bin, before the bin is handed on: 1 us for a history of 15
    /// bins of 71 channels, 31 us for 4,096 channels. Must not allocate, block, lock or log.
    pub fn velocity(&mut self, bin: &Bin) -> Option<Velocity> {
        let mut decoded = None;
        // Estimates of bins that are missing before this one come first, as gaps; the last one is this bin's.
        self.decoder.decode(bin, 0, bin.arrival_ns, &mut |estimate: &mut Estimate| {
            decoded = (estimate.quality == Quality::Good).then(|| {
                let mut velocity = [0.0; OUTPUTS_MAX];
                velocity[..estimate.outputs().len()].copy_from_slice(estimate.outputs());
                velocity
            });
        });
        decoded
    }
}

/// Checks that the fallback bundle decodes the published velocity from the model's bins.
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
    let [expected, found] = [model, fallback].map(|manifest| described(manifest.velocity()));
    if expected != found {
        return Err(Problem::Velocity { expected, found });
    }
    Ok(())
}

fn described(velocity: Option<&Readout>) -> String {
    velocity.map_or_else(
        || "none".to_owned(),
        |Readout { dims, unit, lag_ms, .. }| {
            format!("{dims} components in {unit} for {lag_ms} ms after the bin's centre")
        },
    )
}
