//! `ndtd bench`: how long a bin takes through the production pipeline, on this computer, with this bundle.
//!
//! **Open loop:** each bin is due at an absolute instant, at the bundle's rate, whether or not those before it
//! are answered, and what is reported counts from the instant that the bin was *due*. A stall therefore counts
//! for every bin behind it; a loop that waits for its answer would have left those out (coordinated omission).
//! The due instant is the bin's source time, so that it travels with the bin and comes back with its estimate.
//!
//! [`schedule`] says which bins are due when, [`tally`] counts what came of them, [`report`] tells it; none of them
//! has a thread or a clock. [`memory`], [`loopback`] and [`lsl`] put bins into the pipeline, without a transport and with one.

mod answers;
mod golden_counts;
mod in_process;
pub mod load;
mod loopback;
mod lsl;
pub mod report;
pub mod schedule;
pub mod steps;
pub mod tally;
mod zeromq_rig;

use crate::config::Config;
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

/// What carries bins and estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Nothing: bins are in memory, and an estimate has arrived where it is handed over.
    InProcess,
    /// ZeroMQ over TCP on 127.0.0.1, with a rig's threads in this process.
    Loopback,
    /// Lab Streaming Layer, with a rig's threads in this process.
    Lsl,
}

impl Transport {
    /// As a table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Transport::InProcess => "in-process",
            Transport::Loopback => "loopback",
            Transport::Lsl => "lsl",
        }
    }
}

/// What to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchSettings {
    /// One measurement for each.
    pub transports: Vec<Transport>,
    /// What else the computer does.
    pub load: Load,
    /// Of each measurement, after its warm-up.
    pub length: Length,
}

/// How far a measurement is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Which.
    pub transport: Transport,
    /// Since its first bin was due, s.
    pub seconds: f64,
    /// Until its last bin is due, s.
    pub seconds_total: f64,
}

/// Why nothing can be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The pipeline.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The rig's sockets cannot be opened, or do not find the daemon.
    #[error(transparent)]
    Rig(#[from] RigError),
    /// The rig's streams cannot be opened.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Nothing to send.
    #[error("expected golden vectors in the bundle, whose counts are sent, found none")]
    NoCounts,
    /// The system has no thread left, or one of ours has ended in a panic.
    #[error("expected a thread \"{name}\", found {found}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// What became of it.
        found: String,
    },
}

/// Measures what `settings` say, with the pipeline of `config` but for its endpoints. Blocks for as long as it
/// takes, and tells `progress` several times a second.
///
/// # Errors
/// [`BenchError`]; nothing is left running then.
pub fn measure(
    config: &Config,
    bundle: &Bundle,
    settings: &BenchSettings,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, BenchError> {
    let width_ns = bundle.manifest.bin_width_ns();
    let schedule = Schedule::new(width_ns, settings.load, settings.length);
    let counts = GoldenCounts::of(bundle)?;
    let deadline_ns = config.guard(&bundle.manifest).map_err(PipelineError::from)?.deadline_ns;
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
            Transport::Loopback => measure_over_loopback(config, bundle, &counts, &mut tally, &mut tell)?,
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
        realtime: config.realtime.clone(),
        refused,
        measured,
    })
}
