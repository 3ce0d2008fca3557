//! ZeroMQ out (`play`) and in (`listen`); the only file of this crate that names the library.
//!
//! Bins go out on an XPUB socket, which is told of subscriptions: a player can wait for its first one. A
//! player that sends faster than a subscriber reads is held back by it, as a file copy would be; a rig's PUB
//! socket would drop instead.

use bytes::Bytes;
use ndt_protocol::endpoint::{Endpoint, Role};
use ndt_protocol::wire::{self, BinStamp, Description};
use std::time::Duration;
use tokio::runtime::Runtime;
use zeromq::{Socket, SocketOptions, SocketRecv, SocketSend, SubSocket, XPubSocket, ZmqMessage};

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
    /// A send or receive failed.
    #[error("expected to use {address}, found {error}")]
    Use {
        /// The address.
        address: String,
        /// What the library says.
        error: zeromq::ZmqError,
    },
}

fn runtime() -> Result<Runtime, ZeromqError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("zeromq").enable_all().build().map_err(ZeromqError::Runtime)
}

/// How long a connection is tried before it is an error.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

fn options() -> SocketOptions {
    let mut options = SocketOptions::default();
    options.connect_timeout(CONNECT_PATIENCE);
    options
}

/// Sends bins.
pub struct Sender {
    runtime: Runtime,
    socket: XPubSocket,
    address: String,
}

impl Sender {
    /// Opens the socket: binds unless the endpoint says otherwise.
    ///
    /// # Errors
    /// [`ZeromqError::Open`] when the address cannot be bound or reached.
    pub fn open(endpoint: &Endpoint) -> Result<Sender, ZeromqError> {
        let runtime = runtime()?;
        let _on_runtime = runtime.enter();
        let mut socket = XPubSocket::with_options(options());
        let address = endpoint.address().to_owned();
        let opened = runtime.block_on(async {
            match endpoint.role_or(Role::Bind) {
                Role::Bind => socket.bind(&address).await.map(|bound| bound.to_string()),
                Role::Connect => socket.connect(&address).await.map(|()| address.clone()),
            }
        });
        let address = opened.map_err(|error| ZeromqError::Open { address, error })?;
        drop(_on_runtime);
        Ok(Sender { runtime, socket, address })
    }

    /// The address as bound.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits until somebody subscribes.
    ///
    /// # Errors
    /// [`ZeromqError::NoSubscriber`] after `wait`.
    pub fn wait_for_subscriber(&mut self, wait: Duration) -> Result<(), ZeromqError> {
        let heard = self.runtime.block_on(async { tokio::time::timeout(wait, self.socket.recv()).await });
        match heard {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(ZeromqError::Use { address: self.address.clone(), error }),
            Err(_) => {
                Err(ZeromqError::NoSubscriber { address: self.address.clone(), seconds: wait.as_secs_f64() })
            }
        }
    }

    /// Sends one bin.
    ///
    /// # Errors
    /// [`ZeromqError::Use`].
    pub fn send(&mut self, stamp: &BinStamp, counts: &[f32]) -> Result<(), ZeromqError> {
        let mut payload = Vec::with_capacity(4 * counts.len());
        wire::put_f32(counts, &mut payload);
        let header = Bytes::copy_from_slice(&wire::bin_header(stamp, counts.len()));
        self.frames([Bytes::from_static(wire::TOPIC_BIN), header, Bytes::from(payload)])
    }

    /// Says what the bins consist of.
    ///
    /// # Errors
    /// [`ZeromqError::Use`].
    pub fn describe(&mut self, description: &Description) -> Result<(), ZeromqError> {
        let (header, json) = wire::description_frames(description);
        self.frames([Bytes::from_static(wire::TOPIC_DESCRIPTION), Bytes::from(header), Bytes::from(json)])
    }

    /// Closes the socket. What was sent has been handed to the system by then: each send waits for that.
    pub fn finish(self) {
        drop(self.runtime.block_on(self.socket.close()));
    }

    fn frames(&mut self, frames: [Bytes; 3]) -> Result<(), ZeromqError> {
        let [topic, header, payload] = frames;
        let mut message = ZmqMessage::from(topic);
        message.push_back(header);
        message.push_back(payload);
        let sent = self.runtime.block_on(self.socket.send(message));
        sent.map_err(|error| ZeromqError::Use { address: self.address.clone(), error })
    }
}

/// Receives what a daemon publishes.
pub struct Receiver {
    runtime: Runtime,
    socket: SubSocket,
    address: String,
}

impl Receiver {
    /// Subscribes: connects unless the endpoint says otherwise, and waits up to 10 s for the peer.
    ///
    /// # Errors
    /// [`ZeromqError::Open`] when the address cannot be reached or bound.
    pub fn open(endpoint: &Endpoint) -> Result<Receiver, ZeromqError> {
        let runtime = runtime()?;
        let mut socket = SubSocket::with_options(options());
        let address = endpoint.address().to_owned();
        let opened = runtime.block_on(async {
            socket.subscribe("ndt.").await?;
            match endpoint.role_or(Role::Connect) {
                Role::Bind => socket.bind(&address).await.map(|bound| bound.to_string()),
                Role::Connect => socket.connect(&address).await.map(|()| address.clone()),
            }
        });
        let address = opened.map_err(|error| ZeromqError::Open { address, error })?;
        Ok(Receiver { runtime, socket, address })
    }

    /// The frames of the next message, or `None` after `wait`.
    ///
    /// # Errors
    /// [`ZeromqError::Use`].
    pub fn receive(&mut self, wait: Duration) -> Result<Option<Vec<Bytes>>, ZeromqError> {
        match self.runtime.block_on(async { tokio::time::timeout(wait, self.socket.recv()).await }) {
            Ok(Ok(message)) => Ok(Some(message.into_vec())),
            Ok(Err(error)) => Err(ZeromqError::Use { address: self.address.clone(), error }),
            Err(_) => Ok(None),
        }
    }
}
