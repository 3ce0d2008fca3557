//! `ndt-train fit` of sessions with different units: one body, and for each session layers of its own and a bundle.

use super::beside::{Beside, beside};
use super::options::Fit;
use super::printed;
use crate::cli::interruption::{Interruption, with_checkpoint};
use crate::cli::progress::FitProgress;
use crate::cli::{report, rescue};
use anyhow::ensure;
use ndt_protocol::Bundle;
use ndt_protocol::terminal::say;
use ndt_replay::session::Session;
use ndt_trainer::data::Dataset;
use ndt_trainer::export;
use ndt_trainer::recipe::{Recipe, provenance, record};
use ndt_trainer::training::sessions::fit_sessions;
use ndt_trainer::training::{ComputeDevice, checkpoint};
use std::path::PathBuf;

/// Fits all sessions and writes their bundles; returns the report.
pub fn fit(command: &Fit, recipe: &Recipe, sessions: &[Session]) -> anyhow::Result<String> {
    if command.print_config {
        let (_, config, notes) = recipe.prepare_separate(sessions)?;
        return printed(&config, &notes);
    }
    ensure!(command.device == ComputeDevice::Cpu, "expected device cpu for separate sessions, found another");
    let names = names(&command.data)?;
    let destination = |name: &String| {
        let path = command.out().join(name);
        command.overwrite.check(&path, Bundle::kind(&path), command.inputs())
    };
    let destinations = names.iter().map(destination).collect::<Result<Vec<_>, _>>()?;
    command.check_checkpoints()?;
    let checkpoints = command.checkpoints();
    let (data, config, notes) = recipe.prepare_separate(sessions)?;
    notes.iter().for_each(|note| say(format_args!("note: {note}")));
    for (name, data) in names.iter().zip(&data) {
        for note in &data.notes {
            say(format_args!("note: {name}: {note}"));
        }
        let (channels, units, trials) = (data.channels().count(), data.units(), data.train.len());
        say(format_args!("{name}: {channels} channels in, {units} units out, {trials} training trials"));
    }
    let progress = FitProgress::new(config.optimiser.epochs, command.progress)
        .scored_with(data.iter().all(Dataset::has_heldout));
    let interruption = Interruption::expected()?;
    let fits = fit_sessions(&data, &config, Some(&checkpoints), &mut |state| {
        progress.show(state);
        interruption.flow()
    });
    progress.clear();
    let fits = fits.map_err(|error| with_checkpoint(error, &checkpoints.folder))?;
    let mut bundles = Vec::new();
    for ((fit, data), path) in fits.iter().zip(&data).zip(&command.data) {
        let training = provenance(std::slice::from_ref(path), config.optimiser.seed, fit.epoch, None)?;
        let mut bundle = export::bundle(fit, data, &config, training)?;
        bundle.origin.record = Some(record(fit, progress.seconds()));
        bundles.push(bundle);
    }
    // All bundles are made before the first one is written.
    let (mut written, mut unwritten) = (Vec::new(), Vec::new());
    for (bundle, destination) in bundles.iter().zip(&destinations) {
        match rescue::write(bundle, destination, Some(&checkpoints.folder)) {
            Ok(manifest) => written.push((destination.path(), manifest)),
            Err(error) => unwritten.push(format!("{error:#}")),
        }
    }
    ensure!(unwritten.is_empty(), "{}", unwritten.join("; "));
    // The bundles are written: the checkpoint has done its work.
    checkpoint::remove(&checkpoints.folder)?;
    let each = bundles.iter_mut().zip(&destinations).zip(&data).zip(&command.data);
    let beside = each.map(|(((bundle, destination), data), recording)| {
        let (recording, written) = (std::slice::from_ref(recording), (bundle, destination.path()));
        beside(command, recording, written, data, &config, &interruption)
    });
    let beside: Vec<Beside> = beside.collect();
    let (epoch, seconds) = (fits.first().map_or(0, |fit| fit.epoch), progress.seconds());
    if command.json {
        let each = written.iter().zip(&beside).map(|((path, manifest), beside)| {
            serde_json::json!({"bundle": path, "id": manifest.id, "scores": manifest.scores, "beside": beside})
        });
        let report = serde_json::json!({
            "sessions": each.collect::<Vec<_>>(), "epoch": epoch, "seconds": seconds,
        });
        return Ok(serde_json::to_string_pretty(&report)?);
    }
    let mut lines = vec![format!("best epoch {epoch} of {}, {seconds:.0} s", config.optimiser.epochs)];
    for ((path, manifest), beside) in written.iter().zip(&beside) {
        lines.push(report::bundle(manifest, path));
        lines.extend(report::scores(manifest));
        lines.extend(beside.lines());
    }
    Ok(lines.join("\n"))
}

/// The names of the recordings' files, without folder and extension, which must differ: the bundles get these names.
fn names(data: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let name = |path: &PathBuf| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let names: Vec<String> = data.iter().map(name).collect();
    let mut sorted = names.clone();
    sorted.sort();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        anyhow::bail!("expected recordings of different names, found {} twice", twice[0]);
    }
    Ok(names)
}
