//! `ndt-train fit`: fits a model to recordings and writes its bundle.

mod options;
mod sessions;

pub use options::Fit;

use super::progress::FitProgress;
use super::report;
use anyhow::Context;
use ndt_trainer::export;
use ndt_trainer::recipe::{Prepared, provenance};
use ndt_trainer::training;

pub const HELP: &str = "\
Options override the configuration file, and the file overrides the defaults, which follow from the data or are the preset's.

Example: ndt-train fit --data session.nwb --bin-ms 20 --out model";

/// Carries out the command; returns its report.
pub fn fit(command: &Fit) -> anyhow::Result<String> {
    if command.is_surely_together() {
        command.check_destinations()?;
    }
    let sessions = command.read()?;
    if command.wants_separate(&sessions) {
        return sessions::fit(command, &sessions);
    }
    command.check_destinations()?;
    let Prepared { data, config, notes } = command.recipe().prepare(&sessions)?;
    for note in &notes {
        eprintln!("note: {note}");
    }
    eprintln!(
        "{} channels in, {} units out, {} training and {} validation trials",
        data.channels().count(),
        data.units(),
        data.train.len(),
        data.val.len()
    );
    let progress = FitProgress::new(config.optimiser.epochs, command.progress);
    let checkpoints = command.checkpoints();
    let fit = training::fit_on(command.device, &data, &config, Some(&checkpoints), &mut |state| {
        progress.show(state)
    })?;
    progress.clear();
    let training = provenance(&command.data, config.optimiser.seed, fit.epoch, None)?;
    let manifest = export::bundle(&fit, &data, &config, training)?.write(&command.out)?;
    // The bundle is written: the checkpoint has done its work.
    if checkpoints.folder.exists() {
        std::fs::remove_dir_all(&checkpoints.folder)
            .with_context(|| format!("checkpoint {}", checkpoints.folder.display()))?;
    }
    let seconds = progress.seconds();
    if command.json {
        let report = serde_json::json!({
            "bundle": command.out, "id": manifest.id, "scores": manifest.scores,
            "epoch": fit.epoch, "seconds": seconds,
        });
        return Ok(format!("{report:#}"));
    }
    let mut lines = vec![
        report::bundle(&manifest, &command.out),
        format!("best epoch {} of {}, {seconds:.0} s", fit.epoch, config.optimiser.epochs),
    ];
    lines.extend(report::scores(&manifest));
    Ok(lines.join("\n"))
}
