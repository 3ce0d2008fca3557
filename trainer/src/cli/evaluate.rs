//! `ndt-train evaluate`: scores a bundle on the trials of a recording, and explains the scores.

use anyhow::Context;
use clap::Args;
use ndt_protocol::Bundle;
use ndt_protocol::terminal::say;
use ndt_replay::listen::by_axis;
use ndt_replay::nwb;
use ndt_trainer::evaluation::{self, EXPLANATION, Evaluation, ReadoutR2};
use std::path::PathBuf;

pub const HELP: &str = "\
Examples:
  ndt-train evaluate --bundle model --data session.nwb --split val --json
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
    let session = nwb::read(data)?;
    let evaluation = evaluation::evaluate(&bundle, &session, &command.split)?;
    for note in &evaluation.notes {
        say(format_args!("note: {note}"));
    }
    if command.json {
        return Ok(serde_json::to_string_pretty(&evaluation)?);
    }
    Ok(lines(&evaluation, bundle.manifest.linear.is_some()).join("\n"))
}

fn lines(evaluation: &Evaluation, is_linear: bool) -> Vec<String> {
    // The notes are said before the report.
    let Evaluation { split, trials, bins, co_bps, readouts, notes: _ } = evaluation;
    let mut lines = vec![format!("{trials} trials, {bins} bins of split {split}")];
    lines.push(match co_bps {
        Some(score) => format!("co-bps       {score:.4}"),
        None if is_linear => "co-bps       none: a linear decoder estimates no rates".to_owned(),
        None => "co-bps       none: no held-out units with spikes".to_owned(),
    });
    if readouts.is_empty() {
        lines.push("velocity R2  none: no velocity head".to_owned());
    }
    for ReadoutR2 { series, lag_ms, unit, r2, mean } in readouts {
        let what = format!("lag {lag_ms} ms, in {unit}");
        lines.push(match (r2, mean) {
            (Some(axes), Some(mean)) => format!("{series} R2  {}, mean {mean:.4}, {what}", by_axis(axes)),
            _ => format!("{series} R2  none: no behaviour that changes, {what}"),
        });
    }
    lines
}
