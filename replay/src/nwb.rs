//! Recordings in NWB 2 files: [`read`] one into a [`Session`](crate::session::Session), [`write()`] one from it. [`write_decoded`] writes what was
//! decoded from one.

mod behavior;
mod columns;
mod counts;
mod decoded;
mod limits;
mod objects;
mod observed;
mod options;
mod problem;
mod reading;
mod tables;
mod unit_rows;
mod writing;

pub use behavior::si;
pub use decoded::{DECODED, RecordedCounts, write_decoded, write_recorded};
pub use options::{Condition, HeldOut, UnitOptionError, UnitOptions};
pub use problem::ReadProblem;
pub use reading::{RECORDING, ReadError, read, read_all, read_units};
pub use tables::{Column, Tables, tables};
pub use writing::{WriteError, write};
