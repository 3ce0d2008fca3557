//! A daemon with a monitor, and a rig that plays random counts to it.

use ndt_daemon::config::Config;
use ndt_daemon::control::monitor::Monitor;
use ndt_daemon::control::settings::MonitorSettings;
use ndt_daemon::control::state::Facts;
use ndt_daemon::engine::native::Native;
use ndt_daemon::pipeline::{self, Pipeline};
use ndt_protocol::wire::{BinStamp, Description};
use ndt_replay::transport::zeromq::Sender;
use ndt_tests::{SMALL, Shape, on_loopback, random_counts, weights_only};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const CHANNELS: usize = 12;
pub const UNITS: usize = 16;
const BIN: Duration = Duration::from_millis(5);
const SOON: Duration = Duration::from_secs(60);

/// A running daemon. Its rig ends with it.
pub struct Daemon {
    // Ends before the pipeline whose taps it reads.
    monitor: Monitor,
    pub pipeline: Pipeline,
    plays: Arc<AtomicBool>,
    ends: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    rig: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts a daemon whose configuration is changed by `configure`. The rig is connected, and sends nothing yet.
    pub fn start(configure: impl FnOnce(&mut Config)) -> Daemon {
        let mut bundle =
            weights_only(Shape { channels: CHANNELS, units: UNITS, dims: 2, architecture: SMALL }, 3);
        bundle.manifest.bin_width_ms = BIN.as_secs_f64() * 1e3;
        bundle.manifest.scores.insert("masked-bps".to_owned(), 0.125);
        let address = Some("127.0.0.1:0".parse().unwrap());
        // No answer but the computed one is due, however busy the machine is.
        let mut config = Config {
            deadline_ms: Some(1_000.0),
            max_age_ms: Some(10_000.0),
            stale_after_bins: 200,
            monitor: MonitorSettings { address, ..MonitorSettings::default() },
            ..on_loopback()
        };
        configure(&mut config);
        let mut pipeline = pipeline::start(&config, &bundle, Box::new(Native::new(&bundle))).unwrap();
        let facts = Facts::new(&bundle, "native".to_owned(), vec![pipeline.input().to_owned()]);
        let (observer, taps) = (pipeline.observer(), pipeline.take_taps());
        let monitor = Monitor::start(&config.monitor, facts, observer, taps).unwrap().unwrap();
        let [plays, ends] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let sent = Arc::new(AtomicU64::new(0));
        let rig = play(pipeline.input(), plays.clone(), ends.clone(), sent.clone());
        Daemon { monitor, pipeline, plays, ends, sent, rig: Some(rig) }
    }

    /// Address of the monitor.
    pub fn address(&self) -> SocketAddr {
        self.monitor.address()
    }

    /// Lets the rig send bins.
    pub fn play(&mut self) {
        self.plays.store(true, SeqCst);
    }

    /// Lets the rig be silent.
    pub fn pause(&mut self) {
        self.plays.store(false, SeqCst);
    }

    /// Number of bins that the rig has sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(SeqCst)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.ends.store(true, SeqCst);
        drop(self.rig.take().map(JoinHandle::join));
    }
}

/// Starts a rig that sends a bin every 5 ms while it plays. Its numbers go on while it does not.
fn play(input: &str, plays: Arc<AtomicBool>, ends: Arc<AtomicBool>, sent: Arc<AtomicU64>) -> JoinHandle<()> {
    let mut sender = Sender::open(&format!("connect:{input}").parse().unwrap()).unwrap();
    sender.wait_for_subscriber(SOON).unwrap();
    let bin_width_us = BIN.as_micros() as u32;
    sender.describe(0, &Description::Bins { bin_width_us, channel_ids: (0..CHANNELS as i64).collect() });
    let counts = random_counts(1_000, CHANNELS, 7);
    std::thread::spawn(move || {
        let start = Instant::now();
        for seq in 0.. {
            std::thread::sleep((start + BIN * seq).saturating_duration_since(Instant::now()));
            if ends.load(SeqCst) {
                return;
            }
            if !plays.load(SeqCst) {
                continue;
            }
            let source_ns = BIN.as_nanos() as i64 * (i64::from(seq) + 1);
            let stamp =
                BinStamp { seq: seq.into(), stream: 1, source_ns, bin_width_us, ..BinStamp::default() };
            let row = seq as usize % 1_000;
            sender.send(&stamp, &counts[row * CHANNELS..][..CHANNELS]).unwrap();
            sent.fetch_add(1, SeqCst);
        }
    })
}
