//! ONNX Runtime as the engine; the only file that names `ort`, so that nobody needs it to build or to run.
//!
//! The library is loaded at run time. `OnnxStep` feeds `step.onnx` one bin and its own memory; `OnnxWindow`
//! runs `window.onnx` over whole trials and serves the parity tests and offline use.

use super::{Engine, Input, Output, StepFailed};
use ndt_protocol::Bundle;
use ndt_protocol::manifest::{Architecture, Positions};
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Why ONNX Runtime cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The shared library is not where it was looked for.
    #[error(
        "expected ONNX Runtime in {looked_for}, found {found}; get it with `pip install onnxruntime` and set \
         onnxruntime-library to its onnxruntime/capi/libonnxruntime.so.*"
    )]
    Library {
        /// Where.
        looked_for: String,
        /// What the loader says.
        found: String,
    },
    /// The library refuses the graph.
    #[error("expected ONNX Runtime to take {graph}, found {found}")]
    Graph {
        /// `step.onnx` or `window.onnx`.
        graph: &'static str,
        /// What it says.
        found: String,
    },
}

/// One environment for each process: the library allows no second.
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

/// Beside the executable, else wherever the system's loader finds it.
pub(crate) fn usual_library() -> PathBuf {
    const NAME: &str = "libonnxruntime.so";
    let beside = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
    beside.map(|folder| folder.join(NAME)).filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from(NAME))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn session(graph: &'static str, bytes: &[u8], library: Option<&PathBuf>) -> Result<Session, OnnxError> {
    let environment = environment(library)?;
    let refused =
        |error: &dyn std::fmt::Display| OnnxError::Graph { graph, found: one_line(&error.to_string()) };
    // One thread and no spinning: a bin is too small to share, and a spinning pool takes the rig's cores.
    let builder = Session::builder(&environment)
        .and_then(|b| Ok(b.with_intra_threads(1)?))
        .and_then(|b| Ok(b.with_inter_threads(1)?))
        .and_then(|b| Ok(b.with_intra_op_spinning(false)?))
        .and_then(|b| Ok(b.with_optimization_level(GraphOptimizationLevel::Level3)?));
    builder.map_err(|error| refused(&error))?.commit_from_memory(bytes).map_err(|error| refused(&error))
}

/// What a step remembers: name, shape and values.
struct Memory {
    name: &'static str,
    next: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Memory {
    fn tensor(&self) -> ort::Result<TensorRef<'_, f32>> {
        TensorRef::from_array_view((self.shape.clone(), &self.values[..]))
    }
}

/// The cached step.
pub struct OnnxStep {
    session: Session,
    channels: usize,
    has_velocity: bool,
    /// What stands for the counts of a missing bin, which the graph multiplies by zero.
    silence: Vec<f32>,
    memory: Vec<Memory>,
}

impl OnnxStep {
    /// Loads `step.onnx` of `bundle`, reset. `library` is where ONNX Runtime is, if not in its usual place.
    ///
    /// # Errors
    /// [`OnnxError`] when the library is missing or refuses the graph.
    pub fn new(bundle: &Bundle, library: Option<&PathBuf>) -> Result<Self, OnnxError> {
        let session = session("step.onnx", &bundle.step_onnx, library)?;
        let Architecture { layers, heads, width, window_bins, positions, .. } = bundle.manifest.architecture;
        let (channels, past) = (bundle.manifest.channels(), window_bins - 1);
        let cache = vec![layers, heads, past, width / heads];
        let shapes = match positions {
            Positions::LagBias => [("keys", cache.clone()), ("values", cache), ("filled", vec![past])],
            Positions::Learned => [
                ("window_counts", vec![past, channels]),
                ("window_missing", vec![past]),
                ("filled", vec![past]),
            ],
        };
        let memory = shapes.map(|(name, shape)| {
            let values = vec![0.0; shape.iter().product()];
            Memory { name, next: format!("{name}_next"), shape, values }
        });
        let has_velocity = bundle.manifest.velocity_dims() > 0;
        Ok(OnnxStep { session, channels, has_velocity, silence: vec![0.0; channels], memory: memory.into() })
    }

    /// The graph computes its outputs whether they are wanted or not.
    fn run(&mut self, input: Input, output: Option<&mut Output>) -> ort::Result<()> {
        let counts = if input.missing { &self.silence } else { input.counts };
        let missing = [f32::from(input.missing)];
        let [first, second, third] = &self.memory[..] else { return Err(ort::Error::new("three memories")) };
        let results = self.session.run(ort::inputs![
            "counts" => TensorRef::from_array_view(([1, self.channels], counts))?,
            "missing" => TensorRef::from_array_view(([1usize], &missing[..]))?,
            first.name => first.tensor()?,
            second.name => second.tensor()?,
            third.name => third.tensor()?,
        ])?;
        if let Some(output) = output {
            output.log_rates.copy_from_slice(results["log_rates"].try_extract_tensor::<f32>()?.1);
            if self.has_velocity {
                output.velocity.copy_from_slice(results["velocity"].try_extract_tensor::<f32>()?.1);
            }
        }
        for memory in &mut self.memory {
            memory.values.copy_from_slice(results[memory.next.as_str()].try_extract_tensor::<f32>()?.1);
        }
        Ok(())
    }
}

impl Engine for OnnxStep {
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed> {
        self.run(input, Some(output)).map_err(|_| StepFailed)
    }

    fn observe(&mut self, input: Input) -> Result<(), StepFailed> {
        self.run(input, None).map_err(|_| StepFailed)
    }

    fn name(&self) -> String {
        "onnx cpu".to_owned()
    }

    fn reset(&mut self) {
        for memory in &mut self.memory {
            memory.values.fill(0.0);
        }
    }
}

/// The batch graph.
pub struct OnnxWindow {
    session: Session,
    channels: usize,
    has_velocity: bool,
}

impl OnnxWindow {
    /// Loads `window.onnx` of `bundle`.
    ///
    /// # Errors
    /// [`OnnxError`] when the library is missing or refuses the graph.
    pub fn new(bundle: &Bundle, library: Option<&PathBuf>) -> Result<Self, OnnxError> {
        let session = session("window.onnx", &bundle.window_onnx, library)?;
        let manifest = &bundle.manifest;
        Ok(OnnxWindow { session, channels: manifest.channels(), has_velocity: manifest.velocity_dims() > 0 })
    }

    /// `counts [batch, bins, channels]` and `missing [batch, bins]` to log rates `[batch, bins, units]` and
    /// velocity `[batch, bins, dims]` (empty without a velocity head).
    ///
    /// # Errors
    /// [`OnnxError::Graph`] with what the library says.
    pub fn run(
        &mut self,
        counts: &[f32],
        missing: &[f32],
        batch: usize,
        bins: usize,
    ) -> Result<(Vec<f32>, Vec<f32>), OnnxError> {
        let failed = |error: ort::Error| OnnxError::Graph {
            graph: "window.onnx",
            found: one_line(&error.to_string()),
        };
        let mut run = || {
            let results = self.session.run(ort::inputs![
                "counts" => TensorRef::from_array_view(([batch, bins, self.channels], counts))?,
                "missing" => TensorRef::from_array_view(([batch, bins], missing))?,
            ])?;
            let log_rates = results["log_rates"].try_extract_tensor::<f32>()?.1.to_vec();
            let velocity = if self.has_velocity {
                results["velocity"].try_extract_tensor::<f32>()?.1.to_vec()
            } else {
                Vec::new()
            };
            Ok((log_rates, velocity))
        };
        run().map_err(failed)
    }
}
