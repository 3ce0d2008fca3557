//! The bytes between programs. `WIRE.md` in this crate documents every byte and the numpy dtypes.
//!
//! A message is a topic, a fixed little-endian header and its payload, each a frame of its own. A reader refuses a
//! message that it does not fully understand, with a sentence; a refused message changes nothing. A channel without a
//! count is NaN.

mod description;
mod error;

pub use description::{
    Description, OutputDescription, described_stream, description_frames, read_description,
};
pub use error::{FoundTopic, WireError};

use crate::bin::Bin;
use crate::bin::count::CountRange;
use crate::estimate::{Estimate, Quality, Reasons};
use crate::limits::{CHANNELS_MAX, OUTPUTS_MAX, SEQ_MAX, UNITS_MAX, VELOCITY_DIMS_MAX};
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Version of the wire format.
///
/// **When it rises:** with every change of a header or a payload, an added field included. A new bit of [`Reasons`] is no
/// change: its quality alone says what may be done with an estimate.
///
/// **What must be done then:** add a row to the table of versions in `WIRE.md`; write new golden files, whose names carry
/// the version (`UPDATE_GOLDEN=1 cargo test -p ndt-protocol`), and list their digests in `tests/golden/check.rs`. Tests
/// fail until all of this is done, and when a golden file changes without a new version.
pub const VERSION: u16 = 3;
/// The first four bytes of every header.
pub const MAGIC: [u8; 4] = *b"NDTW";
/// Topic of bins.
pub const TOPIC_BIN: &[u8] = b"ndt.bin";
/// Topic of estimates.
pub const TOPIC_ESTIMATE: &[u8] = b"ndt.estimate";
/// Topic of descriptions, which are repeated about once a second for subscribers that join late.
pub const TOPIC_DESCRIPTION: &[u8] = b"ndt.description";

const KIND_BIN: u16 = 1;
const KIND_ESTIMATE: u16 = 2;
const KIND_DESCRIPTION: u16 = 3;
const FLAG_SEGMENT_START: u32 = 1;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Head {
    magic: [u8; 4],
    version: U16,
    kind: U16,
}

