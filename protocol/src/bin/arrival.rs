//! The arrival of a bin, without its counts.

use super::{ClockOffset, Due};
use crate::limits::OUTPUTS_MAX;

/// The outputs of an estimate, mostly the components of a velocity; a model with fewer leaves the last ones unused.
pub type Velocity = [f32; OUTPUTS_MAX];

/// The arrival of a bin: all that the guard needs of the bin to hold its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Arrival {
    /// Number of the bin.
    pub seq: u64,
    /// Run of the source that the bin belongs to.
    pub stream: u64,
    /// End of the bin by the source's clock, ns.
    pub source_ns: i64,
    /// When the bin was complete on this machine, `CLOCK_MONOTONIC` ns.
    pub arrival_ns: u64,
    /// When the bin was due.
    pub due: Due,
    /// Offset of the source's clock; `None` while nothing is known about it.
    pub offset: Option<ClockOffset>,
    /// Velocity that the fallback decoder has for the bin; `None` without a fallback decoder or without enough history.
    pub velocity: Option<Velocity>,
}
