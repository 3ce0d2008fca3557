//! `ndt-train`: fits a model to recordings, evaluates it and exports it.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::say(format_args!("ndt-train: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
