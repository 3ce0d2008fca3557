//! ZeroMQ in and out; the only file of the daemon that names the library, so that it can be exchanged.
//!
//! The sockets live on a small tokio runtime of two threads that moves bytes; the source and publish threads
//! stay plain threads that block on it. The library allocates for every message; our own code here reuses
//! what it can.

use crate::host::realtime;
use crate::rebin::Rebin;
use crate::source::{Received, Source};
use bytes::Bytes;
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::endpoint::{Role, SocketAddress};
use ndt_protocol::wire::{self, BinStamp, Description};
use ndt_protocol::{Bin, Bundle, Estimate};
use std::io;
use std::time::Duration;
use tokio::runtime::Runtime;
use zeromq::{
    PubSocket, Socket, SocketEvent, SocketOptions, SocketRecv, SocketSend, SubSocket, XPubSocket, ZmqMessage,
};

/// How long a source waits before it looks whether it should stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long a benchmark's rig and its pipeline may take to find each other.
const MEETING_PATIENCE: Duration = Duration::from_secs(10);

/// Frames of the longest message that is ours.
const FRAMES_MAX: usize = 4;

/// Why a socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ZeromqError {
    /// The runtime's threads cannot be started.
    #[error("expected two threads for ZeroMQ, found {0}")]
    Runtime(io::Error),
    /// The address is taken or not ours.
    #[error("expected to bind {address}, found {error}")]
    Bind {
        /// The address.
        address: String,
        /// What the library says.
        error: zeromq::ZmqError,
    },
    /// A rig of ours does not find its daemon.
    #[error("expected a daemon that takes bins on {input} and publishes on {output}, found {found}")]
    Meeting {
        /// Where bins go.
        input: String,
        /// Where estimates come from.
        output: String,
        /// What the library says.
        found: String,
    },
}

/// Starts the runtime on which the sockets live. Every bin and estimate passes through its threads, so that they ask of
/// the system what the pipeline's own do; what is refused to them is refused to those, which report it.
///
/// # Errors
/// [`ZeromqError::Runtime`] when the system gives no threads.
pub fn runtime(settings: &realtime::RealtimeSettings) -> Result<Runtime, ZeromqError> {
    let settings = settings.clone();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).thread_name("zeromq").enable_all();
    builder.on_thread_start(move || drop(realtime::enter(&settings)));
    builder.build().map_err(ZeromqError::Runtime)
}

struct Connection {
    socket: SubSocket,
    events: futures_channel::mpsc::Receiver<SocketEvent>,
}

/// Subscribes to bins.
pub struct ZeromqSource {
    runtime: tokio::runtime::Handle,
    endpoint: SocketAddress,
    channels: usize,
    count_max: f32,
    rebin: Rebin,
    channel_ids: Vec<i64>,
    /// What the stream last said of itself, and whether it named other channels than the bundle's.
    description: Vec<u8>,
    wrong_channels: bool,
    /// `None` while the peer is not there.
    connection: Option<Connection>,
    /// Whether the endpoint is bound: peers then come and go by themselves.
    bound: bool,
}

impl ZeromqSource {
    /// A source for the channels of `bundle`. Binds at once; a connection is made by `receive`,
    /// again and again until the peer is there.
    ///
    /// # Errors
    /// [`ZeromqError::Bind`] when the address cannot be bound.
    pub fn open(
        runtime: &Runtime,
        endpoint: &SocketAddress,
        bundle: &Bundle,
    ) -> Result<(Self, String), ZeromqError> {
        let (channels, count_max) = (bundle.manifest.channels(), bundle.manifest.count_max as f32);
        let mut source = ZeromqSource {
            runtime: runtime.handle().clone(),
            endpoint: endpoint.clone(),
            channels,
            count_max,
            rebin: Rebin::new(bin_width_us(bundle), channels, count_max),
            channel_ids: bundle.manifest.channel_ids.clone(),
            description: Vec::new(),
            connection: None,
            bound: endpoint.role_or(Role::Connect) == Role::Bind,
            wrong_channels: false,
        };
        let mut address = endpoint.address.clone();
        if source.bound {
            let mut socket = SubSocket::new();
            let events = socket.monitor();
            let bound = runtime.block_on(async {
                let bound = socket.bind(&endpoint.address).await?;
                socket.subscribe("ndt.").await?;
                Ok::<_, zeromq::ZmqError>(bound)
            });
            address = bound.map_err(|error| ZeromqError::Bind { address, error })?.to_string();
            source.connection = Some(Connection { socket, events });
        }
        Ok((source, address))
    }

