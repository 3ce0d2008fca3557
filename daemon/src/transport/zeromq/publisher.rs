//! Estimates to ZeroMQ subscribers.

use super::ipc::IpcSettings;
use super::{ZeromqError, bind};
use crate::output::Publisher;
use bytes::Bytes;
use ndt_protocol::endpoint::{Role, SocketAddress};
use ndt_protocol::wire::{self, Description};
use ndt_protocol::{Bundle, Estimate};
use tokio::runtime::Runtime;
use zeromq::{PubSocket, Socket, SocketSend, ZmqMessage};

/// Publishes estimates, and once a second their description. Owned by the publish thread.
pub struct ZeromqPublisher {
    runtime: tokio::runtime::Handle,
    socket: PubSocket,
    description: (Bytes, Bytes),
}

impl ZeromqPublisher {
    /// Opens the socket and returns its address as bound. Binds by default.
    ///
    /// # Errors
    /// [`ZeromqError`] when the address cannot be bound or reached.
    pub fn open(
        runtime: &Runtime,
        endpoint: &SocketAddress,
        settings: &IpcSettings,
        bundle: &Bundle,
        engine: &str,
    ) -> Result<(Self, String), ZeromqError> {
        // The library starts a task for each socket on the runtime of this thread.
        let _on_runtime = runtime.enter();
        let mut socket = PubSocket::new();
        let address = match endpoint.role_or(Role::Bind) {
            Role::Bind => bind(runtime, &mut socket, endpoint, settings)?,
            Role::Connect => {
                let address = endpoint.address.clone();
                let connected = runtime.block_on(socket.connect(&address));
                connected.map_err(|error| ZeromqError::Bind { address, error })?;
                endpoint.address.clone()
            }
        };
        let (header, json) = wire::description_frames(0, &Description::of_estimates(bundle, engine));
        let description = (Bytes::from(header), Bytes::from(json));
        Ok((ZeromqPublisher { runtime: runtime.handle().clone(), socket, description }, address))
    }

    fn send(&mut self, topic: &'static [u8], frames: impl IntoIterator<Item = Bytes>) {
        let mut message = ZmqMessage::from(Bytes::from_static(topic));
        for frame in frames {
            message.push_back(frame);
        }
        // A publisher without a subscriber drops the message; no error here is one that the caller could mend.
        drop(self.runtime.block_on(self.socket.send(message)));
    }
}

impl Publisher for ZeromqPublisher {
    /// Hands the estimate to the library, which takes over its frames. A subscriber that does not keep up loses messages (the
    /// library queues 100,000 for each) and delays nobody.
    fn publish(&mut self, estimate: &Estimate) {
        let mut rates = Vec::with_capacity(4 * estimate.rates().len());
        wire::put_f32(estimate.rates(), &mut rates);
        let mut velocity = Vec::with_capacity(4 * estimate.velocity().len());
        wire::put_f32(estimate.velocity(), &mut velocity);
        let header = wire::estimate_header(estimate);
        let frames = [Bytes::copy_from_slice(&header), Bytes::from(rates), Bytes::from(velocity)];
        self.send(wire::TOPIC_ESTIMATE, frames);
    }

    fn describe(&mut self) {
        let (header, json) = self.description.clone();
        self.send(wire::TOPIC_DESCRIPTION, [header, json]);
    }
}
