//! What a daemon publishes: counted, timed, scored against the recording, and checked against a fault plan.
//!
//! [`Tally`] takes estimates and the times at which they arrived, and [`Tally::summary`] returns the figures.
//! [`Expectation`](expectation::Expectation) knows which estimates a fault plan allows. [`Picture`](picture::Picture) draws
//! decoded against true movement. Nothing here opens a socket or reads a clock; `transport` receives the estimates.

pub mod expectation;
mod order;
pub mod picture;
mod score;
mod summary;
mod tally;

pub use score::{by_axis, by_name};
pub use summary::{Latency, Summary};
pub use tally::Tally;

use std::time::Duration;

/// Name of the series in a recording that holds the true velocity of the hand.
pub const TRUTH_SERIES: &str = "hand_vel";

/// When listening ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Until {
    /// Listening ends after this many estimates.
    pub count: Option<u64>,
    /// Listening ends after this time without a bin of the source: estimates that are `stale` do not count. It counts from the
    /// first estimate on.
    pub idle: Option<Duration>,
    /// Longest wait for the first estimate; after it, listening fails.
    pub first: Duration,
}

/// Error of listening: no estimate arrived in time.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("expected an estimate from {address} within {seconds} s, found {found}")]
pub struct Silence {
    /// Address or stream that was listened to.
    pub address: String,
    /// Time waited, in seconds.
    pub seconds: f64,
    /// What arrived instead of an estimate.
    pub found: String,
}
