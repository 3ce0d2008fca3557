//! `ndt-train baselines`: fits and scores the baseline decoders, and prints a table of them.

use super::overwrite::Overwrite;
use super::progress::style;
use super::selected::SelectionOptions;
use super::{report, rescue};
use anyhow::bail;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use ndt_protocol::Bundle;
use ndt_protocol::terminal::say;
use ndt_replay::{nwb, stop};
use ndt_trainer::baselines::gru::GruSettings;
use ndt_trainer::baselines::runs::{self, Runs};
use ndt_trainer::baselines::table::{self, Row};
use ndt_trainer::recipe::{Recipe, provenance};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

pub const HELP: &str = "\
Decoders are fitted on the trials of `train`, choose their settings on those of `val`, and are scored on --split. The estimate
of a bin depends on no later bin, and every trial is a cold start. R2 is that of the velocity at the bin's centre and 100 ms
later; co-bps is that of the held-out units.

Examples:
  ndt-train baselines --data session.nwb --json
  ndt-train baselines --data session.nwb --only wiener,kalman --units held-in
  ndt-train baselines --data session.nwb --only wiener --units all --out linear && ndtd check --bundle linear/wiener";

/// The options of `baselines`.
#[derive(Args)]
pub struct Baselines {
    /// NWB recordings; all must have the same units.
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    #[command(flatten)]
    selected: nwb::UnitOptions,
    /// Width of a bin, ms.
    #[arg(long, default_value_t = 20.0)]
    bin_ms: f64,
    /// Split whose trials are scored.
    #[arg(long, default_value = "val")]
    split: String,
    #[command(flatten)]
    selection: SelectionOptions,
    /// Baselines to fit, separated by commas [default: all].
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Method>,
    /// Units that the decoders see, separated by commas; one table for each [default: all, held-in].
    #[arg(long, value_enum, value_delimiter = ',')]
    units: Vec<Units>,
    /// Number of recurrent networks, fitted with seeds from 1 on.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Width of the recurrent network.
    #[arg(long, default_value_t = GruSettings::default().width)]
    gru_width: usize,
    /// Largest number of epochs of the recurrent network.
    #[arg(long, default_value_t = GruSettings::default().epochs)]
    gru_epochs: usize,
    /// Folder for the bundles of the linear decoders, OUT/smoothing and OUT/wiener (with the history that is best on
    /// `val`); for held-in units the names end in -heldin. The bundles decode the velocity at the bin's centre.
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// A baseline decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    /// Counts smoothed with half a Gaussian, then ridge regression.
    Smoothing,
    /// Wiener filter: linear in the last bins' counts.
    Wiener,
    /// Kalman filters: of velocity alone, and of position, velocity and acceleration.
    Kalman,
    /// Recurrent network of gated units.
    Gru,
    /// Poisson regression of the held-out units.
    Poisson,
}

impl Method {
    fn of_library(self) -> table::Method {
        match self {
            Method::Smoothing => table::Method::Smoothing,
            Method::Wiener => table::Method::Wiener,
            Method::Kalman => table::Method::Kalman,
            Method::Gru => table::Method::Gru,
            Method::Poisson => table::Method::Poisson,
        }
    }
}

impl Method {
    /// Whether the daemon can run the decoder, so that `--out` gets a bundle of it.
    fn has_bundle(self) -> bool {
        match self {
            Method::Smoothing | Method::Wiener => true,
            Method::Kalman | Method::Gru | Method::Poisson => false,
        }
    }
}

/// The units that the decoders see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Units {
    /// All units.
    All,
    /// The units that are not held out.
    #[value(name = "held-in", alias = "heldin")]
    Heldin,
}

impl Units {
    fn of_library(self) -> runs::Units {
        match self {
            Units::All => runs::Units::All,
            Units::Heldin => runs::Units::Heldin,
        }
    }
}

impl Baselines {
    /// Paths of all bundles that may be written.
    fn bundle_paths(&self, units: &[Units], methods: &[Method]) -> Vec<PathBuf> {
        let Some(out) = &self.out else { return Vec::new() };
        let linear = || methods.iter().filter(|method| method.has_bundle());
        units.iter().flat_map(|units| linear().map(|method| bundle_path(out, *units, *method))).collect()
    }
}

