//! `ndt-train evaluate`: scores a bundle on the trials of a recording.

use anyhow::Context;
use clap::Args;
use ndt_protocol::Bundle;
use ndt_replay::nwb;
use ndt_trainer::evaluation::{self, Evaluation};
use std::path::PathBuf;

pub const HELP: &str = "Example: ndt-train evaluate --bundle model --data session.nwb --split val --json";

/// The options of `evaluate`.
#[derive(Args)]
pub struct Evaluate {
    /// Bundle folder or .ndt file.
    #[arg(long)]
    bundle: PathBuf,
    /// NWB recording.
    #[arg(long)]
    data: PathBuf,
    /// Split whose trials are scored.
    #[arg(long, default_value = "val")]
    split: String,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Carries out the command; returns its report.
pub fn evaluate(command: &Evaluate) -> anyhow::Result<String> {
    let bundle =
        Bundle::read(&command.bundle).with_context(|| format!("bundle {}", command.bundle.display()))?;
    let session = nwb::read(&command.data)?;
    let evaluation = evaluation::evaluate(&bundle, &session, &command.split)?;
    if command.json {
        return Ok(serde_json::to_string_pretty(&evaluation)?);
    }
    Ok(lines(&evaluation).join("\n"))
}

fn lines(evaluation: &Evaluation) -> Vec<String> {
    let Evaluation { split, trials, bins, co_bps, readouts } = evaluation;
    let mut lines = vec![format!("{trials} trials, {bins} bins of split {split}")];
    lines.push(match co_bps {
        Some(score) => format!("co-bps       {score:.4}"),
        None => "co-bps       none: no held-out units with spikes".to_owned(),
    });
    if readouts.is_empty() {
        lines.push("velocity R2  none: no velocity head".to_owned());
    }
    for readout in readouts {
        let (series, lag_ms) = (&readout.series, readout.lag_ms);
        lines.push(match (&readout.r2, readout.mean) {
            (Some(axes), Some(mean)) => format!("{series} R2  {axes:.4?}, mean {mean:.4}, lag {lag_ms} ms"),
            _ => format!("{series} R2  none: no behaviour, lag {lag_ms} ms"),
        });
    }
    lines
}
