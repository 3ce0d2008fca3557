//! `ndt-replay`: the command line of the rig that isn't there.

mod cli;

use clap::Parser;
use cli::{Cli, Command};
use ndt_protocol::terminal::say;
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Inspect(options) => cli::inspect::inspect(&options),
        Command::Simulate(options) => cli::simulate::simulate(&options),
        Command::Play(options) => cli::play::play(&options),
        Command::Listen(options) => cli::listen::listen(&options),
        Command::Verify(options) => cli::verify::verify(&options),
        Command::Export(options) => cli::export::export(&options),
        Command::Report(options) => cli::report::report(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("ndt-replay: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
