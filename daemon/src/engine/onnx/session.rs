//! ONNX Runtime's shared library and the sessions that run its graphs.

use super::settings::{OnnxSettings, Provider};
use ndt_protocol::files::beside_executable;
use ort::environment::Environment;
use ort::ep::{CUDA, ExecutionProvider};
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Why ONNX Runtime cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The shared library cannot be loaded.
    #[error(
        "expected ONNX Runtime in {looked_for}, found {found}; get it with `pip install onnxruntime` and set \
         onnxruntime-library to its onnxruntime/capi/libonnxruntime.so.*"
    )]
    Library {
        /// Path that was tried.
        looked_for: String,
        /// Message of the loader.
        found: String,
    },
    /// The library or the machine has no CUDA.
    #[error(
        "expected ONNX Runtime to compute on CUDA device {device}, found {found}; get it with \
         `pip install onnxruntime-gpu` and set onnxruntime-library to its onnxruntime/capi/libonnxruntime.so.*, \
         beside which libonnxruntime_providers_cuda.so lies"
    )]
    Cuda {
        /// Number of the GPU.
        device: i32,
        /// Message of the library.
        found: String,
    },
    /// The library refuses the graph.
    #[error("expected ONNX Runtime to take {graph}, found {found}")]
    Graph {
        /// `step.onnx` or `window.onnx`.
        graph: &'static str,
        /// Message of the library.
        found: String,
    },
}

/// The environment of this process: ONNX Runtime allows only one.
static ENVIRONMENT: Mutex<Option<Arc<Environment>>> = Mutex::new(None);

fn environment(configured: Option<&PathBuf>) -> Result<Arc<Environment>, OnnxError> {
    let mut shared = ENVIRONMENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(environment) = &*shared {
        return Ok(environment.clone());
    }
    let path = configured.cloned().unwrap_or_else(usual_library);
    let library = |found: String| OnnxError::Library {
        looked_for: path.display().to_string(),
        found: one_line(&found),
    };
    if configured.is_some() && !path.exists() {
        return Err(library("no such file".to_owned()));
    }
    let builder = ort::init_from(&path).map_err(|error| library(error.to_string()))?;
    let environment = builder.with_telemetry(false).build().map_err(|error| library(error.to_string()))?;
    Ok(shared.insert(Arc::new(environment)).clone())
}

/// Path of ONNX Runtime when none is configured: beside the executable if it is there, or else wherever the system's
/// loader finds it.
pub fn usual_library() -> PathBuf {
    const NAME: &str = "libonnxruntime.so";
    beside_executable(NAME).unwrap_or_else(|| PathBuf::from(NAME))
}

pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Loads a graph. Its operators run one after another: one bin has no operators that would gain from running side by
/// side.
pub(super) fn session(
    graph: &'static str,
    bytes: &[u8],
    library: Option<&PathBuf>,
    settings: &OnnxSettings,
) -> Result<Session, OnnxError> {
    let environment = environment(library)?;
    let refused =
        |error: &dyn std::fmt::Display| OnnxError::Graph { graph, found: one_line(&error.to_string()) };
    let builder = Session::builder(&environment)
        .and_then(|b| Ok(b.with_intra_threads(settings.intra_op_threads)?))
        .and_then(|b| Ok(b.with_inter_threads(1)?))
        .and_then(|b| Ok(b.with_intra_op_spinning(settings.intra_op_spinning)?))
        .and_then(|b| Ok(b.with_optimization_level(GraphOptimizationLevel::Level3)?));
    let builder = builder.map_err(|error| refused(&error))?;
    let mut builder = match settings.provider {
        Provider::Cpu => builder,
        Provider::Cuda => on_cuda(builder, settings.cuda_device)?,
    };
    builder.commit_from_memory(bytes).map_err(|error| refused(&error))
}

/// Has the CUDA provider compute the operators that it supports; the CPU computes the rest.
fn on_cuda(builder: SessionBuilder, device: i32) -> Result<SessionBuilder, OnnxError> {
    let cannot = |found: &str| OnnxError::Cuda { device, found: one_line(found) };
    if !CUDA::is_available().unwrap_or(false) {
        return Err(cannot("a library that was built without it"));
    }
    let provider = CUDA::default().with_device_id(device).build().error_on_failure();
    builder.with_execution_providers([provider]).map_err(|error| cannot(&error.to_string()))
}
