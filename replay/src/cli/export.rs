//! `ndt-replay export`: writes a session log as NWB.

use super::overwrite::Overwrite;
use super::{bytes_bar, print};
use clap::Args;
use ndt_replay::nwb;
use ndt_replay::session_log::export::recorded;
use std::path::PathBuf;

pub const EXAMPLE: &str = "\
The file holds the counts of each bin, the published rates and outputs, the quality of each bin and where all of it comes from.
ndt-train fit and ndt-replay inspect read it; a bin in which a channel has no count is unobserved to them.

Example:
  ndt-replay export sessions/2026-11-29T14-05-12.345Z-4711 --out session.nwb";

#[derive(Args)]
pub struct Export {
    /// Session log: the folder that `ndtd run --record` has made.
    log: PathBuf,
    /// NWB file to write.
    #[arg(long, alias = "to", value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn export(options: &Export) -> anyhow::Result<()> {
    let destination = options.overwrite.check(&options.out, nwb::DECODED, [&options.log])?;
    let bar = bytes_bar();
    let read = recorded(&options.log, &mut |read, total| {
        bar.set_length(total);
        bar.set_position(read);
    });
    bar.finish_and_clear();
    let (session, counts, exported) = read?;
    destination.check_again()?;
    nwb::write_recorded(&session, &counts, &options.out)?;
    match options.json {
        true => print(&serde_json::to_string_pretty(&exported)?),
        false => print(&format!("{exported} in {}", options.out.display())),
    }
}
