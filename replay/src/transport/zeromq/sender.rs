//! Publishes bins to subscribers.
//!
//! Bins are sent on an XPUB socket, which receives subscriptions: a player can wait for its first subscriber. A bin goes to every
//! subscriber or, while the queue of one is full, to none: [`Sender::offer`] then drops the bin, and **only [`Sender::send`] makes the
//! caller wait**. So one subscriber that reads too slowly starves the others of the same player; one that has stopped is cut off after a
//! second.

use super::{Security, ZeromqError, context};
use ndt_protocol::endpoint::{Role, SocketAddress};
use ndt_protocol::wire::{self, BinStamp, Description};
use ndt_protocol::zeromq::admission::Admission;
use ndt_protocol::zeromq::{Kind, Options, Publisher};
use std::time::{Duration, Instant};

/// How long a subscriber may read nothing before a player that waits for it gives up.
const STUCK_PATIENCE: Duration = Duration::from_secs(10);

/// Interval between two looks whether there is a subscriber, or room in its queue.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Publishes bins.
pub struct Sender {
    publisher: Publisher,
    address: String,
    /// Whether anybody has subscribed to bins.
    is_subscribed: bool,
    /// The last description, for subscribers that come later.
    description: Option<(Vec<u8>, Vec<u8>)>,
    payload: Vec<u8>,
    admission: Option<Admission>,
}

impl Sender {
    /// Opens the socket, without encryption. It binds unless the endpoint says `connect:`.
    ///
    /// # Errors
    /// [`ZeromqError`] if the library is missing or the address cannot be bound.
    pub fn open(endpoint: &SocketAddress) -> Result<Sender, ZeromqError> {
        Sender::open_with(endpoint, &Security::default())
    }

    /// Like [`Sender::open`], with keys.
    ///
    /// # Errors
    /// Those of [`Sender::open`], and an end that connects without the other's key.
    pub fn open_with(endpoint: &SocketAddress, security: &Security) -> Result<Sender, ZeromqError> {
        let (context, admission, options) = context(endpoint, Role::Bind, security)?;
        // What was sent is delivered even after the socket is closed.
        let linger_ms = STUCK_PATIENCE.as_millis() as i32;
        let options = Options { linger_ms, ..options };
        let (mut publisher, address) = Publisher::open(&context, endpoint, Kind::XPub, &options)?;
        if let (Some(admission), Some(domain)) = (&admission, options.domain)
            && let Some((monitor, connections)) = publisher.watched()
        {
            admission.watch(domain, connections, Some(monitor));
        }
        let (is_subscribed, description, payload) = (false, None, Vec::new());
        Ok(Sender { publisher, address, is_subscribed, description, payload, admission })
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
        let started = Instant::now();
        loop {
            self.welcome();
            if self.is_subscribed {
                return Ok(());
            }
            if started.elapsed() >= wait {
                let (address, seconds) = (self.address.clone(), wait.as_secs_f64());
                return Err(ZeromqError::NoSubscriber { address, seconds });
            }
            self.publisher.mend(ndt_protocol::clock::monotonic_ns());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Sends one bin. Waits while the queue is full because a subscriber reads too slowly.
    ///
    /// # Errors
    /// [`ZeromqError::Stuck`] if the queue stays full for 10 s.
    pub fn send(&mut self, stamp: &BinStamp, counts: &[f32]) -> Result<(), ZeromqError> {
        let started = Instant::now();
        while !self.offer(stamp, counts) {
            self.wait_for_room(started)?;
        }
        Ok(())
    }

    /// Sends arbitrary frames, of which the first is the topic, as [`Sender::send`] does; for tests of receivers.
    ///
    /// # Errors
    /// [`ZeromqError::Stuck`] if the queue stays full for 10 s.
    pub fn send_frames(&mut self, frames: &[&[u8]]) -> Result<(), ZeromqError> {
        let started = Instant::now();
        self.welcome();
        while !self.publisher.offer(frames) {
            self.wait_for_room(started)?;
        }
        Ok(())
    }

    fn wait_for_room(&self, started: Instant) -> Result<(), ZeromqError> {
        if started.elapsed() > STUCK_PATIENCE {
            let (address, seconds) = (self.address.clone(), STUCK_PATIENCE.as_secs_f64());
            return Err(ZeromqError::Stuck { address, seconds });
        }
        std::thread::sleep(LOOK_EVERY);
        Ok(())
    }

    /// Sends one bin without waiting. Returns `false` if the bin was dropped because the queue of a subscriber is full.
    pub fn offer(&mut self, stamp: &BinStamp, counts: &[f32]) -> bool {
        self.welcome();
        self.payload.clear();
        wire::put_f32(counts, &mut self.payload);
        let header = wire::bin_header(stamp, counts.len());
        self.publisher.offer(&[wire::TOPIC_BIN, &header, &self.payload])
    }

    /// Sends the description of the bins of `stream`. It is dropped if the queue is full: the player sends it every second.
    pub fn describe(&mut self, stream: u64, description: &Description) {
        self.welcome();
        self.description = Some(wire::description_frames(stream, description));
        self.send_description();
        self.publisher.mend(ndt_protocol::clock::monotonic_ns());
    }

    fn send_description(&mut self) {
        if let Some((header, json)) = &self.description {
            self.publisher.offer(&[wire::TOPIC_DESCRIPTION, header, json]);
        }
    }

    /// Looks for new subscribers. Each gets the description of the bins before the next bin: a daemon does not trust bins that nobody
    /// described.
    fn welcome(&mut self) {
        while let Some((is_new, prefix)) = self.publisher.subscription() {
            if is_new && wire::TOPIC_BIN.starts_with(&prefix) {
                self.is_subscribed = true;
                self.send_description();
            }
        }
    }

    /// Waits until everything is handed to the operating system, which delivers it even after this program has ended.
    ///
    /// # Errors
    /// [`ZeromqError::Stuck`] if a subscriber does not take it within 10 s.
    pub fn finish(self) -> Result<(), ZeromqError> {
        let Sender { publisher, address, admission, .. } = self;
        let started = Instant::now();
        // Closes the socket and with it the context, which waits for what is still to be sent.
        drop((publisher, admission));
        match started.elapsed() < STUCK_PATIENCE {
            true => Ok(()),
            false => Err(ZeromqError::Stuck { address, seconds: STUCK_PATIENCE.as_secs_f64() }),
        }
    }
}
