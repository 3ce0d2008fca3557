//! Receives what a daemon publishes.
//!
//! A SUB socket of the library tries to reach an absent peer after 50, 150 and 250 ms and then ever more rarely, up to every
//! 30 s, and likewise after a loss. [`Receiver`] gives up a lost connection at once and makes a new socket, so that its
//! attempts are at most 100 ms apart.

use super::{QUEUE_MESSAGES, ZeromqError, open, runtime};
use bytes::Bytes;
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::endpoint::{Role, SocketAddress};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use zeromq::{Socket, SocketEvent, SocketOptions, SocketRecv, SubSocket};

/// How long a receiver tries to reach its peer before it makes a new socket.
const PATIENCE: Duration = Duration::from_millis(250);

/// Receives messages from a peer, whenever the peer is there.
pub struct Receiver {
    runtime: Runtime,
    address: String,
    queue: mpsc::Receiver<Message>,
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Frames of the message; the first one is the topic.
    pub frames: Vec<Bytes>,
    /// Time of arrival, `CLOCK_MONOTONIC` in ns.
    pub received_ns: u64,
}

impl Receiver {
    /// Subscribes to all topics of the project. The socket connects unless the endpoint says `bind:`. The peer need not be there
    /// yet, and may come and go; what it sends before a connection is made is lost.
    ///
    /// # Errors
    /// [`ZeromqError::Open`] if the address cannot be bound.
    pub fn open(endpoint: &SocketAddress) -> Result<Receiver, ZeromqError> {
        let runtime = runtime()?;
        let (sender, queue) = mpsc::channel(QUEUE_MESSAGES);
        let mut address = endpoint.address.clone();
        if endpoint.role_or(Role::Connect) == Role::Bind {
            let mut socket = subscriber();
            address = runtime.block_on(async {
                drop(socket.subscribe("ndt.").await);
                open(&mut socket, endpoint, Role::Bind).await
            })?;
            runtime.spawn(async move { forward(socket, &sender, false).await });
        } else {
            runtime.spawn(reconnecting(endpoint.clone(), sender));
        }
        Ok(Receiver { runtime, address, queue })
    }

    /// The address as bound, or the address to connect to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the next message, or `None` after `wait`. Blocks the calling thread, which must not belong to an async runtime.
    pub fn receive(&mut self, wait: Duration) -> Option<Message> {
        self.runtime.block_on(async { timeout(wait, self.queue.recv()).await }).ok().flatten()
    }
}

/// A socket that gives up an attempt to connect after [`PATIENCE`].
fn subscriber() -> SubSocket {
    let mut options = SocketOptions::default();
    options.connect_timeout(PATIENCE);
    SubSocket::with_options(options)
}

/// Task that receives from one peer after the other.
async fn reconnecting(endpoint: SocketAddress, queue: mpsc::Sender<Message>) {
    while !queue.is_closed() {
        let mut socket = subscriber();
        // Without a peer this only stores the prefix, which is sent to each peer that is connected later.
        drop(socket.subscribe("ndt.").await);
        match socket.connect(&endpoint.address).await {
            Ok(()) => forward(socket, &queue, true).await,
            // Some errors, such as an unknown host, are immediate.
            Err(_) => sleep(PATIENCE).await,
        }
    }
}

/// Forwards messages to the queue until nobody takes them any more or, with `one_peer`, the peer is lost.
///
/// A loss ends the loop as soon as it is noticed, after the last message of the peer: 100 ms later the library would connect
/// again by itself, and what arrived on that connection would be lost with the socket.
async fn forward(mut socket: SubSocket, queue: &mpsc::Sender<Message>, one_peer: bool) {
    let mut events = socket.monitor();
    loop {
        tokio::select! {
            biased;
            // An error means that the peer broke off in the middle of a message; its loss is an event.
            message = socket.recv() => if let Ok(message) = message {
                let message = Message { frames: message.into_vec(), received_ns: monotonic_ns() };
                // If the queue is full, the peer's own queue fills next, and the peer drops what this program does not read.
                drop(queue.send(message).await);
            },
            Ok(SocketEvent::Disconnected(_)) = events.recv(), if one_peer => return,
            () = queue.closed() => return,
        }
    }
}
