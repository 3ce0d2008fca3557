//! Fits a causal Neural Data Transformer to a recording, evaluates it and exports it.
//!
//! In the order of a fit: [`dataset`] bins a session, [`masking`] hides part of a batch, [`model`] predicts,
//! [`loss`] compares, [`training`] repeats; [`inference`] runs the result as the daemon would, [`export`] folds its
//! units and writes the bundle with the graphs of [`onnx`]. [`baselines`] are what it is compared with; [`nlb`] makes the
//! Neural Latents Benchmark's tensors and scores; [`fetch`] brings its recordings.

pub mod attention;
pub mod baselines;
pub mod behavior;
pub mod checkpoint;
pub mod config;
pub mod dataset;
pub mod defaults;
pub mod device;
pub mod export;
pub mod fetch;
pub mod gradients;
pub mod inference;
pub mod interface;
pub mod loss;
pub mod masking;
pub mod metrics;
pub mod model;
pub mod nlb;
pub mod noise;
pub mod onnx;
pub(crate) mod pb;
pub mod precision;
pub mod refit;
pub mod ridge;
pub mod shards;
pub mod sweep;
pub mod teacher;
pub mod training;
