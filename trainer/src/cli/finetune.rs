//! `ndt-train finetune`: adapts a bundle to a new session.

use super::interruption::Interruption;
use super::overwrite::Overwrite;
use super::progress::{FitProgress, ProgressForm};
use super::selected::{Preset, SelectionOptions, Units};
use super::{report, rescue};
use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::behavior::Behavior;
use ndt_protocol::bundle::manifest::Readout;
use ndt_protocol::bundle::quantity::Quantity;
use ndt_protocol::terminal::say;
use ndt_replay::session::{Identity, Session};
use ndt_replay::{nwb, stop};
use ndt_trainer::config::{self, ConfigFile, Time};
use ndt_trainer::data::Dataset;
use ndt_trainer::evaluation::drift;
use ndt_trainer::export;
use ndt_trainer::recipe::defaults::Kind;
use ndt_trainer::recipe::{self, Recipe, provenance, record};
use ndt_trainer::training::FitError;
use ndt_trainer::training::finetune::{self, FinetuneError, FinetuneOptions, FinetuneProgress, Finetuned};
use std::path::PathBuf;

pub const HELP: &str = "\
Units are recognised by their ids: units that the bundle knows keep their weights, other units begin anew, and there may be
any number of either. Bins, window, width and, unless --units says otherwise, the choice of units are the bundle's. The read-in, the
rates and the velocity head are fitted first, then the body too, at a lower rate.

A fit to few trials can be worse than the bundle as it was. Four folds of the calibration trials therefore choose how far the
weights go from the bundle to the fit: not at all, unless a step raises the scores of trials that it was not fitted to. The
report says what was chosen and why. That takes five fits instead of one; --whole-step does without. With 32 trials or fewer keep
the body as it is (--interface-only). Validation trials are scored and choose nothing.

Examples:
  ndt-train finetune --bundle model --data today.nwb --out today
  ndt-train finetune --bundle model --data today.nwb --out today --interface-only --trials 16 --json";

