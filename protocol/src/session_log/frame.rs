//! The frames of a session log and their bytes.
//!
//! A frame is its length, its kind, a payload and a checksum. The functions `put_*` append a frame to a buffer; they allocate nothing
//! while the buffer has room, so that real-time threads may call them.

use super::header::Header;
use super::payload::{self, Fields};
use crate::bin::{Arrival, Bin};
use crate::estimate::{Estimate, Reasons};

/// Length of what precedes the payload of a frame, bytes.
pub const HEAD_BYTES: usize = 8;

/// Length of the checksum behind the payload of a frame, bytes.
pub const CHECKSUM_BYTES: usize = 4;

/// Declares the kinds of frames with their numbers and names.
macro_rules! kinds {
    ($($(#[$what:meta])* $kind:ident = $number:literal, $name:literal;)*) => {
        /// What a frame holds.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Kind { $($(#[$what])* $kind = $number,)* }

        impl Kind {
            /// All kinds, in the order of their numbers.
            pub const ALL: &[Kind] = &[$(Kind::$kind),*];

            /// Name of the kind, as used in messages and on the page of the format.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name),* }
            }
        }
    };
}

kinds! {
    /// Where the log comes from: the first frame of each file.
    Header = 1, "header";
    /// The decoder took a bin.
    Bin = 2, "bin";
    /// The guard was told of the arrival of a bin.
    Arrival = 3, "arrival";
    /// The guard was told why no bin comes.
    Silence = 4, "silence";
    /// The guard took a result of the decoder.
    Result = 5, "result";
    /// The guard answered what was due without a result.
    Tick = 6, "tick";
    /// An estimate was published.
    Estimate = 7, "estimate";
    /// Frames of a thread are missing here, because its queue to the recorder was full.
    Dropped = 8, "dropped";
    /// A sentence about what happened.
    Event = 9, "event";
    /// An order to a thread took effect. Reserved: nothing writes it yet.
    Order = 10, "order";
    /// The log ends here.
    End = 11, "end";
}

impl Kind {
    /// Returns the kind with this number, if there is one.
    pub fn from_number(number: u16) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| *kind as u16 == number)
    }
}

/// A thread whose calls are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Thread {
    /// The decode thread: frames of the kind [`Kind::Bin`].
    Decode = 0,
    /// The publish thread: arrivals, silences, results, ticks and estimates.
    Publish = 1,
}

impl Thread {
    /// Name of the thread, as used in messages.
    pub fn name(self) -> &'static str {
        ["decode", "publish"][self as usize]
    }

    /// Returns the thread with this number, if there is one.
    pub fn from_number(number: u32) -> Option<Thread> {
        [Thread::Decode, Thread::Publish].get(number as usize).copied()
    }
}

/// A bin that the decoder took, with the other arguments of the call.
#[derive(Debug, Clone)]
pub struct BinTaken {
    /// The bin.
    pub bin: Bin,
    /// Number of bins that waited behind it.
    pub waiting: u32,
    /// When it was taken, `CLOCK_MONOTONIC` ns.
    pub now_ns: u64,
}

/// A result of the decoder that the guard took. The result itself follows from the bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultTaken {
    /// Stream of the bin.
    pub stream: u64,
    /// Number of the bin.
    pub seq: u64,
    /// When it was computed, `CLOCK_MONOTONIC` ns.
    pub decoded_ns: u64,
    /// When the guard took it, `CLOCK_MONOTONIC` ns.
    pub now_ns: u64,
}

/// A frame that was read.
#[derive(Debug, Clone)]
pub enum Frame {
    /// [`Kind::Header`].
    Header(Box<Header>),
    /// [`Kind::Bin`].
    Bin(Box<BinTaken>),
    /// [`Kind::Arrival`].
    Arrival(Arrival),
    /// [`Kind::Silence`].
    Silence(Reasons),
    /// [`Kind::Result`].
    Result(ResultTaken),
    /// [`Kind::Tick`]: when the guard looked, `CLOCK_MONOTONIC` ns.
    Tick(u64),
    /// [`Kind::Estimate`].
    Estimate(Box<Estimate>),
    /// [`Kind::Dropped`]: the thread, and the number of its frames that are missing.
    Dropped(Thread, u64),
    /// [`Kind::Event`]: when it was noted, `CLOCK_MONOTONIC` ns, and a sentence.
    Event(u64, String),
    /// [`Kind::Order`]: when it took effect, the thread, and the order.
    Order(u64, Thread, String),
    /// [`Kind::End`]: when the log ended, and why; empty after an orderly stop.
    End(u64, String),
}

impl Frame {
    /// Kind of the frame.
    pub fn kind(&self) -> Kind {
        match self {
            Frame::Header(_) => Kind::Header,
            Frame::Bin(_) => Kind::Bin,
            Frame::Arrival(_) => Kind::Arrival,
            Frame::Silence(_) => Kind::Silence,
            Frame::Result(_) => Kind::Result,
            Frame::Tick(_) => Kind::Tick,
            Frame::Estimate(_) => Kind::Estimate,
            Frame::Dropped(..) => Kind::Dropped,
            Frame::Event(..) => Kind::Event,
            Frame::Order(..) => Kind::Order,
            Frame::End(..) => Kind::End,
        }
    }

