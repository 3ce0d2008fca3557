//! The rig's side of the daemon over ZeroMQ, for `ndtd bench`: sends bins and receives estimates.
//!
//! `ndt-replay` has the one for recordings. This one keeps what it does for a bin as short as it can.

use crate::host::realtime::{self, RealtimeSettings};
use ndt_protocol::Estimate;
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::endpoint::SocketAddress;
use ndt_protocol::wire::{self, BinStamp, Description};
use ndt_protocol::zeromq::{
    Context, Frames, Heard, Kind, Library, Options, Publisher, Subscriber, ZeromqError,
};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the rig and the pipeline may take to find each other.
const MEETING_PATIENCE: Duration = Duration::from_secs(10);

/// Interval between two looks whether the daemon has subscribed.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Frames of an estimate.
const FRAMES_MAX: usize = 4;

/// Why a rig cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// The sockets cannot be opened.
    #[error(transparent)]
    Zeromq(#[from] ZeromqError),
    /// The system gives no thread.
    #[error("expected a thread for the benchmark's rig, found {0}")]
    Thread(io::Error),
    /// The rig does not find its daemon.
    #[error("expected a daemon that takes bins on {input} and publishes on {output}, found none within 10 s")]
    Meeting {
        /// Address that the rig sends bins to.
        input: String,
        /// Address that the rig receives estimates from.
        output: String,
    },
}

/// Sends bins to a daemon and receives its estimates.
pub struct ZeromqRig {
    bins: Publisher,
    payload: Vec<u8>,
    stop: Arc<AtomicBool>,
    hearing: Option<JoinHandle<()>>,
}

impl ZeromqRig {
    /// Connects to the daemon that has bound `input` and `output`, describes the bins to it, and returns once each side receives
    /// from the other. From then on `heard` is called for each estimate with the instant of its arrival, on a thread of its own. To be
    /// called on a thread that has the real-time settings: those of the sockets inherit them.
    ///
    /// # Errors
    /// [`RigError::Meeting`] after 10 s; [`RigError::Zeromq`], [`RigError::Thread`].
    pub fn connect(
        settings: &RealtimeSettings,
        input: &str,
        output: &str,
        bins: &Description,
        heard: impl FnMut(&Estimate, u64) + Send + 'static,
    ) -> Result<ZeromqRig, RigError> {
        let meeting = || RigError::Meeting { input: input.to_owned(), output: output.to_owned() };
        let endpoint = |address: &str| format!("connect:{address}").parse::<SocketAddress>();
        let context = Context::new(&Library::load(None)?, 2)?;
        let to = endpoint(input).map_err(|_| meeting())?;
        let (mut publisher, _) = Publisher::open(&context, &to, Kind::XPub, &Options::default())?;
        let started = Instant::now();
        // What is sent once the daemon has subscribed reaches it.
        while publisher.subscription().is_none() {
            if started.elapsed() > MEETING_PATIENCE {
                return Err(meeting());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let (header, json) = wire::description_frames(0, bins);
        publisher.send(&[wire::TOPIC_DESCRIPTION, &header, &json]);
        let from = endpoint(output).map_err(|_| meeting())?;
        let options = Options { io_thread: 1, ..Options::default() };
        let (subscriber, _) = Subscriber::open(&context, &from, "ndt.", &options)?;
        let stop = Arc::<AtomicBool>::default();
        let (met, meets) = mpsc::channel();
        let (settings, stopping) = (settings.clone(), stop.clone());
        let hear = move || {
            // Settings that are refused here were refused to the pipeline's threads too, whose refusals are reported.
            drop(realtime::enter(&settings));
            hear(subscriber, &stopping, &met, heard);
        };
        let hearing = std::thread::Builder::new().name("bench-hear".to_owned()).spawn(hear);
        let hearing = Some(hearing.map_err(RigError::Thread)?);
        let rig = ZeromqRig { bins: publisher, payload: Vec::new(), stop, hearing };
        // The daemon describes its estimates once a second to every subscriber.
        match meets.recv_timeout(MEETING_PATIENCE) {
            Ok(()) => Ok(rig),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(meeting()),
        }
    }

    /// Sends one bin. It waits for nobody.
    pub fn send(&mut self, stamp: &BinStamp, counts: &[f32]) {
        self.payload.clear();
        wire::put_f32(counts, &mut self.payload);
        let header = wire::bin_header(stamp, counts.len());
        // Without a daemon the bin is dropped; the missing estimate shows it.
        self.bins.send(&[wire::TOPIC_BIN, &header, &self.payload]);
    }
}

impl Drop for ZeromqRig {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(hearing) = self.hearing.take() {
            // A thread that panicked has already printed why.
            drop(hearing.join());
        }
    }
}

/// Receives estimates until `stop` is set, and says once that something has come.
fn hear(
    mut subscriber: Subscriber,
    stop: &AtomicBool,
    met: &mpsc::Sender<()>,
    mut heard: impl FnMut(&Estimate, u64),
) {
    let mut frames = Frames::<FRAMES_MAX>::new(subscriber.library());
    while !stop.load(Relaxed) {
        if subscriber.receive(&mut frames, &mut |_| {}) != Heard::Message {
            continue;
        }
        let received_ns = monotonic_ns();
        // The rig may have found its daemon before.
        let _ = met.send(());
        // Anything else is a description.
        if let Ok(estimate) = wire::read_estimate(&frames.get()[..frames.count().min(FRAMES_MAX)]) {
            heard(&estimate, received_ns);
        }
    }
}
