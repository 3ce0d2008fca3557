//! What a bundle may replace: nothing that is not a bundle.

use super::{Bundle, BundleError, FILES, MANIFEST, read_tar};
use std::path::Path;

impl Bundle {
    /// Checks that a bundle may be written to `path`: nothing is there, or an empty folder, or another bundle. A folder that
    /// holds any file that is not a bundle's is never replaced, nor is any other file. [`Bundle::write`] checks it too; a
    /// command that computes for long asks before it starts.
    ///
    /// # Errors
    /// [`BundleError::Occupied`].
    pub fn check_destination(path: &Path) -> Result<(), BundleError> {
        match in_the_way(path) {
            Some(found) => Err(BundleError::Occupied { path: path.to_owned(), found }),
            None => Ok(()),
        }
    }
}

/// What lies at `path` and is neither a bundle nor an empty folder.
fn in_the_way(path: &Path) -> Option<String> {
    if path.file_name().is_none() {
        return Some("a folder that has no name of its own".to_owned());
    }
    if std::fs::symlink_metadata(path).is_err() {
        return None;
    }
    let is_tar = path.extension().is_some_and(|ending| ending == "ndt");
    match (is_tar, path.is_dir()) {
        (true, true) => Some("a folder".to_owned()),
        (true, false) => {
            let is_bundle = read_tar(path).is_ok_and(|files| files.contains_key(MANIFEST));
            (!is_bundle).then(|| "a file that is no bundle".to_owned())
        }
        (false, false) => Some("a file".to_owned()),
        (false, true) => foreign_entry(path),
    }
}

/// An entry of a folder that does not belong to a bundle.
fn foreign_entry(folder: &Path) -> Option<String> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return Some(error.to_string()),
    };
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    let is_ours = |name: &&std::ffi::OsString| {
        let name = name.to_string_lossy();
        name == MANIFEST || FILES.contains(&name.as_ref())
    };
    if let Some(foreign) = names.iter().find(|name| !is_ours(name)) {
        return Some(format!("a folder that holds {}", foreign.to_string_lossy()));
    }
    let has_manifest = names.iter().any(|name| name == MANIFEST);
    (!names.is_empty() && !has_manifest).then(|| format!("a folder without {MANIFEST}"))
}