    /// The library would try again ever more rarely, up to 30 s apart; a rig that restarts wants its
    /// decoder back at once. So a lost connection is given up and made anew.
    fn connect(&mut self) {
        let mut options = SocketOptions::default();
        options.connect_timeout(PATIENCE);
        let mut socket = SubSocket::with_options(options);
        let events = socket.monitor();
        let connected = self.runtime.block_on(async {
            socket.subscribe("ndt.").await?;
            socket.connect(&self.endpoint.address).await
        });
        match connected {
            Ok(()) => self.connection = Some(Connection { socket, events }),
            // Some errors (an unknown host, a link that is down) come at once, and would come again and again.
            Err(_) => std::thread::sleep(PATIENCE),
        }
    }

    fn take(&mut self, message: &ZmqMessage, arrival_ns: u64, bin: &mut Bin) -> Received {
        let mut frames = [&[][..]; FRAMES_MAX];
        for (frame, bytes) in frames.iter_mut().zip(message.iter()) {
            *frame = bytes;
        }
        let frames = &frames[..message.len().min(FRAMES_MAX)];
        if frames.first() == Some(&wire::TOPIC_DESCRIPTION) {
            // Said once a second; reading it anew would allocate.
            if frames.get(2) == Some(&&self.description[..]) {
                return if self.wrong_channels { Received::WrongChannels } else { Received::Nothing };
            }
            self.description = frames.get(2).map_or_else(Vec::new, |json| json.to_vec());
            return match wire::read_description(frames) {
                Ok(Some(Description::Bins { channel_ids, .. })) => {
                    self.wrong_channels = channel_ids != self.channel_ids;
                    if self.wrong_channels { Received::WrongChannels } else { Received::Nothing }
                }
                Ok(_) => Received::Nothing,
                Err(error) => Received::Refused(error),
            };
        }
        if self.wrong_channels {
            return Received::WrongChannels;
        }
        let read = wire::read_bin(frames, self.channels, self.count_max, arrival_ns, bin);
        match read.and_then(|stamp| self.rebin.push(bin, stamp.bin_width_us)) {
            Ok(true) => Received::Bin,
            Ok(false) => Received::Nothing,
            Err(error) => Received::Refused(error),
        }
    }
}

impl Source for ZeromqSource {
    fn receive(&mut self, bin: &mut Bin) -> Received {
        if self.connection.is_none() {
            self.connect();
        }
        let Some(Connection { socket, events }) = &mut self.connection else { return Received::Gone };
        // A loss is acted on after the peer's last message and at once: the library would soon connect anew by
        // itself, and what came on that connection would be lost with the socket.
        let heard = self.runtime.block_on(async {
            tokio::select! {
                biased;
                message = socket.recv() => message.ok(),
                Ok(SocketEvent::Disconnected(_)) = events.recv() => None,
                () = tokio::time::sleep(PATIENCE) => return Err(Received::Nothing),
            }
            .ok_or(Received::Gone)
        });
        let arrival_ns = monotonic_ns();
        match heard {
            Ok(message) => self.take(&message, arrival_ns, bin),
            Err(Received::Gone) => {
                // Whoever comes next says anew who it is.
                self.wrong_channels = false;
                self.description.clear();
                if !self.bound {
                    self.connection = None;
                }
                Received::Gone
            }
            Err(other) => other,
        }
    }
}

/// Publishes estimates, and once a second what they consist of.
pub struct ZeromqPublisher {
    runtime: tokio::runtime::Handle,
    socket: PubSocket,
    description: (Bytes, Bytes),
}

impl ZeromqPublisher {
    /// Opens the socket; binds unless the endpoint says otherwise. Gives the address as bound.
    ///
    /// # Errors
    /// [`ZeromqError::Bind`] when the address cannot be bound or reached.
    pub fn open(
        runtime: &Runtime,
        endpoint: &SocketAddress,
        bundle: &Bundle,
        engine: String,
    ) -> Result<(Self, String), ZeromqError> {
        // The library starts a task for each socket and looks for its runtime on this thread.
        let _on_runtime = runtime.enter();
        let mut socket = PubSocket::new();
        let address = endpoint.address.clone();
        let opened = runtime.block_on(async {
            match endpoint.role_or(Role::Bind) {
                Role::Bind => socket.bind(&address).await.map(|bound| bound.to_string()),
                Role::Connect => socket.connect(&address).await.map(|()| address.clone()),
            }
        });
        let address = opened.map_err(|error| ZeromqError::Bind { address, error })?;
        let (header, json) = wire::description_frames(&Description::Estimates {
            bundle: bundle.manifest.id.clone(),
            engine,
            bin_width_us: bin_width_us(bundle),
            unit_ids: bundle.manifest.unit_ids.clone(),
            velocity_dims: bundle.manifest.velocity_dims() as u32,
            velocity_offset_ns: bundle.manifest.velocity_offset_ns(),
        });
        let description = (Bytes::from(header), Bytes::from(json));
        Ok((ZeromqPublisher { runtime: runtime.handle().clone(), socket, description }, address))
    }

