//! Lines that several commands print at the end.

use ndt_protocol::bundle::manifest::Manifest;
use std::path::Path;

/// Where a bundle was written, with the first digits of its id.
pub fn bundle(manifest: &Manifest, path: &Path) -> String {
    format!("bundle {} in {}", &manifest.id[..12], path.display())
}

/// The validation scores of a bundle, a line each.
pub fn scores(manifest: &Manifest) -> Vec<String> {
    manifest.scores.iter().map(|(name, score)| format!("validation {name} {score:.4}")).collect()
}
