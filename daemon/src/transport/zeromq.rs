//! ZeroMQ: bins in ([`source`]), estimates out ([`publisher`]).
//!
//! The sockets live on a small tokio runtime of two threads that moves bytes; the source thread and the publish thread stay
//! plain threads that block on it. The library allocates for every message; our own code here reuses what it can.

pub mod publisher;
pub mod source;

use crate::host::realtime::{self, RealtimeSettings};
use std::io;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Longest wait for a message or a connection, after which the thread can be asked to stop.
const PATIENCE: Duration = Duration::from_millis(100);

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
