//! Checkpoints: a folder with weights, optimiser state and best score, from which an interrupted fit is resumed.
//!
//! A fit of one model has one of each. A fit of separate sessions has one for each session, and the body that they share after them.
//!
//! The folder is replaced as a whole, so that an interruption while it is written leaves the previous checkpoint. **A
//! resumed fit gives the weights of an uninterrupted one**: the random numbers of an epoch follow from the seed and the
//! epoch's number, and parameters have fixed ids by which the optimiser's state finds them again.

use super::early_stopping::Best;
use super::scores::{Scored, Scores};
use crate::config::Config;
use burn::optim::ModuleOptimizer;
use ndt_protocol::bundle::origin::CurvePoint;
use ndt_protocol::bundle::tensors::{self, Tensors};
use ndt_protocol::destination::{Destination, DestinationError, Form, Kind, other_folder};
use ndt_protocol::files::{self, FileError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Version of the folder's files. It rises with every change, added fields included.
const VERSION: u32 = 4;

const PROGRESS: &str = "progress.toml";
const WEIGHTS: &str = "weights.safetensors";
const BEST: &str = "best.safetensors";
const OPTIMISERS: &str = "optimisers.burnpack";
const TEACHER: &str = "teacher.safetensors";

/// A checkpoint of any version, for the rule about what a program may replace.
pub const KIND: Kind = Kind {
    name: "a checkpoint",
    form: Form::Folder,
    other: |path| other_folder(path, &[WEIGHTS, BEST, OPTIMISERS, TEACHER], PROGRESS),
};

/// Where and how often a fit writes a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoints {
    /// The checkpoint's folder.
    pub folder: PathBuf,
    /// Epochs from one checkpoint to the next.
    pub every_epochs: usize,
    /// Whether the fit resumes from a checkpoint that is already in the folder.
    pub resume: bool,
}

impl Checkpoints {
    /// Whether a checkpoint is written after this epoch; always after one that `ends` the fit, for whatever reason.
    pub(super) fn is_due(&self, epoch: usize, ends: bool) -> bool {
        ends || epoch.is_multiple_of(self.every_epochs.max(1))
    }
}

/// Why a checkpoint could not be written, for a fit that goes on without it; `None` if it was written.
///
/// # Errors
/// The error itself for a fit that is stopped, which has nothing but its checkpoint.
pub(super) fn unkept(
    written: Result<(), CheckpointError>,
    is_stopped: bool,
) -> Result<Option<String>, CheckpointError> {
    match written {
        Err(error) if is_stopped => Err(error),
        written => Ok(written.err().map(|error| error.to_string())),
    }
}

/// The state of a fit after an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Generation of the teacher that is being fitted, from 1; 0 for the model itself.
    pub generation: usize,
    /// Number of epochs done.
    pub epoch: usize,
    /// Weights of each model after the last finished epoch.
    pub weights: Vec<Tensors>,
    /// The best weights of each model so far.
    pub best: Best<Vec<Scored>>,
    /// The rates of each training trial from the generation before, `[T, N]`, so that no teacher need be fitted again; empty
    /// without one.
    pub rates: Vec<Vec<f32>>,
    /// The learning curve so far, teachers included.
    pub curve: Vec<CurvePoint>,
}