/// Path of the bundle of a decoder.
fn bundle_path(out: &Path, units: Units, method: Method) -> PathBuf {
    let ending = if units == Units::All { "" } else { "-heldin" };
    out.join(format!("{}{ending}", format!("{method:?}").to_lowercase()))
}

/// Carries out the command; returns its report.
pub fn baselines(command: &Baselines) -> anyhow::Result<String> {
    let units =
        if command.units.is_empty() { vec![Units::All, Units::Heldin] } else { command.units.clone() };
    let methods =
        if command.only.is_empty() { Method::value_variants().to_vec() } else { command.only.clone() };
    for path in command.bundle_paths(&units, &methods) {
        command.overwrite.check(&path, Bundle::kind(&path), &command.data)?;
    }
    stop::outlive_terminal()?;
    let sessions = nwb::read_all(&command.data, &command.selected)?;
    let settings = GruSettings { width: command.gru_width, epochs: command.gru_epochs, ..Default::default() };
    let bar = ProgressBar::new(0)
        .with_style(style("{prefix} {bar:30} {msg}  {elapsed} so far, {eta} left for this decoder"));
    let recipe = Recipe {
        bin_width_ms: Some(command.bin_ms),
        selected: command.selection.selected(),
        ..Recipe::default()
    };
    let selection = recipe.selection()?;
    let mut rows = Vec::new();
    let mut said = BTreeSet::new();
    for units in units {
        let data = Runs::selected(&sessions, command.bin_ms, &command.split, units.of_library(), &selection)?;
        let seen = data.channels();
        for note in data.notes.iter().filter(|note| said.insert((*note).clone())) {
            say(format_args!("note: {note}"));
        }
        // Without held-out units both tables would be the same.
        if rows.iter().any(|row: &Row| row.units == seen) {
            continue;
        }
        for (at, method) in methods.iter().enumerate() {
            // With all units shown there is none to predict.
            if *method == Method::Poisson && data.hidden == 0 {
                continue;
            }
            bar.set_prefix(format!("{seen} units, decoder {} of {}", at + 1, methods.len()));
            bar.reset_eta();
            bar.set_message(format!("{method:?}").to_lowercase());
            let mut show = |what: &str, done: usize, of: usize| {
                bar.set_length(of as u64);
                bar.set_position(done as u64);
                bar.set_message(what.to_owned());
            };
            let found = table::rows(method.of_library(), &data, &settings, command.seeds, &mut show);
            if let Some(out) = &command.out {
                export(command, &data, units, *method, &found, out)?;
            }
            rows.extend(found);
        }
    }
    bar.finish_and_clear();
    // A table without one score is no report.
    if let Some(why) = rows
        .first()
        .and_then(|row| row.failed.as_ref())
        .filter(|_| rows.iter().all(|row| row.failed.is_some()))
    {
        bail!("{why}");
    }
    if command.json { Ok(serde_json::to_string_pretty(&rows)?) } else { Ok(as_table(&rows, &command.split)?) }
}

/// Writes the bundle of the best row that the daemon can run, if there is one.
fn export(
    command: &Baselines,
    data: &Runs,
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
    let path = bundle_path(out, units, method);
    let destination = command.overwrite.check(&path, Bundle::kind(&path), &command.data)?;
    let manifest = rescue::write(&best.bundle(data, training)?, &destination, None)?;
    say(format_args!("{}", report::bundle(&manifest, &path)));
    Ok(())
}

/// The rows as a Markdown table.
fn as_table(rows: &[Row], split: &str) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let components = rows.iter().flat_map(|row| &row.velocity).map(|velocity| velocity.r2.len()).max();
    let order = match components {
        Some(1) => "x / mean",
        Some(3) => "x / y / z / mean",
        Some(4..) => "each column / mean",
        _ => "x / y / mean",
    };
    writeln!(
        text,
        "| method, scored on {split} | units in | R2 lag 0 ({order}) | R2 +100 ms ({order}) | co-bps | params | fit s | chosen |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|")?;
    for row in rows {
        if let Some(why) = &row.failed {
            writeln!(text, "| {} | {} | failed | - | - | - | - | {why} |", row.method, row.units)?;
            continue;
        }
        let velocity = |at: usize| {
            row.velocity.get(at).map_or_else(
                || "-".to_owned(),
                |velocity| {
                    let numbers = velocity.r2.iter().chain([&velocity.mean]).map(|r2| match r2.is_nan() {
                        true => "none".to_owned(),
                        false => format!("{r2:.3}"),
                    });
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
