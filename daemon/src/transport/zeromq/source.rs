//! Bins from a ZeroMQ publisher.

use super::ipc::IpcSettings;
use super::{PATIENCE, ZeromqError, bind};
use crate::input::rebin::Rebin;
use crate::input::{Absence, Received, Refusal, Source};
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::endpoint::{Role, SocketAddress};
use ndt_protocol::wire::{self, Description};
use ndt_protocol::{Bin, Bundle, CountRange};
use tokio::runtime::Runtime;
use zeromq::{Socket, SocketEvent, SocketOptions, SocketRecv, SubSocket, ZmqMessage};

/// Frames of the longest message of this project.
const FRAMES_MAX: usize = 4;

/// A socket, and the events of its connections.
struct Connection {
    socket: SubSocket,
    events: futures_channel::mpsc::Receiver<SocketEvent>,
}

/// What the last description of a stream says of its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Described {
    /// There was no description of bins yet. Bins are decoded, and flagged.
    NotYet,
    /// The channels are the bundle's, in the bundle's order.
    AsBundle,
    /// The channels are others. Bins are refused, for this reason.
    Otherwise(Refusal),
}

/// Subscribes to bins. Owned by the source thread.
pub struct ZeromqSource {
    runtime: tokio::runtime::Handle,
    endpoint: SocketAddress,
    channels: usize,
    range: CountRange,
    rebin: Rebin,
    channel_ids: Vec<i64>,
    /// The last description of the stream, as JSON.
    description: Vec<u8>,
    described: Described,
    /// Connection to the source; `None` while no peer is connected.
    connection: Option<Connection>,
    /// Whether the endpoint is bound; peers then come and go by themselves.
    bound: bool,
}

impl ZeromqSource {
    /// Opens a source for the channels of `bundle`, and returns its address too. An endpoint that binds is bound at once; one
    /// that connects is connected by `receive`, again and again until the peer is there. Connects by default.
    ///
    /// # Errors
    /// [`ZeromqError`] when the address cannot be bound.
    pub fn open(
        runtime: &Runtime,
        endpoint: &SocketAddress,
        settings: &IpcSettings,
        bundle: &Bundle,
    ) -> Result<(Self, String), ZeromqError> {
        let (channels, range) = (bundle.manifest.channels(), bundle.manifest.count_range());
        let mut source = ZeromqSource {
            runtime: runtime.handle().clone(),
            endpoint: endpoint.clone(),
            channels,
            range,
            rebin: Rebin::new(bundle.manifest.bin_width_us(), channels, range),
            channel_ids: bundle.manifest.channel_ids.clone(),
            description: Vec::new(),
            connection: None,
            bound: endpoint.role_or(Role::Connect) == Role::Bind,
            described: Described::NotYet,
        };
        let mut address = endpoint.address.clone();
        if source.bound {
            let mut socket = SubSocket::new();
            let events = socket.monitor();
            let bound = bind(runtime, &mut socket, endpoint, settings)?;
            let subscribed = runtime.block_on(socket.subscribe("ndt."));
            subscribed.map_err(|error| ZeromqError::Bind { address, error })?;
            address = bound;
            source.connection = Some(Connection { socket, events });
        }
        Ok((source, address))
    }

    /// Connects anew, or returns why not. Left alone, the library would retry at growing intervals of up to 30 s; a rig that restarts wants its
    /// decoder back at once, so a lost connection is dropped and made again here.
    fn connect(&mut self) -> Result<(), Absence> {
        let mut options = SocketOptions::default();
        options.connect_timeout(PATIENCE);
        let mut socket = SubSocket::with_options(options);
        let events = socket.monitor();
        let connected = self.runtime.block_on(async {
            socket.subscribe("ndt.").await?;
            socket.connect(&self.endpoint.address).await
        });
        match connected {
            Ok(()) => {
                self.connection = Some(Connection { socket, events });
                Ok(())
            }
            Err(error) => {
                // Some errors (an unknown host, a link that is down) come at once; without a pause they would spin.
                std::thread::sleep(PATIENCE);
                // The standard library has no kind for a name that is not resolved.
                let is_unknown = error.to_string().contains("lookup address");
                Err(if is_unknown { Absence::UnknownHost } else { Absence::NoAnswer })
            }
        }
    }

    /// Reads a message into `bin`, and returns what it was.
    fn read(&mut self, message: &ZmqMessage, arrival_ns: u64, bin: &mut Bin) -> Received {
        let mut frames = [&[][..]; FRAMES_MAX];
        for (frame, bytes) in frames.iter_mut().zip(message.iter()) {
            *frame = bytes;
        }
        let frames = &frames[..message.len().min(FRAMES_MAX)];
        if frames.first() == Some(&wire::TOPIC_DESCRIPTION) {
            return self.read_description(frames);
        }
        if let Described::Otherwise(refusal) = self.described {
            return Received::Refused(refusal);
        }
        let read = wire::read_bin(frames, self.channels, self.range, arrival_ns, bin);
        bin.undescribed = self.described == Described::NotYet;
        match read.and_then(|stamp| self.rebin.push(bin, stamp.bin_width_us)) {
            Ok(true) => Received::Bin,
            Ok(false) => Received::Nothing,
            Err(error) => Received::Refused(error.into()),
        }
    }

    /// Reads what the stream says of its channels. A description comes once a second; one that is the same as the last is not
    /// parsed again, which would allocate.
    fn read_description(&mut self, frames: &[&[u8]]) -> Received {
        if frames.get(2) != Some(&&self.description[..]) {
            self.description = frames.get(2).map_or_else(Vec::new, |json| json.to_vec());
            match wire::read_description(frames) {
                Ok((_, Some(Description::Bins { channel_ids, .. }))) => {
                    let refusal = Refusal::of_channels(&channel_ids, &self.channel_ids);
                    self.described = refusal.map_or(Described::AsBundle, Described::Otherwise);
                }
                Ok(_) => return Received::Refused(Refusal::Description),
                Err(error) => return Received::Refused(error.into()),
            }
        }
        match self.described {
            Described::Otherwise(refusal) => Received::Refused(refusal),
            Described::AsBundle | Described::NotYet => Received::Nothing,
        }
    }
}

impl Source for ZeromqSource {
    fn receive(&mut self, bin: &mut Bin) -> Received {
        if self.connection.is_none()
            && let Err(absence) = self.connect()
        {
            return Received::Gone(absence);
        }
        let Some(Connection { socket, events }) = &mut self.connection else {
            return Received::Gone(Absence::NoAnswer);
        };
        // Messages are received before the event of a lost connection, so that none is lost. The event is handled at once: the
        // library would soon reconnect by itself, and what came on that connection would be dropped with the socket.
        let received = self.runtime.block_on(async {
            tokio::select! {
                biased;
                message = socket.recv() => message.ok(),
                Ok(SocketEvent::Disconnected(_)) = events.recv() => None,
                () = tokio::time::sleep(PATIENCE) => return Err(Received::Nothing),
            }
            .ok_or(Received::Gone(Absence::Lost))
        });
        let arrival_ns = monotonic_ns();
        match received {
            Ok(message) => self.read(&message, arrival_ns, bin),
            Err(Received::Gone(absence)) => {
                // The next peer describes its own stream.
                self.described = Described::NotYet;
                self.description.clear();
                if !self.bound {
                    self.connection = None;
                }
                Received::Gone(absence)
            }
            Err(other) => other,
        }
    }
}
