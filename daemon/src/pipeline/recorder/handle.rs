//! What a real-time thread holds of the session log.

use crate::pipeline::counters::Counters;
use ndt_protocol::bin::Arrival;
use ndt_protocol::session_log::frame::{self, ResultTaken, Thread};
use ndt_protocol::{Bin, Estimate, Reasons};
use rtrb::Producer;
use std::sync::Arc;

/// Records the calls of one thread. Owned by that thread. No method waits, locks, allocates or makes a system call; without a session
/// log (the default) none does anything.
#[derive(Default)]
pub struct Handle(Option<Open>);

struct Open {
    ring: Producer<u8>,
    thread: Thread,
    bin_width_us: u32,
    /// The frame that is being made; its memory is used again.
    frame: Vec<u8>,
    /// Frames that found no room since the last one that did.
    missing: u64,
    counters: Arc<Counters>,
}

impl Handle {
    /// Makes the handle of a thread whose frames have `frame_bytes` at most.
    pub(super) fn new(
        ring: Producer<u8>,
        thread: Thread,
        bin_width_us: u32,
        frame_bytes: usize,
        counters: Arc<Counters>,
    ) -> Handle {
        let mut frame = vec![0; frame_bytes];
        frame.clear();
        Handle(Some(Open { ring, thread, bin_width_us, frame, missing: 0, counters }))
    }

    /// Records a bin that the decoder takes at `now_ns`, while `waiting` wait behind it. Called before it does, so that the bin is in the
    /// log before its result.
    pub fn bin(&mut self, bin: &Bin, waiting: usize, now_ns: u64) {
        let Some(open) = &mut self.0 else { return };
        let (width_us, waiting) = (open.bin_width_us, u32::try_from(waiting).unwrap_or(u32::MAX));
        open.push(|out| frame::put_bin(bin, width_us, waiting, now_ns, out));
    }

    /// Records an arrival that the guard is told of.
    pub fn arrival(&mut self, arrival: &Arrival) {
        self.push(|out| frame::put_arrival(arrival, out));
    }

    /// Records that the guard is told why no bin comes.
    pub fn silence(&mut self, reasons: Reasons) {
        self.push(|out| frame::put_silence(reasons, out));
    }

    /// Records a result that the guard takes at `now_ns`.
    pub fn result(&mut self, result: &Estimate, now_ns: u64) {
        let Estimate { stream, seq, decoded_ns, .. } = *result;
        self.push(|out| frame::put_result(&ResultTaken { stream, seq, decoded_ns, now_ns }, out));
    }

    /// Records that the guard answers at `now_ns` what is due.
    pub fn tick(&mut self, now_ns: u64) {
        self.push(|out| frame::put_tick(now_ns, out));
    }

    /// Records an estimate that is published.
    pub fn estimate(&mut self, estimate: &Estimate) {
        self.push(|out| frame::put_estimate(estimate, out));
    }

    /// Records an order that takes effect here, at `now_ns`; an empty one is none. One that is longer than any other frame of this model
    /// makes the memory of the frame grow, once.
    pub fn order(&mut self, text: &str, now_ns: u64) {
        if let Some(open) = self.0.as_mut().filter(|_| !text.is_empty()) {
            let thread = open.thread;
            open.push(|out| frame::put_order(now_ns, thread, text, out));
        }
    }

    fn push(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        if let Some(open) = &mut self.0 {
            open.push(put);
        }
    }
}

impl Open {
    /// Puts a frame into the ring, or counts it as missing.
    fn push(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        self.frame.clear();
        if self.missing > 0 {
            frame::put_dropped(self.thread, self.missing, &mut self.frame);
        }
        put(&mut self.frame);
        // A recorder that has ended takes nothing more.
        let room = if self.ring.is_abandoned() { None } else { self.ring.write_chunk(self.frame.len()).ok() };
        let Some(mut room) = room else {
            self.missing += 1;
            return self.counters.unrecorded();
        };
        let (first, second) = room.as_mut_slices();
        let (start, end) = self.frame.split_at(first.len());
        first.copy_from_slice(start);
        second.copy_from_slice(end);
        room.commit_all();
        self.missing = 0;
    }
}
