//! Recordings in NWB 2 files: [`read`] one into a [`Session`](crate::session::Session), [`write()`] one from it.

mod behavior;
mod problem;
mod reading;
mod tables;
mod writing;

pub use behavior::si;
pub use problem::ReadProblem;
pub use reading::{RECORDING, ReadError, read};
pub use tables::{Column, Tables, tables};
pub use writing::{WriteError, write};
