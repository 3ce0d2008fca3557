//! `ndt-train finetune`: a bundle made to fit a new session.

use crate::{Bar, ProgressForm, provenance};
use anyhow::Context;
use clap::Args;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::readouts;
use ndt_replay::nwb;
use ndt_trainer::config::Config;
use ndt_trainer::dataset::Dataset;
use ndt_trainer::training::finetune::{self, Settings};
use std::fmt::Write;
use std::path::PathBuf;

pub const HELP: &str = "\
Units are told apart by their ids: those that the bundle knows keep their rows, others begin anew; any number of either. Bins,
window and width are the bundle's. Fitted are read-in, read-out and velocity head, then, at a lower rate, the body: with 32
trials or fewer leave it as it is (--interface-only), and where all units are known look first at what --epochs 0 scores.
Steps and not epochs are fixed, and the last weights are kept: validation trials are scored and choose nothing.

Examples:
  ndt-train finetune --bundle model --data today.nwb --out today
  ndt-train finetune --bundle model --data today.nwb --out today --interface-only --trials 16 --json";

#[derive(Args)]
pub struct Finetune {
    /// Bundle folder or .ndt file to begin from.
    #[arg(long)]
    bundle: PathBuf,
    /// NWB recordings of the new session, of the same units each.
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Where the new bundle goes: a folder, or a file that ends in .ndt.
    #[arg(long)]
    out: PathBuf,
    /// Fit read-in, read-out and velocity head alone; the body stays as it is, bit by bit.
    #[arg(long)]
    interface_only: bool,
    /// Fit the first so many training trials [default: all].
    #[arg(long)]
    trials: Option<usize>,
    /// Objective and optimiser (TOML), as of fit; neither its model nor its epochs are used.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Random seed; comes before the configuration's.
    #[arg(long)]
    seed: Option<u64>,
    /// Epochs [default: what makes at least 300 steps, and at least 40]. 0: the known units' rows, and no step.
    #[arg(long)]
    epochs: Option<usize>,
    /// Print JSON at the end.
    #[arg(long)]
    json: bool,
}

/// Runs the command; gives what is to be printed.
pub fn run(command: &Finetune) -> anyhow::Result<String> {
    let started = std::time::Instant::now();
    let mut config = command.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
    config.optimiser.seed = command.seed.unwrap_or(config.optimiser.seed);
    let parent =
        Bundle::read(&command.bundle).with_context(|| format!("bundle {}", command.bundle.display()))?;
    let manifest = &parent.manifest;
    let config = finetune::configured(manifest, &config);
    let sessions = command.data.iter().map(|path| nwb::read(path)).collect::<Result<Vec<_>, _>>()?;
    let readouts = readouts::readouts(manifest);
    let wanted: Vec<(&str, f64)> =
        readouts.iter().map(|readout| (readout.series.as_str(), readout.lag_ms)).collect();
    let data = Dataset::reading(&sessions, manifest.bin_width_ms, &wanted)?;
    let data = finetune::calibration(data, manifest, command.trials);
    for note in &data.notes {
        eprintln!("note: {note}");
    }
    let known = data.unit_ids.iter().filter(|id| manifest.unit_ids.contains(id)).count();
    eprintln!("{known} of {} units are the bundle's; {} training trials", data.units(), data.train.len());
    let settings = Settings { interface_only: command.interface_only, epochs: command.epochs };
    let bar = Bar::new(0, ProgressForm::Text);
    let fit = finetune::finetune(&parent, &data, &config, settings, &mut |epoch, epochs, loss| {
        bar.show_line(epoch, epochs, "", &format!("loss {loss:.4}"));
    })?;
    bar.bar.finish_and_clear();
    let training = provenance(&command.data, config.optimiser.seed, fit.epoch, Some(manifest.id.clone()))?;
    let written = finetune::bundle(&parent, &fit, &data, &config, training)?.write(&command.out)?;
    let seconds = started.elapsed().as_secs_f64();
    if command.json {
        let report = serde_json::json!({
            "bundle": command.out, "id": written.id, "parent": manifest.id, "scores": written.scores,
            "units": data.units(), "known-units": known, "trials": data.train.len(), "epochs": fit.epoch,
            "seconds": seconds,
        });
        return Ok(serde_json::to_string_pretty(&report)?);
    }
    let mut text = format!("bundle {} in {}\n", &written.id[..12], command.out.display());
    write!(text, "{} epochs, {seconds:.0} s", fit.epoch)?;
    for (name, score) in &written.scores {
        write!(text, "\nvalidation {name} {score:.4}")?;
    }
    Ok(text)
}
