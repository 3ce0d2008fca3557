//! Lab Streaming Layer: what streams are called and consist of, and the few functions of `liblsl.so` that this
//! project uses.
//!
//! The library is loaded at run time, when a stream is first asked for; if it is missing, [`Library::load`] says in
//! one sentence how to get it. Only `library.rs` knows its C interface. `LSL.md` documents the streams.
//!
//! **Threads:** an [`Inlet`], [`Outlet`] or [`StreamInfo`] may move to the thread that uses it, because liblsl ties
//! none of them to a thread; two threads must not use one at the same time, so that none can be shared. Each inlet
//! and outlet starts threads of its own, which inherit the scheduling class and the CPUs of the thread that made it.

mod inlet;
mod library;
mod outlet;
mod query;
mod stream_info;

pub use inlet::{Correction, Inlet};
pub use library::Library;
pub use outlet::Outlet;
pub use query::{Query, QueryError};
pub use stream_info::{Channel, Description, Format, Kind, StreamInfo};

/// Content type of a stream of counts: one sample for each bin.
pub const TYPE_COUNTS: &str = "BinnedSpikes";
/// Content type of an irregular stream of spikes: one sample for each spike, with the spike's channel.
pub const TYPE_EVENTS: &str = "Spikes";
/// Content type of firing rates.
pub const TYPE_RATES: &str = "Rates";
/// Content type of decoded velocity with its quality.
pub const TYPE_VELOCITY: &str = "Velocity";
/// Content type of recorded behaviour.
pub const TYPE_BEHAVIOR: &str = "Kinematics";

/// Label of the channel of a count stream that is not 0 where a segment of continuous data starts.
pub const LABEL_SEGMENT_START: &str = "segment-start";
/// Label of the velocity stream's channel that holds [`crate::Quality`] as a number.
pub const LABEL_QUALITY: &str = "quality";
/// Label of the velocity stream's channel that holds [`crate::Reasons`] as a number.
pub const LABEL_REASONS: &str = "reasons";
/// Label of the velocity stream's channel that holds the number of the bin, modulo [`BIN_MODULO`].
pub const LABEL_BIN: &str = "bin";
/// Labels of the velocity stream's components, in order.
pub const LABELS_VELOCITY: [&str; crate::limits::VELOCITY_DIMS_MAX] = ["vx", "vy", "vz"];

/// Largest plausible difference, s, between the time that has passed by the sender's time stamps and by our clock. Beyond it, the
/// sender's clock has jumped; within it, samples may only have waited on the way.
pub const CLOCK_JUMP_S: f64 = 0.5;
/// The most that two clocks are taken to drift apart, seconds per second.
pub const CLOCK_DRIFT_MAX: f64 = 2e-4;

/// Bin numbers start again from 0 at this number, because a `float32` holds integers exactly up to it: after four
/// days of 20 ms bins.
pub const BIN_MODULO: u64 = 1 << 24;

/// Default name of the daemon's streams.
pub const NAME_DAEMON: &str = "ndtd";
/// Default name of a player's stream.
pub const NAME_REPLAY: &str = "ndt-replay";

/// Returns the name of the velocity stream of the daemon's output `name`.
pub fn velocity_name(name: &str) -> String {
    format!("{name}-velocity")
}

/// Returns the name of the rates stream of the daemon's output `name`.
pub fn rates_name(name: &str) -> String {
    format!("{name}-rates")
}

/// Returns the name of the behaviour stream of the player `name`.
pub fn behavior_name(name: &str) -> String {
    format!("{name}-behavior")
}

/// Why the library or a stream cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LslError {
    /// The shared library cannot be loaded, or is not liblsl.
    #[error(
        "expected liblsl in {looked_for}, found {found}; get it with `pip install pylsl` and set library in [lsl] (or \
         --lsl-library) to its pylsl/lib/liblsl.so, or install a release of github.com/sccn/liblsl"
    )]
    Library {
        /// Path that was tried.
        looked_for: String,
        /// Message of the loader.
        found: String,
    },
    /// A text holds a zero byte, which no C string can hold.
    #[error("expected {what} without a zero byte, found {text:?}")]
    Text {
        /// What the text was meant for, such as `a name`.
        what: &'static str,
        /// Text that was given.
        text: String,
    },
    /// The library failed to do what was asked.
    #[error("expected liblsl to {what}, found {found}")]
    Refused {
        /// What the library was asked to do.
        what: &'static str,
        /// Message of the library.
        found: String,
    },
    /// The peer has closed the stream, or cannot be reached.
    #[error("expected the stream to go on, found it lost")]
    Lost,
    /// The stream's host did not answer within the given time.
    #[error("expected an answer of the stream's host in time, found none")]
    Timeout,
}
