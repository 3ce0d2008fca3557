//! A session as a rig would send it: which bins, in which order, and when.
//!
//! A [`Plan`] is the whole stream, known before the first bin is sent. A [`FaultPlan`](faults::FaultPlan) says what goes
//! wrong on the way to the daemon: which bins are lost, late, repeated or damaged. [`Pace`] says at which instant each bin
//! is due. Nothing here opens a socket or reads a clock; `transport` sends what is planned here.

pub mod faults;
mod pace;
mod plan;

pub use pace::{Pace, Speed};
pub use plan::{Channels, Plan, PlanError, RecordedBin};

use serde::Serialize;

/// How far a play has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Number of bins sent so far.
    pub sent: usize,
    /// Number of bins to send in all: those of the plan, without those that faults lose, and with their copies.
    pub bins: usize,
    /// Number of segments begun so far.
    pub segment: usize,
}

/// What a finished play has sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PlayReport {
    /// Number of bins sent, including copies.
    pub bins: usize,
    /// Number of sent bins that were dropped because a subscriber did not read fast enough; 0 at [`Speed::Max`].
    pub dropped: usize,
    /// Number of segments whose first bin was sent.
    pub segments: usize,
    /// Number of channels in a bin.
    pub channels: usize,
    /// Time from the start (one bin width before the first bin is due) to the last bin, in seconds.
    pub seconds: f64,
    /// Longest time between the instant at which a bin was due and its sending, in us; absent at [`Speed::Max`].
    pub late_us_max: Option<u64>,
}
