//! Fits a causal Neural Data Transformer to a recording, evaluates it and exports it.
pub mod export;
pub mod inference;
pub mod model;
pub mod onnx;
pub(crate) mod pb;
pub mod ridge;
