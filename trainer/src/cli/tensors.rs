//! `ndt-train tensors`: writes a recording in bins, as arrays for models of other people.

use super::ending;
use super::overwrite::Overwrite;
use super::progress::style;
use super::selected::SelectionOptions;
use clap::Args;
use indicatif::ProgressBar;
use ndt_protocol::terminal::say;
use ndt_replay::{npz, nwb};
use ndt_trainer::data::arrays::{BINNED_NPZ, BINNED_SAFETENSORS, write_safetensors};
use ndt_trainer::recipe::Recipe;
use std::path::PathBuf;
use std::time::Duration;

pub const HELP: &str = "\
The bins are those of `fit` with the same options: what it is fitted to, validated on and tested on, in the order of time. Bins that are in
none of the three parts are left out. The arrays:
  spikes [bins, units]      spikes in each bin, float32    behavior [bins, columns]  at the centre of the bin; NaN where unknown
  unit_ids [units]          ids in the unit table          behavior_names, behavior_units [columns]
  heldout [units]           never shown to a model         behavior_series           what --behavior would choose
  time_s [bins]             end of the bin, s              run [bins]                counts up where a trial or a hole lies between
  trial [bins]              id in the trial table, or -1   split [bins]              train, val or test
  bin_width_ms, recording

With --by-trial, spikes and behavior are [trials, bins, ...], time_s is [trials, bins], and trial, run and split are [trials]. A safetensors
file holds text as places in lists: metadata `text` is a JSON object with the list of each array.

Examples:
  ndt-train tensors --data session.nwb --out session.npz
  ndt-train tensors --data session.nwb --bin-ms 10 --behavior hand_pos --by-trial 50 --out trials.safetensors";

/// The options of `tensors`.
#[derive(Args)]
pub struct Tensors {
    /// NWB recording.
    #[arg(long)]
    data: PathBuf,
    /// File to write: arrays for NumPy if its name ends in .npz, safetensors if it ends in .safetensors.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    #[command(flatten)]
    selection: SelectionOptions,
    #[command(flatten)]
    selected: nwb::UnitOptions,
    /// Width of a bin, ms.
    #[arg(long, default_value_t = 20.0)]
    bin_ms: f64,
    /// Put an axis of trials in front. All trials must be equally long; with a number, the first BINS bins of each trial are kept, and
    /// shorter trials are left out.
    #[arg(long, value_name = "BINS", num_args = 0..=1)]
    by_trial: Option<Option<usize>>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Carries out the command; returns its report.
pub fn tensors(command: &Tensors) -> anyhow::Result<String> {
    let Tensors { data, out, by_trial, .. } = command;
    let format = ending::of(out, ["npz", "safetensors"]);
    let kind = if matches!(format, Ok("safetensors")) { BINNED_SAFETENSORS } else { BINNED_NPZ };
    let destination = command.overwrite.check(out, kind, [data])?;
    let format = format?;
    let recipe = Recipe {
        bin_width_ms: Some(command.bin_ms),
        selected: command.selection.selected(),
        ..Recipe::default()
    };
    recipe.check()?;
    let bar = ProgressBar::new_spinner().with_style(style("{spinner} {msg} {elapsed}"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar.set_message("reading");
    let session = nwb::read_units(data, &command.selected)?;
    bar.set_message("binning");
    let mut binned = recipe.binned(&session)?;
    if let Some(bins) = by_trial {
        binned = binned.by_trial(*bins)?;
    }
    bar.set_message("writing");
    destination.check_again()?;
    let arrays = binned.arrays(by_trial.is_some());
    match format {
        "safetensors" => write_safetensors(out, &arrays)?,
        _ => npz::write(out, &arrays)?,
    }
    bar.finish_and_clear();
    for note in &binned.notes {
        say(format_args!("note: {note}"));
    }
    let behavior = binned.behavior.as_ref();
    if command.json {
        let shapes: serde_json::Map<String, serde_json::Value> =
            arrays.iter().map(|array| (array.name.to_owned(), array.shape.clone().into())).collect();
        let report = serde_json::json!({
            "out": out, "recording": binned.identifier, "bins": binned.bins(), "runs": binned.runs.len(),
            "units": binned.units.len(), "behavior": behavior, "arrays": shapes,
            "splits": binned.bins_of_splits().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        });
        return Ok(format!("{report:#}"));
    }
    let splits = binned.bins_of_splits().map(|(split, bins)| format!("{split} {bins}")).join(", ");
    let behavior = behavior.map_or_else(
        || "no behaviour".to_owned(),
        |readout| format!("{}, {} columns in {}", readout.series, readout.dims, readout.unit),
    );
    Ok(format!(
        "{} bins of {} units in {} runs ({splits}); {behavior}\ntensors in {}",
        binned.bins(),
        binned.units.len(),
        binned.runs.len(),
        out.display()
    ))
}
