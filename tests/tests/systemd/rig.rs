//! A rig and a subscriber that outlive the daemon between them.

use ndt_protocol::clock::{monotonic_ns, sleep_until_ns};
use ndt_protocol::wire::{self, BinStamp, Description};
use ndt_protocol::{Estimate, Quality};
use ndt_replay::transport::zeromq::{Receiver, Sender};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(120);

/// Width of a bin, ns.
pub const WIDTH_NS: u64 = 20_000_000;

/// A rig that sends a bin each 20 ms, on a thread of its own. It ends when it is dropped.
pub struct Rig {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Rig {
    /// Starts a rig that connects to the daemon's input.
    pub fn start(input: &Path, channel_ids: Vec<i64>) -> Rig {
        let ends = Arc::new(AtomicBool::new(false));
        let address = format!("connect:ipc://{}", input.display());
        let ending = ends.clone();
        let thread = std::thread::spawn(move || send(&address, &channel_ids, &ending));
        Rig { ends, thread: Some(thread) }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn send(address: &str, channel_ids: &[i64], ends: &AtomicBool) {
    let mut sender = Sender::open(&address.parse().unwrap()).unwrap();
    sender.wait_for_subscriber(SOON).unwrap();
    let start_ns = monotonic_ns();
    // Counts that rise and fall, as a rig's do.
    let counts = |seq: u64| -> Vec<f32> {
        (0..channel_ids.len() as u64).map(|channel| f32::from((seq + channel).is_multiple_of(3))).collect()
    };
    let mut seq = 0;
    while !ends.load(Relaxed) {
        let end_ns = start_ns + (seq + 1) * WIDTH_NS;
        sleep_until_ns(end_ns);
        // A daemon that has just been started learns which channels these are.
        if seq % 25 == 0 {
            let channel_ids = channel_ids.to_vec();
            sender.describe(7, &Description::Bins { bin_width_us: (WIDTH_NS / 1_000) as u32, channel_ids });
        }
        let stamp = BinStamp {
            seq,
            stream: 7,
            source_ns: end_ns as i64,
            sent_ns: monotonic_ns(),
            bin_width_us: (WIDTH_NS / 1_000) as u32,
            segment_start: seq == 0,
        };
        sender.offer(&stamp, &counts(seq));
        seq += 1;
    }
}

/// A subscriber with a clock of its own.
pub struct Subscriber {
    receiver: Receiver,
    last_ns: u64,
    /// Longest time between two estimates since it was last asked, ns, by the subscriber's clock.
    silence_ns: u64,
}

impl Subscriber {
    /// Connects to the daemon's output.
    pub fn open(output: &Path) -> Subscriber {
        let receiver = Receiver::open(&format!("ipc://{}", output.display()).parse().unwrap()).unwrap();
        Subscriber { receiver, last_ns: monotonic_ns(), silence_ns: 0 }
    }

    /// The next estimate, from whichever daemon.
    pub fn next(&mut self) -> Estimate {
        loop {
            let message = self.receiver.receive(SOON).expect("an estimate within two minutes");
            let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
            if frames[0] == wire::TOPIC_ESTIMATE {
                let estimate = wire::read_estimate(&frames).unwrap();
                let now_ns = monotonic_ns();
                self.silence_ns = self.silence_ns.max(now_ns - self.last_ns);
                self.last_ns = now_ns;
                return estimate;
            }
        }
    }

    /// Receives until so many estimates in a row have this quality.
    pub fn wait_for(&mut self, quality: Quality, times: usize) {
        let mut in_a_row = 0;
        while in_a_row < times {
            in_a_row = if self.next().quality == quality { in_a_row + 1 } else { 0 };
        }
    }

    /// Receives until there was no estimate for 15 bins, by the subscriber's clock: the daemon is restarted in more time than that.
    pub fn wait_through_silence(&mut self) {
        while self.silence_ns < 15 * WIDTH_NS {
            self.next();
        }
    }

    /// Longest time without an estimate since this was last called, ms.
    pub fn longest_silence_ms(&mut self) -> u64 {
        std::mem::take(&mut self.silence_ns) / 1_000_000
    }
}
