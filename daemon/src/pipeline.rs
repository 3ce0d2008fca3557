//! The three threads of the real-time path and the queues between them.
//!
//! ```text
//!  source thread --Bin--> decode thread --Estimate--> publish thread (guard)
//!        \--------------------Heard-----------------------/
//! ```
//!
//! Each queue holds [`QUEUE_BINS`] and drops its **oldest** when full: after a stall the newest bin matters most, and
//! the decoder sees the missing numbers as a gap. The guard hears of a bin before the decoder gets it, so that it
//! keeps the deadline whatever the decoder does, and with the bin what the fallback decoder says of it. Counters are
//! plain atomics: the control plane reads them, the real-time threads never wait for it.

use crate::config::{Config, ConfigError};
use crate::counts::{Shared, Stats};
use crate::decoder::Decoder;
use crate::degraded::{Degraded, DegradedError};
use crate::engine::Engine;
use crate::guard::Guard;
use crate::host::realtime::{self, Refused};
use crate::keep_warm::KeepWarm;
use crate::lsl::source::LslSource;
use crate::outputs::Outputs;
use crate::source::{Arrival, Intake, Received, Source};
use crate::zeromq::{ZeromqError, ZeromqSource};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::endpoint::Input;
use ndt_protocol::limits::QUEUE_BINS;
use ndt_protocol::lsl::{Library, LslError};
use ndt_protocol::wire::WireError;
use ndt_protocol::{Bin, Bundle, Estimate};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the estimates are described to those who have just come.
const DESCRIBE_EVERY_NS: u64 = 1_000_000_000;

