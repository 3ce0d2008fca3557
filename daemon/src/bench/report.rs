//! The report of a benchmark, for people and for programs. It names what was measured and on what, without which a
//! latency means nothing.

use super::Transport;
use super::load::Load;
use super::tally::{Bins, Percentiles, Stage, Tally};
use crate::host::machine::Machine;
use crate::host::realtime;
use ndt_protocol::Quality;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// The whole report. Its `Display` is for people, its JSON for programs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Version of ndtd.
    pub version: &'static str,
    /// Date of the measurement, seconds since 1970.
    pub date_unix_s: u64,
    /// Computer that was measured.
    pub machine: Machine,
    /// Name of the engine, as [`crate::engine::Engine::name`] gives it.
    pub engine: String,
    /// Id of the bundle.
    pub bundle: String,
    /// Width of a bin, ms.
    pub bin_width_ms: f64,
    /// Longest time from a bin's arrival to its answer, ms.
    pub deadline_ms: f64,
    /// What else the computer did during the measurement.
    pub load: Load,
    /// Open pages of the monitor during the measurement of the transport loopback.
    pub pages: usize,
    /// Real-time settings that the threads asked for.
    pub realtime: realtime::RealtimeSettings,
    /// Settings that the system refused, and that were not in force.
    pub refused: Vec<String>,
    /// One measurement for each transport.
    pub measured: Vec<Measured>,
}

/// The measurement of one transport.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Measured {
    /// Transport that carried the bins.
    pub transport: Transport,
    /// Bins that were due after the warm-up.
    pub bins: u64,
    /// Bins without an answer.
    pub unanswered: u64,
    /// Estimates for a bin that already had an answer.
    pub repeated: u64,
    /// Bins and estimates dropped from full queues, those of the warm-up included.
    pub overflowed: u64,
    /// Answers that the guard gave instead of the model.
    pub missed: u64,
    /// Share of `missed` in all answers.
    pub miss_rate: f64,
    /// Answers later than the deadline, counted from when their bin was due.
    pub behind: u64,
    /// Number of answers of each quality.
    pub qualities: BTreeMap<&'static str, u64>,
    /// Estimates for periods in which no bin was due.
    pub without_bin: u64,
    /// Latencies of each stage, us.
    pub latencies_us: Vec<Row>,
    /// Median time of decoding, hand-over included, divided by the median time of the transport in and out.
    pub decoded_to_transport: Option<f64>,
}

/// A line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// Stage that was measured.
    pub stage: Stage,
    /// Bins that were measured.
    pub bins: Bins,
    /// Percentiles of the latency.
    pub percentiles: Percentiles,
}

