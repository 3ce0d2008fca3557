//! From recordings to datasets: which trials are used, their spike counts in bins, and the behaviour that goes with
//! each bin.
//!
//! [`dataset`] is what a fit takes in. [`selection`] says which part of a recording is for what, `splits` chooses it, [`trial`] bins them, [`readouts`] reads the
//! behaviour at each bin, [`binned`] and [`arrays`] give all of it to other people's models, and [`scale`] standardises columns of numbers. Nothing here knows a model.

pub mod arrays;
pub mod binned;
pub mod dataset;
pub(crate) mod held;
mod known;
pub mod readouts;
pub mod scale;
pub mod selection;
mod splits;
mod time;
pub mod trial;

pub use binned::BinnedSession;
pub use dataset::{Dataset, DatasetError};
pub use readouts::Readout;
pub use scale::Scale;
pub use selection::Selection;
pub use splits::split;
pub use trial::{Stream, Trial, streams, trials};
