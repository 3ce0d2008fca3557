//! The end that receives.

use super::{
    BoundFile, Context, Event, Frames, HANDSHAKE_MS, Kind, Library, Monitor, Options, Role, Socket,
    SocketAddress, ZeromqError, open,
};
use crate::clock::monotonic_ns;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

/// How long [`Subscriber::receive`] waits for a message.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// Time after a loss without an attempt to connect after which the connection is made anew, ns.
const RENEW_AFTER_NS: u64 = HANDSHAKE_MS as u64 * 1_000_000;

/// Receives messages from a peer whenever the peer is there, or from every peer that connects to a bound address.
pub struct Subscriber {
    socket: Socket,
    monitor: Monitor,
    /// Address to connect to; `None` for a subscriber that is bound.
    connects_to: Option<String>,
    link: Link,
    /// When a connection was lost that the library has not tried to make again, `CLOCK_MONOTONIC` ns.
    lost_ns: Option<u64>,
    connections: Arc<AtomicI64>,
    _file: BoundFile,
}

/// Whether a subscriber has a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// No peer was there yet.
    NoAnswer,
    /// A peer is there.
    Met,
    /// The last peer that was there is gone.
    Lost,
}

/// What one call of [`Subscriber::receive`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A message.
    Message,
    /// No message for 100 ms.
    Nothing,
}

impl Subscriber {
    /// Opens a subscriber to all topics that begin with `prefix`, and returns its address as bound or connected to. It connects unless
    /// the endpoint says `bind:`. The peer need not be there yet, and may come and go; what it sends before a connection is made is
    /// lost.
    ///
    /// # Errors
    /// [`ZeromqError::Bind`] if the address cannot be bound, [`ZeromqError::NoServerKey`] for an encrypted connection to nobody.
    pub fn open(
        context: &Context,
        endpoint: &SocketAddress,
        prefix: &str,
        options: &Options,
    ) -> Result<(Subscriber, String), ZeromqError> {
        let role = endpoint.role_or(Role::Connect);
        let socket = context.socket(Kind::Sub, options)?;
        socket.set_patience(PATIENCE)?;
        socket.subscribe(prefix)?;
        lock(&socket, options, endpoint, role)?;
        let monitor = Monitor::of(&socket)?;
        let (address, file) = open(&socket, endpoint, role)?;
        let connects_to = (role == Role::Connect).then(|| address.clone());
        let (link, lost_ns, connections) = (Link::NoAnswer, None, Arc::default());
        Ok((Subscriber { socket, monitor, connects_to, link, lost_ns, connections, _file: file }, address))
    }

    /// Waits for the next message, for at most 100 ms. Calls `each` for everything that has happened to a connection before the
    /// message came. Does not lock, and allocates in the library alone.
    pub fn receive<const N: usize>(&mut self, frames: &mut Frames<N>, each: &mut impl FnMut(Event)) -> Heard {
        let is_message = self.socket.receive(frames, true);
        // A connection is told before its first message is, so that a message never seems to come from the peer before.
        while let Some(event) = self.monitor.next_event() {
            self.note(event);
            each(event);
        }
        if is_message {
            return Heard::Message;
        }
        self.renew_if_given_up(monotonic_ns());
        Heard::Nothing
    }

    /// The library that the messages belong to.
    pub fn library(&self) -> &Library {
        self.socket.context().library()
    }

    /// Whether a peer is there.
    pub fn link(&self) -> Link {
        self.link
    }

    /// Number of connections that a bound subscriber has, those included that are no peers of ZeroMQ yet.
    pub fn connections(&self) -> &Arc<AtomicI64> {
        &self.connections
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Met => self.link = Link::Met,
            Event::Accepted => _ = self.connections.fetch_add(1, Relaxed),
            Event::Reached | Event::Retried => self.lost_ns = None,
            Event::Lost(_) => {
                if self.link == Link::Met && self.connects_to.is_some() {
                    self.link = Link::Lost;
                }
                self.connections.fetch_sub(1, Relaxed);
                self.lost_ns = Some(monotonic_ns());
            }
        }
    }

    /// The library gives a connection up for ever whose peer breaks the rules, for instance with a frame that is too long. A rig that is
    /// mended and started again wants its decoder back.
    fn renew_if_given_up(&mut self, now_ns: u64) {
        let Some(address) = &self.connects_to else { return };
        if self.lost_ns.is_some_and(|lost_ns| now_ns.saturating_sub(lost_ns) > RENEW_AFTER_NS) {
            self.socket.disconnect(address);
            // The address was one when the subscriber was opened.
            drop(self.socket.connect(address));
            self.lost_ns = Some(now_ns);
        }
    }
}

/// Gives a socket that is about to be opened its part in the encryption.
pub(super) fn lock(
    socket: &Socket,
    options: &Options,
    endpoint: &SocketAddress,
    role: Role,
) -> Result<(), ZeromqError> {
    let Some(keys) = &options.keys else { return Ok(()) };
    match (role, &keys.server) {
        (Role::Bind, _) => socket.serve_encrypted(),
        (Role::Connect, Some(server)) => socket.expect_server(server),
        (Role::Connect, None) => Err(ZeromqError::NoServerKey { address: endpoint.address.clone() }),
    }
}
