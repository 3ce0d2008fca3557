//! The end that receives.

use super::connections::Connections;
use super::{
    BoundFile, Context, Event, Frames, Kind, Library, Monitor, Opened, Options, Role, Socket, SocketAddress,
    ZeromqError, open,
};
use crate::clock::monotonic_ns;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

/// How long [`Subscriber::receive`] waits for a message.
const PATIENCE: Duration = Duration::from_millis(100);

/// Receives messages from a peer whenever the peer is there, or from every peer that connects to a bound address.
pub struct Subscriber {
    socket: Socket,
    monitor: Monitor,
    connections: Connections,
    link: Link,
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
        let Opened { monitor, connections, address, file } = open(&socket, endpoint, role, options)?;
        let link = Link::NoAnswer;
        Ok((Subscriber { socket, monitor, connections, link, _file: file }, address))
    }

    /// Waits for the next message, for at most 100 ms. Calls `each` for everything that has happened to a connection before the
    /// message came. Does not lock, and allocates in the library alone.
    pub fn receive<const N: usize>(&mut self, frames: &mut Frames<N>, each: &mut impl FnMut(Event)) -> Heard {
        let is_message = self.socket.receive(frames, true);
        // A connection is told before its first message is, so that a message never seems to come from the peer before.
        while let Some(event) = self.monitor.next_event() {
            self.note(event, monotonic_ns());
            each(event);
        }
        if is_message {
            return Heard::Message;
        }
        self.connections.renew_if_given_up(&self.socket, monotonic_ns());
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
        self.connections.open()
    }

    fn note(&mut self, event: Event, now_ns: u64) {
        self.connections.note(event, now_ns);
        self.link = match event {
            Event::Met => Link::Met,
            // Peers come to a bound subscriber and go, and it does not wait for any of them.
            Event::Lost(_) if self.link == Link::Met && self.connections.connect() => Link::Lost,
            _ => self.link,
        };
    }
}
