//! The measurement over ZeroMQ: a rig in this process sends each bin at its instant and receives the estimates.
//!
//! The rig's threads ask the system for the same real-time settings as the pipeline's threads. Otherwise, under load,
//! the measurement would mostly show how late the rig is, and a real rig has a computer of its own.

use super::BenchError;
use super::answers;
use super::golden_counts::GoldenCounts;
use super::pages::Pages;
use super::schedule::Schedule;
use super::tally::{Answer, Tally};
use super::zeromq_rig::{RigError, ZeromqRig};
use crate::config::Config;
use crate::control::monitor::Monitor;
use crate::control::settings::MonitorSettings;
use crate::control::state::Facts;
use crate::engine;
use crate::host::realtime;
use crate::pipeline::{self, Pipeline};
use crossbeam_channel::Sender;
use ndt_protocol::Bundle;
use ndt_protocol::clock::{monotonic_ns, sleep_until_ns};
use ndt_protocol::endpoint::{Input, Output, Role, SocketAddress};
use ndt_protocol::wire::BinStamp;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

/// Name of the rig's thread.
const THREAD: &str = "bench-rig";

/// Measures the pipeline over ZeroMQ on this computer, with a rig in this process and so many open `pages` of the monitor.
///
/// # Errors
/// [`BenchError`] when the engine, the pipeline or the rig cannot be started.
pub fn measure_over_loopback(
    config: &Config,
    bundle: &Bundle,
    counts: &GoldenCounts,
    pages: usize,
    tally: &mut Tally,
    progress: &mut dyn FnMut(u64),
) -> Result<Pipeline, BenchError> {
    let engine = engine::load(&config.engine(), bundle)?;
    let (answers, answered) = answers::queue();
    let config = &on_free_ports(config, pages);
    let facts = Facts::new(bundle, engine.name(), Vec::new());
    let mut pipeline = pipeline::start(config, bundle, engine)?;
    let (observer, taps) = (pipeline.observer(), pipeline.take_taps());
    let monitor = Monitor::start(&config.monitor, facts, observer, taps)?;
    let open = |monitor: &Monitor| Pages::open(monitor.address(), pages);
    let opened = monitor.as_ref().map(open).transpose().map_err(BenchError::Page)?;
    let rig = LoopbackRig::start(config, &pipeline, counts.clone(), *tally.schedule(), answers)?;
    answers::take_until_answered(&answered, tally, progress, &|| rig.has_sent());
    rig.end()?;
    match opened.map(|pages| pages.bytes()) {
        Some(0) => Err(BenchError::Page(io::Error::other("pages that were sent nothing"))),
        _ => Ok(pipeline),
    }
}

/// Returns `config` with endpoints that bind free ports of this computer, and a monitor for so many pages, or none.
fn on_free_ports(config: &Config, pages: usize) -> Config {
    let any = || SocketAddress { role: Some(Role::Bind), address: "tcp://127.0.0.1:0".to_owned() };
    let address = (pages > 0).then_some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let monitor = MonitorSettings { address, token_file: None, connections_max: pages.max(1) };
    Config { input: Input::Zeromq(any()), outputs: vec![Output::Zeromq(any())], monitor, ..config.clone() }
}

/// A running rig.
pub struct LoopbackRig {
    stop: Arc<AtomicBool>,
    /// Thread of the rig. It returns the sockets, so that estimates are still received after the last bin was sent.
    thread: JoinHandle<Result<ZeromqRig, RigError>>,
}

impl LoopbackRig {
    /// Starts a rig that connects to `pipeline`, sends it the bins of `schedule`, and puts the answers that it
    /// receives into `answers`.
    ///
    /// # Errors
    /// [`BenchError::Thread`] when the system gives no thread.
    pub fn start(
        config: &Config,
        pipeline: &Pipeline,
        counts: GoldenCounts,
        schedule: Schedule,
        answers: Sender<Answer>,
    ) -> Result<LoopbackRig, BenchError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let settings = config.realtime.clone();
        let (input, output) = (pipeline.input().to_owned(), pipeline.output().to_owned());
        let play = move || {
            // Settings that are refused here were refused to the pipeline's threads too, whose refusals are reported.
            drop(realtime::enter(&settings));
            let hear = move |estimate: &_, received_ns| {
                answers::put(&answers, Answer::of(estimate, Some(received_ns)))
            };
            let mut rig = ZeromqRig::connect(&settings, &input, &output, &counts.description(), hear)?;
            send_all(&mut rig, &counts, schedule, &stopping);
            Ok(rig)
        };
        let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(play);
        let thread = thread.map_err(|error| BenchError::Thread { name: THREAD, found: error.to_string() })?;
        Ok(LoopbackRig { stop, thread })
    }

    /// Whether the last bin was sent, or the rig has failed.
    pub fn has_sent(&self) -> bool {
        self.thread.is_finished()
    }

    /// Closes the sockets.
    ///
    /// # Errors
    /// [`BenchError::Rig`] when the rig could not reach the pipeline.
    pub fn end(self) -> Result<(), BenchError> {
        self.stop.store(true, Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| BenchError::Thread { name: THREAD, found: "a panic".to_owned() })??;
        Ok(())
    }
}

/// Sends each bin at its instant. Runs on the rig's thread until the last bin is sent.
fn send_all(rig: &mut ZeromqRig, counts: &GoldenCounts, schedule: Schedule, stopping: &AtomicBool) {
    let start_ns = monotonic_ns();
    for seq in (0..schedule.periods()).filter(|seq| schedule.is_sent(*seq)) {
        if stopping.load(Relaxed) {
            return;
        }
        let due_ns = start_ns + schedule.due_ns(seq);
        sleep_until_ns(due_ns);
        let stamp = BinStamp {
            seq,
            stream: 1,
            source_ns: due_ns.cast_signed(),
            sent_ns: monotonic_ns(),
            bin_width_us: counts.bin_width_us(),
            segment_start: false,
        };
        rig.send(&stamp, counts.of_bin(seq));
    }
}
