//! ZeroMQ out (`play`) and in (`listen`); the only file of this crate that names the library.
//!
//! Bins go out on an XPUB socket, which is told of subscriptions: a player can wait for its first one. The
//! library hears a subscription only while it is asked to receive, and its XPUB waits for a subscriber that
//! does not read (its PUB would drop); so each socket belongs to a task, with a bounded queue between it and the
//! caller. **A caller is held back only where it asks for it** ([`Sender::send`]); else what finds no room is
//! dropped and counted ([`Sender::offer`]). One stuck subscriber starves the others of the same player.
//!
//! A SUB of the library tries a peer that is not there every 50 ms, then ever more rarely up to every 30 s, and
//! likewise after a loss. [`Receiver`] gives up a lost connection at once and makes it anew, at most 100 ms apart.

use bytes::Bytes;
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::endpoint::{Role, SocketAddress};
use ndt_protocol::wire::{self, BinStamp, Description};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use zeromq::{Socket, SocketEvent, SocketOptions, SocketRecv, SocketSend, SubSocket, XPubSocket, ZmqMessage};

/// Messages that wait between a caller and its socket: five seconds of 5 ms bins.
const QUEUE_MESSAGES: usize = 1024;

/// How long a bound peer is looked for by a player that connects.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// How long a subscriber may take nothing before a player that is held back by it gives up.
const STUCK_PATIENCE: Duration = Duration::from_secs(10);

/// How long a receiver looks for its peer before it starts anew: after 50, 150 and 250 ms, and so on.
const PATIENCE: Duration = Duration::from_millis(250);

/// Why a socket cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum ZeromqError {
    /// The runtime's threads cannot be started.
    #[error("expected a thread for ZeroMQ, found {0}")]
    Runtime(std::io::Error),
    /// The address is taken, not ours, or nobody is there.
    #[error("expected to open {address}, found {error}")]
    Open {
        /// The address.
        address: String,
        /// What the library says.
        error: zeromq::ZmqError,
    },
    /// Nobody listens.
    #[error("expected a subscriber on {address} within {seconds} s, found none")]
    NoSubscriber {
        /// The address.
        address: String,
        /// How long was waited.
        seconds: f64,
    },
    /// Somebody listens and does not read.
    #[error("expected the subscriber on {address} to read, found it stuck for {seconds} s")]
    Stuck {
        /// The address.
        address: String,
        /// How long was waited.
        seconds: f64,
    },
}

fn runtime() -> Result<Runtime, ZeromqError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("zeromq").enable_all().build().map_err(ZeromqError::Runtime)
}

/// Opens a socket on one side or the other; gives the address as bound or reached.
async fn open(socket: &mut impl Socket, endpoint: &SocketAddress, role: Role) -> Result<String, ZeromqError> {
    let address = endpoint.address.clone();
    let opened = match role {
        Role::Bind => {
            remove_left_socket(&address);
            socket.bind(&address).await.map(|bound| bound.to_string())
        }
        Role::Connect => socket.connect(&address).await.map(|()| address.clone()),
    };
    opened.map_err(|error| ZeromqError::Open { address, error })
}

/// Removes the socket file that a program which has ended left behind, as libzmq does; the library does not,
/// and could never bind there again.
fn remove_left_socket(address: &str) {
    let Some(path) = address.strip_prefix("ipc://") else { return };
    let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    if std::os::unix::net::UnixStream::connect(path).is_err_and(refused) {
        drop(std::fs::remove_file(path));
    }
}

