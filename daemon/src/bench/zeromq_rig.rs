//! The rig's side of the daemon over ZeroMQ, for `ndtd bench`: sends bins and receives estimates.
//!
//! `ndt-replay` has the one for recordings. This one keeps what it does for a bin as short as it can.

use crate::host::realtime::RealtimeSettings;
use crate::transport::zeromq::{ZeromqError, runtime};
use bytes::Bytes;
use ndt_protocol::Estimate;
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::wire::{self, BinStamp, Description};
use std::time::Duration;
use tokio::runtime::Runtime;
use zeromq::{Socket, SocketRecv, SocketSend, SubSocket, XPubSocket, ZmqMessage};

/// How long the rig and the pipeline may take to find each other.
const MEETING_PATIENCE: Duration = Duration::from_secs(10);

/// Why a rig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// The sockets' threads cannot be started.
    #[error(transparent)]
    Runtime(#[from] ZeromqError),
    /// The rig does not find its daemon.
    #[error("expected a daemon that takes bins on {input} and publishes on {output}, found {found}")]
    Meeting {
        /// Address that the rig sends bins to.
        input: String,
        /// Address that the rig receives estimates from.
        output: String,
        /// Error of the library.
        found: String,
    },
}

/// Sends bins to a daemon and receives its estimates.
pub struct ZeromqRig {
    runtime: Runtime,
    bins: XPubSocket,
}

impl ZeromqRig {
    /// Connects to the daemon that has bound `input` and `output`, describes the bins to it, and returns once each side receives
    /// from the other. From then on `heard` is called for each estimate with the instant of its arrival, on a thread of the
    /// sockets.
    ///
    /// # Errors
    /// [`RigError::Meeting`] after 10 s, or when the daemon is not there; [`RigError::Runtime`].
    pub fn connect(
        settings: &RealtimeSettings,
        input: &str,
        output: &str,
        bins: &Description,
        mut heard: impl FnMut(&Estimate, u64) + Send + 'static,
    ) -> Result<ZeromqRig, RigError> {
        let runtime = runtime(settings)?;
        let failed =
            |found: String| RigError::Meeting { input: input.to_owned(), output: output.to_owned(), found };
        let met = runtime
            .block_on(async { tokio::time::timeout(MEETING_PATIENCE, meet(input, output, bins)).await })
            .map_err(|_| failed("none within 10 s".to_owned()))?;
        let (bins, mut estimates) = met.map_err(|error| failed(error.to_string()))?;
        runtime.spawn(async move {
            // An error means that the daemon has ended.
            while let Ok(message) = estimates.recv().await {
                let received_ns = monotonic_ns();
                let frames: Vec<&[u8]> = message.iter().map(|frame| &frame[..]).collect();
                // Anything else is a description.
                if let Ok(estimate) = wire::read_estimate(&frames) {
                    heard(&estimate, received_ns);
                }
            }
        });
        Ok(ZeromqRig { runtime, bins })
    }

    /// Sends one bin. It waits for the daemon only when the system's buffers are full, which takes seconds of bins.
    pub fn send(&mut self, stamp: &BinStamp, counts: &[f32]) {
        let mut payload = Vec::with_capacity(4 * counts.len());
        wire::put_f32(counts, &mut payload);
        let header = Bytes::copy_from_slice(&wire::bin_header(stamp, counts.len()));
        let message = message(wire::TOPIC_BIN, [header, payload.into()]);
        // Without a daemon the bin is dropped; the missing estimate shows it.
        drop(self.runtime.block_on(self.bins.send(message)));
    }
}

fn message(topic: &'static [u8], frames: [Bytes; 2]) -> ZmqMessage {
    let mut message = ZmqMessage::from(Bytes::from_static(topic));
    frames.into_iter().for_each(|frame| message.push_back(frame));
    message
}

async fn meet(
    input: &str,
    output: &str,
    description: &Description,
) -> Result<(XPubSocket, SubSocket), zeromq::ZmqError> {
    let (mut bins, mut estimates) = (XPubSocket::new(), SubSocket::new());
    bins.connect(input).await?;
    // A 1 and a prefix mean that the daemon has subscribed: what is sent from here on reaches it.
    while bins.recv().await?.get(0).is_none_or(|frame| frame.first() != Some(&1)) {}
    let (header, json) = wire::description_frames(0, description);
    bins.send(message(wire::TOPIC_DESCRIPTION, [header.into(), json.into()])).await?;
    estimates.subscribe("ndt.").await?;
    estimates.connect(output).await?;
    // The daemon describes its estimates once a second to every subscriber.
    estimates.recv().await?;
    Ok((bins, estimates))
}
