//! ONNX Runtime over whole trials: `window.onnx`.

use super::session::{OnnxError, one_line, session};
use super::settings::OnnxSettings;
use ndt_protocol::Bundle;
use ort::session::Session;
use ort::value::TensorRef;
use std::path::PathBuf;

/// The batch graph, for offline use.
pub struct OnnxWindow {
    session: Session,
    channels: usize,
    has_velocity: bool,
}

impl OnnxWindow {
    /// Loads `window.onnx` of `bundle`. `library` is the path of ONNX Runtime; `None` for its usual place.
    ///
    /// # Errors
    /// [`OnnxError`] when the library is missing or refuses the graph.
    pub fn new(bundle: &Bundle, library: Option<&PathBuf>) -> Result<Self, OnnxError> {
        let session = session("window.onnx", &bundle.window_onnx, library, &OnnxSettings::default())?;
        let manifest = &bundle.manifest;
        Ok(OnnxWindow { session, channels: manifest.channels(), has_velocity: manifest.velocity_dims() > 0 })
    }

    /// Computes log rates `[batch, bins, units]` and velocity `[batch, bins, dims]` (empty without a velocity head)
    /// from `counts [batch, bins, channels]` and `missing [batch, bins]`.
    ///
    /// # Errors
    /// [`OnnxError::Graph`] with the message of the library.
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
