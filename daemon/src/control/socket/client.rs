//! The side that asks: `ndtd status`, `ndtd pause`, and so on.

use super::PROTOCOL;
use crate::control::request::Request;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a service that systemd has started listens.
pub const DEFAULT_PATH: &str = "/run/ndtd/control.sock";

/// Longest answer, bytes.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// How long a daemon may take to greet. An answer may take longer: a swap waits until the candidate has taken over.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a running daemon.
pub struct Client {
    reading: BufReader<UnixStream>,
    path: PathBuf,
}

/// Why a daemon does not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error("expected a daemon at {path}, found none")]
    NoDaemon {
        /// Path of its socket.
        path: PathBuf,
    },
    /// The user may not ask.
    #[error(
        "expected permission to ask the daemon at {path}, found none: members of the socket's group have it"
    )]
    Forbidden {
        /// Path of its socket.
        path: PathBuf,
    },
    /// The connection broke.
    #[error("expected an answer of the daemon at {path}, found {found}")]
    Broken {
        /// Path of its socket.
        path: PathBuf,
        /// What came instead.
        found: String,
    },
    /// The daemon does not do it.
    #[error("{0}")]
    Refused(String),
}

impl Client {
    /// Connects to the daemon whose socket is at `path`.
    ///
    /// # Errors
    /// [`ClientError`] where no daemon is there, or it speaks another protocol.
    pub fn connect(path: &Path) -> Result<Client, ClientError> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon { path: path.to_owned() }
            }
            ErrorKind::PermissionDenied => ClientError::Forbidden { path: path.to_owned() },
            _ => broken(path, &error),
        })?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| broken(path, &error))?;
        let mut client = Client { reading: BufReader::new(stream), path: path.to_owned() };
        let greeting = client.read()?;
        if let Some(refused) = greeting["error"].as_str() {
            return Err(ClientError::Refused(refused.to_owned()));
        }
        if greeting["protocol"] != PROTOCOL {
            let found = format!("the greeting {greeting}, not that of protocol {PROTOCOL}");
            return Err(ClientError::Broken { path: path.to_owned(), found });
        }
        client.reading.get_ref().set_read_timeout(None).map_err(|error| broken(path, &error))?;
        Ok(client)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the daemon's sentence, [`ClientError::Broken`] where no answer comes.
    pub fn ask(&mut self, request: &Request) -> Result<Value, ClientError> {
        let sent = self.reading.get_mut().write_all(format!("{request}\n").as_bytes());
        sent.map_err(|error| broken(&self.path, &error))?;
        let answer = self.read()?;
        match answer["error"].as_str() {
            Some(refused) => Err(ClientError::Refused(refused.to_owned())),
            None => Ok(answer),
        }
    }

    fn read(&mut self) -> Result<Value, ClientError> {
        let mut line = String::new();
        let read = (&mut self.reading).take(ANSWER_BYTES_MAX).read_line(&mut line);
        let length = read.map_err(|error| broken(&self.path, &error))?;
        if length == 0 {
            let error = io::Error::from(ErrorKind::UnexpectedEof);
            return Err(broken(&self.path, &error));
        }
        let found =
            |error| ClientError::Broken { path: self.path.clone(), found: format!("no JSON: {error}") };
        serde_json::from_str(&line).map_err(found)
    }
}

fn broken(path: &Path, error: &io::Error) -> ClientError {
    ClientError::Broken { path: path.to_owned(), found: error.to_string() }
}