    /// Hands one estimate to the transport. Runs on the publish thread, once a bin. A subscriber that does
    /// not keep up loses messages (the library's queue holds 100,000 for each) and delays nobody.
    pub fn publish(&mut self, estimate: &Estimate) {
        let mut rates = Vec::with_capacity(4 * estimate.rates().len());
        wire::put_f32(estimate.rates(), &mut rates);
        let mut velocity = Vec::with_capacity(4 * estimate.velocity().len());
        wire::put_f32(estimate.velocity(), &mut velocity);
        let header = wire::estimate_header(estimate);
        let frames = [Bytes::copy_from_slice(&header), Bytes::from(rates), Bytes::from(velocity)];
        self.send(wire::TOPIC_ESTIMATE, frames);
    }

    /// Says what the estimates consist of, for subscribers that have just come. Once a second.
    pub fn describe(&mut self) {
        let (header, json) = self.description.clone();
        self.send(wire::TOPIC_DESCRIPTION, [header, json]);
    }

    fn send(&mut self, topic: &'static [u8], frames: impl IntoIterator<Item = Bytes>) {
        let mut message = ZmqMessage::from(Bytes::from_static(topic));
        for frame in frames {
            message.push_back(frame);
        }
        // A publisher's send has no error that its caller could mend: without a subscriber it drops.
        drop(self.runtime.block_on(self.socket.send(message)));
    }
}

/// The other side of the daemon, for `ndtd bench`: sends bins, hears estimates. `ndt-replay` has the one for rigs.
pub struct ZeromqRig {
    runtime: Runtime,
    bins: XPubSocket,
}

impl ZeromqRig {
    /// Meets the daemon that has bound `input` and `output`, and returns once either side hears the other. Each
    /// estimate is then given to `heard` with the instant that it came, on a thread of the sockets.
    ///
    /// # Errors
    /// [`ZeromqError::Meeting`] after 10 s, or when the daemon is not there; [`ZeromqError::Runtime`].
    pub fn connect(
        settings: &realtime::RealtimeSettings,
        input: &str,
        output: &str,
        mut heard: impl FnMut(&Estimate, u64) + Send + 'static,
    ) -> Result<ZeromqRig, ZeromqError> {
        let runtime = runtime(settings)?;
        let failed = |found: String| ZeromqError::Meeting {
            input: input.to_owned(),
            output: output.to_owned(),
            found,
        };
        let met = runtime
            .block_on(async { tokio::time::timeout(MEETING_PATIENCE, meet(input, output)).await })
            .map_err(|_| failed("none within 10 s".to_owned()))?;
        let (bins, mut estimates) = met.map_err(|error| failed(error.to_string()))?;
        runtime.spawn(async move {
            // An error is the daemon's end.
            while let Ok(message) = estimates.recv().await {
                let received_ns = monotonic_ns();
                let frames: Vec<&[u8]> = message.iter().map(|frame| &frame[..]).collect();
                // What is no estimate is a description.
                if let Ok(estimate) = wire::read_estimate(&frames) {
                    heard(&estimate, received_ns);
                }
            }
        });
        Ok(ZeromqRig { runtime, bins })
    }

    /// Sends one bin. The system's buffers take seconds of bins before it would wait for the daemon.
    pub fn send(&mut self, stamp: &BinStamp, counts: &[f32]) {
        let mut payload = Vec::with_capacity(4 * counts.len());
        wire::put_f32(counts, &mut payload);
        let mut message = ZmqMessage::from(Bytes::from_static(wire::TOPIC_BIN));
        message.push_back(Bytes::copy_from_slice(&wire::bin_header(stamp, counts.len())));
        message.push_back(payload.into());
        // Without a daemon it drops; the estimates that do not come are what tells.
        drop(self.runtime.block_on(self.bins.send(message)));
    }
}

async fn meet(input: &str, output: &str) -> Result<(XPubSocket, SubSocket), zeromq::ZmqError> {
    let (mut bins, mut estimates) = (XPubSocket::new(), SubSocket::new());
    bins.connect(input).await?;
    // A 1 and a prefix: the daemon has subscribed, and what is sent from here on reaches it.
    while bins.recv().await?.get(0).is_none_or(|frame| frame.first() != Some(&1)) {}
    estimates.subscribe("ndt.").await?;
    estimates.connect(output).await?;
    // It describes itself once a second, to whoever has subscribed.
    estimates.recv().await?;
    Ok((bins, estimates))
}

fn bin_width_us(bundle: &Bundle) -> u32 {
    bundle.manifest.bin_width_us()
}
