//! Estimates to ZeroMQ subscribers.

use super::settings::ZeromqSettings;
use super::{OUTPUT_THREAD, SocketError, Sockets};
use crate::output::{DescriptionFrames, Publisher};
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::endpoint::{Role, SocketAddress};
use ndt_protocol::wire::{self, Description};
use ndt_protocol::zeromq::{self, Kind, Options, Sent};
use ndt_protocol::{Bundle, Estimate};
use std::sync::Arc;

/// Longest frame that a subscriber may send: a subscription, or a step of an encrypted handshake with its metadata.
const SUBSCRIPTION_BYTES_MAX: usize = 1024;

/// Estimates that the system's buffer for each subscriber holds.
const SEND_BUFFER_BINS: usize = 16;

/// Bytes of frame headers, heads and book-keeping of the system for one message.
const OVERHEAD_BYTES: usize = 1024;

/// Publishes estimates, and once a second their description. Owned by the publish thread.
pub struct ZeromqPublisher {
    publisher: zeromq::Publisher,
    description: DescriptionFrames,
    /// Description that has taken the place of the first one, with another bundle.
    instead: Option<Arc<DescriptionFrames>>,
    /// Payloads of the last estimate, whose memory is used again.
    rates: Vec<u8>,
    velocity: Vec<u8>,
    behind: u64,
}

impl ZeromqPublisher {
    /// Opens the socket and returns its address as bound or connected to. Binds by default. A peer that is not there is no error.
    ///
    /// # Errors
    /// [`SocketError`] when the address cannot be bound.
    pub fn open(
        sockets: &mut Sockets,
        endpoint: &SocketAddress,
        settings: &ZeromqSettings,
        bundle: &Bundle,
        engine: &str,
    ) -> Result<(Self, String), SocketError> {
        let manifest = &bundle.manifest;
        let estimate_bytes = 4 * (manifest.units() + manifest.velocity_dims()) + OVERHEAD_BYTES;
        let options = Options {
            frame_bytes_max: SUBSCRIPTION_BYTES_MAX,
            queue_messages: settings.queue_bins,
            // What waits in the system is never thrown away, so that it is kept short.
            send_buffer_bytes: Some(SEND_BUFFER_BINS * estimate_bytes),
            ..sockets.options(OUTPUT_THREAD, endpoint, Role::Bind)
        };
        let opened = zeromq::Publisher::open(&sockets.context, endpoint, Kind::Pub, &options)?;
        let (mut publisher, address) = opened;
        sockets.grant(endpoint, endpoint.role_or(Role::Bind))?;
        if let Some((monitor, connections)) = publisher.watched() {
            sockets.watch(&options, connections, Some(monitor));
        }
        // Whatever comes over this connection is described.
        let description = wire::description_frames(0, &Description::of_estimates(bundle, engine));
        let rates = Vec::with_capacity(4 * manifest.units());
        let velocity = Vec::with_capacity(4 * manifest.velocity_dims());
        let instead = None;
        Ok((ZeromqPublisher { publisher, description, instead, rates, velocity, behind: 0 }, address))
    }
}

impl Publisher for ZeromqPublisher {
    /// Hands the estimate to libzmq, which copies it. A subscriber that does not keep up loses estimates and delays nobody: the queue of each
    /// holds `queue-bins`, and it loses what finds no room.
    fn publish(&mut self, estimate: &Estimate) {
        let ZeromqPublisher { publisher, rates, velocity, behind, .. } = self;
        rates.clear();
        wire::put_f32(estimate.rates(), rates);
        velocity.clear();
        wire::put_f32(estimate.outputs(), velocity);
        let header = wire::estimate_header(estimate);
        let sent = publisher.send(&[wire::TOPIC_ESTIMATE, &header, rates, velocity]);
        *behind += u64::from(sent == Sent::NotToAll);
    }

    fn describe(&mut self) {
        let (header, json) = self.instead.as_deref().unwrap_or(&self.description);
        self.publisher.send(&[wire::TOPIC_DESCRIPTION, header, json]);
        self.publisher.mend(monotonic_ns());
    }

    fn describe_as(&mut self, description: &Arc<DescriptionFrames>) {
        self.instead = Some(description.clone());
    }

    fn behind(&self) -> u64 {
        self.behind
    }
}
