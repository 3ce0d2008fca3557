//! The payloads of bins, arrivals and estimates. The header of a bin and that of an estimate are those of the wire.

use crate::bin::count::RefusedChannels;
use crate::bin::{Arrival, Bin, ClockOffset, Due, Velocity};
use crate::estimate::Estimate;
use crate::limits::OUTPUTS_MAX;
use crate::wire::{self, BIN_HEADER_BYTES, BinStamp, ESTIMATE_HEADER_BYTES};

const FLAG_UNDESCRIBED: u32 = 1;
const FLAG_SECOND_SOURCE: u32 = 1 << 1;
const FLAG_CLOCK_JUMPED: u32 = 1 << 2;
/// The transport has measured the offset of the source's clock.
const FLAG_CLOCK: u32 = 1 << 3;
/// The offset of the source's clock is known.
const FLAG_OFFSET: u32 = 1 << 4;
/// It is known when the bin was due.
const FLAG_DUE: u32 = 1 << 5;
/// The bin was due before others that came in the meantime.
const FLAG_DUE_BEFORE: u32 = 1 << 6;
/// The fallback decoder has a velocity for the bin.
const FLAG_VELOCITY: u32 = 1 << 7;
const FLAGS_OF_BIN: u32 = FLAG_VELOCITY - 1;
const FLAGS_OF_ARRIVAL: u32 = FLAG_OFFSET | FLAG_DUE | FLAG_DUE_BEFORE | FLAG_VELOCITY;

/// The bytes of a payload that are not read yet.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// What is left, as text.
    pub(super) fn text(&mut self) -> Option<String> {
        std::str::from_utf8(self.rest()).ok().map(str::to_owned)
    }
}

fn put_u64s(numbers: &[u64], out: &mut Vec<u8>) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

/// An offset as two numbers, and `flag` if it is known.
fn offset_fields(offset: Option<ClockOffset>, flag: u32) -> ([u64; 2], u32) {
    match offset {
        Some(ClockOffset { offset_ns, uncertainty_ns }) => ([offset_ns as u64, uncertainty_ns], flag),
        None => ([0; 2], 0),
    }
}

fn offset_of([offset_ns, uncertainty_ns]: [u64; 2], is_known: bool) -> Option<ClockOffset> {
    is_known.then_some(ClockOffset { offset_ns: offset_ns as i64, uncertainty_ns })
}

fn due_fields(due: Due) -> (u64, u32) {
    match due {
        Due::Unknown => (0, 0),
        Due::At(due_ns) => (due_ns, FLAG_DUE),
        Due::Before => (0, FLAG_DUE_BEFORE),
    }
}

fn due_of(due_ns: u64, flags: u32) -> Due {
    match (flags & FLAG_DUE != 0, flags & FLAG_DUE_BEFORE != 0) {
        (true, _) => Due::At(due_ns),
        (false, true) => Due::Before,
        (false, false) => Due::Unknown,
    }
}

/// The bin with the other arguments of the decoder's call.
pub(super) fn put_bin(bin: &Bin, bin_width_us: u32, waiting: u32, now_ns: u64, out: &mut Vec<u8>) {
    let (clock, has_clock) = offset_fields(bin.clock, FLAG_CLOCK);
    let (offset, has_offset) = offset_fields(bin.offset, FLAG_OFFSET);
    let (due_ns, due) = due_fields(bin.due);
    let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
    let flags = has_clock
        | has_offset
        | due
        | flag(bin.undescribed, FLAG_UNDESCRIBED)
        | flag(bin.second_source, FLAG_SECOND_SOURCE)
        | flag(bin.clock_jumped, FLAG_CLOCK_JUMPED);
    let stamp = BinStamp {
        seq: bin.seq,
        stream: bin.stream,
        source_ns: bin.source_ns,
        sent_ns: bin.sent_ns,
        bin_width_us,
        segment_start: bin.segment_start,
    };
    put_u64s(&[bin.arrival_ns, now_ns, clock[0], clock[1], offset[0], offset[1], due_ns], out);
    out.extend_from_slice(&waiting.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&wire::bin_header(&stamp, bin.channels()));
    out.extend(bin.counts_or_nan().flat_map(f32::to_le_bytes));
    put_refused(&bin.implausible, bin.channels(), out);
    put_refused(&bin.too_high, bin.channels(), out);
}

