//! The end that sends.

use super::connections::Connections;
use super::{
    BoundFile, Context, Frames, Kind, Monitor, Opened, Options, Role, Socket, SocketAddress, ZeromqError,
    open,
};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

/// Sends messages to every subscriber that is there.
pub struct Publisher {
    socket: Socket,
    /// Events of the connections; `None` while another thread looks after them.
    monitor: Option<Monitor>,
    connections: Connections,
    subscription: Frames<1>,
    _file: BoundFile,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Every subscriber that is not already known to be behind gets it.
    ToAll,
    /// The queue of at least one more subscriber was full: it gets nothing until it has read, and all others get the message.
    NotToAll,
}

impl Publisher {
    /// Opens a publisher and returns its address as bound or connected to. It binds unless the endpoint says `connect:`. `kind` is
    /// [`Kind::Pub`], or [`Kind::XPub`] for one that reads its subscriptions.
    ///
    /// # Errors
    /// [`ZeromqError::Bind`] if the address cannot be bound, [`ZeromqError::NoServerKey`] for an encrypted connection to nobody.
    pub fn open(
        context: &Context,
        endpoint: &SocketAddress,
        kind: Kind,
        options: &Options,
    ) -> Result<(Publisher, String), ZeromqError> {
        let role = endpoint.role_or(Role::Bind);
        let socket = context.socket(kind, options)?;
        socket.refuse_when_full(true);
        let Opened { monitor, connections, address, file } = open(&socket, endpoint, role, options)?;
        let (monitor, subscription) = (Some(monitor), Frames::new(context.library()));
        let publisher = Publisher { socket, monitor, connections, subscription, _file: file };
        Ok((publisher, address))
    }

    /// Sends a message without waiting. A subscriber whose queue is full loses it.
    pub fn send(&mut self, frames: &[&[u8]]) -> Sent {
        if self.offer(frames) {
            return Sent::ToAll;
        }
        // The library says that a queue is full only while it may refuse the message for all. A subscriber that was full once is left out by
        // it until it has read, so that this happens once each time that a subscriber falls behind.
        self.socket.refuse_when_full(false);
        self.offer(frames);
        self.socket.refuse_when_full(true);
        Sent::NotToAll
    }

    /// Sends a message to every subscriber, or to none when the queue of one is full. Returns whether it was sent.
    pub fn offer(&mut self, frames: &[&[u8]]) -> bool {
        let last = frames.len().saturating_sub(1);
        frames.iter().enumerate().all(|(at, frame)| self.socket.send(frame, at < last))
    }

    /// The next subscription of an [`Kind::XPub`]: whether a topic was subscribed to or given up, and the beginning of the topics. Does
    /// not wait.
    pub fn subscription(&mut self) -> Option<(bool, Vec<u8>)> {
        while self.socket.receive(&mut self.subscription, false) {
            let [text] = self.subscription.get();
            if let Some((is_new @ (0 | 1), prefix)) = text.split_first() {
                return Some((*is_new == 1, prefix.to_vec()));
            }
        }
        None
    }

    /// Looks at what has happened to connections, and connects again where the library has given a connection up. To be called about
    /// once a second by a publisher that nobody watches. Neither locks nor waits.
    pub fn mend(&mut self, now_ns: u64) {
        let Some(monitor) = &mut self.monitor else { return };
        while let Some(event) = monitor.next_event() {
            self.connections.note(event, now_ns);
        }
        self.connections.renew_if_given_up(&self.socket, now_ns);
    }

    /// Gives the events of the connections to another thread, with the number of connections that it has to keep. Only a bound publisher
    /// can do without them.
    pub fn watched(&mut self) -> Option<(Monitor, Arc<AtomicI64>)> {
        let monitor = if self.connections.connect() { None } else { self.monitor.take() };
        monitor.map(|monitor| (monitor, self.connections.open().clone()))
    }
}