/// Why a checkpoint cannot be written or resumed.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Something other than a checkpoint lies where the checkpoint is to be written.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// A file's contents are damaged.
    #[error("expected a checkpoint in {file}, found {found}")]
    Damaged {
        /// Path of the damaged file.
        file: PathBuf,
        /// What was found in the file.
        found: String,
    },
    /// The checkpoint was written by another version of this program.
    #[error("expected checkpoint version {VERSION}, found {found}")]
    Version {
        /// The checkpoint's version.
        found: u32,
    },
    /// The checkpoint belongs to another fit.
    #[error(
        "expected a checkpoint of the same {what}, found another in {folder}; --overwrite in place of --resume begins anew"
    )]
    OtherFit {
        /// What differs between the two fits: `configuration` or `recording`.
        what: &'static str,
        /// The checkpoint's folder.
        folder: PathBuf,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Progress {
    version: u32,
    generation: usize,
    epoch: usize,
    best_epoch: usize,
    best_score: f64,
    /// Scores of each model at the best epoch.
    best_scores: Vec<Scores>,
    /// Fingerprint of the dataset.
    data: String,
    config: Config,
    curve: Vec<CurvePoint>,
}

impl Checkpoint {
    /// Writes the checkpoint of a fit with `config` to the dataset of fingerprint `data`, with the optimiser of each model.
    ///
    /// # Errors
    /// [`CheckpointError`]; the previous checkpoint is then still in the folder.
    pub fn write(
        &self,
        folder: &Path,
        optimisers: &[&ModuleOptimizer],
        config: &Config,
        data: &str,
    ) -> Result<(), CheckpointError> {
        Destination::check(folder, KIND, true, [])?;
        let progress = Progress {
            version: VERSION,
            generation: self.generation,
            epoch: self.epoch,
            best_epoch: self.best.epoch,
            best_score: self.best.score,
            best_scores: self.best.kept.iter().map(|scored| scored.scores).collect(),
            data: data.to_owned(),
            config: config.clone(),
            curve: self.curve.clone(),
        };
        let damaged = |found: String| CheckpointError::Damaged { file: folder.to_owned(), found };
        let progress = toml::to_string(&progress).map_err(|error| damaged(error.to_string()))?;
        let states = optimisers.iter().map(|optimiser| optimiser.into_bytes());
        let states = states.collect::<Result<Vec<_>, _>>().map_err(|error| damaged(error.to_string()))?;
        files::write_folder(
            folder,
            &[
                (PROGRESS, progress.into_bytes()),
                (WEIGHTS, tensors::to_bytes(&side_by_side(&self.weights))),
                (BEST, tensors::to_bytes(&side_by_side(self.best.kept.iter().map(|scored| &scored.weights)))),
                (OPTIMISERS, one_after_another(states.iter().map(|state| state.as_ref()))),
                (TEACHER, tensors::to_bytes(&by_trial(&self.rates))),
            ],
        )?;
        Ok(())
    }

    /// Reads a checkpoint and the state of each model's optimiser; `None` where there is no folder.
    ///
    /// # Errors
    /// [`CheckpointError`] when the checkpoint is damaged, or belongs to another fit.
    pub fn read(
        folder: &Path,
        optimiser: ModuleOptimizer,
        config: &Config,
        data: &str,
    ) -> Result<Option<(Checkpoint, Vec<ModuleOptimizer>)>, CheckpointError> {
        if !folder.exists() {
            return Ok(None);
        }
        let damaged = |name: &str, found: String| CheckpointError::Damaged { file: folder.join(name), found };
        let bytes = |name: &str| {
            let file = folder.join(name);
            std::fs::read(&file).map_err(FileError::at(&file))
        };
        let text = String::from_utf8_lossy(&bytes(PROGRESS)?).into_owned();
        let table: toml::Table =
            toml::from_str(&text).map_err(|error| damaged(PROGRESS, error.message().to_owned()))?;
        let version = table.get("version").and_then(toml::Value::as_integer).unwrap_or(0) as u32;
        if version != VERSION {
            return Err(CheckpointError::Version { found: version });
        }
        let progress: Progress =
            toml::from_str(&text).map_err(|error| damaged(PROGRESS, error.message().replace('\n', " ")))?;
        for (what, same) in
            [("configuration", progress.config == *config), ("recording", progress.data == data)]
        {
            if !same {
                return Err(CheckpointError::OtherFit { what, folder: folder.to_owned() });
            }
        }
        let array =
            |name: &str| tensors::from_bytes(&bytes(name)?).map_err(|error| damaged(name, error.to_string()));
        let weights = each(array(WEIGHTS)?);
        let scores = progress.best_scores.into_iter();
        let kept = scores.zip(each(array(BEST)?)).map(|(scores, weights)| Scored { scores, weights });
        let best = Best { epoch: progress.best_epoch, score: progress.best_score, kept: kept.collect() };
        let rates = array(TEACHER)?.into_values().map(|(_, rates)| rates).collect();
        let states = separated(&bytes(OPTIMISERS)?);
        if weights.is_empty() || states.len() != weights.len() {
            let found = format!("{} optimisers for {} models", states.len(), weights.len());
            return Err(damaged(OPTIMISERS, found));
        }
        let optimiser = |state| {
            let read = optimiser.clone().from_bytes(burn::tensor::Bytes::from_bytes_vec(state));
            read.map_err(|error| damaged(OPTIMISERS, error.to_string()))
        };
        let optimisers = states.into_iter().map(optimiser).collect::<Result<Vec<_>, _>>()?;
        let Progress { generation, epoch, curve, .. } = progress;
        Ok(Some((Checkpoint { generation, epoch, weights, best, rates, curve }, optimisers)))
    }
}

/// Removes the checkpoint in a folder, if there is one. A folder that holds anything else stays.
///
/// # Errors
/// [`CheckpointError::File`], [`CheckpointError::Destination`].
pub fn remove(folder: &Path) -> Result<(), CheckpointError> {
    if !folder.exists() {
        return Ok(());
    }
    Destination::check(folder, KIND, true, [])?;
    Ok(std::fs::remove_dir_all(folder).map_err(FileError::at(folder))?)
}

/// How far a fit has come: a number of epochs, of the model or of a teacher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Generation of the teacher that is fitted; 0 for the model itself.
    pub generation: usize,
    /// Number of its epochs that are done.
    pub epoch: usize,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation {
            0 => write!(f, "epoch {}", self.epoch),
            generation => write!(f, "epoch {} of teacher {generation}", self.epoch),
        }
    }
}

