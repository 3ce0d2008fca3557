//! The well-behaved ends: a rig that sends a bin every 5 ms, and a subscriber that records every estimate.

use crate::daemon::{Daemon, Start};
use ndt_daemon::host::realtime::{self, RealtimeSettings};
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::wire::{self, BinStamp, Description};
use ndt_protocol::{Estimate, Quality};
use ndt_replay::transport::zeromq::{Receiver, Sender};
use ndt_tests::{python, workspace};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Width of the model's bins.
pub const BIN: Duration = Duration::from_millis(5);

/// Number of channels of the model.
pub const CHANNELS: usize = 8;

/// Identity of the rig's stream.
const STREAM: u64 = 0x600d;

/// Bins between two descriptions: a second.
const DESCRIBE_BINS: u64 = 200;

const SOON: Duration = Duration::from_secs(60);

/// Settings of the rig's and the subscriber's threads, which are below the daemon's.
fn above_the_load(start: Start) {
    let settings = RealtimeSettings { priority: 40, ..RealtimeSettings::default() };
    // Where it is not permitted, the threads stay as they are, as the daemon's do.
    drop((start == Start::RealTime).then(|| realtime::enter(&settings)));
}

/// Sends bins until it is dropped.
pub struct Rig {
    end: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    late_ns: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
    /// A rig in Python, for streams of Lab Streaming Layer.
    program: Option<Child>,
}

impl Rig {
    /// Connects to the daemon's input, and sends from when the daemon has subscribed.
    pub fn start(daemon: &Daemon, start: Start) -> Rig {
        let (end, sent, late_ns) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
        let mut rig = Rig { end, sent, late_ns, thread: None, program: None };
        if start == Start::Lsl {
            let script = workspace().join("tests/python/lsl_stream.py");
            let mut command: Command = daemon.session.command(python());
            command.arg(script).args(["rig", "rig-id", &CHANNELS.to_string()]);
            command.args(["--rate", "200", "--period-ms", "5", "--labels", "0,1,2,3,4,5,6,7"]);
            rig.program = Some(command.stdout(Stdio::null()).spawn().unwrap());
            return rig;
        }
        let endpoint = format!("connect:{}", daemon.input).parse().unwrap();
        let (end, sent, late_ns) = (Arc::clone(&rig.end), Arc::clone(&rig.sent), Arc::clone(&rig.late_ns));
        rig.thread = Some(std::thread::spawn(move || {
            let mut sender = Sender::open(&endpoint).unwrap();
            sender.wait_for_subscriber(SOON).unwrap();
            above_the_load(start);
            let begin = Instant::now();
            for seq in 0.. {
                let due = begin + BIN * (seq as u32 + 1);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if end.load(Relaxed) {
                    return;
                }
                late_ns.fetch_max(due.elapsed().as_nanos() as u64, Relaxed);
                if seq % DESCRIBE_BINS == 0 {
                    let channel_ids = (0..CHANNELS as i64).collect();
                    sender.describe(
                        STREAM,
                        &Description::Bins { bin_width_us: BIN.as_micros() as u32, channel_ids },
                    );
                }
                let mut stamp = BinStamp { seq, stream: STREAM, ..BinStamp::default() };
                stamp.source_ns = BIN.as_nanos() as i64 * (seq as i64 + 1);
                stamp.sent_ns = monotonic_ns();
                stamp.bin_width_us = BIN.as_micros() as u32;
                // A daemon that has ended takes no bins, which the bench notices.
                if sender.send(&stamp, &[1.0; CHANNELS]).is_err() {
                    return;
                }
                sent.store(seq + 1, Relaxed);
            }
        }));
        rig
    }

    /// Number of bins sent so far; `None` for a rig whose bins the daemon counts.
    pub fn sent(&self) -> Option<u64> {
        self.program.is_none().then(|| self.sent.load(Relaxed))
    }

    /// The longest delay of a bin since the last call.
    pub fn longest_delay(&self) -> Duration {
        Duration::from_nanos(self.late_ns.swap(0, Relaxed))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.end.store(true, Relaxed);
        if let Some(program) = &mut self.program {
            drop(program.kill());
            drop(program.wait());
        }
        // A thread that failed has printed why.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// What is kept of an estimate.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    /// Number of the bin.
    pub seq: u64,
    /// Whether the estimate is for the rig's stream, and not for another one.
    pub is_ours: bool,
    /// Kind of answer.
    pub quality: Quality,
}

/// Receives until it is dropped.
pub struct Recorder {
    end: Arc<AtomicBool>,
    records: Arc<Mutex<Vec<Record>>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Subscribes to the daemon's output, and returns once the daemon has answered.
    pub fn start(daemon: &Daemon, start: Start) -> Recorder {
        let mut receiver = Receiver::open(&daemon.output.parse().unwrap()).unwrap();
        let first = receiver.receive(SOON);
        let first = first.unwrap_or_else(|| panic!("expected a description, found {:?}", daemon.log()));
        assert_eq!(&first.frames[0][..], wire::TOPIC_DESCRIPTION);
        let (end, records) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<Record>>>::default());
        let mut recorder = Recorder { end, records, thread: None };
        let (end, records) = (Arc::clone(&recorder.end), Arc::clone(&recorder.records));
        recorder.thread = Some(std::thread::spawn(move || {
            above_the_load(start);
            while !end.load(Relaxed) {
                let Some(message) = receiver.receive(Duration::from_millis(100)) else { continue };
                let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
                if frames[0] == wire::TOPIC_ESTIMATE {
                    let Estimate { seq, stream, quality, .. } = wire::read_estimate(&frames).unwrap();
                    let record = Record { seq, is_ours: start == Start::Lsl || stream == STREAM, quality };
                    records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
                }
            }
        }));
        recorder
    }

    /// The estimates from number `from` on, in the order in which they came.
    pub fn since(&self, from: usize) -> Vec<Record> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records[from.min(records.len())..].to_vec()
    }

    /// The last estimate, and how many have come.
    pub fn last(&self) -> (Option<Record>, usize) {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        (records.last().copied(), records.len())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end.store(true, Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Whether a program that comes now is served: a new subscriber hears from the daemon.
pub fn a_newcomer_is_served(daemon: &Daemon) -> bool {
    let mut receiver = Receiver::open(&daemon.output.parse().unwrap()).unwrap();
    receiver.receive(Duration::from_secs(10)).is_some()
}
