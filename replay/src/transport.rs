//! Moving bins and estimates between programs: ZeroMQ sockets and streams of Lab Streaming Layer.
//!
//! Each transport has two loops: `play` sends a plan, `listen` feeds a tally. They own sockets and read the clock; what is
//! sent and what is counted is decided in [`play`](crate::play) and [`listen`](crate::listen).

pub mod lsl;
pub mod zeromq;

use crate::play::Pace;
use ndt_protocol::clock::{monotonic_ns, sleep_until_ns};

/// Sleeps until `played_ns` of played time is due. Returns at once at full speed.
fn wait_until_due(pace: &mut Pace, played_ns: u64) {
    if let Some(due_ns) = pace.due_ns(played_ns) {
        sleep_until_ns(due_ns);
        pace.sent(due_ns, monotonic_ns());
    }
}
