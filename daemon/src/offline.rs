//! Offline decoding of a whole file of trials, as fast as the computer goes (`ndtd decode`).
//!
//! The model is the one that the daemon runs, and each trial starts without history; deadlines, gaps and the policy belong to
//! the daemon alone. A count that is NaN masks its channel, and a bin of NaN only is a missing bin, as in the daemon. Other
//! values that are no counts are refused: in a file they are a mistake, and there is time to correct it. Files are safetensors
//! of `f32`, which every framework of the field reads.

use crate::decoder::absent;
use crate::engine::linear::LinearDecoder;
use crate::engine::native::batch::{Answers, Batch, BatchError, Trials};
use crate::engine::{self, EngineError};
use ndt_protocol::bundle::precision::Precision;
use ndt_protocol::bundle::tensors::{self, Tensors, TensorsError};
use ndt_protocol::destination::{Form, Kind};
use ndt_protocol::files::{self, FileError};
use ndt_protocol::{Bundle, Manifest};
use serde::Serialize;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Names of the arrays that an output file may hold.
const WRITTEN: [&str; 2] = ["log_rates", "velocity"];

/// The decoded arrays, for the rule about what a program may replace: a safetensors file of these arrays and no others.
pub const DECODED: Kind = Kind {
    name: "decoded arrays of an earlier run",
    form: Form::File,
    other: |path| {
        let names = tensors::names(path);
        let is_decoded = !names.is_empty() && names.iter().all(|name| WRITTEN.contains(&name.as_str()));
        (!is_decoded).then(|| "a file without decoded arrays".to_owned())
    },
};

/// Names of the arrays that an input file may hold.
const KNOWN: [&str; 2] = ["counts", "missing"];

/// Input, output and threads of a decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeSettings {
    /// File with `counts [trials, bins, channels]`, NaN where a channel has no count, and, optionally,
    /// `missing [trials, bins]`.
    pub counts: PathBuf,
    /// File to write: `log_rates [trials, bins, units]` unless the decoder is linear, and `velocity [trials, bins, dims]` if the
    /// bundle has a velocity.
    pub out: PathBuf,
    /// Highest number of threads.
    pub threads: NonZeroUsize,
}

/// Summary of a decoding.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Id of the bundle.
    pub bundle: String,
    /// Engine that computed.
    pub engine: String,
    /// Highest number of threads that computed.
    pub threads: usize,
    /// Number of trials.
    pub trials: usize,
    /// Number of bins of each trial.
    pub bins: usize,
    /// Number of bins that are missing: by their flag, or because all their counts are NaN.
    pub missing_bins: usize,
    /// Number of counts that are NaN in all other bins.
    pub masked_counts: usize,
    /// Time of computing, without reading and writing, s.
    pub seconds: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { trials, bins, missing_bins, masked_counts, seconds, engine, threads, .. } = self;
        write!(f, "{trials} trials of {bins} bins in {seconds:.3} s: {engine}, up to {threads} threads")?;
        if missing_bins + masked_counts > 0 {
            write!(f, "; {missing_bins} bins missing, {masked_counts} counts masked in others")?;
        }
        Ok(())
    }
}

/// Why a file cannot be decoded. Nothing is written then.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The input is no safetensors file of f32.
    #[error("{path}: {error}")]
    Tensors {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with the file.
        error: TensorsError,
    },
    /// The file holds an array of an unknown name.
    #[error("expected the arrays \"counts\" and \"missing\", found \"{found}\"")]
    Unknown {
        /// Name of the array.
        found: String,
    },
    /// The file holds no counts.
    #[error("expected an array \"counts\" of [trials, bins, channels], found none")]
    NoCounts,
    /// The counts do not have the shape `[trials, bins, channels]` with the channels of the bundle.
    #[error("expected \"counts\" of [trials, bins, {channels} channels], found {found:?}")]
    Counts {
        /// Number of channels of the bundle.
        channels: usize,
        /// Shape of the array.
        found: Vec<usize>,
    },
    /// The flags of missing bins have another shape than the counts.
    #[error("expected \"missing\" of [{trials} trials, {bins} bins], found {found:?}")]
    Missing {
        /// Number of trials of the counts.
        trials: usize,
        /// Number of bins of the counts.
        bins: usize,
        /// Shape of the array.
        found: Vec<usize>,
    },
    /// A value is neither a plausible count nor NaN.
    #[error(
        "expected counts from 0 to {count_max}, or NaN for none, found {found} in trial {trial}, bin {bin}, channel {channel}"
    )]
    Count {
        /// Highest count that the bundle accepts.
        count_max: u32,
        /// Value that was refused.
        found: f32,
        /// Number of the trial with the implausible count, from 0.
        trial: usize,
        /// Number of the bin with the implausible count, from 0.
        bin: usize,
        /// Channel of the value, from 0.
        channel: usize,
    },
    /// A flag of a missing bin is neither 0 nor 1.
    #[error("expected 0 or 1 for each bin in \"missing\", found {found} in trial {trial}, bin {bin}")]
    Flag {
        /// Value that was refused.
        found: f32,
        /// Trial of the flag, from 0.
        trial: usize,
        /// Bin of the flag, from 0.
        bin: usize,
    },
    /// The engine does not reproduce the golden vectors of the bundle.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The arrays do not fit each other. The checks of their shapes rule this out.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// Decodes the file of `settings` with `bundle`. Calls `total` with the number of trials before the first of them, and `done`
