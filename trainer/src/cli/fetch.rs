//! `ndt-train fetch`: downloads the published MC_Maze recordings.

use super::overwrite::Overwrite;
use super::progress::style;
use anyhow::Context;
use clap::Args;
use indicatif::{HumanBytes, HumanDuration, ProgressBar};
use ndt_protocol::terminal::say;
use ndt_trainer::fetch::{self, Event, FetchError, FetchOptions, Fetched, RemoteFile, Set};
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub const HELP: &str = "\
The same command resumes an interrupted download. Files that exist are checked, and kept if their contents are right. Recordings
of the same names with other contents are replaced with --overwrite, and other files never. The first of ALL_PROXY, HTTPS_PROXY and HTTP_PROXY that is set is used, except for the hosts in NO_PROXY.

Examples:
  ndt-train fetch mc_maze_small --out data
  ndt-train fetch mc_maze_full --list --json";

/// The options of `fetch`.
#[derive(Args)]
pub struct Fetch {
    /// Data set: mc_maze_small, mc_maze_medium, mc_maze_large or mc_maze_full (also called mc_maze).
    #[arg(value_parser = |name: &str| -> Result<Set, FetchError> { Set::named(name) })]
    set: Set,
    /// Folder for the files; created if it does not exist.
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    out: Option<PathBuf>,
    /// List the files and download nothing.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Base URL of the archive's API, or of a mirror with the same API.
    #[arg(long, value_name = "URL", default_value = fetch::API)]
    api: String,
    /// Number of tries in a row that may fail without receiving a byte.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,
    /// Wait before the second try, ms. It doubles from try to try, up to 30 s.
    #[arg(long, default_value_t = 500)]
    retry_wait_ms: u64,
    /// Longest silence of the server before a try fails, s.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    stall_s: u64,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Carries out the command; returns its report.
pub fn fetch(command: &Fetch) -> anyhow::Result<String> {
    let started = Instant::now();
    let options = FetchOptions {
        api: command.api.clone(),
        tries: command.tries,
        retry_wait: Duration::from_millis(command.retry_wait_ms),
        stall: Duration::from_secs(command.stall_s),
        overwrite: command.overwrite.is_given(),
    };
    let (set, mut progress) = (&command.set, Progress::new());
    let mut tell = |event: Event| progress.show(event);
    let text = if command.list {
        let files = fetch::list(set, &options, &mut tell)?;
        listing(set, &files, command.json)
    } else {
        let folder = command.out.as_deref().context("expected --out DIR, found none")?;
        let files = fetch::fetch(set, folder, &options, &mut tell)?;
        report(set, &files, started.elapsed().as_secs_f64(), command.json)
    };
    progress.bar.finish_and_clear();
    text
}

fn listing(set: &Set, files: &[RemoteFile], json: bool) -> anyhow::Result<String> {
    if json {
        let list = serde_json::json!({
            "set": set.name, "dandiset": set.dandiset, "version": set.version, "files": files,
        });
        return Ok(format!("{list:#}"));
    }
    let mut text = format!("{}: dandiset {}/{}", set.name, set.dandiset, set.version);
    for file in files {
        write!(text, "\n{}  {}  sha256 {}", file.name, HumanBytes(file.bytes), file.sha256)?;
    }
    Ok(text)
}

fn report(set: &Set, files: &[Fetched], seconds: f64, json: bool) -> anyhow::Result<String> {
    if json {
        let report = serde_json::json!({
            "set": set.name, "dandiset": set.dandiset, "version": set.version, "files": files,
            "seconds": seconds,
        });
        return Ok(format!("{report:#}"));
    }
    let line = |file: &Fetched| {
        let how = match (file.already_there, file.resumed_from_bytes) {
            (true, _) => "already there".to_owned(),
            (false, 0) => format!("{:.0} s", file.seconds),
            (false, from) => format!("{:.0} s, resumed at {}", file.seconds, HumanBytes(from)),
        };
        format!("{}  {}, sha256 agrees, {how}", file.path.display(), HumanBytes(file.bytes))
    };
    Ok(files.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// The progress of a download on standard error: a bar on a terminal, and otherwise a line after each tenth of a file.
struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    file: String,
    started: Instant,
    /// Bytes of the file that were there when this download started.
    from: u64,
    /// Tenths of the file that have been reported.
    tenths: u64,
}

impl Progress {
    fn new() -> Progress {
        let bar = ProgressBar::no_length();
        bar.set_style(style("{msg} {bytes}/{total_bytes} {bar:30} {bytes_per_sec}  {eta} left"));
        let is_terminal = std::io::stderr().is_terminal();
        Progress { bar, is_terminal, file: String::new(), started: Instant::now(), from: 0, tenths: 0 }
    }

    fn show(&mut self, event: Event) {
        match event {
            Event::Bytes { file, have } => {
                if self.file != file.name {
                    self.begin(file, have);
                }
                self.bytes(file, have);
            }
            Event::Retry { what, why, wait } => {
                let line = format!("{what}: {why}; next try in {} ms", wait.as_millis());
                // The line goes above the bar, or into the log.
                self.bar.suspend(|| say(line));
            }
        }
    }

    fn begin(&mut self, file: &RemoteFile, have: u64) {
        self.file.clone_from(&file.name);
        self.started = Instant::now();
        self.from = have;
        self.tenths = tenth(file, have);
        self.bar.reset();
        self.bar.set_length(file.bytes);
        self.bar.set_position(have);
        // Bytes of an earlier download say nothing about the rate.
        self.bar.reset_eta();
        self.bar.set_message(file.name.clone());
        if !self.is_terminal {
            say(format_args!("{}: {} of {}", file.name, HumanBytes(have), HumanBytes(file.bytes)));
        }
    }

    fn bytes(&mut self, file: &RemoteFile, have: u64) {
        if self.is_terminal {
            self.bar.set_position(have);
        } else if tenth(file, have) > self.tenths {
            self.tenths = tenth(file, have);
            let rate = (have - self.from) as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
            let left = Duration::from_secs_f64(((file.bytes - have) as f64 / rate.max(1.0)).min(1e9));
            say(format_args!(
                "{}: {} of {}, {}/s, {} left",
                file.name,
                HumanBytes(have),
                HumanBytes(file.bytes),
                HumanBytes(rate as u64),
                HumanDuration(left)
            ));
        }
    }
}

fn tenth(file: &RemoteFile, have: u64) -> u64 {
    (have.saturating_mul(10)).checked_div(file.bytes).unwrap_or(10)
}
