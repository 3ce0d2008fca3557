//! `ndtd decode`: the estimates of a whole file of trials, as fast as the computer goes.
//!
//! The function is that of the daemon, which each trial starts cold; deadlines, gaps and their answers are the daemon's
//! alone. Files are safetensors of `f32`, which every framework of the field reads.

use crate::engine::linear::LinearDecoder;
use crate::engine::native::batch::{Answers, Batch, BatchError, Trials};
use crate::engine::{self, EngineError};
use ndt_protocol::bundle::precision::Precision;
use ndt_protocol::bundle::tensors::{self, Tensors, TensorsError};
use ndt_protocol::files::{self, FileError};
use ndt_protocol::{Bundle, Manifest};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Arrays that an input may have.
const KNOWN: [&str; 2] = ["counts", "missing"];

/// What to decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `counts [trials, bins, channels]`, and perhaps `missing [trials, bins]`.
    pub counts: PathBuf,
    /// Gets `log_rates [trials, bins, units]`, but of a linear decoder, and, with a velocity, `velocity [trials, bins,
    /// dims]`.
    pub out: PathBuf,
    /// That compute, at most.
    pub threads: NonZeroUsize,
}

/// What was decoded.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Of the bundle.
    pub bundle: String,
    /// What computed.
    pub engine: String,
    /// That computed, at most.
    pub threads: usize,
    /// How many.
    pub trials: usize,
    /// Of each.
    pub bins: usize,
    /// Of computing, without reading and writing.
    pub seconds: f64,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The input is no safetensors file of f32.
    #[error("{path}: {error}")]
    Tensors {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: TensorsError,
    },
    /// An array that nobody would read.
    #[error("expected the arrays \"counts\" and \"missing\", found \"{found}\"")]
    Unknown {
        /// Its name.
        found: String,
    },
    /// Nothing to decode.
    #[error("expected an array \"counts\" of [trials, bins, channels], found none")]
    NoCounts,
    /// Counts of another shape.
    #[error("expected \"counts\" of [trials, bins, {channels} channels], found {found:?}")]
    Counts {
        /// Of the bundle.
        channels: usize,
        /// The shape.
        found: Vec<usize>,
    },
    /// Missing bins of another shape.
    #[error("expected \"missing\" of [{trials} trials, {bins} bins], found {found:?}")]
    Missing {
        /// Of the counts.
        trials: usize,
        /// Of the counts.
        bins: usize,
        /// The shape.
        found: Vec<usize>,
    },
    /// Something that is no count.
    #[error(
        "expected counts from 0 to {count_max}, found {found} in trial {trial}, bin {bin}, channel {channel}"
    )]
    Count {
        /// The highest that the bundle calls plausible.
        count_max: u32,
        /// What is there.
        found: f32,
        /// Where, from 0.
        trial: usize,
        /// Where, from 0.
        bin: usize,
        /// Where, from 0.
        channel: usize,
    },
    /// Something that is neither missing nor not.
    #[error("expected 0 or 1 for each bin in \"missing\", found {found} in trial {trial}, bin {bin}")]
    Flag {
        /// What is there.
        found: f32,
        /// Where, from 0.
        trial: usize,
        /// Where, from 0.
        bin: usize,
    },
    /// The numbers are not the trainer's.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The arrays do not fit, which their shapes have ruled out.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// Decodes what `settings` say with `bundle`. `total` is told the number of trials before the first of them, `done` is
/// called after each, on any thread.
///
/// # Errors
/// [`DecodeError`]; what was at the place of the output is then unchanged.
pub fn run(
    bundle: &Bundle,
    settings: &Settings,
    total: &dyn Fn(usize),
    done: &(dyn Fn() + Sync),
) -> Result<Report, DecodeError> {
    // Not after all has been computed.
    let folder = settings.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or(Ok(()), |folder| std::fs::metadata(folder).map(drop).map_err(FileError::at(folder)))?;
    let computer = Computer::new(bundle, settings.threads)?;
    let arrays = read(&settings.counts)?;
    let trials = trials(&arrays, &bundle.manifest)?;
    total(trials.trials);
    let from = Instant::now();
    let answers = computer.evaluate(trials, done)?;
    let seconds = from.elapsed().as_secs_f64();
    let Trials { trials, bins, .. } = trials;
    files::write_file(&settings.out, &written(answers, trials, bins, &bundle.manifest))?;
    Ok(Report {
        bundle: bundle.manifest.id.clone(),
        engine: computer.name(),
        threads: if matches!(computer, Computer::Linear(_)) { 1 } else { settings.threads.get() },
        trials,
        bins,
        seconds,
    })
}

