//! `ndt-train fit`: fits a model to recordings and writes its bundle.

mod beside;
mod expected;
mod options;
mod sessions;

pub use options::Fit;

use super::interruption::{Interruption, with_checkpoint};
use super::progress::FitProgress;
use super::{report, rescue};
use ndt_protocol::terminal::say;
use ndt_replay::stop;
use ndt_trainer::config::{Config, commented};
use ndt_trainer::export;
use ndt_trainer::recipe::{Prepared, provenance, record};
use ndt_trainer::training::{self, checkpoint};

pub const HELP: &str = "\
Options override the configuration file, and the file overrides the defaults, which follow from the data or are the preset's.

Checkpoints are written to OUT.checkpoint and removed when the bundle, or each bundle, is written. Ctrl-C and
SIGTERM stop the fit after its epoch, with a checkpoint, and end it at once when they come twice. A closed terminal does not end
it. If the bundle cannot be written in the end, the message says where it is instead.

The bundle holds the configuration that was used (config.toml), the trials that it was fitted to (splits.toml), and the record of the
fit (fit.json) with its learning curve (curve.csv). All keys of the configuration are described in trainer/docs/configuration.md.

The report shows baselines on the same bins: linear filters over the usual histories and over the bins that the model sees, a Kalman
filter, and the time in the trial alone. Where the transformer does not win, its last line is the command that writes the better bundle.

Examples:
  ndt-train fit --data session.nwb --bin-ms 20 --out model
  ndt-train fit --data session.nwb --bin-ms 20 --print-config > fit.toml
  ndt-train fit --data session.nwb --bin-ms 20 --config model/config.toml --out the-same-model";

/// Carries out the command; returns its report.
pub fn fit(command: &Fit) -> anyhow::Result<String> {
    if command.is_surely_together() && !command.print_config {
        command.check_destinations()?;
    }
    stop::outlive_terminal()?;
    let recipe = command.recipe()?;
    recipe.check()?;
    let sessions = command.read()?;
    if command.wants_separate(&recipe, &sessions)? {
        return sessions::fit(command, &recipe, &sessions);
    }
    if command.print_config {
        let Prepared { config, notes, .. } = recipe.prepare(&sessions)?;
        return printed(&config, &notes);
    }
    let destination = command.check_destinations()?;
    let Prepared { data, config, notes } = recipe.prepare(&sessions)?;
    for note in &notes {
        say(format_args!("note: {note}"));
    }
    say(format_args!(
        "{} channels in, {} units out, {} training and {} validation trials",
        data.channels().count(),
        data.units(),
        data.train.len(),
        data.val.len()
    ));
    let progress = FitProgress::new(config.optimiser.epochs, command.progress)
        .with_teacher(&config)
        .scored_with(data.has_heldout());
    let checkpoints = command.checkpoints();
    let interruption = Interruption::expected()?;
    let fit = training::fit_on(command.device, &data, &config, Some(&checkpoints), &mut |state| {
        progress.show(state);
        interruption.flow()
    });
    progress.clear();
    let fit = fit.map_err(|error| with_checkpoint(error, &checkpoints.folder))?;
    let training = provenance(&command.data, config.optimiser.seed, fit.epoch, None)?;
    let mut bundle = export::bundle(&fit, &data, &config, training)?;
    bundle.origin.record = Some(record(&fit, progress.seconds()));
    let manifest = rescue::write(&bundle, &destination, Some(&checkpoints.folder))?;
    // The bundle is written: the checkpoint has done its work.
    checkpoint::remove(&checkpoints.folder)?;
    let seconds = progress.seconds();
    let evaluations = expected::evaluations(&bundle, &recipe.shown(&sessions)?)?;
    let written = (&mut bundle, destination.path());
    let beside = beside::beside(command, &command.data, written, &data, &config, &interruption);
    if command.json {
        let report = serde_json::json!({
            "bundle": command.out(), "id": manifest.id, "scores": manifest.scores,
            "epoch": fit.epoch, "seconds": seconds, "evaluations": evaluations,
            "beside": beside,
        });
        return Ok(format!("{report:#}"));
    }
    let mut lines = vec![
        report::bundle(&manifest, command.out()),
        format!("best epoch {} of {}, {seconds:.0} s", fit.epoch, config.optimiser.epochs),
    ];
    lines.extend(report::scores(&manifest));
    lines.extend(expected::lines(&evaluations));
    lines.extend(beside.lines());
    Ok(lines.join("\n"))
}

/// A configuration with comments, headed by what was decided about it.
fn printed(config: &Config, notes: &[String]) -> anyhow::Result<String> {
    let notes: String = notes.iter().map(|note| format!("# {note}\n")).collect();
    let blank = if notes.is_empty() { "" } else { "\n" };
    Ok(format!("{notes}{blank}{}", commented(config)?.trim_end()))
}
