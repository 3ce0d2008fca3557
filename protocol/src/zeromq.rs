//! ZeroMQ: the few functions of libzmq that this project uses, and the two sides of a connection that carries its messages.
//!
//! The library is the one that nearly every other program of the field runs. It is loaded at run time, when an endpoint first asks for
//! it; if it is missing, [`Library::load`] says in one sentence how to get it. Only `library.rs` knows its C interface.
//! `daemon/docs/transport.md` says why it was chosen, and what it is told to refuse.
//!
//! A [`Publisher`] sends messages of a few frames to every [`Subscriber`] that is there. Both can bind an address or connect to it. A side
//! that connects does so for ever, at most [`RECONNECT_MS`] apart, whether or not the peer was there before.
//!
//! **Threads:** a [`Context`] may be shared. A socket may move to another thread; two threads must not use one at the same time, and the
//! compiler sees to it. The library moves the bytes on threads of its own, which inherit the scheduling class, priority and CPUs of
//! the thread that opens the first socket of their context.

pub mod admission;
mod connections;
mod context;
pub mod curve;
mod library;
mod message;
mod monitor;
mod publisher;
mod socket;
mod subscriber;

pub use context::Context;
pub use library::Library;
pub use message::Frames;
pub use monitor::{Event, Monitor};
pub use publisher::{Publisher, Sent};
pub use socket::{Kind, Socket};
pub use subscriber::{Heard, Link, Subscriber};

use crate::endpoint::socket_file::{self, Occupant};
use crate::endpoint::{Role, SocketAddress};
use connections::Connections;
use std::path::{Path, PathBuf};

/// Longest time between two attempts to reach a peer, ms.
pub const RECONNECT_MS: i32 = 100;
/// Longest time that a connection may take to become one of ZeroMQ; after it, the connection is closed, ms.
pub const HANDSHAKE_MS: i32 = 1_000;
/// Interval of the heartbeats that are sent to each peer, ms.
pub const HEARTBEAT_MS: i32 = 250;
/// Time without an answer to a heartbeat after which a peer is taken as gone, ms.
pub const HEARTBEAT_PATIENCE_MS: i32 = 700;
/// Time without an acknowledgement of what was sent, or of the system's probes, after which a TCP connection is closed, ms.
pub const UNACKNOWLEDGED_MS: i32 = 1_000;
/// Beginning of the names under which the library asks who may come in.
const ADMISSION_DOMAIN: &str = "ndt";

/// Limits and keys of a socket.
#[derive(Debug, Clone)]
pub struct Options {
    /// Longest frame that a peer may send, bytes. The connection of a peer that sends a longer one is closed before the frame is read.
    pub frame_bytes_max: usize,
    /// Messages that wait for each peer that does not read. What comes after them is dropped. What is received has no such limit.
    pub queue_messages: usize,
    /// Size of the system's buffer for what is sent to each peer, bytes; `None` for the system's own choice.
    pub send_buffer_bytes: Option<usize>,
    /// Bytes of a connection that the system keeps until the library reads them; `None` for the system's choice.
    pub receive_buffer_bytes: Option<usize>,
    /// How long what was sent is still delivered after the socket is closed, ms.
    pub linger_ms: i32,
    /// Which of the context's I/O threads serves the socket, from 0.
    pub io_thread: u32,
    /// Name under which the library asks the context's [`admission`] about each peer that connects; `None` lets everybody in.
    pub domain: Option<String>,
    /// Encryption, if any.
    pub keys: Option<Keys>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            frame_bytes_max: 1 << 20,
            queue_messages: 1024,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            linger_ms: 0,
            io_thread: 0,
            domain: None,
            keys: None,
        }
    }
}

/// The keys of one end of an encrypted connection ([CurveZMQ](https://rfc.zeromq.org/spec/26/)).
#[derive(Debug, Clone)]
pub struct Keys {
    /// This end's own pair.
    pub own: curve::KeyPair,
    /// Public key of the end that binds; needed by the end that connects.
    pub server: Option<curve::PublicKey>,
}

/// Why the library or a socket cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZeromqError {
    /// The shared library cannot be loaded, or is not libzmq.
    #[error(
        "expected libzmq in {looked_for}, found {found}; get it with `apt install libzmq5`, or set library in [zeromq] to a copy of it"
    )]
    Library {
        /// Path that was tried.
        looked_for: String,
        /// Message of the loader.
        found: String,
    },
    /// The library lacks what a setting needs.
    #[error("expected a libzmq {expected}, found version {found}")]
    Version {
        /// What the library should have.
        expected: &'static str,
        /// Version of the library.
        found: String,
    },
    /// The address is in use, or does not belong to this machine.
    #[error("expected to bind {address}, found {found}")]
    Bind {
        /// Address as the configuration gives it.
        address: String,
        /// What is wrong with it: the library's words, or what lies at the path of the socket.
        found: String,
    },
    /// The address is none.
    #[error("expected to connect to {address}, found {found}")]
    Connect {
        /// Address as the configuration gives it.
        address: String,
        /// The library's words.
        found: String,
    },
    /// An end that connects needs the other's public key.
    #[error("expected the public key of {address}, to which an encrypted connection is made, found none")]
    NoServerKey {
        /// Address as the configuration gives it.
        address: String,
    },
    /// A call failed that only fails when the system has no memory or file descriptors left.
    #[error("expected libzmq to {what}, found {found}")]
    Refused {
        /// What the library was asked to do.
        what: &'static str,
        /// Message of the library.
        found: String,
    },
}

/// The file of an `ipc://` socket that was bound; it is removed with its socket, as libzmq does not.
struct BoundFile(Option<PathBuf>);

impl Drop for BoundFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // It may be gone already.
            drop(std::fs::remove_file(path));
        }
    }
}

/// A socket at work.
struct Opened {
    monitor: Monitor,
    connections: Connections,
    /// Address as bound or connected to.
    address: String,
    file: BoundFile,
}

/// Gives `socket` its part in the encryption, and binds it to the address of `endpoint` or connects it, as `role` says. What a killed
/// program left at the path of an `ipc://` socket is removed before.
///
/// # Errors
/// [`ZeromqError::Bind`] when the address cannot be bound, [`ZeromqError::NoServerKey`] for an encrypted connection to nobody. A
/// peer that is not there is no error.
fn open(
    socket: &Socket,
    endpoint: &SocketAddress,
    role: Role,
    options: &Options,
) -> Result<Opened, ZeromqError> {
    match (role, &options.keys) {
        (_, None) => {}
        (Role::Bind, Some(_)) => socket.serve_encrypted()?,
        (Role::Connect, Some(Keys { server: Some(server), .. })) => socket.expect_server(server)?,
        (Role::Connect, Some(Keys { server: None, .. })) => {
            return Err(ZeromqError::NoServerKey { address: endpoint.address.clone() });
        }
    }
    // From before the first connection on.
    let monitor = Monitor::of(socket)?;
    match role {
        Role::Connect => {
            let address = endpoint.address.clone();
            socket.connect(&address)?;
            let connections = Connections::new(Some(address.clone()));
            Ok(Opened { monitor, connections, address, file: BoundFile(None) })
        }
        Role::Bind => {
            let occupied = |found: Occupant| ZeromqError::Bind {
                address: endpoint.address.clone(),
                found: found.words().to_owned(),
            };
            socket_file::make_way(endpoint).map_err(occupied)?;
            let address = socket.bind(&endpoint.address)?;
            let file = BoundFile(endpoint.file().map(Path::to_owned));
            Ok(Opened { monitor, connections: Connections::new(None), address, file })
        }
    }
}
