//! The Neural Latents Benchmark (Pei et al. 2021), number for number: what its tools make of a recording, and how they
//! score.
//!
//! In the order of a submission: [`variant`] says where the windows of a data set lie. [`recording`] lays files on one
//! axis of milliseconds, and [`resample`] brings them to the benchmark's bins. [`windows`] finds each trial's windows,
//! [`tensors`] cuts them out into [`mod@array`]s, and [`psth`] averages them by condition. [`submission`] lets a bundle
//! predict them, and [`score`] compares two files with [`metrics`] and [`decoding`]. [`store`] defines the layout of
//! those files.

pub mod array;
pub mod decoding;
pub mod metrics;
pub mod psth;
pub mod recording;
pub mod resample;
pub mod score;
pub mod store;
pub mod submission;
pub mod tensors;
pub mod variant;
pub mod windows;
