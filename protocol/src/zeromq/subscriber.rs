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
    /// Connection that is lost, and by which a message came since: more may wait.
    lost: Option<i32>,
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
        let (link, lost) = (Link::NoAnswer, None);
        Ok((Subscriber { socket, monitor, connections, link, lost, _file: file }, address))
    }

    /// Waits for the next message, for at most 100 ms. Calls `each` for everything that has happened to a connection before the
    /// message came: a connection is there before its first message, and is lost after its last one. Does not lock, and allocates in the
    /// library alone.
    pub fn receive<const N: usize>(&mut self, frames: &mut Frames<N>, each: &mut impl FnMut(Event)) -> Heard {
        let is_message = self.socket.receive(frames, true);
        let sender = is_message.then(|| frames.connection());
        while let Some(event) = self.monitor.next_event() {
            match event {
                Event::Lost(connection) if sender == Some(connection) => self.lost = sender,
                // What comes by a connection of the same number from now on comes from another peer.
                Event::Reached(number) | Event::Accepted(number) if self.lost == Some(number) => {
                    self.tell_loss(each);
                    self.tell(event, each);
                }
                _ => self.tell(event, each),
            }
        }
        if self.lost != sender {
            self.tell_loss(each);
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

    fn tell_loss(&mut self, each: &mut impl FnMut(Event)) {
        if let Some(connection) = self.lost.take() {
            self.tell(Event::Lost(connection), each);
        }
    }

    fn tell(&mut self, event: Event, each: &mut impl FnMut(Event)) {
        self.connections.note(event, monotonic_ns());
        self.link = match event {
            Event::Met => Link::Met,
            // Peers come to a bound subscriber and go, and it does not wait for any of them.
            Event::Lost(_) if self.link == Link::Met && self.connections.connect() => Link::Lost,
            _ => self.link,
        };
        each(event);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Publisher;
    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    /// A publisher with this subscriber, and the address that it has bound.
    fn publisher(context: &Context, address: &str) -> (Publisher, String) {
        let options = Options { linger_ms: 60_000, ..Options::default() };
        Publisher::open(context, &address.parse().unwrap(), Kind::XPub, &options).unwrap()
    }

    fn wait_for_subscription(publisher: &mut Publisher) {
        while publisher.subscription().is_none() {
            std::thread::yield_now();
        }
    }

    /// What comes until a message or a loss: the message's first byte, or `None` for the loss.
    fn next(subscriber: &mut Subscriber, frames: &mut Frames<1>) -> Vec<Option<u8>> {
        loop {
            let mut found = Vec::new();
            let heard = subscriber.receive(frames, &mut |event| {
                if matches!(event, Event::Lost(_)) {
                    found.push(None);
                }
            });
            if heard == Heard::Message {
                found.push(Some(frames.get()[0][0]));
            }
            if !found.is_empty() {
                return found;
            }
        }
    }

    #[test]
    fn a_peer_is_lost_after_the_last_message_that_it_has_sent() {
        let library = Library::load(None).unwrap();
        let (ours, theirs) = (Context::new(&library, 1).unwrap(), Context::new(&library, 1).unwrap());
        let (mut first, address) = publisher(&theirs, "tcp://127.0.0.1:0");
        let endpoint = format!("connect:{address}").parse().unwrap();
        let (mut subscriber, _) = Subscriber::open(&ours, &endpoint, "", &Options::default()).unwrap();
        let mut frames = Frames::new(&library);
        wait_for_subscription(&mut first);
        first.send(&[&[0]]);
        assert_eq!(next(&mut subscriber, &mut frames), [Some(0)]);
        (1..4).for_each(|number| _ = first.send(&[&[number]]));
        drop(first);
        // The loss is told while the messages are still in the queue.
        Socket::wait_for_any(&[subscriber.monitor.socket()], SOON);
        for number in 1..4 {
            assert_eq!(next(&mut subscriber, &mut frames), [Some(number)]);
        }
        assert_eq!(next(&mut subscriber, &mut frames), [None]);
        // Another peer at the same address.
        let (mut second, _) = publisher(&theirs, &address);
        wait_for_subscription(&mut second);
        second.send(&[&[4]]);
        assert_eq!(next(&mut subscriber, &mut frames), [Some(4)]);
    }
}
