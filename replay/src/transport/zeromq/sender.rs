//! Publishes bins to subscribers.
//!
//! Bins are sent on an XPUB socket, which receives subscriptions: a player can wait for its first subscriber. The library's
//! XPUB waits for a subscriber that does not read (its PUB would drop), so [`Sender::offer`] drops bins that find no room in
//! the queue, and **only [`Sender::send`] makes the caller wait**. One stuck subscriber starves the others of the same
//! player.

use super::{QUEUE_MESSAGES, ZeromqError, open, runtime};
use bytes::Bytes;
use ndt_protocol::endpoint::{Role, SocketAddress};
use ndt_protocol::wire::{self, BinStamp, Description};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zeromq::{Socket, SocketOptions, SocketRecv, SocketSend, XPubSocket, ZmqMessage};

/// How long a player that connects tries to reach its peer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// How long a subscriber may read nothing before a player that waits for it gives up.
const STUCK_PATIENCE: Duration = Duration::from_secs(10);

/// Publishes bins. Methods that wait block the calling thread, which must not belong to an async runtime.
pub struct Sender {
    runtime: Runtime,
    address: String,
    queue: mpsc::Sender<ZmqMessage>,
    /// Whether anybody has subscribed to bins.
    subscribed: watch::Receiver<bool>,
    /// Number of messages handed to the operating system.
    written: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Sender {
    /// Opens the socket. It binds unless the endpoint says `connect:`.
    ///
    /// # Errors
    /// [`ZeromqError::Open`] if the address cannot be bound, or no peer is reached within 10 s.
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

    /// Waits until anybody subscribes to bins. Bins that are sent earlier reach nobody.
    ///
    /// # Errors
    /// [`ZeromqError::NoSubscriber`] after `wait`.
    pub fn wait_for_subscriber(&mut self, wait: Duration) -> Result<(), ZeromqError> {
        let subscribed = self.subscribed.wait_for(|subscribed| *subscribed);
        let is_subscribed = self.runtime.block_on(async { timeout(wait, subscribed).await.is_ok() });
        let nobody =
            || ZeromqError::NoSubscriber { address: self.address.clone(), seconds: wait.as_secs_f64() };
        if is_subscribed { Ok(()) } else { Err(nobody()) }
    }

    /// Sends one bin. Waits while the queue is full because a subscriber reads too slowly.
    ///
    /// # Errors
    /// [`ZeromqError::Stuck`] if the queue stays full for 10 s.
    pub fn send(&mut self, stamp: &BinStamp, counts: &[f32]) -> Result<(), ZeromqError> {
        self.wait_for_room(bin(stamp, counts))
    }

    /// Sends arbitrary frames after a topic, as [`Sender::send`] does; for tests of receivers.
    ///
    /// # Errors
    /// [`ZeromqError::Stuck`] if the queue stays full for 10 s.
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

    /// Sends one bin without waiting. Returns `false` if the bin was dropped because the queue is full.
    pub fn offer(&mut self, stamp: &BinStamp, counts: &[f32]) -> bool {
        self.queue.try_send(bin(stamp, counts)).is_ok()
    }

    /// Sends the description of the bins of `stream`. It is dropped if the queue is full: the player sends it every second.
    pub fn describe(&mut self, stream: u64, description: &Description) {
        let (header, json) = wire::description_frames(stream, description);
        drop(self.queue.try_send(message(wire::TOPIC_DESCRIPTION, header.into(), json.into())));
    }

    /// Waits until everything is handed to the operating system, which delivers it even after this program has ended.
    ///
    /// # Errors
    /// [`ZeromqError::Stuck`] if a subscriber reads nothing for 10 s.
    pub fn finish(self) -> Result<(), ZeromqError> {
        let Sender { runtime, address, queue, written, mut task, .. } = self;
        // The task ends when it has written everything that is in the closed queue.
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

/// Task that owns the publishing socket until the queue is closed and empty. Subscriptions are handled first, so that a new
/// subscriber gets the next bin, and before it the description of the bins: a daemon does not trust bins that nobody described.
async fn publish(
    mut socket: XPubSocket,
    mut messages: mpsc::Receiver<ZmqMessage>,
    tell: watch::Sender<bool>,
    written: Arc<AtomicU64>,
) {
    let mut description = None;
    loop {
        tokio::select! {
            biased;
            // An error means that a subscriber has disconnected; the library has removed it by then.
            message = socket.recv() => if message.is_ok_and(|message| subscribes(&message, wire::TOPIC_BIN)) {
                tell.send_replace(true);
                if let Some(description) = description.clone() {
                    drop(socket.send(description).await);
                }
            },
            message = messages.recv() => {
                let Some(message) = message else { return };
                if message.get(0).is_some_and(|topic| topic == wire::TOPIC_DESCRIPTION) {
                    description = Some(message.clone());
                }
                // No error of a send is one that the caller could repair: without a subscriber, the socket drops.
                drop(socket.send(message).await);
                written.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Whether a message from a subscriber subscribes to `topic`: a byte 1 and a prefix of the topic.
fn subscribes(message: &ZmqMessage, topic: &[u8]) -> bool {
    matches!(message.get(0).map(|frame| &frame[..]), Some([1, prefix @ ..]) if topic.starts_with(prefix))
}
