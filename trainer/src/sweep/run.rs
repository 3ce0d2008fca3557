//! One fit of a sweep, and the folder that tells how it stands.
//!
//! `config.toml` is what is fitted, `model` the bundle, `log` what the fit said (a JSON line each epoch among it),
//! `result.json` its report once it is done, `failed` the exit status when it ended otherwise (128 and the signal's
//! number for a signal, as shells count). A run without either is waiting, running or was cut.

use crate::sweep::plan::{Plan, Run};
use ndt_protocol::files::{self, FileError};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What a run's standard output goes to while it runs.
pub const PART: &str = "result.part";
/// The report of a run that is done.
pub const RESULT: &str = "result.json";
/// Standard error of a run.
pub const LOG: &str = "log";
/// The line that each start of a run puts into its log.
pub const STARTED: &str = "started";
/// Exit status of a run that failed.
pub const FAILED: &str = "failed";

const CONFIG: &str = "config.toml";

/// How a run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Not running; how far it came before, if it has run.
    Waiting(Option<Progress>),
    /// Running; `None` before the first epoch's end.
    Running(Option<Progress>),
    /// Done.
    Done(Outcome),
    /// Ended without a result, and why.
    Failed(String),
}

/// What a fit says after each epoch (`ndt-train fit --progress json`).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Progress {
    /// Epochs done.
    pub epoch: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Best selection score so far.
    pub best: f64,
    /// Since the fit was started, s.
    pub seconds: f64,
}

/// What has come of a fit (`ndt-train fit --json`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Outcome {
    /// Validation scores by their name.
    pub scores: BTreeMap<String, f64>,
    /// The best epoch.
    pub epoch: usize,
    /// How long it took, starts that were cut off included, s.
    pub seconds: f64,
}

/// Names of the score that decides: that of held-out units, and what stands in for it where there are none.
const SCORES: [&str; 2] = ["co-bps", "masked-bps"];

impl Outcome {
    /// The score that decides, with its name.
    pub fn score(&self) -> Option<(&'static str, f64)> {
        SCORES.into_iter().find_map(|name| Some((name, *self.scores.get(name)?)))
    }
}

/// What a log tells.
#[derive(Default)]
struct Log {
    progress: Option<Progress>,
    /// Of all starts but the last, s.
    earlier_seconds: f64,
    /// The last line of the last start that is no progress.
    said: Option<String>,
}

impl Run {
    /// Its folder.
    pub fn folder(&self, plan: &Plan) -> PathBuf {
        plan.out.join(&self.name)
    }

    /// How it stands, as far as its files tell: never [`State::Running`].
    pub fn state(&self, plan: &Plan) -> State {
        let folder = self.folder(plan);
        let log = Log::read(&folder);
        let report = std::fs::read(folder.join(RESULT)).ok();
        let outcome = report.and_then(|bytes| serde_json::from_slice::<Outcome>(&bytes).ok());
        if let Some(outcome) = outcome.filter(|outcome| outcome.score().is_some()) {
            return State::Done(Outcome { seconds: outcome.seconds + log.earlier_seconds, ..outcome });
        }
        match std::fs::read_to_string(folder.join(FAILED)) {
            Ok(status) => State::Failed(log.reason(status.trim())),
            Err(_) => State::Waiting(log.progress),
        }
    }

    /// How far it is, as far as its log tells.
    pub fn progress(&self, plan: &Plan) -> Option<Progress> {
        Log::read(&self.folder(plan)).progress
    }

    /// Writes its configuration, and takes away what an earlier start has left unfinished.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn prepare(&self, plan: &Plan) -> Result<(), FileError> {
        let folder = self.folder(plan);
        std::fs::create_dir_all(&folder).map_err(FileError::at(&folder))?;
        for entry in std::fs::read_dir(&folder).map_err(FileError::at(&folder))?.flatten() {
            let path = entry.path();
            let is_rest = path.extension().is_some_and(|ending| ending == "part" || ending == "old");
            // What cannot be removed is in nobody's way.
            if is_rest && path.is_dir() {
                drop(std::fs::remove_dir_all(&path));
            } else if is_rest || entry.file_name() == FAILED {
                drop(std::fs::remove_file(&path));
            }
        }
        let text = toml::to_string(&self.config).map_err(|error| FileError {
            path: folder.join(CONFIG),
            error: std::io::Error::other(error.to_string()),
        })?;
        files::write_file(&folder.join(CONFIG), text.as_bytes())
    }
}

/// What `ndt-train` is started with in the folder of a run.
pub fn arguments(plan: &Plan) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["fit".into(), "--data".into()];
    arguments.extend(plan.data.iter().map(|path| path.clone().into_os_string()));
    let bin_ms = plan.bin_ms.to_string();
    let rest = ["--bin-ms", &bin_ms, "--config", CONFIG, "--out", "model", "--resume", "--progress", "json"];
    arguments.extend(rest.into_iter().chain(["--json"]).map(OsString::from));
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

    fn reason(&self, status: &str) -> String {
        let number = status.parse().unwrap_or(0);
        // SIGABRT is our own doing, and has been said; of other signals a program can say nothing.
        match (number, &self.said) {
            (129.., _) if number != 128 + libc::SIGABRT => format!("ended by signal {}", number - 128),
            (_, Some(said)) => said.strip_prefix("ndt-train: ").unwrap_or(said).to_owned(),
            _ => format!("exit status {status}"),
        }
    }
}