/// after each, on any thread.
///
/// # Errors
/// [`DecodeError`]; an existing output file is then unchanged.
pub fn decode_file(
    bundle: &Bundle,
    settings: &DecodeSettings,
    total: &dyn Fn(usize),
    done: &(dyn Fn() + Sync),
) -> Result<Report, DecodeError> {
    // A missing folder is reported before everything is computed, and not after.
    let folder = settings.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.map_or(Ok(()), |folder| std::fs::metadata(folder).map(drop).map_err(FileError::at(folder)))?;
    let decoder = TrialDecoder::new(bundle, settings.threads)?;
    let arrays = read(&settings.counts)?;
    let Masked { counts, missing, trials, bins, masked_counts } = masked(&arrays, bundle)?;
    total(trials);
    let from = Instant::now();
    let inputs = Trials { counts: &counts, missing: Some(&missing), trials, bins };
    let answers = decoder.evaluate(inputs, done)?;
    let seconds = from.elapsed().as_secs_f64();
    files::write_file(&settings.out, &written(answers, trials, bins, &bundle.manifest))?;
    Ok(Report {
        bundle: bundle.manifest.id.clone(),
        engine: decoder.name(),
        threads: if matches!(decoder, TrialDecoder::Linear(_)) { 1 } else { settings.threads.get() },
        trials,
        bins,
        missing_bins: missing.iter().filter(|flag| **flag != 0.0).count(),
        masked_counts,
        seconds,
    })
}

/// Decoder of whole trials.
enum TrialDecoder {
    Transformer(Box<Batch>),
    /// A linear decoder, which runs on one thread: decoding takes hardly longer than reading the file.
    Linear(LinearDecoder),
}

impl TrialDecoder {
    /// The decoder of `bundle`. It has reproduced the golden vectors of the bundle.
    fn new(bundle: &Bundle, threads: NonZeroUsize) -> Result<TrialDecoder, EngineError> {
        let Some(mut decoder) = LinearDecoder::new(bundle) else {
            let batch = Batch::new(bundle, threads);
            batch.reproduce_golden(bundle)?;
            return Ok(TrialDecoder::Transformer(Box::new(batch)));
        };
        engine::reproduce_golden(&mut decoder, bundle, engine::tolerance(Precision::F32, bundle)?)?;
        Ok(TrialDecoder::Linear(decoder))
    }

    fn evaluate(&self, trials: Trials, done: &(dyn Fn() + Sync)) -> Result<Answers, BatchError> {
        let decoder = match self {
            TrialDecoder::Transformer(batch) => return batch.evaluate(trials, done),
            TrialDecoder::Linear(decoder) => decoder,
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
            TrialDecoder::Transformer(batch) => batch.name(),
            TrialDecoder::Linear(decoder) => engine::Engine::name(decoder),
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
        arrays.insert(WRITTEN[0].to_owned(), (shape(manifest.units()), log_rates));
    }
    if manifest.velocity().is_some() {
        arrays.insert(WRITTEN[1].to_owned(), (shape(manifest.velocity_dims()), velocity));
    }
    tensors::to_bytes(&arrays)
}

/// The trials of a file as an engine takes them.
struct Masked {
    /// Counts `[trials, bins, channels]`; in place of NaN what the daemon puts there.
    counts: Vec<f32>,
    /// 1 for a missing bin, else 0, `[trials, bins]`.
    missing: Vec<f32>,
    trials: usize,
    bins: usize,
    /// Number of counts that were NaN in bins that are not missing.
    masked_counts: usize,
}

/// Returns the trials in `arrays`, after checking that they fit `bundle`, with the channels masked that have no count.
fn masked(arrays: &Tensors, bundle: &Bundle) -> Result<Masked, DecodeError> {
    let Trials { counts, missing, trials, bins } = trials(arrays, &bundle.manifest)?;
    let mut missing = missing.map_or_else(|| vec![0.0; trials * bins], <[f32]>::to_vec);
    let (mut counts, mut masked_counts) = (counts.to_vec(), 0);
    let absent = absent(bundle);
    let rows = counts.chunks_exact_mut(bundle.manifest.channels()).zip(&mut missing);
    for (counts, missing) in rows.filter(|(_, missing)| **missing == 0.0) {
        if counts.iter().all(|count| count.is_nan()) {
            *missing = 1.0;
            continue;
        }
        for (channel, count) in counts.iter_mut().enumerate().filter(|(_, count)| count.is_nan()) {
            *count = absent.get(channel).copied().unwrap_or(0.0);
            masked_counts += 1;
        }
    }
    Ok(Masked { counts, missing, trials, bins, masked_counts })
}

/// Returns the trials in `arrays`, after checking that they fit the bundle of `manifest`.
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
    let (count_max, range) = (manifest.count_max, manifest.count_range());
    for (row, counts) in counts.chunks_exact(channels).enumerate() {
        // The counts of a missing bin are not used.
        if missing.is_some_and(|flags| flags[row] != 0.0) {
            continue;
        }
        // The daemon accepts the same values.
        let is_wrong = |count: &f32| !count.is_nan() && !range.accepts(*count);
        if let Some(channel) = counts.iter().position(is_wrong) {
            let (trial, bin, found) = (row / bins, row % bins, counts[channel]);
            return Err(DecodeError::Count { count_max, found, trial, bin, channel });
        }
    }
    Ok(Trials { counts, missing, trials, bins })
}
