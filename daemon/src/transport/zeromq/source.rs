//! Bins from a ZeroMQ publisher.

use super::flood::Flood;
use super::host_name::HostName;
use super::{INPUT_THREAD, SocketError, Sockets};
use crate::input::one_source::OneSource;
use crate::input::rebin::Rebin;
use crate::input::{Absence, Received, Refusal, Source};
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::endpoint::{Role, SocketAddress};
use ndt_protocol::wire::{self, Description};
use ndt_protocol::zeromq::{Event, Frames, Heard, Link, Options, Subscriber};
use ndt_protocol::{Bin, Bundle, CountRange};

/// Frames of the longest message of this project.
const FRAMES_MAX: usize = 4;

/// Bytes of JSON that a description of no channels takes, generously, and each channel id at most.
const DESCRIPTION_BYTES: (usize, usize) = (4096, 24);

/// Bytes that the system keeps of each connection to a bound input: 32 ms of 4,096 channels at 1 kHz, and of a flood so little that closing
/// the connection ends it.
const RECEIVE_BUFFER_BYTES: usize = 128 << 10;

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
    subscriber: Subscriber,
    frames: Frames<FRAMES_MAX>,
    reader: Reader,
    flood: Flood,
    /// Name of the source's computer, for a source that is connected to.
    host: Option<HostName>,
}

/// What a source makes of the messages.
struct Reader {
    channels: usize,
    range: CountRange,
    rebin: Rebin,
    channel_ids: Vec<i64>,
    /// The last description of the stream, as JSON.
    description: Vec<u8>,
    described: Described,
    /// Why the last description was of no use; told each time that it comes.
    unreadable: Option<Refusal>,
    one_source: OneSource,
    /// Whether the connection by which bins came is lost, and the caller does not know it yet.
    is_lost: bool,
}

impl ZeromqSource {
    /// Opens a source for the channels of `bundle`, and returns its address too. Connects by default, whenever the peer is there. While
    /// bins come, those of another connection are refused; after `silent_bins` bins of silence, they are taken.
    ///
    /// # Errors
    /// [`SocketError`] when the address cannot be bound.
    pub fn open(
        sockets: &mut Sockets,
        endpoint: &SocketAddress,
        bundle: &Bundle,
        silent_bins: u64,
    ) -> Result<(Self, String), SocketError> {
        let is_bound = endpoint.role_or(Role::Connect) == Role::Bind;
        let manifest = &bundle.manifest;
        let (channels, range) = (manifest.channels(), manifest.count_range());
        let (fixed, each) = DESCRIPTION_BYTES;
        let options = Options {
            // The longest frame is the description, with as many channels as another rig may have.
            frame_bytes_max: fixed + each * (2 * channels).max(1024),
            receive_buffer_bytes: is_bound.then_some(RECEIVE_BUFFER_BYTES),
            ..sockets.options(INPUT_THREAD, endpoint, Role::Connect)
        };
        let (subscriber, address) = Subscriber::open(&sockets.context, endpoint, "ndt.", &options)?;
        sockets.grant(endpoint, endpoint.role_or(Role::Connect))?;
        sockets.watch(&options, &address, subscriber.connections().clone(), None);
        let reader = Reader {
            channels,
            range,
            rebin: Rebin::new(manifest.bin_width_us(), channels, range),
            channel_ids: manifest.channel_ids.clone(),
            description: Vec::new(),
            described: Described::NotYet,
            unreadable: None,
            one_source: OneSource::new(silent_bins.saturating_mul(manifest.bin_width_ns())),
            is_lost: false,
        };
        let frames = Frames::new(sockets.context.library());
        let host = (!is_bound).then(|| HostName::of(endpoint));
        let flood = Flood::new(&address, is_bound);
        Ok((ZeromqSource { subscriber, frames, reader, flood, host }, address))
    }
}

impl Reader {
    /// Notes what happened to a connection.
    fn note(&mut self, event: Event) {
        match event {
            Event::Lost(connection) if self.one_source.lose(connection) => {
                self.is_lost = true;
                self.forget_description();
            }
            _ => {}
        }
    }

    /// The next peer describes its own stream.
    fn forget_description(&mut self) {
        (self.described, self.unreadable) = (Described::NotYet, None);
        self.description.clear();
    }