/// How long the threads have to end.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// A running pipeline.
pub struct Pipeline {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    refused: Vec<(&'static str, Refused)>,
    input: String,
    outputs: Vec<String>,
    /// Dropped last: the sockets live on it.
    _runtime: Option<tokio::runtime::Runtime>,
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
    /// The configuration does not fit the bundle.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The fallback bundle.
    #[error(transparent)]
    Degraded(#[from] DegradedError),
    /// A socket.
    #[error(transparent)]
    Zeromq(#[from] ZeromqError),
    /// Lab Streaming Layer.
    #[error(transparent)]
    Lsl(#[from] LslError),
    /// A thread.
    #[error("expected a thread \"{name}\", found {error}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

/// What the publish thread has to say to the world.
pub enum Say<'a> {
    /// One estimate.
    Estimate(&'a Estimate),
    /// What estimates consist of, for those who have just come.
    Description,
}

/// What the guard hears from the source thread.
#[derive(Debug, Clone, Copy)]
enum Heard {
    Bin(Arrival),
    PeerGone,
}

/// Opens the sockets and streams of `config` and starts the threads.
///
/// # Errors
/// [`PipelineError`]; nothing is left running then.
pub fn start(config: &Config, bundle: &Bundle, engine: Box<dyn Engine>) -> Result<Pipeline, PipelineError> {
    let runtime = crate::zeromq::runtime(&config.realtime)?;
    let library = config.uses_lsl().then(|| Library::load(config.lsl.library.as_deref())).transpose()?;
    let (source, input): (Box<dyn Source>, String) = match (&config.input, &library) {
        (Input::Lsl(query), Some(library)) => {
            let source = LslSource::open(library, query, &config.lsl, bundle, config.stale_after_bins);
            let source = source.map_err(|error| PipelineError::Thread { name: "lsl-search", error })?;
            (Box::new(source), config.input.to_string())
        }
        (Input::Lsl(_), None) => return Err(LslError::Lost.into()),
        (Input::Zeromq(socket), _) => {
            let (source, input) = ZeromqSource::open(&runtime, socket, bundle)?;
            (Box::new(source), input)
        }
    };
    let (mut publishers, outputs) =
        Outputs::open(&runtime, library.as_ref(), config, bundle, &engine.name())?;
    let mut pipeline = start_with(config, bundle, engine, source, move |say| publishers.say(&say))?;
    (pipeline.input, pipeline.outputs, pipeline._runtime) = (input, outputs, Some(runtime));
    Ok(pipeline)
}

/// Loads the fallback bundle, if one is configured, and starts the threads on any source, with `say` for whatever is
/// published.
///
/// # Errors
/// [`PipelineError`]; nothing is left running then.
pub fn start_with(
    config: &Config,
    bundle: &Bundle,
    engine: Box<dyn Engine>,
    source: impl Source + 'static,
    say: impl FnMut(Say<'_>) + Send + 'static,
) -> Result<Pipeline, PipelineError> {
    let settings = config.guard(&bundle.manifest)?;
    let guard = Guard::new(bundle, settings);
    let degraded = config.fallback_bundle.as_deref();
    let degraded = degraded.map(|path| Degraded::load(path, bundle, &config.mask_channels)).transpose()?;
    let look_every_ns = settings.deadline_ns / 2;
    let decoder = Decoder::new(bundle, engine, &config.mask_channels, settings.deadline_ns);
    let shared = Arc::new(Shared::default());
    let (bins, queued_bins) = Queue::new(&Bin::empty());
    let (estimates, queued_estimates) = Queue::new(&Estimate::zero(0, 0));
    let (heard, queued_heard) = Queue::new(&Heard::PeerGone);
    let (input, outputs) = (String::new(), Vec::new());
    let refused =
        realtime::lock_memory(&config.realtime).into_iter().map(|refused| ("ndtd", refused)).collect();
    let mut pipeline =
        Pipeline { shared: shared.clone(), threads: Vec::new(), refused, input, outputs, _runtime: None };
    // Last first: a thread that is started finds its consumer running, and on an error the
    // queues of those already running close behind them.
    pipeline.spawn("ndt-publish", &config.realtime, sleep_once(&queued_estimates), {
        let shared = shared.clone();
        move || run_publish(guard, look_every_ns, queued_heard, queued_estimates, say, &shared)
    })?;
    pipeline.spawn("ndt-decode", &config.realtime, sleep_once(&queued_bins), {
        let shared = shared.clone();
        let warmth = KeepWarm::new(config.keep_warm_ms, monotonic_ns());
        move || run_decode(decoder, warmth, queued_bins, &estimates, &shared)
    })?;
    let run = move || run_source(source, degraded, &heard, &bins, &shared);
    pipeline.spawn("ndt-source", &config.realtime, || (), run)?;
    Ok(pipeline)
}

impl Pipeline {
    /// The address that bins are taken from, as bound or to be connected.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// The addresses that estimates are published on, as bound, in the order of the configuration.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// The first of them; empty where there is none.
    pub fn output(&self) -> &str {
        self.outputs.first().map_or("", String::as_str)
    }

    /// What the system did not permit its threads, by their names.
    pub fn refused(&self) -> &[(&'static str, Refused)] {
        &self.refused
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Ends the threads in the order of the data: what was received is still published. Whether all have ended: an
    /// engine that hangs is not waited for, and ends with the process.
    pub fn stop(mut self) -> bool {
        self.end()
    }

    fn end(&mut self) -> bool {
        self.shared.ask_to_stop();
        let started = Instant::now();
        for thread in self.threads.drain(..).rev() {
            while !thread.is_finished() {
                if started.elapsed() > STOP_PATIENCE {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            // A thread that panicked has already said so.
            drop(thread.join());
        }
        true
    }

    /// Starts a thread, and returns once it has got from the system what it will get.
    fn spawn(
        &mut self,
        name: &'static str,
        settings: &realtime::RealtimeSettings,
        first: impl FnOnce() + Send + 'static,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), PipelineError> {
        let (entered, entering) = bounded(1);
        let settings = settings.clone();
        let enter_and_run = move || {
            let refused = realtime::enter(&settings);
            first();
            // Nobody waits for it any more only where the pipeline is given up.
            drop(entered.send(refused));
            run();
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(enter_and_run);
        self.threads.push(thread.map_err(|error| PipelineError::Thread { name, error })?);
        let refused = entering.recv().unwrap_or_default();
        self.refused.extend(refused.into_iter().map(|refused| (name, refused)));
        Ok(())
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.end();
    }
}

/// The sending end of a bounded queue that drops its oldest when full.
pub(crate) struct Queue<T> {
    to: Sender<T>,
    oldest: Receiver<T>,
}

impl<T: Clone> Queue<T> {
    /// An empty queue, all of whose places have once been filled with `item`: no page of it is new to the kernel later.
    fn new(item: &T) -> (Queue<T>, Receiver<T>) {
        Queue::with_places(item, QUEUE_BINS)
    }

    /// The same with so many places.
    pub(crate) fn with_places(item: &T, places: usize) -> (Queue<T>, Receiver<T>) {
        let (to, from) = bounded(places);
        while to.try_send(item.clone()).is_ok() {}
        while from.try_recv().is_ok() {}
        (Queue { to, oldest: from.clone() }, from)
    }

    /// Puts `item` in, in the place of the oldest where there is no other; tells whether one was dropped.
    /// Does not block: only this thread adds, so one removal makes room.
    pub(crate) fn push(&self, item: T) -> bool {
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

/// What a thread does before anybody sends to its queue: it sleeps on it once, for the queue allocates for each
/// thread's first sleep, and on a busy machine that could be long after the first bin.
fn sleep_once<T: Send + 'static>(queue: &Receiver<T>) -> impl FnOnce() + Send + 'static {
    let queue = queue.clone();
    move || drop(queue.recv_timeout(Duration::from_millis(1)))
}

/// Runs on the source thread until stopped, once a bin. Must not allocate, lock or log for a good bin.
fn run_source(
    mut source: impl Source,
    mut degraded: Option<Degraded>,
    heard: &Queue<Heard>,
    bins: &Queue<Bin>,
    shared: &Shared,
) {
    let mut intake = Intake::default();
    let mut bin = Bin::empty();
    let mut is_gone = false;
    while !shared.is_stopping() {
        let received = source.receive(&mut bin);
        if received == Received::Gone && !is_gone {
            shared.overflowed(heard.push(Heard::PeerGone));
        }
        is_gone = received == Received::Gone || (is_gone && received == Received::Nothing);
        match received {
            Received::Bin => match intake.take(&mut bin) {
                Some(mut arrival) => {
                    arrival.velocity = degraded.as_mut().and_then(|degraded| degraded.velocity(&bin));
                    shared.received(bin.invalid_channels());
                    shared.overflowed(heard.push(Heard::Bin(arrival)));
                    shared.overflowed(bins.push(bin.clone()));
                }
                None => shared.empty(),
            },
            Received::Nothing | Received::Gone => {}
            Received::Refused(error) => shared.refused(Refusal::Wire(error)),
            Received::WrongChannels => shared.refused(Refusal::Channels),
            Received::Ended => return,
        }
    }
}

/// Runs on the decode thread until the source thread ends, once a bin. Must not allocate, block, lock or log.
///
/// A step for nothing is begun only while no bin waits, so that it delays one by less than a step.
fn run_decode(
    mut decoder: Decoder,
    mut warmth: KeepWarm,
    bins: Receiver<Bin>,
    estimates: &Queue<Estimate>,
    shared: &Shared,
) {
    loop {
        let bin = match warmth.patience(monotonic_ns()) {
            None => bins.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(patience) => bins.recv_timeout(patience),
        };
        let bin = match bin {
            Ok(bin) => bin,
            Err(RecvTimeoutError::Timeout) => {
                match decoder.keep_warm() {
                    true => warmth.computed(monotonic_ns()),
                    false => warmth = KeepWarm::never(),
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        decoder.decode(&bin, bins.len(), monotonic_ns(), &mut |estimate| {
            estimate.decoded_ns = monotonic_ns();
            shared.overflowed(estimates.push(estimate.clone()));
        });
        warmth.computed(monotonic_ns());
        shared.decoded(&decoder.counters());
    }
}

/// Runs on the publish thread until the decode thread ends, once a bin and at every deadline. Must not block, lock or
/// log; allocates only the frames that the transport takes over.
///
/// It sleeps on results alone: an arrival need not wake it, as long as it looks for arrivals often enough to know
/// each before its deadline.
fn run_publish(
    mut guard: Guard,
    look_every_ns: u64,
    heard: Receiver<Heard>,
    estimates: Receiver<Estimate>,
    mut say: impl FnMut(Say<'_>),
    shared: &Shared,
) {
    let mut describe_ns = 0;
    loop {
        let now_ns = monotonic_ns();
        if now_ns >= describe_ns {
            say(Say::Description);
            describe_ns = now_ns + DESCRIBE_EVERY_NS;
        }
        let wake_ns = guard.wake_ns().unwrap_or(u64::MAX).min(now_ns + look_every_ns).min(describe_ns);
        let result = estimates.recv_timeout(Duration::from_nanos(wake_ns.saturating_sub(now_ns)));
        let mut give = |estimate: &mut Estimate| {
            estimate.published_ns = monotonic_ns();
            say(Say::Estimate(estimate));
        };
        // A result's arrival was told before the result was there.
        for news in heard.try_iter() {
            match news {
                Heard::Bin(arrival) => guard.arrived(arrival),
                Heard::PeerGone => guard.peer_gone(),
            }
        }
        match result {
            Ok(result) => guard.decoded(&result, &mut give),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        guard.tick(monotonic_ns(), &mut give);
        shared.published(&guard.counters());
    }
}
