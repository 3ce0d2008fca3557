//! Sweeps: one fit for each point of a space of configurations and each seed, side by side, ranked by their
//! validation score.
//!
//! A [`plan`] is what a file asks for, with the [`space`] that its points are taken from. A [`run`] is one fit and lives
//! in a folder of its own, named after everything that its outcome follows from; [`local`] works the runs off on this
//! machine, [`slurm`] has a cluster do so, and [`ranking`] and [`plot`] read what has come of them. **What is known of
//! a run is what its files say**, so that a sweep can be cut anywhere, go on anywhere, and be looked at by anyone.

pub mod local;
pub mod plan;
#[cfg(feature = "plots")]
pub mod plot;
pub mod ranking;
pub mod run;
pub mod slurm;
pub mod space;

use ndt_protocol::files::FileError;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// Why a sweep cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder of results.
    #[error("expected {out} for this sweep alone, found another that runs in it")]
    Busy {
        /// The folder.
        out: PathBuf,
    },
    /// A program that cannot be started.
    #[error("expected to start {program}, found {error}")]
    Start {
        /// Which.
        program: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// A program that refuses.
    #[error("expected {program} to go well, found: {found}")]
    Refused {
        /// Which.
        program: String,
        /// What it says.
        found: String,
    },
}

/// Makes the folder of results this sweep's alone, as long as the file is held.
fn lock(out: &Path) -> Result<File, SweepError> {
    std::fs::create_dir_all(out).map_err(FileError::at(out))?;
    let path = out.join("lock");
    let file = File::create(&path).map_err(FileError::at(&path))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(SweepError::Busy { out: out.to_owned() }),
        // A network file system may know no locks: two sweeps in one folder are then the user's to avoid.
        Err(TryLockError::Error(_)) | Ok(()) => Ok(file),
    }
}
