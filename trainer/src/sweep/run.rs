//! The folder of a run, which tells the run's state.
//!
//! `config.toml` holds the keys that the sweep sets, `model` is the bundle with the whole configuration, and `log` the fit's standard error (with a JSON line for
//! each epoch). `result.json` is the report of a finished run. `failed` holds the exit status of a failed run (for a
//! signal 128 plus its number, as in shells). A run without either file is waiting, running or was interrupted.

use crate::sweep::plan::{Plan, Run};
use ndt_protocol::bundle::manifest::SELECTION_SCORES;
use ndt_protocol::files::{self, FileError};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// File for a run's standard output while the run is in progress.
pub const PART: &str = "result.part";
/// File with the report of a finished run.
pub const RESULT: &str = "result.json";
/// File with the standard error of a run.
pub const LOG: &str = "log";
/// The line that each start of a run appends to its log.
pub const STARTED: &str = "started";
/// File with the exit status of a run that failed.
pub const FAILED: &str = "failed";

const CONFIG: &str = "config.toml";

/// The state of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Not running, with the progress of an earlier start.
    Waiting(Option<Progress>),
    /// The run is in progress, with its last progress report; `None` before the end of the first epoch.
    Running(Option<Progress>),
    /// The run has finished, with this report.
    Done(Outcome),
    /// Ended without a result, for this reason.
    Failed(String),
}

/// The progress that a fit reports after each epoch (`ndt-train fit --progress json`).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Progress {
    /// Epochs done.
    pub epoch: usize,
    /// Largest number of epochs.
    pub epochs: usize,
    /// Highest validation score so far, in bits/spike, by which the best epoch is chosen.
    pub best: f64,
    /// Seconds since the fit was started.
    pub seconds: f64,
    /// Seconds that the fit will last at most, teachers included, judged by the epochs so far.
    #[serde(default)]
    pub seconds_left: Option<f64>,
}

/// The report of a fit (`ndt-train fit --json`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Outcome {
    /// Validation scores by name.
    pub scores: BTreeMap<String, f64>,
    /// The best epoch.
    pub epoch: usize,
    /// Duration of the fit, interrupted starts included, s.
    pub seconds: f64,
}

impl Outcome {
    /// The score that ranks the run, with its name: the score called `by`, or else co-bps or masked-bps.
    pub fn score(&self, by: Option<&str>) -> Option<(String, f64)> {
        let named = |name: &str| Some((name.to_owned(), *self.scores.get(name)?));
        by.map_or_else(|| SELECTION_SCORES.into_iter().find_map(named), named)
    }
}

/// What a run's log tells.
#[derive(Default)]
struct Log {
    progress: Option<Progress>,
    /// Duration of all starts except the last, s.
    earlier_seconds: f64,
    /// The last line that the run's last start logged, progress lines excluded.
    said: Option<String>,
}

impl Run {
    /// Path of the run's folder.
    pub fn folder(&self, plan: &Plan) -> PathBuf {
        plan.out.join(&self.name)
    }

    /// The state of the run as its files tell it, which is never [`State::Running`].
    pub fn state(&self, plan: &Plan) -> State {
        let folder = self.folder(plan);
        let log = Log::read(&folder);
        let report = std::fs::read(folder.join(RESULT)).ok();
        let outcome = report.and_then(|bytes| serde_json::from_slice::<Outcome>(&bytes).ok());
        if let Some(outcome) = outcome.filter(|outcome| outcome.score(None).is_some()) {
            return State::Done(Outcome { seconds: outcome.seconds + log.earlier_seconds, ..outcome });
        }
        match std::fs::read_to_string(folder.join(FAILED)) {
            Ok(status) => State::Failed(log.reason(status.trim())),
            Err(_) => State::Waiting(log.progress),
        }
    }

    /// The progress of the run as its log tells it.
    pub fn progress(&self, plan: &Plan) -> Option<Progress> {
        Log::read(&self.folder(plan)).progress
    }

    /// Writes the run's configuration, and removes what an earlier start has left unfinished.
    ///
    /// # Errors
    /// [`FileError`] when a file cannot be written.
    pub fn prepare(&self, plan: &Plan) -> Result<(), FileError> {
        let folder = self.folder(plan);
        std::fs::create_dir_all(&folder).map_err(FileError::at(&folder))?;
        for entry in std::fs::read_dir(&folder).map_err(FileError::at(&folder))?.flatten() {
            let path = entry.path();
            let is_rest = path.extension().is_some_and(|ending| ending == "part" || ending == "old");
            // A rest that cannot be removed does no harm.
            if is_rest && path.is_dir() {
                drop(std::fs::remove_dir_all(&path));
            } else if is_rest || entry.file_name() == FAILED {
                drop(std::fs::remove_file(&path));
            }
        }
        files::write_file(&folder.join(CONFIG), self.choices.to_string().as_bytes())
    }
}

/// The arguments with which `ndt-train` is started in the folder of a run.
pub fn arguments(plan: &Plan) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["fit".into(), "--data".into()];
    arguments.extend(plan.data.iter().map(|path| path.clone().into_os_string()));
    arguments.extend(plan.options.iter().map(OsString::from));
    let bin_ms = plan.bin_ms.map(|bin_ms| ["--bin-ms".to_owned(), bin_ms.to_string()]);
    arguments.extend(bin_ms.into_iter().flatten().map(OsString::from));
    let rest = ["--config", CONFIG, "--out", "model", "--resume", "--progress", "json"];
    // The baselines would be the same beside every run of one recording.
    arguments.push("--no-baselines".into());
    // A fit that was killed between its bundle and its result is fitted again, in the same folder.
    arguments.extend(rest.into_iter().chain(["--json", "--overwrite"]).map(OsString::from));
    arguments
}

impl Log {
    fn read(folder: &Path) -> Log {
        let bytes = std::fs::read(folder.join(LOG)).unwrap_or_default();
        let mut log = Log::default();
        let mut seconds = 0.0;
        for line in String::from_utf8_lossy(&bytes).lines().filter(|line| !line.trim().is_empty()) {
            match serde_json::from_str::<Progress>(line) {
                Ok(progress) => {
                    seconds = progress.seconds;
                    log.progress = Some(progress);
                }
                Err(_) if line == STARTED => {
                    log.earlier_seconds += std::mem::take(&mut seconds);
                    log.said = None;
                }
                Err(_) => log.said = Some(line.trim().to_owned()),
            }
        }
        log
    }

    /// Why the run failed, from its exit status and its last line.
    fn reason(&self, status: &str) -> String {
        let number = status.parse().unwrap_or(0);
        // A program that aborts (SIGABRT) has logged the reason itself; about other signals it can log nothing.
        match (number, &self.said) {
            (129.., _) if number != 128 + libc::SIGABRT => format!("ended by signal {}", number - 128),
            (_, Some(said)) => said.strip_prefix("ndt-train: ").unwrap_or(said).to_owned(),
            _ => format!("exit status {status}"),
        }
    }
}
