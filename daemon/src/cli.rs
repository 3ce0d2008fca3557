//! The command line of `ndtd`, one file for each command.

mod bench;
mod check;
mod decode;
mod doctor;
mod keygen;
mod mask;
mod order;
mod overwrite;
mod pause;
mod reset;
mod resume;
mod rollback;
mod run;
mod status;
mod stop;
mod swap;

use anyhow::Context;
use clap::{Parser, Subcommand};
use ndt_daemon::config::Config;
use ndt_protocol::{Bundle, terminal};
use std::path::Path;
use std::process::ExitCode;

/// Decodes binned spikes in real time: publishes denoised firing rates and hand velocity, one estimate for each bin.
#[derive(Parser)]
#[command(name = "ndtd", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the decoder until SIGTERM or SIGINT. SIGHUP reads the configuration again.
    #[command(after_help = run::HELP)]
    Run(Box<run::Run>),
    /// Read a bundle, check that this computer reproduces its golden vectors, and print what the bundle holds; or check a whole
    /// configuration.
    #[command(after_help = check::HELP)]
    Check(check::Check),
    /// Examine this computer's scheduling, clock, memory and libraries, and say what would lower latency.
    #[command(after_help = doctor::HELP)]
    Doctor(doctor::Doctor),
    /// Measure the latency of the pipeline on this computer, from the instant that a bin is due to its estimate.
    #[command(after_help = bench::HELP)]
    Bench(bench::Bench),
    /// Make the keys of encrypted ZeroMQ connections.
    #[command(after_help = keygen::HELP)]
    Keygen(keygen::Keygen),
    /// Decode whole trials from a file, offline, on all CPUs.
    #[command(after_help = decode::HELP)]
    Decode(decode::Decode),
    /// Ask a running daemon how it is.
    #[command(after_help = status::HELP)]
    Status(status::Status),
    /// Have a running daemon publish outputs of zero from the next bin on.
    #[command(after_help = pause::HELP)]
    Pause(pause::Pause),
    /// Have a paused daemon publish what it computes again.
    #[command(after_help = resume::HELP)]
    Resume(resume::Resume),
    /// Have a running daemon forget the history of bins.
    #[command(after_help = reset::HELP)]
    Reset(reset::Reset),
    /// Have a running daemon treat channels as silent.
    #[command(after_help = mask::MASK_HELP)]
    Mask(mask::Mask),
    /// Have a running daemon use masked channels again.
    #[command(after_help = mask::UNMASK_HELP)]
    Unmask(mask::Unmask),
    /// Give a running daemon another model, without a bin that is late or missing.
    #[command(after_help = swap::HELP)]
    Swap(swap::Swap),
    /// Give a running daemon the model back that was replaced last.
    #[command(after_help = rollback::HELP)]
    Rollback(rollback::Rollback),
    /// End a running daemon.
    #[command(after_help = stop::HELP)]
    Stop(stop::Stop),
}

/// Exit status for a configuration or a bundle that is refused: `EX_CONFIG` of `sysexits.h`. `ndtd.service` does not start the daemon
/// again after it.
const REFUSED: u8 = 78;

/// A configuration or a bundle is refused, so that the same command ends in the same way until somebody changes its files.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Refusal(#[from] anyhow::Error);

/// Parses the command line, runs the command and returns its exit status.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(command) => command.execute(),
        Command::Check(command) => command.execute(),
        Command::Doctor(command) => match command.execute() {
            Ok(status) => return status,
            Err(error) => Err(error),
        },
        Command::Bench(command) => command.execute(),
        Command::Keygen(command) => command.execute(),
        Command::Decode(command) => command.execute(),
        Command::Status(command) => command.execute(),
        Command::Pause(command) => command.execute(),
        Command::Resume(command) => command.execute(),
        Command::Reset(command) => command.execute(),
        Command::Mask(command) => command.execute(),
        Command::Unmask(command) => command.execute(),
        Command::Swap(command) => command.execute(),
        Command::Rollback(command) => command.execute(),
        Command::Stop(command) => command.execute(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::say(format_args!("ndtd: {error:#}"));
            if error.is::<Refusal>() { ExitCode::from(REFUSED) } else { ExitCode::FAILURE }
        }
    }
}

/// Reads the bundle at `path`.
fn read_bundle(path: &Path) -> anyhow::Result<Bundle> {
    Bundle::read(path).with_context(|| format!("bundle {}", path.display()))
}

/// Reads the bundle of `config`, with the configured velocity as the published one.
fn configured_bundle(config: &Config) -> anyhow::Result<Bundle> {
    config.read_bundle().with_context(|| format!("bundle {}", config.bundle.display()))
}

/// Prints a report: JSON, or its text.
fn print(report: &(impl serde::Serialize + std::fmt::Display), json: bool) -> anyhow::Result<()> {
    match json {
        true => print_line(format_args!("{:#}", serde_json::json!(report))),
        false => print_line(report),
    }
}

/// Prints a line on standard output.
fn print_line(line: impl std::fmt::Display) -> anyhow::Result<()> {
    terminal::print(line).context("standard output")
}
