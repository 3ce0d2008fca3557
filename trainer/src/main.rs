//! `ndt-train`: fits a model to recordings, evaluates it and exports it.

mod cli;

use ndt_protocol::terminal::say;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("ndt-train: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
