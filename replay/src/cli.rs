//! The commands of `ndt-replay`, one file each, and what they share: printing, and durations in options.

pub mod inspect;
mod keys;
pub mod listen;
mod overwrite;
pub mod play;
pub mod simulate;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use ndt_protocol::terminal;
use std::fmt::Display;
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
    /// Send the bins of a recording as a rig would, in real time, with faults if wanted.
    #[command(after_help = play::faults_and_examples())]
    Play(play::Play),
    /// Count and score the estimates of a daemon, and check them against the faults that were played.
    #[command(after_help = listen::EXAMPLES)]
    Listen(listen::Listen),
}

/// Prints a line to standard output.
fn print(line: &dyn Display) -> anyhow::Result<()> {
    terminal::print(line).context("standard output")
}

/// The value of the option `name` as a duration.
fn seconds(name: &str, value: f64) -> anyhow::Result<Duration> {
    match Duration::try_from_secs_f64(value) {
        Ok(duration) => Ok(duration),
        Err(_) => bail!("expected a number of seconds for {name}, found {value}"),
    }
}
