//! The three threads of the real-time path and the two queues between them.
//!
//! ```text
//!  source thread --Bin--> decode thread --Estimate--> publish thread
//! ```
//!
//! Each queue holds [`QUEUE_BINS`] and drops its **oldest** when full: after a stall the newest bin
//! matters most, and the decoder sees the missing numbers as a gap. Counters are plain atomics: the
//! control plane reads them, the real-time threads never wait for it.

use crate::decoder::{Counters, Decoder};
use crate::engine::Engine;
use crate::source::{Received, Source};
use crate::zeromq::{ZeromqError, ZeromqPublisher, ZeromqSource};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::endpoint::Endpoint;
use ndt_protocol::limits::QUEUE_BINS;
use ndt_protocol::wire::WireError;
use ndt_protocol::{Bin, Bundle, Estimate};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the estimates are described to those who have just come.
const DESCRIBE_EVERY_NS: u64 = 1_000_000_000;

/// A running pipeline.
pub struct Pipeline {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    input: String,
    output: String,
    /// Dropped last: the sockets live on it.
    _runtime: tokio::runtime::Runtime,
}

/// What has happened since the start.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// Bins received.
    pub bins: u64,
    /// What the decoder has counted.
    pub decoder: Counters,
    /// Estimates handed to the transport.
    pub published: u64,
    /// Messages that were no bins for this model.
    pub refused: u64,
    /// The last of them.
    pub last_refused: Option<Refusal>,
    /// Bins and estimates dropped from full queues.
    pub overflowed: u64,
}

/// Why a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its bytes.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Its stream's channels.
    #[error("expected the bundle's channel ids in the bundle's order, found a stream of others")]
    Channels,
}

/// Why a pipeline cannot start.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A socket.
    #[error(transparent)]
    Zeromq(#[from] ZeromqError),
    /// A thread.
    #[error("expected a thread \"{name}\", found {error}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    bins: AtomicU64,
    published: AtomicU64,
    refused: AtomicU64,
    overflowed: AtomicU64,
    estimates: [AtomicU64; 6],
    duplicates: AtomicU64,
    skipped: AtomicU64,
    restarts: AtomicU64,
    /// Written by the source thread only when a message is refused, which is no real-time path;
    /// the reader holds it for the time of a copy.
    last_refused: std::sync::Mutex<Option<Refusal>>,
}

/// Opens the sockets and starts the threads.
///
/// # Errors
/// [`PipelineError`]; nothing is left running then.
pub fn start(
    input: &Endpoint,
    output: &Endpoint,
    bundle: &Bundle,
    engine: Box<dyn Engine>,
) -> Result<Pipeline, PipelineError> {
    let runtime = crate::zeromq::runtime()?;
    let (source, input) = ZeromqSource::open(&runtime, input, bundle)?;
    let (publisher, output) = ZeromqPublisher::open(&runtime, output, bundle)?;
    let decoder = Decoder::new(bundle, engine);
    let shared = Arc::new(Shared::default());
    let (bins, queued_bins) = bounded(QUEUE_BINS);
    let (estimates, queued_estimates) = bounded(QUEUE_BINS);
    let mut pipeline =
        Pipeline { shared: shared.clone(), threads: Vec::new(), input, output, _runtime: runtime };
    // Last first: a thread that is started finds its consumer running, and on an error the
    // queues of those already running close behind them.
    let queue = Queue { to: estimates, oldest: queued_estimates.clone() };
    pipeline.spawn("ndt-publish", {
        let shared = shared.clone();
        move || run_publish(publisher, queued_estimates, &shared)
    })?;
    let oldest = queued_bins.clone();
    pipeline.spawn("ndt-decode", {
        let shared = shared.clone();
        move || run_decode(decoder, queued_bins, &queue, &shared)
    })?;
    let queue = Queue { to: bins, oldest };
    pipeline.spawn("ndt-source", move || run_source(source, &queue, &shared))?;
    Ok(pipeline)
}

