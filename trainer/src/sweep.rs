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

use ndt_protocol::destination::{Destination, DestinationError, Form, Kind};
use ndt_protocol::files::FileError;
use plan::Plan;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::PathBuf;

/// Why a sweep cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder of results is not a sweep's, or not apart from the inputs.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// Another sweep uses the folder of results.
    #[error("expected {out} for this sweep alone, found another that runs in it")]
    Busy {
        /// The folder of results.
        out: PathBuf,
    },
    /// A program cannot be started.
    #[error("expected to start {program}, found {error}")]
    Start {
        /// Name or path of the program.
        program: String,
        /// The system's error.
        error: std::io::Error,
    },
    /// A program failed.
    #[error("expected {program} to succeed, found: {found}")]
    Refused {
        /// Name or path of the program.
        program: String,
        /// The program's error message.
        found: String,
    },
}

/// File in the folder of results that a running sweep locks, and by which the folder is known.
const LOCK: &str = "lock";

/// Text of the lock file.
const MARK: &str = "This folder holds the results of a sweep (ndt-train sweep).\n";

/// The folder of results, for the rule about what a program may write to: every sweep adds to it, and nothing but a sweep's
/// folder is added to.
pub const RESULTS: Kind = Kind {
    name: "the results of a sweep",
    form: Form::Workspace,
    other: |path| {
        // Earlier versions wrote nothing into the file.
        let is_ours =
            std::fs::read(path.join(LOCK)).is_ok_and(|text| text.is_empty() || text == MARK.as_bytes());
        (!is_ours).then(|| "a folder that no sweep has written".to_owned())
    },
};

/// Checks that the folder of results is a sweep's, or free, and apart from the recordings and from the sweep's own `file`;
/// creates and marks it. The same folder may be claimed any number of times.
///
/// # Errors
/// [`SweepError::Destination`], [`SweepError::File`].
pub fn claim<'a>(plan: &'a Plan, file: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), SweepError> {
    let out = &plan.out;
    Destination::check(out, RESULTS, false, plan.data.iter().chain(file))?;
    std::fs::create_dir_all(out).map_err(FileError::at(out))?;
    let path = out.join(LOCK);
    match File::create_new(&path) {
        Ok(mut lock) => Ok(lock.write_all(MARK.as_bytes()).map_err(FileError::at(&path))?),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(FileError { path, error }.into()),
    }
}

/// Locks the folder of results for this sweep, as long as the returned file lives.
fn lock(plan: &Plan) -> Result<File, SweepError> {
    claim(plan, [])?;
    let (out, path) = (&plan.out, plan.out.join(LOCK));
    let file = File::options().append(true).open(&path).map_err(FileError::at(&path))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(SweepError::Busy { out: out.clone() }),
        // A network file system may have no locks: the user must then avoid two sweeps in one folder.
        Err(TryLockError::Error(_)) | Ok(()) => Ok(file),
    }
}
