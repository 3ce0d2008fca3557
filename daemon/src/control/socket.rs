//! The unix socket that takes orders: one line asks, one line of JSON answers. `docs/control.md` is the protocol.
//!
//! Whoever may write to the file of the socket may give orders; its mode is 0660. A peer cannot harm: lines, peers and time are
//! limited, and the real-time threads never wait for any of it.

pub mod client;

use super::commands::Commands;
use super::request::Request;
use crate::config::Config;
use crate::transport::zeromq::ipc::IpcSettings;
use ndt_protocol::endpoint::socket_file::Occupant;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixListener as BlockingListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::info;

/// Version of the protocol, as the greeting names it. It rises when an answer changes its meaning.
pub const PROTOCOL: u32 = 1;

/// Name of the socket in the folder of the service.
const FILE: &str = "control.sock";

/// Longest line of a request, bytes: ids of all channels that a bundle can have.
const LINE_BYTES_MAX: u64 = 96 * 1024;

/// Most peers at a time.
const PEERS_MAX: usize = 16;

/// How long a peer may be silent, and how long it may take to read an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shortest time from one request of a peer to its next: a peer that asks without a pause must not keep others waiting.
const PAUSE: Duration = Duration::from_millis(1);

/// A socket that is bound, and its file. The file is removed with it.
pub struct ControlSocket {
    listener: BlockingListener,
    path: PathBuf,
}

/// Why the socket cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum ControlSocketError {
    /// Something is in its place.
    #[error("expected a free path for the control socket {path}, found {found}")]
    Taken {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The system refuses it.
    #[error("expected to bind the control socket {path}, found {error}")]
    Io {
        /// The path.
        path: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
}

/// Path of the control socket: the configured one, or else the one in the folder that systemd has made for the service, if there is
/// one.
pub fn path(config: &Config, runtime_directory: Option<OsString>) -> Option<PathBuf> {
    // systemd lists several folders with colons between them.
    let first = |folders: OsString| {
        let folders = folders.into_string().ok()?;
        folders
            .split(':')
            .next()
            .filter(|folder| !folder.is_empty())
            .map(|folder| Path::new(folder).join(FILE))
    };
    config.control_socket.clone().or_else(|| runtime_directory.and_then(first))
}

impl ControlSocket {
    /// Binds the socket at `path`, gives it the mode 0660 and the group, and removes a socket that a program left there.
    ///
    /// # Errors
    /// [`ControlSocketError`] where another program answers, something else lies there, or the system refuses it.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<ControlSocket, ControlSocketError> {
        match Occupant::of(path) {
            None | Some(Occupant::DeadSocket) => {}
            Some(other) => {
                return Err(ControlSocketError::Taken { path: path.to_owned(), found: other.words() });
            }
        }
        let refused = |error| ControlSocketError::Io { path: path.to_owned(), error };
        // Made beside and renamed, so that nobody connects before the mode is set.
        let beside = path.with_extension(format!("{}.new", std::process::id()));
        let settings = IpcSettings { group: group.map(str::to_owned), ..IpcSettings::default() };
        let bound = BlockingListener::bind(&beside).and_then(|listener| {
            let made = settings
                .apply(&beside)
                .and_then(|()| listener.set_nonblocking(true))
                .and_then(|()| std::fs::rename(&beside, path));
            match made {
                Ok(()) => Ok(listener),
                Err(error) => {
                    // The error is what is told.
                    let _ = std::fs::remove_file(&beside);
                    Err(error)
                }
            }
        });
        let listener = bound.map_err(refused)?;
        Ok(ControlSocket { listener, path: path.to_owned() })
    }

    /// Path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves peers for as long as the returned future is polled. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The system's, when the runtime cannot watch the socket.
    pub async fn serve(&self, commands: Arc<Commands>) -> io::Result<()> {
        let listener = UnixListener::from_std(self.listener.try_clone()?)?;
        let peers = Arc::new(Semaphore::new(PEERS_MAX));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Too many open files, for example: it passes, and must not spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            match peers.clone().try_acquire_owned() {
                Ok(permit) => {
                    let commands = commands.clone();
                    tokio::spawn(async move {
                        converse(stream, &commands).await;
                        drop(permit);
                    });
                }
                Err(_) => {
                    let found = format!("expected at most {PEERS_MAX} peers at a time, found one more");
                    // What does not fit into the buffer of a new socket is not worth waiting for.
                    let _ = stream.try_write(format!("{}\n", json!({ "error": found })).as_bytes());
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // It may have been removed already.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Answers the requests of one peer until it leaves, is silent for too long, or sends what is no line.
async fn converse(stream: UnixStream, commands: &Commands) {
    let who = stream
        .peer_cred()
        .map_or_else(|_| "an unknown user".to_owned(), |peer| format!("user {}", peer.uid()));
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    let greeting = json!({ "ndtd": env!("CARGO_PKG_VERSION"), "protocol": PROTOCOL });
    if !write(&mut writing, &greeting).await {
        return;
    }
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut reading).take(LINE_BYTES_MAX);
        match timeout(PATIENCE, limited.read_until(b'\n', &mut line)).await {
            Ok(Ok(1..)) => {}
            // It has left, is silent, or its connection is broken.
            _ => return,
        }
        if line.last() != Some(&b'\n') {
            let found = format!("expected a line of at most {LINE_BYTES_MAX} bytes, found none");
            write(&mut writing, &json!({ "error": found })).await;
            return;
        }
        let request = std::str::from_utf8(&line)
            .map_err(|_| "expected text in UTF-8, found other bytes".to_owned())
            .and_then(Request::parse);
        let answer = match &request {
            Ok(request) => commands.answer(request, &who).await,
            Err(error) => json!({ "error": error }),
        };
        let is_written = write(&mut writing, &answer).await;
        if request == Ok(Request::Stop) {
            info!("stopping, as {who} asks");
            commands.stop();
        }
        if !is_written {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Writes one line, and returns whether the peer took it in time.
async fn write(writing: &mut (impl AsyncWriteExt + Unpin), answer: &Value) -> bool {
    let line = format!("{answer}\n");
    matches!(timeout(PATIENCE, writing.write_all(line.as_bytes())).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_default_path_is_in_the_folder_of_the_service() {
        let path = |configured: Option<&str>, folder: Option<&str>| {
            let config = Config { control_socket: configured.map(PathBuf::from), ..Config::default() };
            path(&config, folder.map(OsString::from)).map(|path| path.display().to_string())
        };
        assert_eq!(path(None, None), None);
        assert_eq!(path(None, Some("")), None);
        assert_eq!(path(None, Some("/run/ndtd:/run/other")).as_deref(), Some("/run/ndtd/control.sock"));
        assert_eq!(path(Some("/tmp/s"), Some("/run/ndtd")).as_deref(), Some("/tmp/s"));
    }

    #[test]
    fn a_dead_socket_is_replaced_and_what_others_use_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let bound = ControlSocket::bind(&path, None).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
        let refused = ControlSocket::bind(&path, None).err().unwrap().to_string();
        assert!(refused.ends_with("found a socket that another program uses"), "{refused}");
        drop(bound);
        assert!(!path.exists());
        drop(BlockingListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead socket");
        drop(ControlSocket::bind(&path, None).unwrap());
        std::fs::write(&path, "notes").unwrap();
        let refused = ControlSocket::bind(&path, None).err().unwrap().to_string();
        assert!(refused.contains("which was not touched"), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), b"notes");
        let names = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 1, "nothing else is left");
    }
}
