//! Programs that meet on Lab Streaming Layer, on this machine and in a session of their own.

use crate::{SMALL, Shape, manifest, program, python, random_weights, workspace};
use ndt_protocol::Bundle;
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// How long a condition is waited for before the test fails.
const SOON: Duration = Duration::from_secs(60);

/// Path of the liblsl that the Python package brings; `None` where the package is not installed.
pub fn liblsl_if_there() -> Option<PathBuf> {
    let packages = workspace().join("target/python/lib");
    let library = |python: std::fs::DirEntry| python.path().join("site-packages/pylsl/lib/liblsl.so");
    let mut found = std::fs::read_dir(packages).into_iter().flatten().flatten().map(library);
    found.find(|path| path.exists())
}

/// Path of the liblsl that the Python package brings.
///
/// # Panics
/// When the package is not installed.
pub fn liblsl() -> PathBuf {
    liblsl_if_there().unwrap_or_else(|| panic!("expected liblsl.so under target/python/lib, found none"))
}

/// A session: its streams are found by its own programs alone, however many tests run at once.
pub struct Session {
    folder: tempfile::TempDir,
}

impl Default for Session {
    fn default() -> Session {
        Session::new()
    }
}

impl Session {
    /// A session of its own.
    ///
    /// # Panics
    /// When there is no room for its configuration.
    pub fn new() -> Session {
        static SESSIONS: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let text = format!(
            "[ports]\nIPv6 = disable\n[multicast]\nResolveScope = machine\nListenAddress = 127.0.0.1\n[lab]\n\
             KnownPeers = {{127.0.0.1}}\nSessionID = test-{}-{}\n[log]\nlevel = -2\n",
            std::process::id(),
            SESSIONS.fetch_add(1, Relaxed)
        );
        std::fs::write(folder.path().join("lsl_api.cfg"), text).unwrap_or_else(|error| panic!("{error}"));
        Session { folder }
    }

    /// A folder for files of the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A program in this session.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("LSLAPICFG", self.folder().join("lsl_api.cfg"));
        command
    }
}

/// A program whose lines are heard as they come. It is killed with the test.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Running {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (say, lines) = channel();
        hear(child.stdout.take(), say.clone());
        hear(child.stderr.take(), say);
        Running { child, lines, heard: Vec::new() }
    }

    /// Waits for a line that has `text` in it.
    ///
    /// # Panics
    /// When the program ends, or a minute passes, without.
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(SOON);
            let Ok(line) = line else { panic!("expected \"{text}\", found {:#?}", self.heard) };
            self.heard.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The lines that were heard.
    pub fn heard(&self) -> &[String] {
        &self.heard
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([format!("-{signal}"), id]).status();
        assert!(sent.is_ok_and(|status| status.success()), "expected the program to be there");
    }

    /// Its number among the processes.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; whether it ended well.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn end(&mut self) -> bool {
        let ended = self.child.wait().unwrap_or_else(|error| panic!("{error}"));
        // Both pipes are at their end, or soon will be.
        while let Ok(line) = self.lines.recv_timeout(SOON) {
            self.heard.push(line);
        }
        ended.success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn hear(from: Option<impl Read + Send + 'static>, say: Sender<String>) {
    let Some(from) = from else { return };
    std::thread::spawn(move || {
        // Nobody listens to the end of a test.
        BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| say.send(line))
    });
}

/// A model whose channel ids are in no order, so that places and ids cannot be mistaken.
pub fn bundle(channel_ids: Vec<i64>) -> Bundle {
    let channels = channel_ids.len();
    let mut manifest = manifest(Shape { channels, units: channels + 3, dims: 2, architecture: SMALL });
    manifest.channel_ids = channel_ids;
    manifest.unit_ids = (0..manifest.unit_ids.len() as i64).map(|unit| 200 + 3 * unit).collect();
    let weights = random_weights(&manifest, 3);
    ndt_trainer::export::from_weights(manifest, weights, &vec![0.3; channels]).unwrap()
}

/// Ids of the twelve channels of most tests, in no order.
pub fn usual_ids() -> Vec<i64> {
    (0..12).map(|channel| 100 + (5 * channel) % 12).collect()
}

/// Writes a bundle into the session's folder.
pub fn written(session: &Session, bundle: &Bundle) -> PathBuf {
    let path = session.folder().join("model.ndt");
    bundle.write(&path).unwrap();
    path
}

/// `ndtd run` with a deadline that a busy machine does not miss; waits until it runs.
pub fn daemon(session: &Session, model: &Path, stale_after_bins: u64, endpoints: &[&str]) -> Running {
    daemon_with(session, model, stale_after_bins, "", endpoints)
}

/// The same with further lines in `[lsl]`.
pub fn daemon_with(
    session: &Session,
    model: &Path,
    stale_after_bins: u64,
    lsl: &str,
    endpoints: &[&str],
) -> Running {
    let config = session.folder().join("ndtd.toml");
    // A daemon without streams never looks for the library.
    let library = liblsl_if_there().map_or_else(String::new, |path| format!("library = {path:?}\n"));
    let text = format!(
        "deadline-ms = 5000.0\nstale-after-bins = {stale_after_bins}\n[lsl]\n{library}resolve-timeout-s = 1.0\n\
         event-wait-ms = 100.0\n{lsl}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = session.command(program("ndtd"));
    command.args(["run", "--config"]).arg(config).arg("--bundle").arg(model).args(endpoints);
    let mut daemon = Running::start(&mut command);
    daemon.wait_for("estimates on");
    daemon
}

/// Starts a program of `tests/python`.
pub fn script(session: &Session, name: &str, arguments: &[&str]) -> Running {
    let mut command = session.command(python());
    command.arg(workspace().join("tests/python").join(name)).args(arguments);
    Running::start(&mut command)
}

/// Waits for the one line of JSON that a program prints.
pub fn json(running: &mut Running) -> Value {
    serde_json::from_str(&running.wait_for("{\"")).unwrap()
}