/// The options of `finetune`.
#[derive(Args)]
pub struct Finetune {
    /// Bundle to begin from: a folder or an .ndt file.
    #[arg(long)]
    bundle: PathBuf,
    /// NWB recordings of the new session; all must have the same units.
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Path of the new bundle: a folder, or a file whose name ends in .ndt.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Fit the read-in, the rates and the velocity head alone. The body stays as it is, bit by bit.
    #[arg(long)]
    interface_only: bool,
    /// Number of training trials to fit, the first ones of the recording [default: all]. Trials are then fitted, and no time between
    /// them.
    #[arg(long)]
    trials: Option<usize>,
    #[command(flatten)]
    selection: SelectionOptions,
    #[command(flatten)]
    selected: nwb::UnitOptions,
    /// Named preset, as for `fit`: its objective and its optimiser. Model and bins are the bundle's.
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Units whose spikes are inputs of the model (overrides the configuration file) [default: those of the bundle's fit].
    #[arg(long, value_enum)]
    units: Option<Units>,
    /// Configuration file (TOML), as for `fit`. Its model and its epochs are ignored.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Random seed (overrides the configuration file).
    #[arg(long)]
    seed: Option<u64>,
    /// Number of epochs [default: enough for 300 steps, at least 40]. With 0, known units keep their weights and nothing
    /// is fitted.
    #[arg(long)]
    epochs: Option<usize>,
    /// Take the fitted weights as they are, without folds: on few trials the scores can fall.
    #[arg(long)]
    whole_step: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// The units that the bundle was fitted to, where the configuration file does not say which are wanted; `None` if it does, or if the
/// bundle does not tell.
fn units_of(parent: &Bundle, recipe: &Recipe) -> Option<config::Units> {
    if recipe.config.as_ref().is_some_and(|file| file.sets("data.units")) {
        return None;
    }
    let config: config::Config = toml::from_str(&parent.origin.config).ok()?;
    (!parent.origin.config.is_empty()).then_some(config.data.units)
}

/// Carries out the command; returns its report.
pub fn finetune(command: &Finetune) -> anyhow::Result<String> {
    let inputs = command.data.iter().chain([&command.bundle]).chain(&command.config);
    let destination = command.overwrite.check(&command.out, Bundle::kind(&command.out), inputs)?;
    stop::outlive_terminal()?;
    let config = command.config.as_deref().map(ConfigFile::read).transpose()?;
    // The rates of a teacher would have to be those of the new session.
    let mut selected = command.selection.selected();
    selected.time = selected.time.or(command.trials.map(|_| Time::Trials));
    let mut recipe = Recipe {
        config,
        units: command.units.map(Units::of_library),
        preset: command.preset.map(Preset::of_library),
        selected,
        seed: command.seed,
        no_teacher: true,
        ..Recipe::default()
    };
    recipe.check()?;
    let parent =
        Bundle::read(&command.bundle).with_context(|| format!("bundle {}", command.bundle.display()))?;
    recipe.units = recipe.units.or_else(|| units_of(&parent, &recipe));
    let manifest = &parent.manifest;
    let sessions = nwb::read_all(&command.data, &command.selected)?;
    let is_unknown = |session: &Session| {
        session.source.identity == Identity::Rows && parent.origin.splits_of(&session.identifier).is_none()
    };
    ensure!(
        !sessions.iter().any(is_unknown),
        "expected ids that say which units the bundle knows, found numbers of rows: --same-units says that they are the bundle's units, \
         and --unit-id COLUMN names a column that identifies them"
    );
    // What the bundle decodes stands first, whatever its name is.
    let decoded = manifest.readouts.first().map(|readout| readout.series.clone());
    let wanted = |readout: &Readout| match Some(&readout.series) == decoded.as_ref() {
        true => Some((Quantity::Velocity, readout.lag_ms)),
        false => Some((readout.quantity()?, readout.lag_ms)),
    };
    let wanted: Vec<(Quantity, f64)> = manifest.readouts.iter().filter_map(wanted).collect();
    if let Some(decoded) = &decoded {
        let asked = recipe.selected.behavior.replace(vec![decoded.clone()]);
        if let Some(asked) = asked
            .filter(|asked| Behavior::joined(asked.iter().map(String::as_str)) != Behavior::parse(decoded))
        {
            bail!("expected --behavior {decoded}, which the bundle decodes, found {}", asked.join(" + "));
        }
    }
    let sessions = recipe.shown(&sessions)?;
    let data = Dataset::selected(&sessions, manifest.bin_width_ms, &wanted, &recipe.selection()?)?;
    let data = finetune::calibration_data(data, manifest, command.trials);
    let (config, notes) = recipe.configure(Kind::of(&data))?;
    let mut config = finetune::config_for(manifest, &config);
    let windows = recipe::cut_into_windows([&data], &config);
    for note in data.notes.iter().chain(&notes).chain(&windows) {
        say(format_args!("note: {note}"));
    }
    let known = data.unit_ids.iter().filter(|id| manifest.unit_ids.contains(id)).count();
    say(format_args!(
        "the bundle knows {known} of {} units; {} training trials",
        data.units(),
        data.train.len()
    ));
    let column = |id: &i64| data.unit_ids.iter().position(|unit| unit == id);
    let columns: Option<Vec<usize>> = manifest.unit_ids.iter().map(column).collect();
    if let Some(seen) = columns.and_then(|columns| drift::other_rates(&parent, &data.train, &columns)) {
        say(format_args!("note: {seen}: their weights are kept by id and fitted further"));
    }
    let options = FinetuneOptions {
        freeze_body: command.interface_only,
        epochs: command.epochs,
        whole: command.whole_step,
    };
    let progress = FitProgress::new(0, ProgressForm::Text);
    let interruption = Interruption::expected()?;
    let tuned = finetune::finetune(&parent, &data, &config, options, &mut |state| {
        let FinetuneProgress { fit, fits, epoch, epochs, loss } = *state;
        let which = if fit < fits { format!("fold {fit} of {}  ", fits - 1) } else { String::new() };
        progress.show_line(0, (fit - 1) * epochs + epoch, fits * epochs, &format!("{which}loss {loss:.4}"));
        interruption.flow()
    });
    progress.clear();
    let Finetuned { fit, choice } = tuned.map_err(|error| match error {
        FinetuneError::Fit(FitError::Stopped { .. }) => {
            anyhow!("{error}; nothing is kept, because a fine-tuning has no checkpoint")
        }
        error => error.into(),
    })?;
    let training = provenance(&command.data, config.optimiser.seed, fit.epoch, Some(manifest.id.clone()))?;
    config.optimiser.epochs = fit.epoch.max(1);
    let mut bundle = export::finetuned(&parent, &fit, &data, &config, training)?;
    bundle.origin.record = Some(record(&fit, progress.seconds()));
    let written = rescue::write(&bundle, &destination, None)?;
    let seconds = progress.seconds();
    if command.json {
        let report = serde_json::json!({
            "bundle": command.out, "id": written.id, "parent": manifest.id, "scores": written.scores,
            "units": data.units(), "known-units": known, "trials": data.train.len(), "epochs": fit.epoch,
            "step": choice, "because": choice.to_string(), "seconds": seconds,
        });
        return Ok(serde_json::to_string_pretty(&report)?);
    }
    let mut lines = vec![report::bundle(&written, &command.out)];
    lines.push(choice.to_string());
    lines.push(format!("{} epochs, {seconds:.0} s", fit.epoch));
    lines.extend(report::scores(&written));
    Ok(lines.join("\n"))
}
