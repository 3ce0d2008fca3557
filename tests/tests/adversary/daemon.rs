//! The daemon under attack: a process, its memory and its log.

use crate::rig::{BIN, CHANNELS};
use ndt_tests::lsl::{self, Session};
use ndt_tests::{SMALL, Shape, free_address, manifest, program, random_weights};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// Number of file descriptors of a daemon that has few: what it needs itself, and some peers.
const FEW_DESCRIPTORS: u32 = 64;

/// How a daemon is started for a behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With a bound input, a bound output, and a log that is read.
    Usual,
    /// As usual, at `SCHED_FIFO` where the system permits it.
    RealTime,
    /// With few file descriptors.
    FewDescriptors,
    /// With a log on a full disk.
    FullDisk,
    /// With a stream of Lab Streaming Layer as its input.
    Lsl,
}

impl Start {
    /// The start that a behaviour is for.
    pub fn of(name: &str) -> Start {
        match name {
            "few-descriptors" => Start::FewDescriptors,
            "full-disk" => Start::FullDisk,
            "second-lsl-stream" => Start::Lsl,
            _ => Start::Usual,
        }
    }
}

/// A running `ndtd`, which is killed with the test.
pub struct Daemon {
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// Address that the rig connects to.
    pub input: String,
    /// Address of the estimates.
    pub output: String,
    /// Folder of the bundle, and the session of its streams.
    pub session: Session,
}

impl Daemon {
    /// Starts `ndtd run` on free ports.
    pub fn start(start: Start) -> Daemon {
        let session = Session::new();
        let path = |name: &str| session.folder().join(name).to_str().unwrap().to_owned();
        let mut manifest = manifest(Shape { channels: CHANNELS, units: 8, dims: 2, architecture: SMALL });
        manifest.bin_width_ms = BIN.as_secs_f64() * 1e3;
        let weights = random_weights(&manifest, 3);
        let bundle = ndt_trainer::export::from_weights(manifest, weights, &[0.3; CHANNELS]).unwrap();
        bundle.write(std::path::Path::new(&path("model"))).unwrap();
        std::fs::write(path("ndtd.toml"), configuration(start)).unwrap();
        let (input, output) = (free_address(), free_address());
        let bound = if start == Start::Lsl { "lsl:rig".to_owned() } else { format!("bind:{input}") };
        let mut command = match start {
            Start::FewDescriptors => {
                let mut shell = session.command("sh");
                let run = format!("ulimit -n {FEW_DESCRIPTORS}; exec \"$0\" \"$@\"");
                shell.args(["-c", &run]).arg(program("ndtd"));
                shell
            }
            _ => session.command(program("ndtd")),
        };
        command.args(["run", "--config", &path("ndtd.toml"), "--bundle", &path("model")]);
        command.args(["--input", &bound, "--output", &output]);
        let stderr = match start {
            Start::FullDisk => Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap()),
            _ => Stdio::piped(),
        };
        let mut process = command.stdin(Stdio::null()).stderr(stderr).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        if let Some(stderr) = process.stderr.take() {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                let lines = BufReader::new(stderr).lines().map_while(Result::ok);
                lines.for_each(|line| log.lock().unwrap_or_else(PoisonError::into_inner).push(line));
            });
        }
        Daemon { process, log, input, output, session }
    }

    /// Number of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// How the daemon ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().unwrap()
    }

    /// The lines of the log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last warning or error of the log behind its first `lines` lines, without its time; else the last line.
    pub fn says(&self, lines: usize) -> String {
        let log = self.log();
        let new = &log[lines.min(log.len())..];
        let is_bad = |line: &&String| {
            ["WARN", "ERROR", "panicked", "memory allocation"].iter().any(|word| line.contains(word))
        };
        let line = new.iter().rev().find(is_bad).or(new.last()).map_or("-", String::as_str);
        let at = ["WARN", "ERROR", "INFO"].iter().find_map(|word| line.find(word));
        line[at.unwrap_or(0)..].to_owned()
    }

    /// Memory that the process holds, `VmRSS`, in MB; `None` once it has ended.
    pub fn memory_mb(&self) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kb: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kb / 1024.0)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The longest silence that can be set, 1.28 s, so that only a rig that was cut off is stale, and not one on a busy machine.
fn configuration(start: Start) -> String {
    let library = lsl::liblsl_if_there().map_or_else(String::new, |path| format!("library = {path:?}\n"));
    let realtime = if start == Start::RealTime { "[realtime]\npriority = 60\n" } else { "" };
    format!("stale-after-bins = 256\n{realtime}[lsl]\n{library}")
}
