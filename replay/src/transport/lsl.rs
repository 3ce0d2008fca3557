//! Lab Streaming Layer: a player offers streams (`play --to lsl:NAME`), a listener receives a daemon's velocity stream
//! (`listen lsl:NAME`). `protocol/LSL.md` describes the streams.

mod inlets;
mod listen;
mod play;

pub use listen::{Sources, listen};
pub use play::{Streams, play};

use crate::listen::Silence;
use ndt_protocol::lsl::LslError;
use std::time::Duration;

/// Why playing to streams or listening to them failed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The library failed.
    #[error(transparent)]
    Lsl(#[from] LslError),
    /// Nobody receives the stream in time.
    #[error("expected a receiver of the stream \"{name}\" within {} s, found none", wait.as_secs_f64())]
    NoReceiver {
        /// Name of the stream.
        name: String,
        /// Time waited.
        wait: Duration,
    },
    /// There is no matching stream, or more than one.
    #[error("expected one stream with {wanted} within {} s, found {found}", wait.as_secs_f64())]
    NotOne {
        /// Condition that the stream must meet.
        wanted: String,
        /// Time waited.
        wait: Duration,
        /// Streams that were found.
        found: String,
    },
    /// The channels of the stream are not those of a daemon's velocity stream.
    #[error("expected the channels quality, reasons and bin after up to 3 components, found {0}")]
    Layout(String),
    /// No estimate arrived in time.
    #[error(transparent)]
    Silence(#[from] Silence),
}
