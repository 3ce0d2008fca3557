//! From recordings to datasets: which trials are used, their spike counts in bins, and the behaviour that goes with
//! each bin.
//!
//! [`dataset`] is what a fit takes in. `splits` chooses the trials, [`trial`] bins them, [`readouts`] reads the
//! behaviour at each bin, and [`scale`] standardises columns of numbers. Nothing here knows a model.

pub mod dataset;
mod known;
pub mod readouts;
pub mod scale;
mod splits;
pub mod trial;

pub use dataset::{Dataset, DatasetError};
pub use readouts::Readout;
pub use scale::Scale;
pub use trial::{Trial, trials};
