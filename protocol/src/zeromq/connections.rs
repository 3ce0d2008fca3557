//! The connections of one socket: how many there are, and those that the library has given up.

use super::{Event, HANDSHAKE_MS, Socket};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// Time after a loss without an attempt to connect after which the connection is made anew, ns.
const RENEW_AFTER_NS: u64 = HANDSHAKE_MS as u64 * 1_000_000;

/// Follows the events of a socket's connections.
#[derive(Debug)]
pub(super) struct Connections {
    /// Address to connect to; `None` for a socket that is bound.
    connects_to: Option<String>,
    /// When a connection was lost that the library has not tried to make again, `CLOCK_MONOTONIC` ns.
    lost_ns: Option<u64>,
    /// Number of connections to a bound socket, those included that are no peers of ZeroMQ yet.
    open: Arc<AtomicI64>,
}

impl Connections {
    pub fn new(connects_to: Option<String>) -> Connections {
        Connections { connects_to, lost_ns: None, open: Arc::default() }
    }

    pub fn open(&self) -> &Arc<AtomicI64> {
        &self.open
    }

    /// Whether the socket connects, and is not bound.
    pub fn connect(&self) -> bool {
        self.connects_to.is_some()
    }

    /// Notes an event. Does not wait, lock or allocate.
    pub fn note(&mut self, event: Event, now_ns: u64) {
        count(&self.open, event);
        match event {
            Event::Reached(_) | Event::Retried => self.lost_ns = None,
            Event::Lost(_) => self.lost_ns = Some(now_ns),
            Event::Accepted(_) | Event::Met => {}
        }
    }

    /// The library gives a connection up for ever whose peer breaks the rules, for instance with a frame that is too long. A peer that is
    /// mended and started again is found again: connects anew, once it is clear that the library does not.
    pub fn renew_if_given_up(&mut self, socket: &Socket, now_ns: u64) {
        let Some(address) = &self.connects_to else { return };
        if self.lost_ns.is_some_and(|lost_ns| now_ns.saturating_sub(lost_ns) > RENEW_AFTER_NS) {
            socket.disconnect(address);
            // The address was one when the socket was opened.
            drop(socket.connect(address));
            self.lost_ns = Some(now_ns);
        }
    }
}

/// Counts the connections to a bound socket.
pub(super) fn count(open: &AtomicI64, event: Event) {
    match event {
        Event::Accepted(_) => _ = open.fetch_add(1, Relaxed),
        Event::Lost(_) => _ = open.fetch_sub(1, Relaxed),
        Event::Met | Event::Reached(_) | Event::Retried => {}
    }
}
