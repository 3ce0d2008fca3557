//! ZeroMQ: bins in ([`source`]), estimates out ([`publisher`]). [`ipc`] says who can reach the sockets that are files.
//!
//! The sockets live on a small tokio runtime of two threads that moves bytes; the source thread and the publish thread stay
//! plain threads that block on it. The library allocates for every message; our own code here reuses what it can.

pub mod ipc;
pub mod publisher;
pub mod source;

use self::ipc::IpcSettings;
use crate::host::realtime::{self, RealtimeSettings};
use ndt_protocol::endpoint::socket_file::{self, Occupant};
use ndt_protocol::endpoint::{Role, SocketAddress};
use std::io;
use std::time::Duration;
use tokio::runtime::Runtime;
use zeromq::{PubSocket, Socket, SocketOptions};

/// Longest wait for a message or a connection, after which the thread can be asked to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// Longest wait for a peer while it is tried whether a socket can be opened.
const TRY_FOR: Duration = Duration::from_secs(1);

/// Why a socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ZeromqError {
    /// The runtime's threads cannot be started.
    #[error("expected two threads for ZeroMQ, found {0}")]
    Runtime(io::Error),
    /// The address is in use, or does not belong to this machine.
    #[error("expected to bind {address}, found {error}")]
    Bind {
        /// Address as the configuration gives it.
        address: String,
        /// Error of the library.
        error: zeromq::ZmqError,
    },
    /// Something that must stay is at the path of an `ipc://` socket.
    #[error("expected to bind {address}, found {found}")]
    Occupied {
        /// Address as the configuration gives it.
        address: String,
        /// What is there.
        found: &'static str,
    },
    /// The file of a socket does not get the configured mode or group.
    #[error(
        "expected to give {address} the mode and the group of [ipc], found {error}; a service is made a member by SupplementaryGroups="
    )]
    Access {
        /// Address as the configuration gives it.
        address: String,
        /// Error of the system.
        error: io::Error,
    },
}

/// Binds a socket, and returns its address as bound. A file that a killed program left at the path of an `ipc://` socket is
/// removed before; the new one gets the mode and the group of `settings`.
///
/// # Errors
/// [`ZeromqError`] when the address is not bound, or not as it is configured.
fn bind(
    runtime: &Runtime,
    socket: &mut impl Socket,
    endpoint: &SocketAddress,
    settings: &IpcSettings,
) -> Result<String, ZeromqError> {
    let address = || endpoint.address.clone();
    let occupied = |found: Occupant| ZeromqError::Occupied { address: address(), found: found.words() };
    socket_file::make_way(endpoint).map_err(occupied)?;
    let bound = runtime.block_on(socket.bind(&endpoint.address));
    let bound = bound.map_err(|error| ZeromqError::Bind { address: address(), error })?.to_string();
    if let Some(file) = endpoint.file() {
        settings.apply(file).map_err(|error| ZeromqError::Access { address: address(), error })?;
    }
    Ok(bound)
}

/// Binds or connects a socket and lets go of it.
///
/// # Errors
/// [`ZeromqError`] when the socket cannot be opened.
pub fn try_open(endpoint: &SocketAddress, role: Role, settings: &IpcSettings) -> Result<(), ZeromqError> {
    let runtime = runtime(&RealtimeSettings::default())?;
    let _on_runtime = runtime.enter();
    let mut options = SocketOptions::default();
    options.connect_timeout(TRY_FOR);
    let mut socket = PubSocket::with_options(options);
    match role {
        Role::Bind => drop(bind(&runtime, &mut socket, endpoint, settings)?),
        Role::Connect => {
            let connected = runtime.block_on(socket.connect(&endpoint.address));
            connected.map_err(|error| ZeromqError::Bind { address: endpoint.address.clone(), error })?;
        }
    }
    // Removes the file of an `ipc://` socket; what is left of it would be removed at the next start.
    drop(runtime.block_on(socket.unbind_all()));
    Ok(())
}

/// Starts the runtime on which the sockets live. Every bin and every estimate passes through its threads, so they ask the
/// system for the same real-time settings as the pipeline's own threads. What the system refuses them it refuses those too,
/// which report it.
///
/// # Errors
/// [`ZeromqError::Runtime`] when the system gives no threads.
pub fn runtime(settings: &RealtimeSettings) -> Result<Runtime, ZeromqError> {
    let settings = settings.clone();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).thread_name("zeromq").enable_all();
    builder.on_thread_start(move || drop(realtime::enter(&settings)));
    builder.build().map_err(ZeromqError::Runtime)
}
