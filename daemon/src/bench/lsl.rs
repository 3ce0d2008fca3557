//! The measurement over Lab Streaming Layer: a rig in this process offers a stream with each bin at its instant, and
//! receives the velocity stream.
//!
//! Bins and estimates pass through the same threads as in a deployed daemon: source, search, clock and push. A stream
//! carries none of an estimate's time stamps; these are kept here until their sample is received.

use super::BenchError;
use super::answers::{self, QUEUE_ANSWERS};
use super::golden_counts::GoldenCounts;
use super::schedule::Schedule;
use super::tally::{Answer, Tally};
use crate::config::Config;
use crate::engine;
use crate::host::realtime;
use crate::output::Publisher;
use crate::pipeline::{self, Pipeline};
use crate::transport::TransportError;
use crate::transport::lsl::publisher::LslPublisher;
use crate::transport::lsl::source::LslSource;
use crossbeam_channel::{Receiver, Sender, bounded};
use ndt_protocol::Bundle;
use ndt_protocol::clock::{monotonic_ns, sleep_until_ns};
use ndt_protocol::lsl::{
    BIN_MODULO, Channel, Description, Format, Inlet, Kind, Library, LslError, Outlet, Query, StreamInfo,
    TYPE_COUNTS, velocity_name,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time in which the rig and the pipeline must find each other, s.
const MEETING_WAIT_S: f64 = 10.0;

/// Pause before the first bin: a receiver is connected before it is ready, and discards what has queued by then.
const SETTLE: Duration = Duration::from_millis(500);

/// Longest wait of the receiving thread for a sample before it looks whether it should stop, s.
const PATIENCE_S: f64 = 0.1;

/// Measures the pipeline over Lab Streaming Layer, with a rig in this process.
///
/// # Errors
/// [`BenchError`] when the library, the engine, the pipeline or the rig cannot be started.
pub fn measure_over_lsl(
    config: &Config,
    bundle: &Bundle,
    counts: &GoldenCounts,
    tally: &mut Tally,
    progress: &mut dyn FnMut(u64),
) -> Result<Pipeline, BenchError> {
    let (answers, answered) = answers::queue();
    let (pipeline, rig) = start(config, bundle, counts.clone(), *tally.schedule(), answers)?;
    answers::take_until_answered(&answered, tally, progress, &|| rig.has_sent());
    rig.end()?;
    Ok(pipeline)
}

/// A running rig.
pub struct LslRig {
    stop: Arc<AtomicBool>,
    sending: JoinHandle<Result<Outlet, LslError>>,
    hearing: JoinHandle<Result<(), LslError>>,
}

/// Starts a pipeline on streams, and a rig that sends it the bins of `schedule` and puts the answers that it receives
/// into `answers`.
///
/// # Errors
/// [`BenchError`] when the library, the engine or a stream cannot be used. Without the library the message says how
/// to get it.
fn start(
    config: &Config,
    bundle: &Bundle,
    counts: GoldenCounts,
    schedule: Schedule,
    answers: Sender<Answer>,
) -> Result<(Pipeline, LslRig), BenchError> {
    let library = Library::load(config.lsl.library.as_deref()).map_err(TransportError::from)?;
    // A name that neither another program nor an earlier measurement uses.
    let name = format!("ndt-bench-{}-{}", std::process::id(), monotonic_ns());
    let engine = engine::load(&config.engine(), bundle)?;
    let query = Query { source_id: Some(name.clone()), ..Query::default() };
    let source =
        LslSource::open(&library, &query, &config.lsl, &config.realtime, bundle, config.stale_after_bins);
    let source = source.map_err(|error| TransportError::Thread { name: "lsl-search", error })?;
    let publisher = LslPublisher::open(&library, &name, bundle, &engine.name(), &config.realtime);
    let mut publisher = publisher.map_err(TransportError::from)?;
    let (keep, kept) = bounded(QUEUE_ANSWERS);
    let publish = move |estimate: &_| {
        answers::put(&keep, Answer::of(estimate, None));
        publisher.publish(estimate);
    };
    let pipeline = pipeline::start_with(config, bundle, engine, source, publish)?;
    let stop = Arc::new(AtomicBool::new(false));
    let (ready, is_ready) = bounded(1);
    let hearing = spawn("bench-hear", config, {
        let (library, name, stop) = (library.clone(), velocity_name(&name), stop.clone());
        move || hear(&library, &name, &kept, &answers, &ready, &stop)
    })?;
    let channel_ids = bundle.manifest.channel_ids.clone();
    let sending = spawn("bench-rig", config, {
        let stop = stop.clone();
        move || {
            let outlet = offer(&library, &name, &channel_ids, schedule.width_ns())?;
            let waited = Duration::from_secs_f64(MEETING_WAIT_S);
            if !outlet.wait_for_receiver(MEETING_WAIT_S) || is_ready.recv_timeout(waited).is_err() {
                return Err(LslError::Timeout);
            }
            std::thread::sleep(SETTLE);
            send_all(&outlet, &library, &counts, schedule, &stop)?;
            Ok(outlet)
        }
    })?;
    Ok((pipeline, LslRig { stop, sending, hearing }))
}

impl LslRig {
    /// Whether the last bin was sent, or no more bins can be sent.
    pub fn has_sent(&self) -> bool {
        self.sending.is_finished()
    }

    /// Closes the streams.
    ///
    /// # Errors
    /// [`BenchError`] when the rig could not reach the pipeline.
    pub fn end(self) -> Result<(), BenchError> {
        self.stop.store(true, Relaxed);
        let panicked = |name| move |_| BenchError::Thread { name, found: "a panic".to_owned() };
        let sent = self.sending.join().map_err(panicked("bench-rig"))?;
        let heard = self.hearing.join().map_err(panicked("bench-hear"))?;
        sent.map(drop).and(heard).map_err(|error| TransportError::from(error).into())
    }
}

/// Starts a thread with the same real-time settings as the pipeline's threads.
fn spawn<T: Send + 'static>(
    name: &'static str,
    config: &Config,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, BenchError> {
    let settings = config.realtime.clone();
    let enter_and_run = move || {
        // Settings that are refused here were refused to the pipeline's threads too, whose refusals are reported.
        drop(realtime::enter(&settings));
        run()
    };
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(enter_and_run);
    thread.map_err(|error| BenchError::Thread { name, found: error.to_string() })
}

fn offer(library: &Library, name: &str, channel_ids: &[i64], width_ns: u64) -> Result<Outlet, LslError> {
    let channels = channel_ids.iter().map(|id| Channel::new(id, "spikes", "Count")).collect();
    let kind = Kind {
        name,
        content_type: TYPE_COUNTS,
        rate_hz: 1e9 / width_ns as f64,
        format: Format::Float32,
        source_id: name,
    };
    let info = StreamInfo::new(library, &kind, &Description { channels, entries: Vec::new() })?;
    Outlet::new(&info, QUEUE_ANSWERS)
}

/// Sends each bin at its instant. Runs on the rig's thread until the last bin is sent.
fn send_all(
    outlet: &Outlet,
    library: &Library,
    counts: &GoldenCounts,
    schedule: Schedule,
    stop: &AtomicBool,
) -> Result<(), LslError> {
    let (start_ns, ahead_ns) = (monotonic_ns(), library.ahead_of_monotonic_ns());
    for seq in (0..schedule.periods()).filter(|seq| schedule.is_sent(*seq)) {
        if stop.load(Relaxed) {
            break;
        }
        let due_ns = start_ns + schedule.due_ns(seq);
        sleep_until_ns(due_ns);
        outlet.push(counts.of_bin(seq), (due_ns.cast_signed() + ahead_ns) as f64 / 1e9)?;
    }
    Ok(())
}

/// Receives the velocity stream and matches its samples with the kept answers. Runs on the receiving thread until it
/// is stopped.
fn hear(
    library: &Library,
    name: &str,
    kept: &Receiver<Answer>,
    answers: &Sender<Answer>,
    ready: &Sender<()>,
    stop: &AtomicBool,
) -> Result<(), LslError> {
    let mut found = library.resolve(&Query::of_name(name), 1, MEETING_WAIT_S)?;
    let info = found.pop().ok_or(LslError::Timeout)?;
    let inlet = Inlet::new(&info, QUEUE_ANSWERS)?;
    inlet.open(MEETING_WAIT_S)?;
    _ = ready.try_send(());
    let mut sample = vec![0.0; info.channels()];
    while !stop.load(Relaxed) {
        if inlet.pull(&mut sample, PATIENCE_S)?.is_none() {
            continue;
        }
        let received_ns = monotonic_ns();
        let number = sample.last().map_or(0, |number| *number as u64);
        // Answers before this one were dropped on the way.
        if let Some(answer) = kept.try_iter().find(|answer| answer.seq % BIN_MODULO == number) {
            answers::put(answers, Answer { received_ns: Some(received_ns), ..answer });
        }
    }
    Ok(())
}
