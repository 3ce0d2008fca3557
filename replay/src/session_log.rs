//! Session logs, which a daemon records: exported as NWB, played again, and reported.
//!
//! [`bins`] takes the bins out of a log and gives them one axis of time, [`export`] makes a recording of them and of what was
//! published, and [`report`] says how the session went. `ndt-replay verify` computes a session again; that is the daemon's own code.

pub mod bins;
pub mod export;
pub mod report;

pub use ndt_protocol::session_log::reader::is_log;
