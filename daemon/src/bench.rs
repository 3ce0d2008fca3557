//! `ndtd bench`: measures how long a bin takes through the production pipeline, on this computer, with this bundle.
//!
//! **Open loop:** each bin is due at an absolute instant, at the bundle's rate, whether or not the bins before it
//! have been answered, and every latency counts from the instant at which the bin was *due*. A stall therefore counts
//! for every bin that waits behind it; a loop that sends a bin only after the previous answer would leave those out
//! (coordinated omission). The due instant is the bin's source time, so that it travels with the bin and comes back
//! with its estimate.
//!
//! [`schedule`] says which bins are due when, [`tally`] collects latencies and counts, and [`report`] writes them
//! down; none of them has a thread or a clock. `in_process`, `loopback` and `lsl` each put the bins of
//! `golden_counts` into the pipeline by one transport, `pages` holds pages of the monitor open meanwhile, and `answers` brings what comes out to the tally. [`load`] is
//! what else the computer does, and [`steps`] runs bins without measuring time.

mod answers;
mod golden_counts;
mod in_process;
pub mod load;
mod loopback;
mod lsl;
mod pages;
pub mod report;
pub mod schedule;
pub mod steps;
pub mod tally;
mod zeromq_rig;

use crate::config::Config;
use crate::control::monitor::MonitorError;
use crate::engine::{self, EngineError};
use crate::host::realtime;
use crate::pipeline::PipelineError;
use crate::transport::TransportError;
use golden_counts::GoldenCounts;
use in_process::measure_in_process;
use load::{Load, Stress};
use loopback::measure_over_loopback;
use lsl::measure_over_lsl;
use ndt_protocol::Bundle;
use report::{Measured, Report};
use schedule::{Length, Schedule};
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};
use tally::Tally;
use zeromq_rig::RigError;

/// The transport of bins and estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// No transport: bins come from memory, and an estimate has arrived when it is handed over.
    InProcess,
    /// ZeroMQ over TCP on 127.0.0.1, with a rig in this process.
    Loopback,
    /// Lab Streaming Layer, with a rig in this process.
    Lsl,
}

impl Transport {
    /// Name of the transport, as used in tables.
    pub fn name(self) -> &'static str {
        match self {
            Transport::InProcess => "in-process",
            Transport::Loopback => "loopback",
            Transport::Lsl => "lsl",
        }
    }
}

/// What `ndtd bench` measures.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchSettings {
    /// Transports; each is measured in turn.
    pub transports: Vec<Transport>,
    /// What else the computer does during the measurement.
    pub load: Load,
    /// Length of each measurement, without its warm-up.
    pub length: Length,
    /// Pages of the monitor that are open meanwhile, for the transport loopback. With 0 there is no monitor.
    pub pages: usize,
}

/// How far a measurement has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Transport that is being measured.
    pub transport: Transport,
    /// Seconds since the first bin was due.
    pub seconds: f64,
    /// Seconds from the first bin to the instant at which the last one is due.
    pub seconds_total: f64,
}

/// Why the benchmark cannot measure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The engine cannot be loaded.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The pipeline cannot be started, or a stream is lost.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The rig's sockets cannot be opened, or do not find the daemon.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// The monitor cannot be started.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// A page of the monitor cannot be opened.
    #[error("expected the monitor to open a page, found {0}")]
    Page(std::io::Error),
    /// The rig's streams cannot be opened.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The bundle has no counts to send.
    #[error("expected golden vectors in the bundle, whose counts are sent, found none")]
    NoCounts,
    /// The system gives no thread, or a thread of the benchmark has panicked.
    #[error("expected a thread \"{name}\", found {found}")]
    Thread {
        /// Name of the thread.
        name: &'static str,
        /// What happened to the thread.
        found: String,
    },
}

/// Measures what `settings` say, with the pipeline of `config` but with endpoints of its own. Blocks until all is
/// measured, and calls `progress` several times a second.
///
/// # Errors
/// [`BenchError`] when the bundle has no counts, or the engine, the pipeline or the rig fails. Nothing is left
/// running then.
pub fn measure(
    config: &Config,
    bundle: &Bundle,
    settings: &BenchSettings,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, BenchError> {
    let width_ns = bundle.manifest.bin_width_ns();
    let schedule = Schedule::new(width_ns, settings.load, settings.length);
    let counts = GoldenCounts::of(bundle)?;
    let deadline_ns = config.guard(&bundle.manifest).map_err(PipelineError::from)?.time.deadline_ns;
    let _stress = (settings.load == Load::Stress).then(Stress::start).transpose()?;
    let mut measured = Vec::new();
    let mut refused = Vec::new();
    for transport in &settings.transports {
        let mut tell = |due_ns: u64| {
            let (seconds, seconds_total) = (due_ns as f64 * 1e-9, schedule.end_ns() as f64 * 1e-9);
            progress(Progress { transport: *transport, seconds, seconds_total });
        };
        let mut tally = Tally::new(schedule, deadline_ns);
        let pipeline = match transport {
            Transport::InProcess => measure_in_process(config, bundle, &counts, &mut tally, &mut tell)?,
            Transport::Loopback => {
                measure_over_loopback(config, bundle, &counts, settings.pages, &mut tally, &mut tell)?
            }
            Transport::Lsl => measure_over_lsl(config, bundle, &counts, &mut tally, &mut tell)?,
        };
        refused = realtime::once_each(pipeline.refused());
        measured.push(Measured::new(*transport, &tally, pipeline.stats().overflowed));
    }
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        date_unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        machine: crate::host::machine::Machine::read(),
        engine: engine::load(&config.engine(), bundle)?.name(),
        bundle: bundle.manifest.id.clone(),
        bin_width_ms: bundle.manifest.bin_width_ms,
        deadline_ms: deadline_ns as f64 * 1e-6,
        load: settings.load,
        pages: settings.pages,
        realtime: config.realtime.clone(),
        refused,
        measured,
    })
}
