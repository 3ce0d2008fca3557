//! Which of a bundle's readouts is published, and what the bundle says of that one.
//!
//! All readouts are linear in the final state, so that another one costs a column of `width` numbers for each of its
//! components. Which velocity is published is chosen when the bundle is loaded; all later code sees that velocity alone.

use crate::bundle::Bundle;
use crate::bundle::manifest::Readout;
use std::ops::Range;

/// The bundle has no velocity of the lag that was asked for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("expected a velocity for {expected} ms after the bin's centre in the bundle, found {found}")]
pub struct ReadoutError {
    /// Lag that was asked for, ms.
    pub expected: f64,
    /// Lags of the bundle's velocities.
    pub found: String,
}

/// Returns the columns `wanted` of `values`, whose rows have `all` columns.
pub fn columns(values: &[f32], all: usize, wanted: Range<usize>) -> Vec<f32> {
    values.chunks_exact(all.max(1)).flat_map(|row| &row[wanted.clone()]).copied().collect()
}

impl Bundle {
    /// Returns the bundle with the velocity of lag `lag_ms` as the published readout. Where that was another one, the bundle
    /// has no ONNX graphs any more, because they compute the one that was published.
    ///
    /// # Errors
    /// [`ReadoutError`] when no velocity has this lag.
    pub fn reading(mut self, lag_ms: f64) -> Result<Bundle, ReadoutError> {
        let manifest = &self.manifest;
        let is_it = |readout: &Readout| readout.lag_ms == lag_ms && manifest.is_publishable(readout);
        if self.manifest.velocity().is_some_and(is_it) {
            return Ok(self);
        }
        let Some(published) = self.manifest.readouts.iter().position(is_it) else {
            let velocities = manifest.readouts.iter().filter(|readout| manifest.is_publishable(readout));
            let lags: Vec<String> = velocities.map(|readout| format!("{} ms", readout.lag_ms)).collect();
            let found = if lags.is_empty() { "none".to_owned() } else { lags.join(", ") };
            return Err(ReadoutError { expected: lag_ms, found });
        };
        self.manifest.published = published;
        self.step_onnx.clear();
        self.window_onnx.clear();
        Ok(self)
    }

    /// Golden values of the velocity that is published, `[T, V]`, m/s; empty in a model of rates alone.
    pub fn golden_velocity(&self) -> Vec<f32> {
        let readouts = self.golden.get("readouts").map_or(&[][..], |(_, values)| values.as_slice());
        columns(readouts, self.manifest.readout_dims(), self.manifest.velocity_columns())
    }
}
