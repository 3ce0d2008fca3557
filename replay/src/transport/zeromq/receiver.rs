//! Receives what a daemon publishes.

use super::{QUEUE_MESSAGES, Security, ZeromqError, context};
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::endpoint::{Role, SocketAddress};
use ndt_protocol::zeromq::admission::Admission;
use ndt_protocol::zeromq::{Frames, Heard, Subscriber};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

/// Frames of a message that are kept: more than any message of this project has.
const FRAMES_MAX: usize = 8;

/// Receives messages from a peer, whenever the peer is there. A thread of its own stamps each message when it arrives.
pub struct Receiver {
    address: String,
    queue: mpsc::Receiver<Message>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _admission: Option<Admission>,
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Frames of the message; the first one is the topic.
    pub frames: Vec<Vec<u8>>,
    /// Time of arrival, `CLOCK_MONOTONIC` in ns.
    pub received_ns: u64,
}

impl Receiver {
    /// Subscribes to all topics of the project, without encryption. The socket connects unless the endpoint says `bind:`. The peer need
    /// not be there yet, and may come and go; what it sends before a connection is made is lost.
    ///
    /// # Errors
    /// [`ZeromqError`] if the library is missing or the address cannot be bound.
    pub fn open(endpoint: &SocketAddress) -> Result<Receiver, ZeromqError> {
        Receiver::open_with(endpoint, &Security::default())
    }

    /// Like [`Receiver::open`], with keys.
    ///
    /// # Errors
    /// Those of [`Receiver::open`], and an end that connects without the other's key.
    pub fn open_with(endpoint: &SocketAddress, security: &Security) -> Result<Receiver, ZeromqError> {
        let (context, admission, options) = context(endpoint, Role::Connect, security)?;
        let (subscriber, address) = Subscriber::open(&context, endpoint, "ndt.", &options)?;
        if let (Some(admission), Some(domain)) = (&admission, options.domain) {
            admission.watch(domain, subscriber.connections().clone(), None);
        }
        let (sender, queue) = mpsc::sync_channel(QUEUE_MESSAGES);
        let stop = Arc::<AtomicBool>::default();
        let stopping = stop.clone();
        let forward = move || forward(subscriber, &sender, &stopping);
        let thread = std::thread::Builder::new().name("zeromq-hear".to_owned()).spawn(forward);
        let thread = Some(thread.map_err(ZeromqError::Thread)?);
        Ok(Receiver { address, queue, stop, thread, _admission: admission })
    }

    /// The address as bound, or the address to connect to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the next message, or `None` after `wait`.
    pub fn receive(&mut self, wait: Duration) -> Option<Message> {
        self.queue.recv_timeout(wait).ok()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // A thread that waits for room in the queue goes on when the queue is gone.
        let (_, nothing) = mpsc::sync_channel(0);
        self.queue = nothing;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has already printed why.
            drop(thread.join());
        }
    }
}

/// Forwards messages to the queue until `stop` is set or nobody takes them any more.
fn forward(mut subscriber: Subscriber, queue: &SyncSender<Message>, stop: &AtomicBool) {
    let mut frames = Frames::<FRAMES_MAX>::new(subscriber.library());
    while !stop.load(Relaxed) {
        if subscriber.receive(&mut frames, &mut |_| {}) != Heard::Message {
            continue;
        }
        let received_ns = monotonic_ns();
        let count = frames.count().min(FRAMES_MAX);
        let frames = frames.get()[..count].iter().map(|frame| frame.to_vec()).collect();
        // While the queue is full, messages wait in the library.
        if queue.send(Message { frames, received_ns }).is_err() {
            return;
        }
    }
}
