//! A fit that can go on after it was cut off: weights, optimiser state and score so far, in a folder.
//!
//! The folder is exchanged as a whole, so that a cut in the middle of writing leaves the one before. **A resumed
//! fit gives the weights of an uninterrupted one**: an epoch's random numbers follow from seed and number, and
//! parameters have fixed ids by which the optimiser's state finds them again.

use crate::config::Config;
use crate::training::Scores;
use burn::optim::ModuleOptimizer;
use ndt_protocol::bundle::tensors::{self, Tensors};
use ndt_protocol::files::{self, FileError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Version of the folder's files. Rises with every change, added fields included.
const VERSION: u32 = 2;

const PROGRESS: &str = "progress.toml";
const WEIGHTS: &str = "weights.safetensors";
const BEST: &str = "best.safetensors";
const OPTIMISER: &str = "optimiser.burnpack";
const TEACHER: &str = "teacher.safetensors";

/// Where and how often a fit is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoints {
    /// The folder.
    pub folder: PathBuf,
    /// Epochs from one to the next.
    pub every_epochs: usize,
    /// Whether to go on from what is there.
    pub resume: bool,
}

/// Where a fit stands after an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Epochs done.
    pub epoch: usize,
    /// Weights after them.
    pub weights: Tensors,
    /// The best weights so far.
    pub best: Best,
    /// What the teacher said of each training trial, `[T, N]`, so that it need not be fitted again; nothing without one.
    pub rates: Vec<Vec<f32>>,
}

/// The best weights so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// After which epoch.
    pub epoch: usize,
    /// Their scores.
    pub scores: Scores,
    /// The weights.
    pub weights: Tensors,
}

/// Why a checkpoint cannot be written or gone on from.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file's contents.
    #[error("expected a checkpoint in {file}, found {found}")]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// Another program's.
    #[error("expected checkpoint version {VERSION}, found {found}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// Of another fit.
    #[error("expected a checkpoint of the same {what}, found another; remove {folder} to begin anew")]
    OtherFit {
        /// `configuration` or `recording`.
        what: &'static str,
        /// The folder.
        folder: PathBuf,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Progress {
    version: u32,
    epoch: usize,
    best_epoch: usize,
    best_bits_per_spike: f64,
    best_velocity_r2: Option<f64>,
    /// What tells the recordings apart.
    data: String,
    config: Config,
}

impl Checkpoint {
    /// Writes the checkpoint of a fit of `config` to recordings that `data` tells apart.
    ///
    /// # Errors
    /// [`CheckpointError`]; what was there before is then still there.
    pub fn write(
        &self,
        folder: &Path,
        optimiser: &ModuleOptimizer,
        config: &Config,
        data: &str,
    ) -> Result<(), CheckpointError> {
        let progress = Progress {
            version: VERSION,
            epoch: self.epoch,
            best_epoch: self.best.epoch,
            best_bits_per_spike: self.best.scores.bits_per_spike,
            best_velocity_r2: self.best.scores.velocity_r2,
            data: data.to_owned(),
            config: config.clone(),
        };
        let damaged = |found: String| CheckpointError::Damaged { file: folder.to_owned(), found };
        let progress = toml::to_string(&progress).map_err(|error| damaged(error.to_string()))?;
        let optimiser = optimiser.into_bytes().map_err(|error| damaged(error.to_string()))?;
        files::write_folder(
            folder,
            &[
                (PROGRESS, progress.into_bytes()),
                (WEIGHTS, tensors::to_bytes(&self.weights)),
                (BEST, tensors::to_bytes(&self.best.weights)),
                (OPTIMISER, optimiser.to_vec()),
                (TEACHER, tensors::to_bytes(&by_trial(&self.rates))),
            ],
        )?;
        Ok(())
    }

    /// Reads a checkpoint and the optimiser's state; `None` where there is no folder.
    ///
    /// # Errors
    /// [`CheckpointError`] when it is damaged, or of another fit.
    pub fn read(
        folder: &Path,
        optimiser: ModuleOptimizer,
        config: &Config,
        data: &str,
    ) -> Result<Option<(Checkpoint, ModuleOptimizer)>, CheckpointError> {
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
        let weights = array(WEIGHTS)?;
        let best = Best {
            epoch: progress.best_epoch,
            scores: Scores {
                bits_per_spike: progress.best_bits_per_spike,
                velocity_r2: progress.best_velocity_r2,
            },
            weights: array(BEST)?,
        };
        let rates = array(TEACHER)?.into_values().map(|(_, rates)| rates).collect();
        let state = burn::tensor::Bytes::from_bytes_vec(bytes(OPTIMISER)?);
        let optimiser = optimiser.from_bytes(state).map_err(|error| damaged(OPTIMISER, error.to_string()))?;
        Ok(Some((Checkpoint { epoch: progress.epoch, weights, best, rates }, optimiser)))
    }
}

/// Under names that sort as the trials do.
fn by_trial(rates: &[Vec<f32>]) -> Tensors {
    let named =
        |(trial, rates): (usize, &Vec<f32>)| (format!("{trial:06}"), (vec![rates.len()], rates.clone()));
    rates.iter().enumerate().map(named).collect()
}
