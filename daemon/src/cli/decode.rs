//! `ndtd decode`.

use super::overwrite::Overwrite;
use super::{print, read_bundle};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ndt_daemon::offline;
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::PathBuf;

pub const HELP: &str = "Example: ndtd decode --bundle model --counts trials.safetensors --out rates.safetensors\n\
The input file holds f32 arrays: counts [trials, bins, channels], NaN where a channel has no count, and, if bins are missing, \
missing [trials, bins] with 1 for each missing bin; a bin of NaN only is missing too. The output file holds log_rates [trials, bins, \
units] in ln(spikes/s) and velocity [trials, bins, dims] in the bundle's unit. Each trial starts without history.";

#[derive(Args)]
pub struct Decode {
    /// Model bundle: a folder or a .ndt file.
    #[arg(long)]
    bundle: PathBuf,
    /// Safetensors file with the counts.
    #[arg(long)]
    counts: PathBuf,
    /// Safetensors file to write.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Number of threads [default: the number of CPUs]. The output does not depend on it.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Decode {
    pub fn execute(self) -> anyhow::Result<()> {
        self.overwrite.check(&self.out, offline::DECODED, [&self.bundle, &self.counts])?;
        let bundle = read_bundle(&self.bundle)?;
        let cpus = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let Decode { counts, out, json, .. } = self;
        let settings = offline::DecodeSettings { counts, out, threads: self.threads.unwrap_or(cpus) };
        let for_person = !json && std::io::stderr().is_terminal();
        let bar = if for_person { ProgressBar::no_length() } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{pos}/{len} trials {bar:40} {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let decoded =
            offline::decode_file(&bundle, &settings, &|total| bar.set_length(total as u64), &|| bar.inc(1));
        bar.finish_and_clear();
        print(&decoded?, json)
    }
}
