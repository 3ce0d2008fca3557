//! What can be wrong with a file that should hold a recording.

use crate::h5::H5Error;

/// What is wrong with a file that should hold a recording.
#[derive(Debug, thiserror::Error)]
pub enum ReadProblem {
    /// The file cannot be opened.
    #[error("expected a file, found: {0}")]
    File(std::io::Error),
    /// The file is not HDF5.
    #[error("expected an HDF5 file, found a file of another format")]
    NotHdf5,
    /// The file begins like HDF5, but the library cannot open it.
    #[error("expected a whole HDF5 file, found a truncated or damaged one ({reason})")]
    Damaged {
        /// The library's reason.
        reason: String,
    },
    /// The file is HDF5, but not NWB 2.
    #[error("expected an NWB 2 file, found {found}")]
    NotNwb {
        /// What the file is instead of NWB 2.
        found: String,
    },
    /// The file has no unit table.
    #[error("expected units, found no table /units")]
    NoUnits,
    /// The unit table has no rows.
    #[error("expected at least one unit, found a table /units without rows")]
    ZeroUnits,
    /// No unit has a spike.
    #[error("expected at least one spike, found {units} units without any")]
    ZeroSpikes {
        /// Number of units in the table.
        units: usize,
    },
    /// A part of the file contradicts another part, or the NWB standard.
    #[error("expected {expected} in {object}, found {found}")]
    Content {
        /// What the file should hold at the object.
        expected: String,
        /// Path of the object in the file.
        object: String,
        /// What the file holds at the object.
        found: String,
    },
    /// HDF5 could not read a part of the file.
    #[error(transparent)]
    H5(#[from] H5Error),
}

/// Makes a [`ReadProblem::Content`].
pub(super) fn content(expected: impl ToString, object: impl ToString, found: impl ToString) -> ReadProblem {
    ReadProblem::Content {
        expected: expected.to_string(),
        object: object.to_string(),
        found: found.to_string(),
    }
}
