//! `ndt-train baselines`: what a transformer has to be better than, as a table.

use crate::provenance;
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ndt_replay::nwb;
use ndt_trainer::baselines::data::{Data, Units};
use ndt_trainer::baselines::gru;
use ndt_trainer::baselines::table::{self, Method, Row};
use std::fmt::Write;
use std::path::{Path, PathBuf};

pub const HELP: &str = "\
Everything is fitted on the trials of `train`, chosen on those of `val` and scored on --split; the estimate of a bin
depends on no later one, and before a trial's first bin there is nothing. R2 is that of the velocity at the bin's centre,
and 100 ms later; co-bps that of the held-out units.

Examples:
  ndt-train baselines --data session.nwb --json
  ndt-train baselines --data session.nwb --only wiener,kalman --units heldin
  ndt-train baselines --data session.nwb --only wiener --units all --out linear && ndtd check --bundle linear/wiener";

#[derive(Args)]
pub struct Baselines {
    /// NWB recordings of the same units.
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Width of a bin, ms.
    #[arg(long, default_value_t = 20.0)]
    bin_ms: f64,
    /// Which trials are scored.
    #[arg(long, default_value = "val")]
    split: String,
    /// Which baselines, separated by commas [default: all].
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Method>,
    /// Which units are shown, separated by commas [default: all of them, then those that are held in].
    #[arg(long, value_enum, value_delimiter = ',')]
    units: Vec<Units>,
    /// Recurrent networks, from seed 1 on.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Units of the recurrent network.
    #[arg(long, default_value_t = gru::Settings::default().width)]
    gru_width: usize,
    /// Epochs of the recurrent network at most.
    #[arg(long, default_value_t = gru::Settings::default().epochs)]
    gru_epochs: usize,
    /// Folder for bundles of what is linear: OUT/smoothing and OUT/wiener, the history that is best on `val`; of held-in
    /// units with -heldin behind. They decode the velocity at the bin's centre.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command; gives what is to be printed.
pub fn run(command: &Baselines) -> anyhow::Result<String> {
    let sessions = command.data.iter().map(|path| nwb::read(path)).collect::<Result<Vec<_>, _>>()?;
    let units =
        if command.units.is_empty() { vec![Units::All, Units::Heldin] } else { command.units.clone() };
    let methods = if command.only.is_empty() { Method::ALL.to_vec() } else { command.only.clone() };
    let settings =
        gru::Settings { width: command.gru_width, epochs: command.gru_epochs, ..Default::default() };
    let style = ProgressStyle::with_template("{prefix} {bar:30} {msg}  {elapsed}");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut rows = Vec::new();
    for units in units {
        let data = Data::new(&sessions, command.bin_ms, &command.split, units)?;
        let seen = data.channels();
        // Without held-out units both tables are one, and with all units shown there is none to predict.
        if rows.iter().any(|row: &Row| row.units == seen) {
            continue;
        }
        for method in &methods {
            if *method == Method::Poisson && data.hidden == 0 {
                continue;
            }
            bar.set_prefix(format!("{seen} units"));
            bar.set_message(format!("{method:?}").to_lowercase());
            let mut show = |what: &str, done: usize, of: usize| {
                bar.set_length(of as u64);
                bar.set_position(done as u64);
                bar.set_message(what.to_owned());
            };
            let found = table::rows(*method, &data, &settings, command.seeds, &mut show)?;
            if let Some(out) = &command.out {
                export(command, &data, units, *method, &found, out)?;
            }
            rows.extend(found);
        }
    }
    bar.finish_and_clear();
    if command.json { Ok(serde_json::to_string_pretty(&rows)?) } else { Ok(as_table(&rows, &command.split)?) }
}

/// Writes the best of the rows that the daemon can run, if one can.
fn export(
    command: &Baselines,
    data: &Data,
    units: Units,
    method: Method,
    rows: &[Row],
    out: &Path,
) -> anyhow::Result<()> {
    let filters = rows.iter().filter_map(|row| row.filter.as_ref());
    let Some(best) = filters.max_by(|a, b| a.validation_r2.total_cmp(&b.validation_r2)) else {
        return Ok(());
    };
    let training = provenance(&command.data, 0, 0, None)?;
    let behind = if units == Units::All { "" } else { "-heldin" };
    let path = out.join(format!("{}{behind}", format!("{method:?}").to_lowercase()));
    std::fs::create_dir_all(out).with_context(|| format!("folder {}", out.display()))?;
    let manifest = best.bundle(data, training)?.write(&path)?;
    eprintln!("bundle {} in {}", &manifest.id[..12], path.display());
    Ok(())
}

/// In Markdown, as papers and READMEs take it.
fn as_table(rows: &[Row], split: &str) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(
        text,
        "| method, scored on {split} | units in | R2 lag 0 | R2 +100 ms | co-bps | params | fit s | chosen |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|")?;
    for row in rows {
        let velocity = |at: usize| {
            row.velocity.get(at).map_or_else(
                || "-".to_owned(),
                |velocity| {
                    let numbers = velocity.r2.iter().chain([&velocity.mean]).map(|r2| format!("{r2:.3}"));
                    numbers.collect::<Vec<_>>().join(" / ")
                },
            )
        };
        let co_bps = row.co_bps.map_or_else(|| "-".to_owned(), |score| format!("{score:.4}"));
        writeln!(
            text,
            "| {} | {} | {} | {} | {co_bps} | {} | {:.1} | {} |",
            row.method,
            row.units,
            velocity(0),
            velocity(1),
            row.parameters,
            row.seconds,
            row.chosen
        )?;
    }
    Ok(text.trim_end().to_owned())
}
