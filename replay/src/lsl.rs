//! Lab Streaming Layer out (`play --to lsl:NAME`) and in (`listen lsl:NAME`). `protocol/LSL.md` says what streams
//! consist of.

mod hear;
mod send;

pub use hear::{Sources, hear};
pub use send::{Sending, send};

use ndt_protocol::lsl::LslError;
use std::time::Duration;

/// Why a session cannot be played or heard over streams.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The library.
    #[error(transparent)]
    Lsl(#[from] LslError),
    /// Nobody receives.
    #[error("expected a receiver of the stream \"{name}\" within {} s, found none", wait.as_secs_f64())]
    NoReceiver {
        /// The stream.
        name: String,
        /// How long was waited.
        wait: Duration,
    },
    /// No stream, or too many.
    #[error("expected one stream with {wanted} within {} s, found {found}", wait.as_secs_f64())]
    NotOne {
        /// The condition.
        wanted: String,
        /// How long was waited.
        wait: Duration,
        /// What there is.
        found: String,
    },
    /// It is not the daemon's.
    #[error("expected the channels quality, reasons and bin after up to 3 components, found {0}")]
    Layout(String),
}
