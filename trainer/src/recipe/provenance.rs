//! Where a model comes from: what its manifest says of it, and the record of its fit.

use crate::evaluation::History;
use crate::evaluation::decoding::Decoding;
use crate::training::Fit;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Training;
use ndt_protocol::bundle::origin::FitRecord;
use ndt_protocol::bundle::{self, BundleError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const PROGRAM: &str = concat!("ndt-train ", env!("CARGO_PKG_VERSION"));

/// The provenance of a model that this library has fitted to the files `data`; `parent` is the id of the bundle that it
/// was fine-tuned from.
///
/// # Errors
/// [`BundleError`] when a file cannot be read.
pub fn provenance(
    data: &[PathBuf],
    seed: u64,
    epochs: usize,
    parent: Option<String>,
) -> Result<Training, BundleError> {
    Ok(Training {
        by: PROGRAM.to_owned(),
        data: data.iter().map(|path| file_name(path)).collect(),
        data_sha256: bundle::digest_files(data)?,
        seed,
        epochs,
        parent,
    })
}

/// The record of a fit that this process has made in so many seconds.
pub fn record(fit: &Fit, seconds: f64) -> FitRecord {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    FitRecord {
        command: command_line(),
        program: PROGRAM.to_owned(),
        machine: machine(),
        ended_unix_s: since_1970.map_or(0, |time| time.as_secs()),
        seconds,
        curve: fit.curve.clone(),
        comparison: Vec::new(),
    }
}

/// Where the numbers of a session come from that this process has decoded from the file `data`, which gives itself this identifier: keys
/// and values.
///
/// # Errors
/// [`BundleError`] when the file cannot be read.
pub fn decoding_provenance(
    bundle: &Bundle,
    data: &Path,
    identifier: &str,
    wanted: Decoding<'_>,
) -> Result<Vec<(&'static str, String)>, BundleError> {
    let manifest = &bundle.manifest;
    let history = match wanted.history {
        History::Cold => "cold: every trial starts without history",
        History::Stream => "stream: the trials follow each other",
    };
    let decoded = match wanted.split {
        _ if wanted.all_time => "all observed time",
        Some(split) => split,
        None => "every trial",
    };
    let splits = bundle.origin.splits.iter().map(|splits| {
        let pieces = [&splits.train_pieces_s, &splits.val_pieces_s, &splits.test_pieces_s].map(Vec::len);
        let trials = [&splits.train, &splits.val, &splits.test].map(Vec::len);
        let (what, [train, val, test]) = if pieces[0] > 0 { ("pieces", pieces) } else { ("trials", trials) };
        format!("{}: {train} {what} to fit, {val} to validate, {test} to test", splits.identifier)
    });
    Ok(vec![
        ("program", PROGRAM.to_owned()),
        ("command", command_line().join(" ")),
        ("recording", identifier.to_owned()),
        ("recording_file", file_name(data)),
        ("recording_sha256", bundle::digest_files(&[data.to_owned()])?),
        ("bundle", manifest.id.clone()),
        ("bundle_fitted_by", manifest.training.by.clone()),
        ("bundle_fitted_to", manifest.training.data.join(", ")),
        ("bundle_splits", splits.collect::<Vec<_>>().join("; ")),
        ("bin_width_ms", manifest.bin_width_ms.to_string()),
        ("decoded", decoded.to_owned()),
        ("history", history.to_owned()),
    ])
}

/// The command line of this process.
fn command_line() -> Vec<String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect()
}

/// Processor, number of CPUs, and system of this machine.
fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let processor =
        model.and_then(|line| line.split_once(": ")).map_or("unknown processor", |(_, name)| name);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{processor}, {cpus} CPUs, {} {}", std::env::consts::OS, std::env::consts::ARCH)
}

/// A file's name without its folder: a bundle does not tell where a recording lay.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
