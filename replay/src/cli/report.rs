//! `ndt-replay report`: says how a recorded session went.

use super::{bytes_bar, print};
use clap::Args;
use ndt_replay::session_log::report::report as read;
use std::path::PathBuf;

pub const EXAMPLE: &str = "\
Example:
  ndt-replay report sessions/2026-11-29T14-05-12.345Z-4711";

#[derive(Args)]
pub struct Report {
    /// Session log: the folder that `ndtd run --record` has made.
    log: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn report(options: &Report) -> anyhow::Result<()> {
    let bar = bytes_bar();
    let report = read(&options.log, &mut |read, total| {
        bar.set_length(total);
        bar.set_position(read);
    });
    bar.finish_and_clear();
    let report = report?;
    if options.json { print(&serde_json::to_string_pretty(&report)?) } else { print(&report) }
}
