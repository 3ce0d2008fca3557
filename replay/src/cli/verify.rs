//! `ndt-replay verify`: computes a recorded session again, and compares every estimate.

use super::{bytes_bar, print};
use anyhow::bail;
use clap::Args;
use ndt_daemon::pipeline::repeat::repeat;
use std::path::PathBuf;

pub const EXAMPLE: &str = "\
The exit status is 1 if an estimate differs. The instruction set and the precision are those of the session.

Example:
  ndt-replay verify sessions/2026-11-29T14-05-12.345Z-4711";

#[derive(Args)]
pub struct Verify {
    /// Session log: the folder that `ndtd run --record` has made.
    log: PathBuf,
    /// Bundle of the session [default: the one at the place that the log names].
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn verify(options: &Verify) -> anyhow::Result<()> {
    let bar = bytes_bar();
    let repeated = repeat(&options.log, options.bundle.as_deref(), &mut |read, total| {
        bar.set_length(total);
        bar.set_position(read);
    });
    bar.finish_and_clear();
    let repeated = repeated?;
    if options.json { print(&serde_json::to_string_pretty(&repeated)?) } else { print(&repeated) }?;
    match &repeated.first_difference {
        None => Ok(()),
        Some(first) => bail!("expected estimates equal to the bit, found a difference in bin {}", first.seq),
    }
}