/// How far the fit had come when the checkpoint in a folder was written; `None` where there is no checkpoint of this version.
pub fn reached(folder: &Path) -> Option<Reached> {
    let text = std::fs::read_to_string(folder.join(PROGRESS)).ok()?;
    let Progress { version, generation, epoch, .. } = toml::from_str(&text).ok()?;
    (version == VERSION).then_some(Reached { generation, epoch })
}

/// The weights of several models in one file, the model's number before each name.
fn side_by_side<'a>(models: impl IntoIterator<Item = &'a Tensors>) -> Tensors {
    let numbered = |(model, weights): (usize, &'a Tensors)| {
        weights.iter().map(move |(name, array)| (format!("{model:03}/{name}"), array.clone()))
    };
    models.into_iter().enumerate().flat_map(numbered).collect()
}

/// The weights of each model in a file of several.
fn each(weights: Tensors) -> Vec<Tensors> {
    let mut models: BTreeMap<String, Tensors> = BTreeMap::new();
    for (name, array) in weights {
        let (model, name) = name.split_once('/').unwrap_or(("000", &name));
        models.entry(model.to_owned()).or_default().insert(name.to_owned(), array);
    }
    models.into_values().collect()
}

/// Byte strings in one file, each behind its length (u64, little-endian).
fn one_after_another<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    parts.flat_map(|part| [&(part.len() as u64).to_le_bytes(), part].concat()).collect()
}

/// The byte strings of a file of several; without those that are cut off.
fn separated(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((part, rest)) = rest.split_at_checked(length) else { break };
        parts.push(part.to_vec());
        bytes = rest;
    }
    parts
}

/// The rates of each trial, under names whose alphabetical order is that of the trials.
fn by_trial(rates: &[Vec<f32>]) -> Tensors {
    let named =
        |(trial, rates): (usize, &Vec<f32>)| (format!("{trial:06}"), (vec![rates.len()], rates.clone()));
    rates.iter().enumerate().map(named).collect()
}
