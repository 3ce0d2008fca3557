//! The peers of the sockets that the daemon binds.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

/// The connections to one socket that the daemon has bound.
#[derive(Clone)]
pub struct Peers {
    /// Address as bound.
    pub address: String,
    /// Number of connections, those included that are no peers of ZeroMQ yet. Another thread counts them.
    pub connections: Arc<AtomicI64>,
}
