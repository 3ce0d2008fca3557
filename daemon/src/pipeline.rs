//! The three real-time threads of the daemon, and the bounded queues between them.
//!
//! ```text
//!  ndt-source --Bin--> ndt-decode --Estimate--> ndt-publish
//!       └──────────── SourceEvent ──────────────────▲
//! ```
//!
//! [`loops`] holds what the threads do, [`counters`] what they count, [`heartbeats`] their signs of life, [`orders`] how they are told
//! to change, [`shadow`] what a second model does beside the first. This file starts and stops them. The control plane reads
//! the counters; the real-time threads never wait for it.

pub mod counters;
pub mod heartbeats;
pub mod keep_warm;
pub mod loops;
pub mod orders;
pub mod shadow;

use crate::config::{Config, ConfigError};
use crate::decoder::Decoder;
use crate::decoder::fallback::{FallbackDecoder, FallbackError};
use crate::engine::Engine;
use crate::guard::Guard;
use crate::host::realtime::granted::Granted;
use crate::host::realtime::memory;
use crate::host::realtime::{self, RealtimeSettings, Refused};
use crate::input::{Intake, Source, Velocity};
use crate::output::{Outputs, Publisher};
use crate::queue::Queue;
use crate::transport::{TransportError, Transports};
use counters::{Counters, Stats};
use crossbeam_channel::bounded;
use heartbeats::Heartbeats;
use keep_warm::KeepWarm;
use loops::{DecodeLoop, PublishLoop, SourceEvent, SourceLoop};
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::zeromq::admission::TurnedAway;
use ndt_protocol::{Bin, Bundle, Estimate, Reasons};
use orders::{DecodeOrder, Inbox, ModelOrder, Orders, PublishOrder};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the threads have to end.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// A running pipeline.
pub struct Pipeline {
    counters: Arc<Counters>,
    threads: Vec<JoinHandle<()>>,
    refused: Vec<(&'static str, Refused)>,
    granted: Vec<(&'static str, Granted)>,
    input: String,
    outputs: Vec<String>,
    control: Option<ControlEnds>,
    /// The transports, on whose threads the sockets live; dropped last.
    transports: Option<Transports>,
}

/// The control plane's ends of a running pipeline.
pub struct ControlEnds {
    /// Orders to the decode thread.
    pub decode: Orders<DecodeOrder>,
    /// Orders to the publish thread.
    pub publish: Orders<PublishOrder>,
    /// Orders to the source thread, which runs the fallback decoder; `None` without one.
    pub fallback: Option<Orders<ModelOrder>>,
    /// What the threads count.
    pub counters: Arc<Counters>,
}

/// Why a pipeline cannot start.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The configuration does not fit the bundle.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The fallback bundle cannot be used.
    #[error(transparent)]
    Fallback(#[from] FallbackError),
    /// An input or output cannot be opened.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The system gives no thread.
    #[error("expected a thread \"{name}\", found {error}")]
    Thread {
        /// Name of the thread.
        name: &'static str,
        /// Error of the system.
        error: io::Error,
    },
}

impl PipelineError {
    /// Whether the configuration or a bundle is refused, so that another start with the same files ends in the same way. An address
    /// that another program has, or a library that is not there yet, is no such error.
    pub fn is_refusal(&self) -> bool {
        match self {
            PipelineError::Config(_) | PipelineError::Fallback(_) => true,
            PipelineError::Transport(_) | PipelineError::Thread { .. } => false,
        }
    }
}

/// Opens the input and the outputs of `config`, and starts the threads.
///
/// # Errors
/// [`PipelineError`]; nothing is left running then.
pub fn start(config: &Config, bundle: &Bundle, engine: Box<dyn Engine>) -> Result<Pipeline, PipelineError> {
    let mut transports = Transports::new(config);
    let (source, input) = transports.open_input(&config.input, bundle, config.stale_after_bins)?;
    let name = engine.name();
    let opened = config.outputs.iter().map(|output| transports.open_output(output, bundle, &name));
    let (publisher, outputs) = Outputs::new(opened.collect::<Result<_, _>>()?);
    let mut pipeline = start_with(config, bundle, engine, source, publisher)?;
    (pipeline.input, pipeline.outputs, pipeline.transports) = (input, outputs, Some(transports));
    Ok(pipeline)
}

/// Loads the fallback bundle, if one is configured, and starts the threads between any source and any publisher.
///
/// # Errors
/// [`PipelineError`]; nothing is left running then.
pub fn start_with(
    config: &Config,
    bundle: &Bundle,
    engine: Box<dyn Engine>,
    source: impl Source + 'static,
    publisher: impl Publisher + 'static,
) -> Result<Pipeline, PipelineError> {
    let settings = config.guard(&bundle.manifest)?;
    let fallback = config.fallback_bundle.as_deref();
    let (masked, masked_share_max) = (&config.mask_channels, config.max_masked_share);
    let fallback =
        fallback.map(|path| FallbackDecoder::load(path, bundle, masked, masked_share_max)).transpose()?;
    let counters = Arc::new(Counters::default());
    // The publish thread is given its time from here on.
    counters.pulse.turned(monotonic_ns());
    let (bins, queued_bins) = Queue::new(&Bin::empty());
    let (estimates, queued_estimates) = Queue::new(&Estimate::zero(0, 0));
    let (events, queued_events) = Queue::new(&SourceEvent::Silent(Reasons::PEER_GONE));
    let (mut guard, look_every_ns) = (Guard::new(bundle, settings), settings.time.deadline_ns / 2);
    guard.inhibit(config.start_paused);
    counters.paused(config.start_paused);
    let (to_publish, publish_inbox) = orders::to_thread("publish");
    let (to_decode, decode_inbox) = orders::to_thread("decode");
    let (to_fallback, fallback_inbox) = orders::to_thread("source");
    let publish =
        PublishLoop::new(guard, look_every_ns, publisher, queued_events, queued_estimates, counters.clone())
            .obeying(publish_inbox);
    let decoder = Decoder::new(bundle, engine, masked, settings.time);
    let decoder = decoder.limiting_masked(masked_share_max);
    let warmth = KeepWarm::new(config.keep_warm_ms, monotonic_ns());
    let decode = DecodeLoop::new(decoder, warmth, queued_bins, estimates, counters.clone());
    let decode = decode.obeying(decode_inbox);
    let intake = Intake::new(bundle.manifest.bin_width_ns());
    let fallback = velocity_of(fallback.map(|decoder| (decoder, fallback_inbox)));
    let source = SourceLoop::new(source, intake, fallback, events, bins, counters.clone());
    let control = Some(ControlEnds {
        decode: to_decode,
        publish: to_publish,
        fallback: config.fallback_bundle.is_some().then_some(to_fallback),
        counters: counters.clone(),
    });
    let refused = memory::lock(&config.realtime).into_iter().map(|refused| ("ndtd", refused)).collect();
    let (threads, granted, input, outputs) = (Vec::new(), Vec::new(), String::new(), Vec::new());
    let mut pipeline =
        Pipeline { counters, threads, refused, granted, input, outputs, control, transports: None };
    // Last first: a thread that starts finds its consumer running, and on an error the queues of the threads that already
    // run close behind them.
    let settings = &config.realtime;
    pipeline.spawn("ndt-publish", &settings.below(realtime::PUBLISH), move || publish.run(monotonic_ns))?;
    pipeline.spawn("ndt-decode", &settings.below(realtime::DECODE), move || decode.run(monotonic_ns))?;
    pipeline.spawn("ndt-source", &settings.below(realtime::SOURCE), move || source.run())?;
    Ok(pipeline)
}

/// The velocity that the fallback decoder, if there is one, has for each bin, after the orders that it is given.
fn velocity_of(
    mut fallback: Option<(FallbackDecoder, Inbox<ModelOrder>)>,
) -> impl FnMut(&Bin) -> Option<Velocity> {
    move |bin| {
        let (decoder, inbox) = fallback.as_mut()?;
        while let Some(mut order) = inbox.take() {
            order.what.apply_to(decoder.decoder_mut());
            order.is_done = true;
            inbox.give_back(order);
        }
        decoder.velocity(bin)
    }
}

impl Pipeline {
    /// Address that bins come from: as bound, or as it is connected to.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// Addresses that estimates are published on, as bound, in the order of the configuration.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// First address that estimates are published on; empty without outputs.
    pub fn output(&self) -> &str {
        self.outputs.first().map_or("", String::as_str)
    }

    /// Real-time settings that the system refused to a thread, with the name of the thread.
    pub fn refused(&self) -> &[(&'static str, Refused)] {
        &self.refused
    }

    /// What the system has granted to each thread, with the thread's name.
    pub fn granted(&self) -> &[(&'static str, Granted)] {
        &self.granted
    }

    /// The control plane's ends of the loops, once.
    pub fn control(&mut self) -> Option<ControlEnds> {
        self.control.take()
    }

    /// Takes a snapshot of the counters.
    pub fn stats(&self) -> Stats {
        let turned_away = self.turned_away();
        Stats { turned_away: turned_away.full + turned_away.key, ..self.counters.stats() }
    }

    /// Takes a snapshot of the threads' signs of life.
    pub fn heartbeats(&self) -> Heartbeats {
        self.counters.pulse.heartbeats()
    }

    /// ZeroMQ peers that were turned away since the start.
    pub fn turned_away(&self) -> TurnedAway {
        self.transports.as_ref().map_or_else(TurnedAway::default, Transports::turned_away)
    }

    /// Ends the threads in the order of the data, so that what was received is still published. Returns whether all have
    /// ended: an engine that hangs is not waited for and ends with the process.
    pub fn stop(mut self) -> bool {
        self.end()
    }

    fn end(&mut self) -> bool {
        self.counters.ask_to_stop();
        let started = Instant::now();
        for thread in self.threads.drain(..).rev() {
            while !thread.is_finished() {
                if started.elapsed() > STOP_PATIENCE {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            // A thread that panicked has already printed why.
            drop(thread.join());
        }
        true
    }

    /// Starts a thread, and returns once the system has granted or refused its real-time settings.
    fn spawn(
        &mut self,
        name: &'static str,
        settings: &RealtimeSettings,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), PipelineError> {
        let (entered, entering) = bounded(1);
        let settings = settings.clone();
        let enter_and_run = move || {
            let refused = realtime::enter(&settings);
            // Nobody receives it only where the pipeline is given up.
            drop(entered.send((refused, Granted::to_this_thread())));
            run();
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(enter_and_run);
        self.threads.push(thread.map_err(|error| PipelineError::Thread { name, error })?);
        let (refused, granted) = entering.recv().unwrap_or_default();
        self.granted.push((name, granted));
        self.refused.extend(refused.into_iter().map(|refused| (name, refused)));
        Ok(())
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.end();
    }
}
