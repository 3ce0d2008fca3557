//! Recordings in NWB 2 files: [`read`] one into a [`Session`](crate::session::Session), [`write()`] one from it.

mod behavior;
mod problem;
mod reading;
mod writing;

pub use problem::ReadProblem;
pub use reading::{RECORDING, ReadError, read};
pub use writing::{WriteError, write};
