//! A rig that isn't there: reads recordings, simulates them, plays them out, and listens to a decoder.
//!
//! All parts share one type, the [`session::Session`] (a recording in memory):
//!
//! ```text
//! nwb, simulate --> session --> play (which bins, when, with which faults) --> transport --> daemon
//!                      |                                                                       |
//!                   inspect                 listen (count, score, check) <-- transport <-------+
//! ```
//!
//! A daemon's own record of a session is a [`session_log`]: exported, reported and played like a recording.
//!
//! A [`decoded::DecodedSession`] is the way back: what a decoder answers to a recording, which [`nwb`] and [`npz`] write.
//!
//! [`play`] and [`listen`] are pure: they take bins, estimates and times, and open no socket. [`transport`] moves
//! messages over ZeroMQ and Lab Streaming Layer; the feature `transports` (on by default) builds it, so that a program
//! that only reads, writes or simulates recordings builds neither ZeroMQ nor tokio.

pub mod decoded;
pub mod h5;
pub mod inspect;
pub mod listen;
pub mod npz;
pub mod nwb;
pub mod play;
mod random;
pub mod session;
pub mod session_log;
pub mod simulate;
pub mod stop;
#[cfg(feature = "transports")]
pub mod transport;
