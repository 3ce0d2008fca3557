//! The command line of `ndt-train`, one file a command. Everything that a command does is in the library; here are its
//! options, its progress on standard error, and its report on standard output.

mod baselines;
mod decode;
mod ending;
mod evaluate;
#[cfg(feature = "fetch")]
mod fetch;
mod finetune;
mod fit;
mod history;
mod interruption;
mod nlb;
mod overwrite;
mod progress;
mod report;
mod rescue;
mod selected;
#[cfg(feature = "sweep")]
mod sweep;
mod tensors;

use anyhow::Context;
use clap::{Parser, Subcommand};
use ndt_protocol::terminal;

/// Fits a causal Neural Data Transformer to recordings and exports it for ndtd.
#[derive(Parser)]
#[command(name = "ndt-train", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fit a model and write its bundle.
    #[command(after_help = fit::HELP)]
    Fit(fit::Fit),
    /// Adapt a bundle to a new session, even one with different units.
    #[command(after_help = finetune::HELP)]
    Finetune(finetune::Finetune),
    /// Score a bundle, bin by bin as the daemon would run it, or explain the scores.
    #[command(after_help = evaluate::HELP)]
    Evaluate(evaluate::Evaluate),
    /// Decode a recording with a bundle into a file: NWB, or arrays for NumPy.
    #[command(after_help = decode::HELP)]
    Decode(decode::Decode),
    /// Download the published MC_Maze recordings from the DANDI archive.
    #[cfg(feature = "fetch")]
    #[command(after_help = fetch::HELP)]
    Fetch(fetch::Fetch),
    /// Fit each point of a space of configurations and rank the points by their validation score.
    #[cfg(feature = "sweep")]
    #[command(after_help = sweep::HELP)]
    Sweep(sweep::Sweep),
    /// Write a recording in bins, as arrays for models of other people.
    #[command(after_help = tensors::HELP)]
    Tensors(tensors::Tensors),
    /// Make the tensors, submissions and scores of the Neural Latents Benchmark.
    #[command(subcommand)]
    Nlb(nlb::Nlb),
    /// Fit and score the baseline decoders on the same trials.
    #[command(after_help = baselines::HELP)]
    Baselines(baselines::Baselines),
}

/// Parses the command line, carries out its command and prints the report.
pub fn run() -> anyhow::Result<()> {
    let report = match Cli::parse().command {
        Command::Fit(command) => fit::fit(&command),
        Command::Finetune(command) => finetune::finetune(&command),
        Command::Evaluate(command) => evaluate::evaluate(&command),
        Command::Decode(command) => decode::decode(&command),
        #[cfg(feature = "fetch")]
        Command::Fetch(command) => fetch::fetch(&command),
        #[cfg(feature = "sweep")]
        Command::Sweep(command) => sweep::sweep(&command),
        Command::Tensors(command) => tensors::tensors(&command),
        Command::Nlb(command) => nlb::nlb(&command),
        Command::Baselines(command) => baselines::baselines(&command),
    };
    terminal::print(report?).context("standard output")
}