/// What computes whole trials.
enum Computer {
    Transformer(Box<Batch>),
    /// On one thread: it reads its input hardly faster than it answers.
    Linear(LinearDecoder),
}

impl Computer {
    /// That of `bundle`, whose golden vectors it has reproduced.
    fn new(bundle: &Bundle, threads: NonZeroUsize) -> Result<Computer, EngineError> {
        let Some(mut decoder) = LinearDecoder::new(bundle) else {
            let batch = Batch::new(bundle, threads);
            batch.reproduce_golden(bundle)?;
            return Ok(Computer::Transformer(Box::new(batch)));
        };
        engine::reproduce_golden(&mut decoder, bundle, engine::tolerance(Precision::F32, bundle)?)?;
        Ok(Computer::Linear(decoder))
    }

    fn evaluate(&self, trials: Trials, done: &(dyn Fn() + Sync)) -> Result<Answers, BatchError> {
        let decoder = match self {
            Computer::Transformer(batch) => return batch.evaluate(trials, done),
            Computer::Linear(decoder) => decoder,
        };
        let channels = trials.counts.len() / (trials.trials * trials.bins).max(1);
        let mut velocity = Vec::new();
        for trial in 0..trials.trials {
            let mut decoder = decoder.clone();
            decoder.forget();
            for row in trial * trials.bins..(trial + 1) * trials.bins {
                match trials.missing.is_some_and(|flags| flags[row] != 0.0) {
                    true => decoder.push_missing(),
                    false => decoder.push(&trials.counts[row * channels..][..channels]),
                }
                velocity.extend_from_slice(decoder.velocity());
            }
            done();
        }
        Ok(Answers { log_rates: Vec::new(), velocity })
    }

    fn name(&self) -> String {
        match self {
            Computer::Transformer(batch) => batch.name(),
            Computer::Linear(decoder) => engine::Engine::name(decoder),
        }
    }
}

fn read(path: &Path) -> Result<Tensors, DecodeError> {
    let bytes = std::fs::read(path).map_err(FileError::at(path))?;
    tensors::from_bytes(&bytes).map_err(|error| DecodeError::Tensors { path: path.to_owned(), error })
}

fn written(answers: Answers, trials: usize, bins: usize, manifest: &Manifest) -> Vec<u8> {
    let Answers { log_rates, velocity } = answers;
    let shape = |of: usize| vec![trials, bins, of];
    let mut arrays = Tensors::new();
    if manifest.units() > 0 {
        arrays.insert("log_rates".to_owned(), (shape(manifest.units()), log_rates));
    }
    if manifest.velocity.is_some() {
        arrays.insert("velocity".to_owned(), (shape(manifest.velocity_dims()), velocity));
    }
    tensors::to_bytes(&arrays)
}

/// The trials in `arrays`, if they are some for a bundle of `manifest`.
fn trials<'a>(arrays: &'a Tensors, manifest: &Manifest) -> Result<Trials<'a>, DecodeError> {
    if let Some(found) = arrays.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(DecodeError::Unknown { found: found.clone() });
    }
    let channels = manifest.channels();
    let (shape, counts) = arrays.get("counts").ok_or(DecodeError::NoCounts)?;
    let [trials, bins, found] = shape[..] else {
        return Err(DecodeError::Counts { channels, found: shape.clone() });
    };
    if found != channels {
        return Err(DecodeError::Counts { channels, found: shape.clone() });
    }
    let missing = match arrays.get("missing") {
        Some((shape, _)) if shape[..] != [trials, bins] => {
            return Err(DecodeError::Missing { trials, bins, found: shape.clone() });
        }
        missing => missing.map(|(_, flags)| flags.as_slice()),
    };
    if let Some(at) = missing.and_then(|flags| flags.iter().position(|flag| ![0.0, 1.0].contains(flag))) {
        let found = missing.map_or(f32::NAN, |flags| flags[at]);
        return Err(DecodeError::Flag { found, trial: at / bins, bin: at % bins });
    }
    let count_max = manifest.count_max;
    for (row, counts) in counts.chunks_exact(channels).enumerate() {
        // Counts of a bin that never came are not looked at.
        if missing.is_some_and(|flags| flags[row] != 0.0) {
            continue;
        }
        // What the daemon would not take for a count; a NaN is in no range.
        if let Some(channel) = counts.iter().position(|count| !(0.0..=count_max as f32).contains(count)) {
            let (trial, bin, found) = (row / bins, row % bins, counts[channel]);
            return Err(DecodeError::Count { count_max, found, trial, bin, channel });
        }
    }
    Ok(Trials { counts, missing, trials, bins })
}