impl Measured {
    /// Makes the measurement from what `tally` has counted.
    pub fn new(transport: Transport, tally: &Tally, overflowed: u64) -> Measured {
        let outcomes = tally.outcomes();
        let row = |bins| {
            move |stage| {
                let percentiles = tally.percentiles(stage, bins)?;
                Some(Row { stage, bins, percentiles })
            }
        };
        let steady = Stage::ALL.into_iter().filter_map(row(Bins::Steady));
        let after_gap = Stage::ALL.into_iter().filter_map(row(Bins::AfterGap));
        let median = |stage| tally.percentiles(stage, Bins::Steady).map(|percentiles| percentiles.p50);
        let carried = median(Stage::DueToArrival).zip(median(Stage::PublishedToReceived));
        Measured {
            transport,
            bins: outcomes.due,
            unanswered: outcomes.unanswered(),
            repeated: outcomes.repeated,
            overflowed,
            missed: outcomes.missed(),
            miss_rate: outcomes.miss_rate(),
            behind: outcomes.behind,
            qualities: Quality::ALL.iter().map(|quality| quality.name()).zip(outcomes.qualities).collect(),
            without_bin: outcomes.without_bin,
            latencies_us: after_gap.chain(steady).collect(),
            decoded_to_transport: median(Stage::ArrivalToDecoded)
                .zip(carried)
                .map(|(decoded, (on_the_way_in, on_the_way_out))| decoded / (on_the_way_in + on_the_way_out)),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cpus, virtual_machine, kernel, preemption, governor, clocksource } = &self.machine;
        let place = if *virtual_machine { ", in a virtual machine" } else { "" };
        writeln!(f, "ndtd {} on Linux {kernel}: {cpu}, {cpus} CPUs{place}", self.version)?;
        let known = |name: &Option<String>| name.clone().unwrap_or_else(|| "unknown".to_owned());
        writeln!(
            f,
            "kernel      preemption {preemption}, governor {}, clock {}",
            known(governor),
            known(clocksource)
        )?;
        let realtime::RealtimeSettings { priority, cpus, lock_memory, .. } = &self.realtime;
        let class =
            if *priority > 0 { format!("SCHED_FIFO {priority}") } else { "normal priority".to_owned() };
        let cpus = if cpus.is_empty() { "all CPUs".to_owned() } else { format!("CPUs {cpus:?}") };
        let memory = if *lock_memory { "locked" } else { "not locked" };
        let asked = if self.refused.is_empty() { "" } else { "asked for " };
        writeln!(f, "real time   {asked}{class}, {cpus}, memory {memory}")?;
        for refused in &self.refused {
            writeln!(f, "refused     {refused}")?;
        }
        let load = match self.load {
            Load::None => "none",
            Load::Stress => "a busy thread on each CPU",
            Load::IdleGap => "none, bins in bursts with gaps between them",
        };
        writeln!(
            f,
            "bundle      {}, {} ms bins, deadline {} ms, engine {}",
            self.bundle.get(..12).unwrap_or(&self.bundle),
            self.bin_width_ms,
            self.deadline_ms,
            self.engine,
        )?;
        write!(f, "load        {load}")?;
        if self.pages > 0 {
            write!(f, "\npages       {} of the monitor are open (loopback)", self.pages)?;
        }
        self.measured.iter().try_for_each(|measured| write!(f, "\n\n{measured}"))
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let met = Quality::ALL.iter().filter_map(|quality| {
            let count = self.qualities.get(quality.name()).filter(|count| **count > 0)?;
            Some(format!("{} {count}", quality.name()))
        });
        let met = met.collect::<Vec<_>>().join(", ");
        let rate = self.miss_rate * 100.0;
        let name = self.transport.name();
        write!(f, "{name}: {} bins, {} missed ({rate:.3} %): {met}", self.bins, self.missed)?;
        for (count, what) in [
            (self.behind, "published later than the deadline after they were due"),
            (self.unanswered, "not answered"),
            (self.repeated, "answered twice"),
            (self.overflowed, "dropped from full queues"),
            (self.without_bin, "estimates for periods without a bin"),
        ] {
            if count > 0 {
                write!(f, "\n  {count} {what}")?;
            }
        }
        let mut above = None;
        for Row { stage, bins, percentiles } in &self.latencies_us {
            if above != Some(*bins) {
                above = Some(*bins);
                let has_both = self.latencies_us.iter().any(|row| row.bins == Bins::AfterGap);
                let title = match bins {
                    Bins::AfterGap => "first bins after a gap, us",
                    Bins::Steady if has_both => "other bins, us",
                    Bins::Steady => "us",
                };
                write!(f, "\n  {title:<27}")?;
                for name in ["count", "p50", "p90", "p99", "p99.9", "max"] {
                    write!(f, "{name:>10}")?;
                }
            }
            let Percentiles { count, p50, p90, p99, p99_9, max } = percentiles;
            write!(f, "\n  {:<27}{count:>10}", stage.name())?;
            for value in [p50, p90, p99, p99_9, max] {
                write!(f, "{value:>10.1}")?;
            }
        }
        if let Some(share) = self.decoded_to_transport {
            write!(f, "\n  decoding takes {share:.2} times what the transport takes, in and out (p50)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