/// Returns the bin, the number of bins that waited behind it, and when it was taken.
pub(super) fn read_bin(fields: &mut Fields) -> Option<(Bin, u32, u64)> {
    let mut bin = Bin::empty();
    bin.arrival_ns = fields.u64()?;
    let now_ns = fields.u64()?;
    let (clock, offset) = ([fields.u64()?, fields.u64()?], [fields.u64()?, fields.u64()?]);
    let due_ns = fields.u64()?;
    let (waiting, flags) = (fields.u32()?, fields.u32()?);
    let has = |flag: u32| flags & flag != 0;
    (bin.clock, bin.offset) = (offset_of(clock, has(FLAG_CLOCK)), offset_of(offset, has(FLAG_OFFSET)));
    bin.due = due_of(due_ns, flags);
    bin.undescribed = has(FLAG_UNDESCRIBED);
    bin.second_source = has(FLAG_SECOND_SOURCE);
    bin.clock_jumped = has(FLAG_CLOCK_JUMPED);
    let header = fields.take(BIN_HEADER_BYTES)?;
    // The number of channels stands in the header: the counts are found by it.
    let channels = Fields(header.get(44..)?).u32()? as usize;
    let counts = fields.take(channels.checked_mul(4)?)?;
    let (stamp, ..) = wire::split_bin(&[wire::TOPIC_BIN, header, counts]).ok()?;
    (bin.seq, bin.stream, bin.source_ns) = (stamp.seq, stamp.stream, stamp.source_ns);
    (bin.sent_ns, bin.segment_start) = (stamp.sent_ns, stamp.segment_start);
    let refused = [read_refused(fields, channels)?, read_refused(fields, channels)?];
    bin.restore(wire::f32s(counts), refused);
    (flags & !FLAGS_OF_BIN == 0).then_some((bin, waiting, now_ns))
}

/// The channels that were refused a count: their number, the one that was noted first with its value, and the others.
fn put_refused(refused: &RefusedChannels, channels: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(refused.count() as u16).to_le_bytes());
    let Some((first, value)) = refused.example() else { return };
    out.extend_from_slice(&(first as u16).to_le_bytes());
    out.extend_from_slice(&value.to_le_bytes());
    let others = (0..channels).filter(|channel| *channel != first && refused.has(*channel));
    out.extend(others.flat_map(|channel| (channel as u16).to_le_bytes()));
}

fn read_refused(fields: &mut Fields, channels: usize) -> Option<RefusedChannels> {
    let mut refused = RefusedChannels::NONE;
    let count = fields.u16()?;
    for at in 0..count {
        let channel = usize::from(fields.u16()?);
        let value = if at == 0 { f32::from_bits(fields.u32()?) } else { 0.0 };
        if channel >= channels {
            return None;
        }
        refused.note(channel, value);
    }
    (refused.count() == usize::from(count)).then_some(refused)
}

pub(super) fn put_arrival(arrival: &Arrival, out: &mut Vec<u8>) {
    let (offset, has_offset) = offset_fields(arrival.offset, FLAG_OFFSET);
    let (due_ns, due) = due_fields(arrival.due);
    let has_velocity = if arrival.velocity.is_some() { FLAG_VELOCITY } else { 0 };
    put_u64s(&[arrival.seq, arrival.stream, arrival.source_ns as u64, arrival.arrival_ns], out);
    put_u64s(&[offset[0], offset[1], due_ns], out);
    out.extend_from_slice(&(has_offset | due | has_velocity).to_le_bytes());
    if let Some(velocity) = &arrival.velocity {
        wire::put_f32(velocity, out);
    }
}

pub(super) fn read_arrival(fields: &mut Fields) -> Option<Arrival> {
    let (seq, stream, source_ns, arrival_ns) = (fields.u64()?, fields.u64()?, fields.i64()?, fields.u64()?);
    let offset = [fields.u64()?, fields.u64()?];
    let (due_ns, flags) = (fields.u64()?, fields.u32()?);
    let offset = offset_of(offset, flags & FLAG_OFFSET != 0);
    let mut velocity = None;
    if flags & FLAG_VELOCITY != 0 {
        let stored = fields.take(4 * OUTPUTS_MAX)?;
        let mut values = Velocity::default();
        values.iter_mut().zip(wire::f32s(stored)).for_each(|(value, stored)| *value = stored);
        velocity = Some(values);
    }
    let due = due_of(due_ns, flags);
    let is_known = flags & !FLAGS_OF_ARRIVAL == 0;
    is_known.then_some(Arrival { seq, stream, source_ns, arrival_ns, due, offset, velocity })
}

/// The header, rates and outputs of the wire.
pub(super) fn put_estimate(estimate: &Estimate, out: &mut Vec<u8>) {
    out.extend_from_slice(&wire::estimate_header(estimate));
    wire::put_f32(estimate.rates(), out);
    wire::put_f32(estimate.outputs(), out);
}

pub(super) fn read_estimate(fields: &mut Fields) -> Option<Estimate> {
    let header = fields.take(ESTIMATE_HEADER_BYTES)?;
    // The numbers of units and outputs stand in the header: what follows is found by them.
    let mut sizes = Fields(header.get(88..)?);
    let (units, _, outputs) = (sizes.u32()? as usize, sizes.u16()?, sizes.u16()?);
    let rates = fields.take(units.checked_mul(4)?)?;
    let outputs = fields.take(4 * usize::from(outputs))?;
    wire::read_estimate(&[wire::TOPIC_ESTIMATE, header, rates, outputs]).ok()
}
