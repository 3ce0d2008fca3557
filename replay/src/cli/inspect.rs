//! `ndt-replay inspect`: prints what is in a recording, what a fit would decode from it, and what is odd about it; or what is in a
//! bundle.

use super::print;
use anyhow::Context;
use clap::Args;
use ndt_protocol::Bundle;
use ndt_replay::{inspect::summarize, nwb};
use std::path::PathBuf;

pub const EXAMPLES: &str = "\
Examples:
  ndt-replay inspect session.nwb --json
  ndt-replay inspect --bundle model";

#[derive(Args)]
pub struct Inspect {
    /// NWB recording.
    #[arg(required_unless_present = "bundle")]
    file: Option<PathBuf>,
    /// Bundle folder or .ndt file: what goes in, what comes out, and how it was fitted.
    #[arg(long, conflicts_with = "file")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    selected: nwb::UnitOptions,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn inspect(options: &Inspect) -> anyhow::Result<()> {
    if let Some(path) = &options.bundle {
        let bundle = Bundle::read(path).with_context(|| format!("bundle {}", path.display()))?;
        return printed(&bundle.description(), options.json);
    }
    let Some(file) = &options.file else { return Ok(()) };
    printed(
        &summarize(&nwb::read_units(file, &options.selected)?).with_tables(nwb::tables(file)?),
        options.json,
    )
}

fn printed(report: &(impl serde::Serialize + std::fmt::Display), json: bool) -> anyhow::Result<()> {
    if json { print(&serde_json::to_string_pretty(report)?) } else { print(report) }
}
