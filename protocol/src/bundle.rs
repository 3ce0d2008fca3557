//! A bundle: a model on disk, as a folder or as the same files in one tar (`.ndt`).
//!
//! `manifest.toml` lists the digest of every other file, and its own digest is the bundle's id, so that one changed
//! byte anywhere is noticed; only `fit.json` and `curve.csv`, which tell when, where and how the fit went, are not covered. A bundle is written beside its final name and then renamed, so that there is never half
//! a bundle where a good one was. [`Bundle::read`] checks everything that can be checked without running the model;
//! the engine then runs the model against the golden vectors.

pub mod behavior;
pub mod description;
pub mod folded;
pub mod manifest;
pub mod origin;
pub mod precision;
pub mod quantity;
pub mod readouts;
pub mod silence;
pub mod tensors;
pub mod transformer;

use self::manifest::{FORMAT_VERSION, FORMAT_VERSION_MIN, Manifest};
use self::origin::{CONFIG, CURVE, Origin, RECORD, SPLITS, UNCOVERED};
use self::tensors::Tensors;
use crate::destination::{Destination, DestinationError, Form, Kind, other_folder};
use crate::files::{self, FileError};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// File of the weights. Counts go in; ln(spikes/s) and readouts in the units of their quantities come out.
pub const WEIGHTS: &str = "weights.safetensors";
/// File of the ONNX graph of one bin, with its cache in and out; only in a transformer's bundle.
pub const STEP: &str = "step.onnx";
/// File of the ONNX graph of a batch of bins; only in a transformer's bundle.
pub const WINDOW: &str = "window.onnx";
/// File of the golden vectors: inputs and expected outputs.
pub const GOLDEN: &str = "golden.safetensors";
const MANIFEST: &str = "manifest.toml";
/// Files of a transformer, besides the manifest and what tells its origin.
const MODEL: [&str; 4] = [WEIGHTS, STEP, WINDOW, GOLDEN];
/// Every file that a bundle may have besides its manifest.
const FILES: [&str; 8] = [WEIGHTS, STEP, WINDOW, GOLDEN, CONFIG, SPLITS, RECORD, CURVE];
const NO_ID: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A bundle whose files agree with its manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// The manifest: what the model is.
    pub manifest: Manifest,
    /// Weights, with the names and shapes of [`Manifest::weight_shapes`].
    pub weights: Tensors,
    /// ONNX graph of the cached step; empty for a linear decoder, which has no graphs.
    pub step_onnx: Vec<u8>,
    /// ONNX graph of a batch of bins; empty for a linear decoder.
    pub window_onnx: Vec<u8>,
    /// Golden vectors of a stream of `T` bins that starts cold: `counts [T, C]`, `missing [T]`, `log_rates [T, N]`,
    /// `readouts [T, R]` (all readouts side by side), without those that the model does not have.
    pub golden: Tensors,
    /// How the model came to be.
    pub origin: Origin,
}

/// Why a bundle cannot be read, understood or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] FileError),
    /// The path is neither a bundle folder nor a tar of one.
    #[error("expected a bundle folder or .ndt file with a manifest.toml, found none in {path}")]
    NoManifest {
        /// Path that was given.
        path: PathBuf,
    },
    /// The text of the manifest is damaged, or holds an unknown key.
    #[error("expected a bundle manifest, found {found}")]
    Manifest {
        /// Message of the parser, on one line.
        found: String,
    },
    /// Something other than a bundle lies where the bundle is to be written.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The bundle was written by a newer or older program.
    #[error("expected bundle format version {FORMAT_VERSION}, found {found}; {}", what_to_do(*.found))]
    Version {
        /// Format version of the bundle.
        found: i64,
    },
    /// A file does not have the digest of the manifest.
    #[error("expected {file} with sha256 {expected}, found {found}")]
    Digest {
        /// Name of the file.
        file: String,
        /// Digest in the manifest.
        expected: String,
        /// Digest of the file, or `no such file`.
        found: String,
    },
    /// A file of arrays is damaged.
    #[error("{file}: {error}")]
    Tensors {
        /// Name of the file.
        file: &'static str,
        /// Error of the safetensors reader.
        error: tensors::TensorsError,
    },
    /// The parts of the bundle do not fit each other. One sentence for each problem.
    #[error("{}", .0.join("; "))]
    Check(Vec<String>),
}

