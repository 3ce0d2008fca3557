//! ZeroMQ: a player publishes bins on a socket, a listener subscribes to a daemon's estimates. Only this module names the
//! library.
//!
//! The library notices subscriptions only while it is asked to receive, and each socket needs an async runtime. So each
//! socket belongs to a task, with a bounded queue between it and the caller: [`Sender`] and [`Receiver`] have plain, blocking
//! methods.

mod listen;
mod play;
mod receiver;
mod sender;

pub use listen::{ListenError, listen};
pub use play::{PlayError, play};
pub use receiver::{Message, Receiver};
pub use sender::Sender;

use ndt_protocol::endpoint::{Role, SocketAddress};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use tokio::runtime::Runtime;
use zeromq::Socket;

/// Number of messages that wait between a caller and its socket: five seconds of 5 ms bins.
const QUEUE_MESSAGES: usize = 1024;

/// Why a socket cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum ZeromqError {
    /// The threads of the async runtime cannot be started.
    #[error("expected a thread for ZeroMQ, found {0}")]
    Runtime(std::io::Error),
    /// The address is in use or not on this machine, or no peer is there.
    #[error("expected to open {address}, found {error}")]
    Open {
        /// Address of the socket.
        address: String,
        /// The library's error.
        error: zeromq::ZmqError,
    },
    /// Nobody subscribes in time.
    #[error("expected a subscriber on {address} within {seconds} s, found none")]
    NoSubscriber {
        /// Address of the socket.
        address: String,
        /// Time waited, in seconds.
        seconds: f64,
    },
    /// A subscriber does not read.
    #[error("expected the subscriber on {address} to read, found it stuck for {seconds} s")]
    Stuck {
        /// Address of the socket.
        address: String,
        /// Time waited, in seconds.
        seconds: f64,
    },
}

fn runtime() -> Result<Runtime, ZeromqError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("zeromq").enable_all().build().map_err(ZeromqError::Runtime)
}

/// Binds or connects a socket, and returns the address as bound or connected to.
async fn open(socket: &mut impl Socket, endpoint: &SocketAddress, role: Role) -> Result<String, ZeromqError> {
    let address = endpoint.address.clone();
    let opened = match role {
        Role::Bind => {
            remove_left_socket(&address);
            socket.bind(&address).await.map(|bound| bound.to_string())
        }
        Role::Connect => socket.connect(&address).await.map(|()| address.clone()),
    };
    opened.map_err(|error| ZeromqError::Open { address, error })
}

/// Removes the socket file that a program left behind when it ended, as libzmq does. The Rust library does not, and could
/// never bind that path again. Any other file is left alone.
fn remove_left_socket(address: &str) {
    let Some(path) = address.strip_prefix("ipc://") else { return };
    // To connect to a file that is no socket is refused as well, and such a file is somebody's data.
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).is_err_and(refused) {
        drop(std::fs::remove_file(path));
    }
}

#[cfg(test)]
mod tests;
