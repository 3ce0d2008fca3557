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

use ndt_protocol::endpoint::socket_file::{self, Occupant};
use ndt_protocol::endpoint::{Role, SocketAddress};
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
    /// Something that must stay is at the path of the socket.
    #[error("expected to open {address}, found {found}")]
    Occupied {
        /// Address of the socket.
        address: String,
        /// What is there.
        found: &'static str,
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
            let occupied =
                |found: Occupant| ZeromqError::Occupied { address: address.clone(), found: found.words() };
            socket_file::make_way(endpoint).map_err(occupied)?;
            socket.bind(&address).await.map(|bound| bound.to_string())
        }
        Role::Connect => socket.connect(&address).await.map(|()| address.clone()),
    };
    opened.map_err(|error| ZeromqError::Open { address, error })
}

#[cfg(test)]
mod tests;