    /// Reads a message into `bin`, and returns what it was.
    fn read(&mut self, frames: &[&[u8]], connection: i32, arrival_ns: u64, bin: &mut Bin) -> Received {
        if frames.first() == Some(&wire::TOPIC_DESCRIPTION) {
            return self.read_description(frames, connection, arrival_ns);
        }
        let split = match wire::split_bin(frames) {
            Ok(split) => split,
            Err(error) => return Received::Refused(error.into()),
        };
        let before = self.one_source.connection();
        if !self.one_source.takes(connection, split.0.stream, arrival_ns) {
            return Received::Refused(Refusal::SecondSource);
        }
        if before.is_some_and(|before| before != connection) {
            self.forget_description();
        }
        if let Described::Otherwise(refusal) = self.described {
            return Received::Refused(refusal);
        }
        let read = wire::fill_bin(split, self.channels, self.range, arrival_ns, bin);
        bin.undescribed = self.described == Described::NotYet;
        bin.second_source = self.one_source.has_seen_another(arrival_ns);
        match read.and_then(|stamp| self.rebin.push(bin, stamp.bin_width_us)) {
            Ok(true) => Received::Bin,
            Ok(false) => Received::Nothing,
            Err(error) => Received::Refused(error.into()),
        }
    }

    /// Reads what the stream says of its channels. A description comes once a second; one that is the same as the last is not
    /// parsed again, which would allocate.
    fn read_description(&mut self, frames: &[&[u8]], connection: i32, arrival_ns: u64) -> Received {
        let stream = match wire::described_stream(frames) {
            Ok(stream) => stream,
            Err(error) => return Received::Refused(error.into()),
        };
        if !self.one_source.may_describe(connection, stream, arrival_ns) {
            return Received::Refused(Refusal::SecondSource);
        }
        if frames.get(2) != Some(&&self.description[..]) {
            self.description = frames.get(2).map_or_else(Vec::new, |json| json.to_vec());
            self.unreadable = match wire::read_description(frames) {
                Ok((_, Some(Description::Bins { channel_ids, .. }))) => {
                    let refusal = Refusal::of_channels(&channel_ids, &self.channel_ids);
                    self.described = refusal.map_or(Described::AsBundle, Described::Otherwise);
                    None
                }
                Ok(_) => Some(Refusal::Description),
                Err(error) => Some(error.into()),
            };
        }
        match (self.unreadable, self.described) {
            (Some(refusal), _) | (None, Described::Otherwise(refusal)) => Received::Refused(refusal),
            (None, Described::AsBundle | Described::NotYet) => Received::Nothing,
        }
    }
}

impl Source for ZeromqSource {
    fn receive(&mut self, bin: &mut Bin) -> Received {
        let ZeromqSource { subscriber, frames, reader, flood, host } = self;
        let heard = subscriber.receive(frames, &mut |event| reader.note(event));
        if heard == Heard::Message {
            let arrival_ns = monotonic_ns();
            let (parts, count, connection) = (frames.get(), frames.count(), frames.connection());
            let received = if count > FRAMES_MAX {
                Received::Refused(wire::WireError::Frames { expected: 3, found: count }.into())
            } else {
                reader.read(&parts[..count], connection, arrival_ns, bin)
            };
            if matches!(received, Received::Refused(_)) && reader.one_source.connection() != Some(connection)
            {
                flood.refused(connection, arrival_ns);
            }
            return received;
        }
        let is_lost = std::mem::take(&mut reader.is_lost);
        match subscriber.link() {
            Link::Met if is_lost => Received::Gone(Absence::Lost),
            Link::Met => Received::Nothing,
            Link::Lost => Received::Gone(Absence::Lost),
            Link::NoAnswer => match host {
                // Peers come to a bound socket by themselves.
                None => Received::Nothing,
                Some(host) if host.is_unknown() => Received::Gone(Absence::UnknownHost),
                Some(_) => Received::Gone(Absence::NoAnswer),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_that_cannot_be_read_is_refused_each_time_that_it_comes() {
        let range = CountRange::new(20, 20.0);
        let mut reader = Reader {
            channels: 2,
            range,
            rebin: Rebin::new(20_000, 2, range),
            channel_ids: vec![7, 8],
            description: Vec::new(),
            described: Described::NotYet,
            unreadable: None,
            one_source: OneSource::new(60_000_000),
            is_lost: false,
        };
        let mut bin = Bin::empty();
        let description = Description::Bins { bin_width_us: 20_000, channel_ids: vec![7, 8] };
        let (header, right) = wire::description_frames(1, &description);
        let text = br#"{"bins": {"bin-width-us": 20000, "channel-ids": ["7", "8"]}}"#;
        let mut read = |json: &[u8]| {
            let received = reader.read(&[wire::TOPIC_DESCRIPTION, &header, json], 3, 0, &mut bin);
            (matches!(received, Received::Refused(_)), reader.described)
        };
        assert_eq!([(); 3].map(|()| read(text)), [(true, Described::NotYet); 3]);
        assert_eq!([(); 2].map(|()| read(&right)), [(false, Described::AsBundle); 2]);
        // What was said before holds.
        assert_eq!([(); 2].map(|()| read(text)), [(true, Described::AsBundle); 2]);
    }
}