    /// Reads the payload of a frame; `None` if it is not of this version.
    pub fn read(kind: Kind, bytes: &[u8]) -> Option<Frame> {
        let mut fields = Fields(bytes);
        let fields = &mut fields;
        let frame = match kind {
            Kind::Header => Frame::Header(serde_json::from_slice(fields.rest()).ok()?),
            Kind::Bin => {
                let (bin, waiting, now_ns) = payload::read_bin(fields)?;
                Frame::Bin(Box::new(BinTaken { bin, waiting, now_ns }))
            }
            Kind::Arrival => Frame::Arrival(payload::read_arrival(fields)?),
            Kind::Silence => Frame::Silence(Reasons(fields.u32()?)),
            Kind::Result => Frame::Result(ResultTaken {
                stream: fields.u64()?,
                seq: fields.u64()?,
                decoded_ns: fields.u64()?,
                now_ns: fields.u64()?,
            }),
            Kind::Tick => Frame::Tick(fields.u64()?),
            Kind::Estimate => Frame::Estimate(Box::new(payload::read_estimate(fields)?)),
            Kind::Dropped => Frame::Dropped(Thread::from_number(fields.u32()?)?, fields.u64()?),
            Kind::Event => Frame::Event(fields.u64()?, fields.text()?),
            Kind::Order => Frame::Order(fields.u64()?, Thread::from_number(fields.u32()?)?, fields.text()?),
            Kind::End => Frame::End(fields.u64()?, fields.text()?),
        };
        fields.0.is_empty().then_some(frame)
    }

    /// Appends the frame to `out`. `bin_width_us` is the width of the model's bins.
    pub fn put(&self, bin_width_us: u32, out: &mut Vec<u8>) {
        match self {
            Frame::Header(header) => put_header(header, out),
            Frame::Bin(taken) => put_bin(&taken.bin, bin_width_us, taken.waiting, taken.now_ns, out),
            Frame::Arrival(arrival) => put_arrival(arrival, out),
            Frame::Silence(reasons) => put_silence(*reasons, out),
            Frame::Result(taken) => put_result(taken, out),
            Frame::Tick(now_ns) => put_tick(*now_ns, out),
            Frame::Estimate(estimate) => put_estimate(estimate, out),
            Frame::Dropped(thread, frames) => put_dropped(*thread, *frames, out),
            Frame::Event(at_ns, text) => put_event(*at_ns, text, out),
            Frame::Order(at_ns, thread, text) => put_order(*at_ns, *thread, text, out),
            Frame::End(at_ns, why) => put_end(*at_ns, why, out),
        }
    }
}

/// Checksum of a frame: the CRC-32 of zlib, gzip and PNG, over all bytes before it.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Appends a frame whose payload `fill` appends.
fn put(kind: Kind, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(kind as u16).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    fill(out);
    let length = (out.len() - start - HEAD_BYTES) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(&out[start..]);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// Appends a frame with numbers.
fn put_numbers<const N: usize>(kind: Kind, numbers: [u64; N], out: &mut Vec<u8>) {
    put(kind, out, |out| numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes())));
}

/// Appends a header.
pub fn put_header(header: &Header, out: &mut Vec<u8>) {
    // Plain data always serialises.
    let json = serde_json::to_vec(header).unwrap_or_default();
    put(Kind::Header, out, |out| out.extend_from_slice(&json));
}

/// Appends a bin of `bin_width_us` that the decoder takes at `now_ns` while `waiting` wait behind it.
pub fn put_bin(bin: &Bin, bin_width_us: u32, waiting: u32, now_ns: u64, out: &mut Vec<u8>) {
    put(Kind::Bin, out, |out| payload::put_bin(bin, bin_width_us, waiting, now_ns, out));
}

/// Appends an arrival that the guard is told of.
pub fn put_arrival(arrival: &Arrival, out: &mut Vec<u8>) {
    put(Kind::Arrival, out, |out| payload::put_arrival(arrival, out));
}

/// Appends a reason why no bin comes, which the guard is told.
pub fn put_silence(reasons: Reasons, out: &mut Vec<u8>) {
    put(Kind::Silence, out, |out| out.extend_from_slice(&reasons.0.to_le_bytes()));
}

/// Appends a result that the guard takes.
pub fn put_result(taken: &ResultTaken, out: &mut Vec<u8>) {
    let ResultTaken { stream, seq, decoded_ns, now_ns } = *taken;
    put_numbers(Kind::Result, [stream, seq, decoded_ns, now_ns], out);
}

/// Appends an instant at which the guard answers what is due.
pub fn put_tick(now_ns: u64, out: &mut Vec<u8>) {
    put_numbers(Kind::Tick, [now_ns], out);
}

/// Appends an estimate that was published.
pub fn put_estimate(estimate: &Estimate, out: &mut Vec<u8>) {
    put(Kind::Estimate, out, |out| payload::put_estimate(estimate, out));
}

/// Appends the number of frames of a thread that are missing.
pub fn put_dropped(thread: Thread, frames: u64, out: &mut Vec<u8>) {
    put(Kind::Dropped, out, |out| {
        out.extend_from_slice(&(thread as u32).to_le_bytes());
        out.extend_from_slice(&frames.to_le_bytes());
    });
}

/// Appends a sentence about what happened at `at_ns`.
pub fn put_event(at_ns: u64, text: &str, out: &mut Vec<u8>) {
    put(Kind::Event, out, |out| put_text(at_ns, text, out));
}

/// Appends an order that took effect in a thread at `at_ns`, at this place among the frames of the thread.
pub fn put_order(at_ns: u64, thread: Thread, text: &str, out: &mut Vec<u8>) {
    put(Kind::Order, out, |out| {
        out.extend_from_slice(&at_ns.to_le_bytes());
        out.extend_from_slice(&(thread as u32).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    });
}

/// Appends the end of the log, and why it ends; empty after an orderly stop.
pub fn put_end(at_ns: u64, why: &str, out: &mut Vec<u8>) {
    put(Kind::End, out, |out| put_text(at_ns, why, out));
}

fn put_text(at_ns: u64, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&at_ns.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
