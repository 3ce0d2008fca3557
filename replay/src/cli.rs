//! The commands of `ndt-replay`, one file each, and what they share: printing, and durations in options.

pub mod export;
pub mod inspect;
mod keys;
pub mod listen;
mod overwrite;
pub mod play;
pub mod report;
pub mod simulate;
pub mod verify;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use ndt_protocol::terminal;
use std::fmt::Display;
use std::io::IsTerminal;
use std::time::Duration;

/// A rig that isn't there: inspects NWB recordings, simulates them, plays them out, and listens to a decoder.
#[derive(Parser)]
#[command(name = "ndt-replay", version, about)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Print what is in a recording, what a fit would decode from it, and what is odd about it; or what is in a bundle.
    #[command(after_help = inspect::EXAMPLES)]
    Inspect(inspect::Inspect),
    /// Simulate a session of delayed reaches and write it as NWB. The same seed gives the same data.
    #[command(after_help = simulate::EXAMPLE)]
    Simulate(simulate::Simulate),
    /// Send the bins of a recording or of a session log as a rig would, in real time, with faults if wanted.
    #[command(after_help = play::faults_and_examples())]
    Play(play::Play),
    /// Count and score the estimates of a daemon, and check them against the faults that were played.
    #[command(after_help = listen::EXAMPLES)]
    Listen(listen::Listen),
    /// Compute a recorded session again, by the code that ran in it, and compare every estimate to the bit.
    #[command(after_help = verify::EXAMPLE)]
    Verify(verify::Verify),
    /// Write a recorded session as NWB: counts, published rates and outputs, qualities.
    #[command(after_help = export::EXAMPLE)]
    Export(export::Export),
    /// Say how a recorded session went: qualities, latencies, events, what is missing.
    #[command(after_help = report::EXAMPLE)]
    Report(report::Report),
}

/// Prints a line to standard output.
fn print(line: &dyn Display) -> anyhow::Result<()> {
    terminal::print(line).context("standard output")
}

/// A bar for work that is measured in bytes; hidden where standard error is no terminal.
fn bytes_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bytes}/{total_bytes} {bar:40} {eta} left");
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The value of the option `name` as a duration.
fn seconds(name: &str, value: f64) -> anyhow::Result<Duration> {
    match Duration::try_from_secs_f64(value) {
        Ok(duration) => Ok(duration),
        Err(_) => bail!("expected a number of seconds for {name}, found {value}"),
    }
}
