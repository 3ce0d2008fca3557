//! `ndt-train evaluate`: scores a bundle on the trials of a recording, and explains the scores.

use super::history::History;
use super::report;
use anyhow::Context;
use clap::Args;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Readout;
use ndt_protocol::lsl::LABELS_VELOCITY;
use ndt_protocol::terminal::say;
use ndt_replay::listen::{by_axis, by_name};
use ndt_replay::nwb;
use ndt_trainer::data::Selection;
use ndt_trainer::evaluation::{self, EXPLANATION, Evaluation, ReadoutR2};
use std::path::PathBuf;

pub const HELP: &str = "\
Examples:
  ndt-train evaluate --bundle model --data session.nwb --split val --json
  ndt-train evaluate --bundle model --data session.nwb --split test --history stream
  ndt-train evaluate --bundle linear/wiener --data session.nwb --split test
  ndt-train evaluate --explain";

/// The options of `evaluate`.
#[derive(Args)]
pub struct Evaluate {
    /// Bundle folder or .ndt file: a transformer's, or a linear decoder's from `baselines --out`.
    #[arg(long, required_unless_present = "explain")]
    bundle: Option<PathBuf>,
    /// NWB recording.
    #[arg(long, required_unless_present = "explain")]
    data: Option<PathBuf>,
    /// Split whose trials are scored; `all` scores every trial.
    #[arg(long, default_value = "val")]
    split: String,
    /// What comes before each trial: nothing, or the trials before it, as in a daemon that is told of no trial.
    #[arg(long, value_enum, default_value = "cold")]
    history: History,
    /// Column of the trial table in which --split stands.
    #[arg(long, default_value = "split")]
    split_column: String,
    #[command(flatten)]
    selected: nwb::UnitOptions,
    /// Print what every score of every report means, and exit.
    #[arg(long)]
    explain: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Carries out the command; returns its report.
pub fn evaluate(command: &Evaluate) -> anyhow::Result<String> {
    let (false, Some(path), Some(data)) = (command.explain, &command.bundle, &command.data) else {
        return Ok(EXPLANATION.trim_end().to_owned());
    };
    let bundle = Bundle::read(path).with_context(|| format!("bundle {}", path.display()))?;
    let session = nwb::read_units(data, &command.selected)?;
    let session = Selection::named(&session, &command.split_column)?;
    let evaluation =
        evaluation::evaluate_after(&bundle, &session, &command.split, command.history.of_library())?;
    for note in &evaluation.notes {
        say(format_args!("note: {note}"));
    }
    if command.json {
        return Ok(serde_json::to_string_pretty(&evaluation)?);
    }
    Ok(lines(&evaluation, bundle.manifest.linear.is_some()).join("\n"))
}

/// R2 of each component: those of a velocity as x, y and z, others by their names.
fn by_component(series: &str, unit: &str, axes: &[f64]) -> String {
    let (series, unit) = (series.to_owned(), unit.to_owned());
    let readout = Readout { dims: axes.len(), unit, lag_ms: 0.0, series };
    let names: Vec<String> = readout.components().into_iter().map(|component| component.name).collect();
    if axes.len() <= LABELS_VELOCITY.len() && names.iter().all(|name| !name.contains('[')) {
        return by_axis(axes);
    }
    by_name(&names, axes)
}

fn lines(evaluation: &Evaluation, is_linear: bool) -> Vec<String> {
    // The notes are said before the report.
    let Evaluation { split, history, trials, bins, co_bps, co_bps_interval, readouts, notes: _ } = evaluation;
    let after = match history {
        evaluation::History::Cold => "each from a cold start",
        evaluation::History::Stream => "one after another in a stream",
    };
    let mut lines = vec![format!("{trials} trials, {bins} bins of split {split}, {after}")];
    lines.push(match co_bps {
        Some(score) => format!("co-bps       {score:.4}{}", report::interval(*co_bps_interval)),
        None if is_linear => "co-bps       none: a linear decoder estimates no rates".to_owned(),
        None => "co-bps       none: no held-out units with spikes".to_owned(),
    });
    if readouts.is_empty() {
        lines.push("velocity R2  none: no velocity head".to_owned());
    }
    for ReadoutR2 { series, lag_ms, unit, r2, mean, interval } in readouts {
        let what = format!("lag {lag_ms} ms, in {unit}");
        lines.push(match (r2, mean) {
            (Some(axes), Some(mean)) => format!(
                "{series} R2  {}, mean {mean:.4}{}, {what}",
                by_component(series, unit, axes),
                report::interval(*interval)
            ),
            _ => format!("{series} R2  none: no behaviour that changes, {what}"),
        });
    }
    lines
}
