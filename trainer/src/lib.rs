//! Fits a causal Neural Data Transformer to recordings, evaluates it and exports it for the daemon.
//!
//! In the order of a fit: a [`recipe`] bins recordings into [`data`] and completes the [`config`]; the [`objective`]
//! hides part of a batch, the [`model`] predicts it, and [`training`] repeats that until the validation score improves
//! no more. [`export`] writes the bundle and its ONNX graphs, and [`evaluation`] scores it as the daemon would run it.
//! `examples/fit_and_evaluate.rs` is all of this in one page.
//!
//! [`baselines`] are the decoders to compare with, on the linear regression of [`ridge`]; [`nlb`] makes the tensors and
//! scores of the Neural Latents Benchmark; `sweep` runs many fits and ranks them; `fetch` downloads published
//! recordings.
//!
//! Features, all on by default: `fetch`, `sweep` and `plots` (the picture of a sweep), and `cli` for the program
//! `ndt-train`.

pub mod baselines;
pub mod config;
pub mod data;
pub mod evaluation;
pub mod export;
#[cfg(feature = "fetch")]
pub mod fetch;
pub mod model;
pub mod nlb;
pub mod objective;
pub mod recipe;
pub mod ridge;
#[cfg(feature = "sweep")]
pub mod sweep;
pub mod training;