impl Bundle {
    /// Reads and checks a bundle folder or `.ndt` file.
    ///
    /// # Errors
    /// [`BundleError`], which says what was expected and what was found.
    pub fn read(path: &Path) -> Result<Bundle, BundleError> {
        let mut files = if path.is_dir() { read_folder(path)? } else { read_tar(path)? };
        let text = files.remove(MANIFEST).ok_or_else(|| BundleError::NoManifest { path: path.to_owned() })?;
        let manifest = parse_manifest(&text)?;
        let is_there = |file: &&&str| manifest.files.contains_key(**file) || files.contains_key(**file);
        for &file in files_of(&manifest).iter().chain([CONFIG, SPLITS].iter().filter(is_there)) {
            let expected =
                manifest.files.get(file).cloned().unwrap_or_else(|| "(not in the manifest)".to_owned());
            let found = files.get(file).map_or_else(|| "no such file".to_owned(), |bytes| sha256(bytes));
            if expected != found {
                return Err(BundleError::Digest { file: file.to_owned(), expected, found });
            }
        }
        let origin = Origin::of(|file| files.remove(file))?;
        let mut take = |file| files.remove(file).unwrap_or_default();
        let array = |file, bytes: &[u8]| {
            tensors::from_bytes(bytes).map_err(|error| BundleError::Tensors { file, error })
        };
        let bundle = Bundle {
            weights: array(WEIGHTS, &take(WEIGHTS))?,
            golden: array(GOLDEN, &take(GOLDEN))?,
            step_onnx: take(STEP),
            window_onnx: take(WINDOW),
            manifest,
            origin,
        };
        bundle.check()?;
        Ok(bundle)
    }

    /// Writes the bundle, as a tar if `path` ends in `.ndt` and as a folder otherwise, and replaces a bundle that was there.
    /// Fills in the version, digests and id of the manifest, and returns the manifest as written.
    ///
    /// # Errors
    /// [`BundleError::Destination`] when something other than a bundle is there, [`BundleError::Check`] before anything is
    /// written, [`BundleError::Io`] with nothing changed at `path`.
    pub fn write(&self, path: &Path) -> Result<Manifest, BundleError> {
        Destination::check(path, Bundle::kind(path), true, [])?;
        self.check()?;
        let mut contents = vec![
            (WEIGHTS, tensors::to_bytes(&self.weights)),
            (STEP, self.step_onnx.clone()),
            (WINDOW, self.window_onnx.clone()),
            (GOLDEN, tensors::to_bytes(&self.golden)),
        ];
        contents.retain(|(name, _)| files_of(&self.manifest).contains(name));
        contents.extend(self.origin.files()?);
        let mut manifest = self.manifest.clone();
        manifest.format_version = FORMAT_VERSION;
        let covered = contents.iter().filter(|(name, _)| !UNCOVERED.contains(name));
        manifest.files = covered.map(|(name, bytes)| ((*name).to_owned(), sha256(bytes))).collect();
        manifest.id = NO_ID.to_owned();
        let text = manifest_text(&manifest)?;
        manifest.id = sha256(text.as_bytes());
        let text = text.replacen(NO_ID, &manifest.id, 1);
        let mut files = vec![(MANIFEST, text.into_bytes())];
        files.extend(contents);
        if is_tar(path) {
            files::write_file(path, &tar(&files).map_err(FileError::at(path))?)?;
        } else {
            files::write_folder(path, &files)?;
        }
        Ok(manifest)
    }

    /// The kind of what is written to `path`: a file if it ends in `.ndt`, and otherwise a folder.
    pub fn kind(path: &Path) -> Kind {
        if is_tar(path) { TAR } else { FOLDER }
    }

    /// Checks that manifest, weights and golden vectors fit each other and this program.
    ///
    /// # Errors
    /// [`BundleError::Check`] with every problem found.
    pub fn check(&self) -> Result<(), BundleError> {
        let mut problems = self.manifest.problems();
        if problems.is_empty() {
            problems.extend(array_problems("weight", &self.weights, &self.manifest.weight_shapes()));
            problems.extend(array_problems("golden array", &self.golden, &self.golden_shapes()));
        }
        if problems.is_empty() { Ok(()) } else { Err(BundleError::Check(problems)) }
    }