const fn head(kind: u16) -> Head {
    Head { magic: MAGIC, version: U16::new(VERSION), kind: U16::new(kind) }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct BinHeader {
    head: Head,
    seq: U64,
    stream: U64,
    source_ns: I64,
    sent_ns: U64,
    bin_width_us: U32,
    channels: U32,
    flags: U32,
    reserved: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct EstimateHeader {
    head: Head,
    seq: U64,
    stream: U64,
    source_ns: I64,
    arrival_ns: U64,
    decoded_ns: U64,
    published_ns: U64,
    velocity_for_ns: I64,
    clock_offset_ns: I64,
    clock_uncertainty_ns: U64,
    age_ns: I64,
    units: U32,
    dims: U16,
    outputs: U16,
    reasons: U32,
    lag_bins: U16,
    quality: u8,
    reserved: u8,
    bundle: [u8; 32],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct DescriptionHeader {
    head: Head,
    stream: U64,
}

const _: () = assert!(size_of::<BinHeader>() == 56);
const _: () = assert!(size_of::<EstimateHeader>() == 136);
const _: () = assert!(size_of::<DescriptionHeader>() == 16);

/// Length of a bin's header, bytes.
pub const BIN_HEADER_BYTES: usize = size_of::<BinHeader>();
/// Length of an estimate's header, bytes.
pub const ESTIMATE_HEADER_BYTES: usize = size_of::<EstimateHeader>();

/// The header of a bin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BinStamp {
    /// Number of the bin, from 0.
    pub seq: u64,
    /// Identity of the source's run.
    pub stream: u64,
    /// End of the bin by the source's clock, ns.
    pub source_ns: i64,
    /// When the bin was sent, `CLOCK_MONOTONIC` ns of the sender; 0 if unknown.
    pub sent_ns: u64,
    /// Width of the bin, us.
    pub bin_width_us: u32,
    /// Whether a segment of continuous data starts with this bin.
    pub segment_start: bool,
}

/// Makes the header frame of a bin.
pub fn bin_header(stamp: &BinStamp, channels: usize) -> [u8; BIN_HEADER_BYTES] {
    let header = BinHeader {
        head: head(KIND_BIN),
        seq: stamp.seq.into(),
        stream: stamp.stream.into(),
        source_ns: stamp.source_ns.into(),
        sent_ns: stamp.sent_ns.into(),
        bin_width_us: stamp.bin_width_us.into(),
        channels: (channels as u32).into(),
        flags: (if stamp.segment_start { FLAG_SEGMENT_START } else { 0 }).into(),
        reserved: 0.into(),
    };
    zerocopy::transmute!(header)
}

/// Appends numbers to a payload frame, as little-endian `f32`.
pub fn put_f32(values: &[f32], bytes: &mut Vec<u8>) {
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// Reads the numbers of a payload frame.
pub fn f32s(payload: &[u8]) -> impl Iterator<Item = f32> {
    payload.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

/// Reads a bin (topic, header, counts) into `bin`. A value that `range` does not accept is not taken as a count; `arrival_ns` is the
/// time of the reader's clock. Returns the stamp; whether its bin width fits is for the caller to check. Runs on the
/// source thread for every message; does not allocate.
///
/// # Errors
/// [`WireError`] when the message is refused; `bin` is then unchanged.
pub fn read_bin(
    frames: &[&[u8]],
    channels: usize,
    range: CountRange,
    arrival_ns: u64,
    bin: &mut Bin,
) -> Result<BinStamp, WireError> {
    fill_bin(split_bin(frames)?, channels, range, arrival_ns, bin)
}

/// Reads a bin that was split ([`split_bin`]) into `bin`, as [`read_bin`] does.
///
/// # Errors
/// [`WireError::Channels`] for another number of channels; `bin` is then unchanged.
pub fn fill_bin(
    (stamp, found, payload): (BinStamp, usize, &[u8]),
    channels: usize,
    range: CountRange,
    arrival_ns: u64,
    bin: &mut Bin,
) -> Result<BinStamp, WireError> {
    if found != channels {
        return Err(WireError::Channels { expected: channels, found });
    }
    bin.fill(f32s(payload), range);
    bin.seq = stamp.seq;
    bin.stream = stamp.stream;
    bin.source_ns = stamp.source_ns;
    bin.arrival_ns = arrival_ns;
    bin.sent_ns = stamp.sent_ns;
    bin.segment_start = stamp.segment_start;
    Ok(stamp)
}

/// Splits the message of a bin into its stamp, its number of channels and its payload.
///
/// # Errors
/// [`WireError`] when the frames are not a bin of this version.
pub fn split_bin<'a>(frames: &[&'a [u8]]) -> Result<(BinStamp, usize, &'a [u8]), WireError> {
    let [topic, header, payload] = frames else {
        return Err(WireError::Frames { expected: 3, found: frames.len() });
    };
    check_topic(topic, TOPIC_BIN)?;
    check_head(header, KIND_BIN)?;
    let header = BinHeader::ref_from_bytes(header).map_err(|_| WireError::Length {
        frame: "bin header",
        expected: BIN_HEADER_BYTES,
        found: header.len(),
    })?;
    let channels = limit("channels", header.channels.get() as usize, CHANNELS_MAX)?;
    limit("a seq", header.seq.get() as usize, SEQ_MAX as usize)?;
    check_length("counts frame", payload, 4 * channels)?;
    let stamp = BinStamp {
        seq: header.seq.get(),
        stream: header.stream.get(),
        source_ns: header.source_ns.get(),
        sent_ns: header.sent_ns.get(),
        bin_width_us: header.bin_width_us.get(),
        segment_start: header.flags.get() & FLAG_SEGMENT_START != 0,
    };
    Ok((stamp, channels, payload))
}

/// Makes the header frame of an estimate. The first of its outputs are the components of the velocity, if it has one.
pub fn estimate_header(estimate: &Estimate) -> [u8; ESTIMATE_HEADER_BYTES] {
    let header = EstimateHeader {
        head: head(KIND_ESTIMATE),
        seq: estimate.seq.into(),
        stream: estimate.stream.into(),
        source_ns: estimate.source_ns.into(),
        arrival_ns: estimate.arrival_ns.into(),
        decoded_ns: estimate.decoded_ns.into(),
        published_ns: estimate.published_ns.into(),
        velocity_for_ns: estimate.velocity_for_ns.into(),
        clock_offset_ns: estimate.clock_offset_ns.into(),
        clock_uncertainty_ns: estimate.clock_uncertainty_ns.into(),
        age_ns: estimate.age_ns.into(),
        units: (estimate.rates().len() as u32).into(),
        dims: (estimate.velocity().len() as u16).into(),
        outputs: (estimate.outputs().len() as u16).into(),
        reasons: estimate.reasons.0.into(),
        lag_bins: estimate.lag_bins.into(),
        quality: estimate.quality as u8,
        reserved: 0,
        bundle: estimate.bundle,
    };
    zerocopy::transmute!(header)
}

/// Reads an estimate (topic, header, rates, outputs). The daemon's description names the outputs.
///
/// # Errors
/// [`WireError`] when the frames are not an estimate of this version.
pub fn read_estimate(frames: &[&[u8]]) -> Result<Estimate, WireError> {
    let [topic, header, rates, outputs] = frames else {
        return Err(WireError::Frames { expected: 4, found: frames.len() });
    };
    check_topic(topic, TOPIC_ESTIMATE)?;
    check_head(header, KIND_ESTIMATE)?;
    let header = EstimateHeader::ref_from_bytes(header).map_err(|_| WireError::Length {
        frame: "estimate header",
        expected: ESTIMATE_HEADER_BYTES,
        found: header.len(),
    })?;
    let units = limit("units", header.units.get() as usize, UNITS_MAX)?;
    let found = limit("outputs", header.outputs.get().into(), OUTPUTS_MAX)?;
    let dims = limit("velocity components", header.dims.get().into(), found.min(VELOCITY_DIMS_MAX))?;
    let quality = Quality::from_number(header.quality).ok_or(WireError::Limit {
        what: "a quality",
        max: Quality::ALL.len() - 1,
        found: header.quality.into(),
    })?;
    check_length("rates frame", rates, 4 * units)?;
    check_length("outputs frame", outputs, 4 * found)?;
    let mut estimate = Estimate::zero(units, found).with_velocity(dims);
    estimate.seq = header.seq.get();
    estimate.stream = header.stream.get();
    estimate.source_ns = header.source_ns.get();
    estimate.arrival_ns = header.arrival_ns.get();
    estimate.decoded_ns = header.decoded_ns.get();
    estimate.published_ns = header.published_ns.get();
    estimate.velocity_for_ns = header.velocity_for_ns.get();
    estimate.clock_offset_ns = header.clock_offset_ns.get();
    estimate.clock_uncertainty_ns = header.clock_uncertainty_ns.get();
    estimate.age_ns = header.age_ns.get();
    estimate.quality = quality;
    estimate.reasons = Reasons(header.reasons.get());
    estimate.lag_bins = header.lag_bins.get();
    estimate.bundle = header.bundle;
    estimate.rates_mut().iter_mut().zip(f32s(rates)).for_each(|(rate, value)| *rate = value);
    estimate.outputs_mut().iter_mut().zip(f32s(outputs)).for_each(|(part, value)| *part = value);
    Ok(estimate)
}

fn description_header(stream: u64) -> [u8; size_of::<DescriptionHeader>()] {
    zerocopy::transmute!(DescriptionHeader { head: head(KIND_DESCRIPTION), stream: stream.into() })
}

/// Splits the message of a description into the stream that it describes and its JSON.
fn split_description<'a>(frames: &[&'a [u8]]) -> Result<(u64, &'a [u8]), WireError> {
    let [topic, header, json] = frames else {
        return Err(WireError::Frames { expected: 3, found: frames.len() });
    };
    check_topic(topic, TOPIC_DESCRIPTION)?;
    check_head(header, KIND_DESCRIPTION)?;
    let header = DescriptionHeader::ref_from_bytes(header).map_err(|_| WireError::Length {
        frame: "description header",
        expected: size_of::<DescriptionHeader>(),
        found: header.len(),
    })?;
    Ok((header.stream.get(), json))
}

fn check_topic(topic: &[u8], expected: &'static [u8]) -> Result<(), WireError> {
    let found = || FoundTopic::of(topic);
    if topic == expected { Ok(()) } else { Err(WireError::Topic { expected, found: found() }) }
}

fn check_head(header: &[u8], kind: u16) -> Result<(), WireError> {
    let (head, _) = Head::ref_from_prefix(header).map_err(|_| WireError::Length {
        frame: "header",
        expected: size_of::<Head>(),
        found: header.len(),
    })?;
    if head.magic != MAGIC {
        return Err(WireError::Magic { found: head.magic });
    }
    if head.version.get() != VERSION {
        return Err(WireError::Version { found: head.version.get() });
    }
    if head.kind.get() != kind {
        return Err(WireError::Kind { expected: kind, found: head.kind.get() });
    }
    Ok(())
}

fn check_length(frame: &'static str, bytes: &[u8], expected: usize) -> Result<(), WireError> {
    if bytes.len() == expected {
        Ok(())
    } else {
        Err(WireError::Length { frame, expected, found: bytes.len() })
    }
}

fn limit(what: &'static str, found: usize, max: usize) -> Result<usize, WireError> {
    if found <= max { Ok(found) } else { Err(WireError::Limit { what, max, found }) }
}
