//! The Neural Latents Benchmark (Pei et al. 2021), number for number: what its tools make of a recording, and
//! how they score.
//!
//! In the order of a submission: [`variant`] says where a data set's windows lie, [`recording`] lays files on one
//! axis of milliseconds and [`resample`] brings them to the benchmark's bins, [`tensors`] cuts trials and [`psth`]
//! averages them by condition; [`submission`] has a bundle predict them; [`score`] compares the two files with
//! [`metrics`] and [`decoding`]. [`store`] is what those files look like.

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
