//! Sweeps: one fit for each point of a space of configurations and for each seed, side by side, ranked by validation
//! score.
//!
//! A [`plan`] is what a sweep file asks for; the [`space`] is where its points come from. A [`run`] is one fit. It has
//! a folder of its own, whose name follows from everything that determines the fit. [`local`] executes the runs on this
//! machine, [`slurm`] on a cluster; [`ranking`] and `plot` read the results. **The state of a run is what its files
//! say**, so that a sweep can be interrupted and continued anywhere, and inspected by anyone.

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

/// Why a sweep cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another sweep uses the folder of results.
    #[error("expected {out} for this sweep alone, found another that runs in it")]
    Busy {
        /// The folder of results.
        out: PathBuf,
    },
    /// A program cannot be started.
    #[error("expected to start {program}, found {error}")]
    Start {
        /// The program.
        program: String,
        /// The system's error.
        error: std::io::Error,
    },
    /// A program failed.
    #[error("expected {program} to succeed, found: {found}")]
    Refused {
        /// The program.
        program: String,
        /// The program's error message.
        found: String,
    },
}

/// Locks the folder of results for this sweep, as long as the returned file lives.
fn lock(out: &Path) -> Result<File, SweepError> {
    std::fs::create_dir_all(out).map_err(FileError::at(out))?;
    let path = out.join("lock");
    let file = File::create(&path).map_err(FileError::at(&path))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(SweepError::Busy { out: out.to_owned() }),
        // A network file system may have no locks: the user must then avoid two sweeps in one folder.
        Err(TryLockError::Error(_)) | Ok(()) => Ok(file),
    }
}