    /// The id as bytes, as estimates carry it.
    pub fn id(&self) -> [u8; 32] {
        let mut id = [0; 32];
        for (byte, digits) in id.iter_mut().zip(self.manifest.id.as_bytes().chunks(2)) {
            *byte =
                std::str::from_utf8(digits).ok().and_then(|d| u8::from_str_radix(d, 16).ok()).unwrap_or(0);
        }
        id
    }

    /// Number of bins in the golden stream.
    pub fn golden_bins(&self) -> usize {
        self.golden.get("missing").map_or(0, |(shape, _)| shape.iter().product())
    }

    /// Mean count of each channel in the golden stream, spikes per bin `[C]`, which is about its mean in training. Missing bins are
    /// left out. Empty without golden counts.
    pub fn mean_counts(&self) -> Vec<f64> {
        let (Some((_, counts)), Some((_, missing))) = (self.golden.get("counts"), self.golden.get("missing"))
        else {
            return Vec::new();
        };
        let channels = self.manifest.channels();
        let (mut sums, mut bins) = (vec![0.0; channels], 0.0);
        let rows = counts.chunks_exact(channels.max(1)).zip(missing).filter(|(_, missing)| **missing == 0.0);
        for (row, _) in rows {
            sums.iter_mut().zip(row).for_each(|(sum, count)| *sum += f64::from(*count));
            bins += 1.0;
        }
        sums.iter_mut().for_each(|sum| *sum /= f64::max(bins, 1.0));
        sums
    }

    fn golden_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let bins = self.golden_bins();
        let mut shapes = vec![
            ("counts".to_owned(), vec![bins, self.manifest.channels()]),
            ("missing".to_owned(), vec![bins]),
        ];
        if self.manifest.units() > 0 {
            shapes.push(("log_rates".to_owned(), vec![bins, self.manifest.units()]));
        }
        if self.manifest.readout_dims() > 0 {
            shapes.push(("readouts".to_owned(), vec![bins, self.manifest.readout_dims()]));
        }
        shapes
    }
}

/// A bundle in one file. It is known by the manifest in it.
const TAR: Kind = Kind {
    name: "a bundle",
    form: Form::File,
    other: |path| {
        let files = read_tar(path).unwrap_or_default();
        let is_bundle = files.get(MANIFEST).is_some_and(|text| is_manifest(text));
        (!is_bundle).then(|| "a file that is no bundle".to_owned())
    },
};

/// A bundle in a folder, which holds no file of anybody else's. It is known by its manifest.
const FOLDER: Kind = Kind {
    name: "a bundle",
    form: Form::Folder,
    other: |path| {
        other_folder(path, &FILES, MANIFEST).or_else(|| {
            let is_bundle = std::fs::read(path.join(MANIFEST)).is_ok_and(|text| is_manifest(&text));
            (!is_bundle).then(|| format!("a folder with another program's {MANIFEST}"))
        })
    },
};

/// Whether a text is a bundle's manifest, of this version or another.
fn is_manifest(text: &[u8]) -> bool {
    let table = std::str::from_utf8(text).ok().and_then(|text| text.parse::<toml::Table>().ok());
    table.is_some_and(|table| ["format-version", "id"].iter().all(|key| table.contains_key(*key)))
}

fn is_tar(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "ndt")
}

/// What a user does with a bundle of another format version than [`FORMAT_VERSION`].
fn what_to_do(found: i64) -> &'static str {
    if found < i64::from(FORMAT_VERSION) {
        "fit the model again with the ndt-train of this version, or run it with the programs that it was fitted with"
    } else {
        "the bundle is newer than this program: run it with programs of the version that it was fitted with"
    }
}

/// Files that a bundle with this manifest must have, besides the manifest.
fn files_of(manifest: &Manifest) -> &'static [&'static str] {
    if manifest.linear.is_some() { &[WEIGHTS, GOLDEN] } else { &MODEL }
}

