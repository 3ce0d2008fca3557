//! Lines that several commands print at the end.

use ndt_protocol::bundle::manifest::{Manifest, Readout};
use std::path::Path;

/// Where a bundle was written, with the first digits of its id.
pub fn bundle(manifest: &Manifest, path: &Path) -> String {
    format!("bundle {} in {}", &manifest.id[..12], path.display())
}

/// The interval of a score, as text after it.
pub fn interval(interval: Option<[f64; 2]>) -> String {
    interval.map_or_else(String::new, |[low, high]| format!(" ({low:.4} to {high:.4})"))
}

/// The validation scores of a bundle, a line each.
pub fn scores(manifest: &Manifest) -> Vec<String> {
    let published = manifest
        .velocity()
        .map(|Readout { series, lag_ms, .. }| format!(" ({series}, lag {lag_ms} ms, published)"));
    let which = |name: &str| published.clone().filter(|_| name == "velocity-r2").unwrap_or_default();
    manifest
        .scores
        .iter()
        .map(|(name, score)| format!("validation {name} {score:.4}{}", which(name)))
        .collect()
}