/// Sends bins. Its methods block the calling thread where they say so, and must not be called on a runtime's.
pub struct Sender {
    runtime: Runtime,
    address: String,
    queue: mpsc::Sender<ZmqMessage>,
    /// Whether somebody has subscribed to bins.
    subscribed: watch::Receiver<bool>,
    /// Messages that were handed to the system.
    written: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Sender {
    /// Opens the socket: binds unless the endpoint says otherwise.
    ///
    /// # Errors
    /// [`ZeromqError::Open`] when the address cannot be bound, or nobody is found there within 10 s.
    pub fn open(endpoint: &SocketAddress) -> Result<Sender, ZeromqError> {
        let runtime = runtime()?;
        let mut options = SocketOptions::default();
        options.connect_timeout(CONNECT_PATIENCE);
        let mut socket = XPubSocket::with_options(options);
        let address = runtime.block_on(open(&mut socket, endpoint, endpoint.role_or(Role::Bind)))?;
        let (queue, messages) = mpsc::channel(QUEUE_MESSAGES);
        let (tell, subscribed) = watch::channel(false);
        let written = Arc::new(AtomicU64::new(0));
        let task = runtime.spawn(publish(socket, messages, tell, Arc::clone(&written)));
        Ok(Sender { runtime, address, queue, subscribed, written, task })
    }

    /// The address as bound.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits until somebody subscribes to bins. What is sent before is sent to nobody.
    ///
    /// # Errors
    /// [`ZeromqError::NoSubscriber`] after `wait`.
    pub fn wait_for_subscriber(&mut self, wait: Duration) -> Result<(), ZeromqError> {
        let subscribed = self.subscribed.wait_for(|subscribed| *subscribed);
        let heard = self.runtime.block_on(async { timeout(wait, subscribed).await.is_ok() });
        let nobody =
            || ZeromqError::NoSubscriber { address: self.address.clone(), seconds: wait.as_secs_f64() };
        if heard { Ok(()) } else { Err(nobody()) }
    }

    /// Sends one bin; waits for a subscriber that reads more slowly.
    ///
    /// # Errors
    /// [`ZeromqError::Stuck`] when none is read for 10 s.
    pub fn send(&mut self, stamp: &BinStamp, counts: &[f32]) -> Result<(), ZeromqError> {
        self.wait_for_room(bin(stamp, counts))
    }

    /// Sends any frames, the topic first, as [`Sender::send`] does: for tests of those who receive them.
    ///
    /// # Errors
    /// [`ZeromqError::Stuck`] when none is read for 10 s.
    pub fn send_frames(&mut self, topic: Bytes, frames: &[Bytes]) -> Result<(), ZeromqError> {
        let mut message = ZmqMessage::from(topic);
        frames.iter().for_each(|frame| message.push_back(frame.clone()));
        self.wait_for_room(message)
    }

    fn wait_for_room(&self, message: ZmqMessage) -> Result<(), ZeromqError> {
        let sent = self.runtime.block_on(self.queue.send_timeout(message, STUCK_PATIENCE));
        let seconds = STUCK_PATIENCE.as_secs_f64();
        sent.map_err(|_| ZeromqError::Stuck { address: self.address.clone(), seconds })
    }

    /// Sends one bin without ever waiting; `false` if it was dropped because too many wait already.
    pub fn offer(&mut self, stamp: &BinStamp, counts: &[f32]) -> bool {
        self.queue.try_send(bin(stamp, counts)).is_ok()
    }

    /// Says what the bins consist of. Without room it is left out: it is said again a second later.
    pub fn describe(&mut self, description: &Description) {
        let (header, json) = wire::description_frames(description);
        drop(self.queue.try_send(message(wire::TOPIC_DESCRIPTION, header.into(), json.into())));
    }

    /// Waits until everything is handed to the system, which delivers it even after this program has ended.
    ///
    /// # Errors
    /// [`ZeromqError::Stuck`] when a subscriber reads nothing for 10 s.
    pub fn finish(self) -> Result<(), ZeromqError> {
        let Sender { runtime, address, queue, written, mut task, .. } = self;
        // The task ends once it has written what is in the closed queue.
        drop(queue);
        let mut before = None;
        while before != Some(written.load(Ordering::Relaxed)) {
            before = Some(written.load(Ordering::Relaxed));
            if runtime.block_on(async { timeout(STUCK_PATIENCE, &mut task).await.is_ok() }) {
                return Ok(());
            }
        }
        Err(ZeromqError::Stuck { address, seconds: STUCK_PATIENCE.as_secs_f64() })
    }
}

fn bin(stamp: &BinStamp, counts: &[f32]) -> ZmqMessage {
    let mut payload = Vec::with_capacity(4 * counts.len());
    wire::put_f32(counts, &mut payload);
    let header = Bytes::copy_from_slice(&wire::bin_header(stamp, counts.len()));
    message(wire::TOPIC_BIN, header, payload.into())
}

fn message(topic: &'static [u8], header: Bytes, payload: Bytes) -> ZmqMessage {
    let mut message = ZmqMessage::from(Bytes::from_static(topic));
    message.push_back(header);
    message.push_back(payload);
    message
}

/// Owns the publishing socket until the queue is closed and empty. Subscriptions come first, so that whoever
/// has subscribed gets the next bin.
async fn publish(
    mut socket: XPubSocket,
    mut messages: mpsc::Receiver<ZmqMessage>,
    tell: watch::Sender<bool>,
    written: Arc<AtomicU64>,
) {
    loop {
        tokio::select! {
            biased;
            // An error here is a subscriber that has gone; the library has forgotten it by then.
            heard = socket.recv() => if heard.is_ok_and(|heard| subscribes(&heard, wire::TOPIC_BIN)) {
                tell.send_replace(true);
            },
            message = messages.recv() => {
                let Some(message) = message else { return };
                // Nor has a send an error that its caller could mend: without a subscriber it drops.
                drop(socket.send(message).await);
                written.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Whether a message of a subscriber asks for `topic`: a 1 and a prefix of it.
fn subscribes(message: &ZmqMessage, topic: &[u8]) -> bool {
    matches!(message.get(0).map(|frame| &frame[..]), Some([1, prefix @ ..]) if topic.starts_with(prefix))
}

/// Receives what a daemon publishes, on whatever peer is there.
pub struct Receiver {
    runtime: Runtime,
    address: String,
    queue: mpsc::Receiver<Message>,
}

/// One message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its frames, the topic first.
    pub frames: Vec<Bytes>,
    /// When it came, `CLOCK_MONOTONIC` ns.
    pub received_ns: u64,
}

impl Receiver {
    /// Subscribes: connects unless the endpoint says otherwise. The peer need not be there yet, and may come and
    /// go; what it sends while the connection is made is lost.
    ///
    /// # Errors
    /// [`ZeromqError::Open`] when the address cannot be bound.
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
            runtime.spawn(receive_again_and_again(endpoint.clone(), sender));
        }
        Ok(Receiver { runtime, address, queue })
    }

    /// The address as bound or to be reached.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The next message, or `None` after `wait`. Blocks the calling thread, which must not be a runtime's.
    pub fn receive(&mut self, wait: Duration) -> Option<Message> {
        self.runtime.block_on(async { timeout(wait, self.queue.recv()).await }).ok().flatten()
    }
}

fn subscriber() -> SubSocket {
    let mut options = SocketOptions::default();
    options.connect_timeout(PATIENCE);
    SubSocket::with_options(options)
}

async fn receive_again_and_again(endpoint: SocketAddress, queue: mpsc::Sender<Message>) {
    while !queue.is_closed() {
        let mut socket = subscriber();
        // Without a peer this only notes the prefix, which is sent to each that is connected later.
        drop(socket.subscribe("ndt.").await);
        match socket.connect(&endpoint.address).await {
            Ok(()) => forward(socket, &queue, true).await,
            // Some errors (an unknown host) come at once.
            Err(_) => sleep(PATIENCE).await,
        }
    }
}

/// Hands on what comes until nobody takes it any more or, with `one_peer`, the peer is lost.
///
/// A loss is acted on as soon as it is seen, after the peer's last message: 100 ms later the library would have
/// connected anew by itself, and what came on that connection would be lost with the socket.
async fn forward(mut socket: SubSocket, queue: &mpsc::Sender<Message>, one_peer: bool) {
    let mut events = socket.monitor();
    loop {
        tokio::select! {
            biased;
            // An error here is a peer that broke off a message; its loss is an event.
            message = socket.recv() => if let Ok(message) = message {
                let message = Message { frames: message.into_vec(), received_ns: monotonic_ns() };
                // Full: the peer's own queue fills next, and it drops what this program does not read.
                drop(queue.send(message).await);
            },
            Ok(SocketEvent::Disconnected(_)) = events.recv(), if one_peer => return,
            () = queue.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests;