impl Pipeline {
    /// The address that bins are taken from, as bound or to be connected.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// The address that estimates are published on, as bound.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let mut decoder = Counters {
            duplicates: shared.duplicates.load(Relaxed),
            skipped: shared.skipped.load(Relaxed),
            restarts: shared.restarts.load(Relaxed),
            ..Counters::default()
        };
        for (count, shared) in decoder.estimates.iter_mut().zip(&shared.estimates) {
            *count = shared.load(Relaxed);
        }
        Stats {
            bins: shared.bins.load(Relaxed),
            decoder,
            published: shared.published.load(Relaxed),
            refused: shared.refused.load(Relaxed),
            last_refused: shared.last_refused.lock().map_or(None, |last| *last),
            overflowed: shared.overflowed.load(Relaxed),
        }
    }

    /// Ends the threads in the order of the data: what was received is still published.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..).rev() {
            // A thread that panicked has already said so.
            drop(thread.join());
        }
    }

    fn spawn(
        &mut self,
        name: &'static str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), PipelineError> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        self.threads.push(thread.map_err(|error| PipelineError::Thread { name, error })?);
        Ok(())
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.end();
    }
}

/// The sending end of a bounded queue that drops its oldest when full.
struct Queue<T> {
    to: Sender<T>,
    oldest: Receiver<T>,
}

impl<T> Queue<T> {
    /// Puts `item` in, in the place of the oldest where there is no other; tells whether one was dropped.
    /// Does not block: only this thread adds, so one removal makes room.
    fn push(&self, item: T) -> bool {
        match self.to.try_send(item) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => false,
            Err(TrySendError::Full(item)) => {
                let dropped = self.oldest.try_recv().is_ok();
                // Cannot be full any more; a closed queue means that the pipeline is ending.
                drop(self.to.try_send(item));
                dropped
            }
        }
    }
}

/// Runs on the source thread until stopped, once a bin. Must not allocate, lock or log for a good bin.
fn run_source(mut source: impl Source, bins: &Queue<Bin>, shared: &Shared) {
    let mut bin = Bin::empty();
    while !shared.stop.load(Relaxed) {
        let refusal = match source.receive(&mut bin) {
            Received::Bin => {
                shared.bins.fetch_add(1, Relaxed);
                if bins.push(bin.clone()) {
                    shared.overflowed.fetch_add(1, Relaxed);
                }
                continue;
            }
            Received::Nothing => continue,
            Received::Refused(error) => Refusal::Wire(error),
            Received::WrongChannels => Refusal::Channels,
            Received::Ended => return,
        };
        shared.refused.fetch_add(1, Relaxed);
        if let Ok(mut last) = shared.last_refused.lock() {
            *last = Some(refusal);
        }
    }
}

/// Runs on the decode thread until the source thread ends, once a bin. Must not allocate, block, lock or log.
fn run_decode(mut decoder: Decoder, bins: Receiver<Bin>, estimates: &Queue<Estimate>, shared: &Shared) {
    while let Ok(bin) = bins.recv() {
        decoder.decode(&bin, bins.len(), &mut |estimate| {
            estimate.decoded_ns = monotonic_ns();
            if estimates.push(estimate.clone()) {
                shared.overflowed.fetch_add(1, Relaxed);
            }
        });
        let counters = decoder.counters();
        for (shared, count) in shared.estimates.iter().zip(counters.estimates) {
            shared.store(count, Relaxed);
        }
        shared.duplicates.store(counters.duplicates, Relaxed);
        shared.skipped.store(counters.skipped, Relaxed);
        shared.restarts.store(counters.restarts, Relaxed);
    }
}

/// Runs on the publish thread until the decode thread ends, once a bin. Must not block, lock or log;
/// allocates only the frames that the transport takes over.
fn run_publish(mut publisher: ZeromqPublisher, estimates: Receiver<Estimate>, shared: &Shared) {
    let mut described_ns = 0;
    loop {
        match estimates.recv_timeout(Duration::from_millis(100)) {
            Ok(mut estimate) => {
                estimate.published_ns = monotonic_ns();
                publisher.publish(&estimate);
                shared.published.fetch_add(1, Relaxed);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now_ns = monotonic_ns();
        if now_ns >= described_ns + DESCRIBE_EVERY_NS {
            publisher.describe();
            described_ns = now_ns;
        }
    }
}
