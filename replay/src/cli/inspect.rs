//! `ndt-replay inspect`: prints what is in a recording, what a fit would decode from it, and what is odd about it.

use super::print;
use clap::Args;
use ndt_replay::{inspect::summarize, nwb};
use std::path::PathBuf;

pub const EXAMPLE: &str = "Example: ndt-replay inspect session.nwb --json";

#[derive(Args)]
pub struct Inspect {
    /// NWB recording.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn inspect(options: &Inspect) -> anyhow::Result<()> {
    let summary = summarize(&nwb::read(&options.file)?).with_tables(nwb::tables(&options.file)?);
    if options.json { print(&serde_json::to_string_pretty(&summary)?) } else { print(&summary) }
}
