//! Lab Streaming Layer: the few functions of `liblsl.so` that this project uses, loaded at run time.
//!
//! Nothing needs the library to build or to run until a stream is asked for; [`Library::load`] then says in one
//! sentence how to get it. `library.rs` alone knows its C interface. What streams consist of is in `LSL.md`.
//!
//! **Threads:** liblsl's objects have no home thread, so that [`Inlet`], [`Outlet`] and [`StreamInfo`] may move to the
//! thread that uses them; two threads at once may not use one, so that none can be shared. Each inlet and outlet starts
//! threads of its own, which inherit scheduling class and CPUs of the thread that made it.

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

/// Content type of a stream of counts, one sample for each bin.
pub const TYPE_COUNTS: &str = "BinnedSpikes";
/// Content type of an irregular stream with one sample for each spike, which holds its channel.
pub const TYPE_EVENTS: &str = "Spikes";
/// Content type of firing rates.
pub const TYPE_RATES: &str = "Rates";
/// Content type of the decoded velocity, with its quality.
pub const TYPE_VELOCITY: &str = "Velocity";
/// Content type of recorded behaviour.
pub const TYPE_BEHAVIOR: &str = "Kinematics";

/// Label of the channel of a count stream that is not 0 where a stretch of continuous data begins.
pub const LABEL_SEGMENT_START: &str = "segment-start";
/// Label of the velocity stream's channel that holds [`crate::Quality`] as a number.
pub const LABEL_QUALITY: &str = "quality";
/// Label of the velocity stream's channel that holds [`crate::Reasons`] as a number.
pub const LABEL_REASONS: &str = "reasons";
/// Label of the velocity stream's channel that holds the number of the bin, modulo [`BIN_MODULO`].
pub const LABEL_BIN: &str = "bin";
/// Labels of the velocity stream's components, in order.
pub const LABELS_VELOCITY: [&str; crate::limits::VELOCITY_DIMS_MAX] = ["vx", "vy", "vz"];

/// A sender's clock has jumped when a time stamp is further than this from the time that has passed here, s. Within it,
/// samples may only have waited on the way.
pub const CLOCK_JUMP_S: f64 = 0.5;
/// The most that two clocks are taken to drift apart, seconds per second.
pub const CLOCK_DRIFT_MAX: f64 = 2e-4;

/// Numbers of bins begin again here: what a `float32` holds exactly, four days of 20 ms bins.
pub const BIN_MODULO: u64 = 1 << 24;

/// Name of the daemon's streams where none is given.
pub const NAME_DAEMON: &str = "ndtd";
/// Name of a player's stream where none is given.
pub const NAME_REPLAY: &str = "ndt-replay";

/// Name of the velocity stream of the daemon's output `name`.
pub fn velocity_name(name: &str) -> String {
    format!("{name}-velocity")
}

/// Name of the rates stream of the daemon's output `name`.
pub fn rates_name(name: &str) -> String {
    format!("{name}-rates")
}

/// Name of the behaviour stream of the player `name`.
pub fn behavior_name(name: &str) -> String {
    format!("{name}-behavior")
}

/// Why a stream cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LslError {
    /// The shared library is not where it was looked for, or is none of liblsl's.
    #[error(
        "expected liblsl in {looked_for}, found {found}; get it with `pip install pylsl` and set library in [lsl] (or \
         --lsl-library) to its pylsl/lib/liblsl.so, or install a release of github.com/sccn/liblsl"
    )]
    Library {
        /// Where.
        looked_for: String,
        /// What the loader says.
        found: String,
    },
    /// A text that no C function takes.
    #[error("expected {what} without a zero byte, found {text:?}")]
    Text {
        /// Which.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// The library did not do what was asked.
    #[error("expected liblsl to {what}, found {found}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// What it says.
        found: String,
    },
    /// The peer has closed the stream, or cannot be reached.
    #[error("expected the stream to go on, found it lost")]
    Lost,
    /// Not within the time that was given.
    #[error("expected an answer of the stream's host in time, found none")]
    Timeout,
}
