//! A fitted bundle that cannot be written where it should go: hours of work must not be lost to a full disk.

use super::interruption::kept;
use anyhow::anyhow;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::BundleError;
use ndt_protocol::bundle::manifest::Manifest;
use ndt_protocol::destination::Destination;
use ndt_trainer::training::checkpoint;
use std::path::{Path, PathBuf};

/// Writes the bundle to its destination, if that may still be written to. Otherwise writes it to the folder for temporary files,
/// and says where it is and which checkpoint there is.
///
/// # Errors
/// Why the bundle is not at its destination, and what is left of the fit.
pub fn write(
    bundle: &Bundle,
    destination: &Destination,
    checkpoint: Option<&Path>,
) -> anyhow::Result<Manifest> {
    let out = destination.path();
    // The folder above a bundle in one file is not created with it. A failure shows when the bundle is written.
    let _ = out.parent().map(std::fs::create_dir_all);
    let written = destination.check_again().map_err(BundleError::from).and_then(|()| bundle.write(out));
    let error = match written {
        Ok(manifest) => return Ok(manifest),
        Err(error) => anyhow!(error),
    };
    let mut left = Vec::new();
    if let Ok(path) = write_elsewhere(bundle, out) {
        left.push(format!("it is in {} instead", path.display()));
    }
    let reached = checkpoint.and_then(|folder| Some((folder, checkpoint::reached(folder)?)));
    if let Some((folder, reached)) = reached {
        left.push(kept(folder, reached));
    }
    if left.is_empty() {
        left.push("no other place could be written to either".to_owned());
    }
    Err(error.context(format!("the bundle could not be written to {}; {}", out.display(), left.join("; "))))
}

/// Writes the bundle to a new folder for temporary files.
fn write_elsewhere(bundle: &Bundle, out: &Path) -> anyhow::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("ndt-train-{}", std::process::id()));
    // Several bundles of one fit share the folder.
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(out.file_name().unwrap_or_default());
    if let Err(error) = bundle.write(&path) {
        // A folder with another bundle of the same fit stays.
        let _ = std::fs::remove_dir(&folder);
        return Err(error.into());
    }
    Ok(path)
}
