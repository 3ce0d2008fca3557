//! `ndt-train fit` of several sessions at once: one body, and for each session an interface and a bundle.

use super::{Bar, Fit, configuration, provenance};
use anyhow::ensure;
use clap::ValueEnum;
use ndt_replay::session::Session;
use ndt_trainer::config::Config;
use ndt_trainer::dataset::Dataset;
use ndt_trainer::device::ComputeDevice;
use ndt_trainer::export;
use ndt_trainer::training::sessions;
use std::path::PathBuf;

/// What several recordings are.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sessions {
    /// Recordings of the same units: one interface.
    Together,
    /// An interface and a bundle (OUT/<name of the recording>) for each, on a body that they share.
    Separate,
}

/// Whether the recordings are to have interfaces of their own: if asked for, or if their units differ.
pub fn is_wanted(command: &Fit, sessions: &[Session]) -> bool {
    let ids =
        |session: &Session| session.units.iter().map(|unit| (unit.id, unit.heldout)).collect::<Vec<_>>();
    let differ = || sessions.iter().any(|session| ids(session) != ids(&sessions[0]));
    match command.sessions {
        Some(sessions) => sessions == Sessions::Separate,
        None => differ(),
    }
}

/// Fits and writes all bundles; gives what is to be printed.
pub fn fit(command: &Fit, sessions: &[Session]) -> anyhow::Result<String> {
    ensure!(!command.resume, "expected sessions of the same units with --resume, found separate ones");
    ensure!(command.device == ComputeDevice::Cpu, "expected device cpu for separate sessions, found another");
    let stems: Vec<String> = command
        .data
        .iter()
        .map(|path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    let mut sorted = stems.clone();
    sorted.sort();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        anyhow::bail!("expected recordings of different names, found {} twice", twice[0]);
    }
    let started = std::time::Instant::now();
    let mut config = configuration(command, &Config::default())?;
    // Heads for later bins would have to be each session's own.
    config.objective.forward_bins = 0;
    let config = &config;
    eprintln!("note: separate sessions have no teacher and no heads for later bins");
    let wanted = config.velocity.wanted();
    let dataset = |session| Dataset::reading(std::slice::from_ref(session), command.bin_ms, &wanted);
    let mut data = sessions.iter().map(dataset).collect::<Result<Vec<_>, _>>()?;
    sessions::alike(&mut data);
    for (stem, data) in stems.iter().zip(&data) {
        for note in &data.notes {
            eprintln!("note: {stem}: {note}");
        }
        let (channels, units, trials) = (data.channels().count(), data.units(), data.train.len());
        eprintln!("{stem}: {channels} channels in, {units} units out, {trials} training trials");
    }
    let bar = Bar::new(config.optimiser.epochs, command.progress);
    let fits = sessions::fit_sessions(&data, config, &mut |progress| bar.show(progress))?;
    bar.bar.finish_and_clear();
    let mut bundles = Vec::new();
    for ((fit, data), path) in fits.iter().zip(&data).zip(&command.data) {
        let data_path = std::slice::from_ref(path);
        let training = provenance(data_path, config.optimiser.seed, fit.epoch, None)?;
        bundles.push(export::fitted(fit, data, config, training)?);
    }
    // All are made before the first is written.
    std::fs::create_dir_all(&command.out)?;
    let mut reports = Vec::new();
    for (bundle, stem) in bundles.iter().zip(&stems) {
        let path: PathBuf = command.out.join(stem);
        let manifest = bundle.write(&path)?;
        reports.push((path, manifest));
    }
    let (epoch, seconds) = (fits.first().map_or(0, |fit| fit.epoch), started.elapsed().as_secs_f64());
    if command.json {
        let each = reports.iter().map(|(path, manifest)| {
            serde_json::json!({"bundle": path, "id": manifest.id, "scores": manifest.scores})
        });
        let report = serde_json::json!({
            "sessions": each.collect::<Vec<_>>(), "epoch": epoch, "seconds": seconds,
        });
        return Ok(serde_json::to_string_pretty(&report)?);
    }
    let mut lines = vec![format!("best epoch {epoch} of {}, {seconds:.0} s", config.optimiser.epochs)];
    for (path, manifest) in &reports {
        lines.push(format!("bundle {} in {}", &manifest.id[..12], path.display()));
        lines.extend(manifest.scores.iter().map(|(name, score)| format!("validation {name} {score:.4}")));
    }
    Ok(lines.join("\n"))
}
