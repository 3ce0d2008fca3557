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
    units: usize,
    dims: usize,
}

impl OnnxWindow {
    /// Loads `window.onnx` of `bundle`. `library` is the path of ONNX Runtime; `None` for its usual place.
    ///
    /// # Errors
    /// [`OnnxError`] when the library is missing or refuses the graph.
    pub fn new(bundle: &Bundle, library: Option<&PathBuf>) -> Result<Self, OnnxError> {
        let session = session("window.onnx", &bundle.window_onnx, library, &OnnxSettings::default())?;
        let manifest = &bundle.manifest;
        let (channels, units, dims) = (manifest.channels(), manifest.units(), manifest.velocity_dims());
        Ok(OnnxWindow { session, channels, units, dims })
    }

    /// Computes log rates `[batch, bins, units]` and velocity `[batch, bins, dims]` (empty without a velocity head)
    /// from `counts [batch, bins, channels]` and `missing [batch, bins]`.
    ///
    /// # Errors
    /// [`OnnxError::Graph`] with the message of the library, or for outputs of another shape than the bundle's.
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
            let read = |name: &str, of: usize| {
                let output = results.get(name).ok_or_else(|| ort::Error::new(format!("no output {name}")))?;
                let (shape, values) = output.try_extract_tensor::<f32>()?;
                if shape[..] != [batch as i64, bins as i64, of as i64] {
                    return Err(ort::Error::new(format!(
                        "the output {name} of {shape} in place of {:?}",
                        [batch, bins, of]
                    )));
                }
                Ok(values.to_vec())
            };
            let velocity = if self.dims > 0 { read("velocity", self.dims)? } else { Vec::new() };
            Ok((read("log_rates", self.units)?, velocity))
        };
        run().map_err(failed)
    }
}