fn array_problems(what: &str, found: &Tensors, expected: &[(String, Vec<usize>)]) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, shape) in expected {
        match found.get(name) {
            None => problems.push(format!("expected a {what} \"{name}\" of shape {shape:?}, found none")),
            Some((other, _)) if other != shape => {
                problems.push(format!("expected {what} \"{name}\" of shape {shape:?}, found {other:?}"));
            }
            Some((_, values)) if !values.iter().all(|value| value.is_finite()) => {
                problems.push(format!("expected finite values in {what} \"{name}\", found others"));
            }
            Some(_) => {}
        }
    }
    for name in found.keys().filter(|name| !expected.iter().any(|(known, _)| known == *name)) {
        problems.push(format!("expected no {what} \"{name}\", found one"));
    }
    problems
}

/// Reads the version before anything else, so that a newer manifest is refused for its version and not for the first
/// key that this program does not know.
fn parse_manifest(bytes: &[u8]) -> Result<Manifest, BundleError> {
    let broken = |found: String| BundleError::Manifest { found: found.trim_end().replace('\n', " ") };
    let text = std::str::from_utf8(bytes).map_err(|error| broken(error.to_string()))?;
    let table: toml::Table = toml::from_str(text).map_err(|error| broken(error.message().to_owned()))?;
    match table.get("format-version").and_then(toml::Value::as_integer) {
        Some(version) if (i64::from(FORMAT_VERSION_MIN)..=i64::from(FORMAT_VERSION)).contains(&version) => {}
        Some(found) => return Err(BundleError::Version { found }),
        None => return Err(broken("no format-version".to_owned())),
    }
    let manifest: Manifest = toml::from_str(text).map_err(|error| broken(error.message().to_owned()))?;
    let found = sha256(text.replacen(&manifest.id, NO_ID, 1).as_bytes());
    if found != manifest.id {
        return Err(BundleError::Digest { file: MANIFEST.to_owned(), expected: manifest.id, found });
    }
    Ok(manifest)
}

fn manifest_text(manifest: &Manifest) -> Result<String, BundleError> {
    let text =
        toml::to_string(manifest).map_err(|error| BundleError::Manifest { found: error.to_string() })?;
    let what = if manifest.linear.is_some() { "linear decoder" } else { "causal Neural Data Transformer" };
    Ok(format!("# A {what}. The id is the sha256 of this file with the id's digits all 0.\n{text}"))
}

fn read_folder(path: &Path) -> Result<BTreeMap<String, Vec<u8>>, BundleError> {
    let mut files = BTreeMap::new();
    for name in std::iter::once(MANIFEST).chain(FILES) {
        let file = path.join(name);
        match std::fs::read(&file) {
            Ok(bytes) => drop(files.insert(name.to_owned(), bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(BundleError::Io(FileError { path: file, error })),
        }
    }
    Ok(files)
}

fn read_tar(path: &Path) -> Result<BTreeMap<String, Vec<u8>>, BundleError> {
    let io = |error| FileError { path: path.to_owned(), error };
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(std::fs::File::open(path).map_err(io)?).entries().map_err(io)? {
        let mut entry = entry.map_err(|_| BundleError::NoManifest { path: path.to_owned() })?;
        let name = entry.path().map_err(io)?.to_string_lossy().into_owned();
        let known = name == MANIFEST || FILES.contains(&name.as_str());
        // A sparse file of a few bytes can claim gigabytes of zeros; a link has no contents.
        let known = known && entry.header().entry_type().is_file();
        if known && entry.size() <= crate::limits::BUNDLE_FILE_BYTES_MAX {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(io)?;
            files.insert(name, bytes);
        }
    }
    Ok(files)
}

/// Makes a tar of the files. The same files give the same bytes.
fn tar(files: &[(&str, Vec<u8>)]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, name, bytes.as_slice())?;
    }
    archive.into_inner()
}

/// Returns lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the sha256 of `bytes` as hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Returns the sha256 of the contents of several files, one after another, as hexadecimal digits.
///
/// # Errors
/// [`BundleError::Io`] for the first file that cannot be read.
pub fn digest_files(paths: &[PathBuf]) -> Result<String, BundleError> {
    let mut digest = Sha256::new();
    for path in paths {
        let bytes = std::fs::read(path).map_err(FileError::at(path))?;
        digest.update(&bytes);
    }
    Ok(hex(&digest.finalize()))
}
