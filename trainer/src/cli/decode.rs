//! `ndt-train decode`: decodes a recording with a bundle, and writes what is decoded as NWB or as arrays for NumPy.

use super::ending;
use super::history::History;
use super::overwrite::Overwrite;
use super::progress::style;
use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;
use ndt_protocol::terminal::say;
use ndt_protocol::{Bundle, Quality};
use ndt_replay::decoded::{DECODED_ARRAYS, DecodedSession};
use ndt_replay::{npz, nwb};
use ndt_trainer::data::Selection;
use ndt_trainer::evaluation::decoding::{self, Decoding};
use ndt_trainer::recipe;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

pub const HELP: &str = "\
The bins, their numbers and their values are those that a daemon publishes when the recording is played to it in order
(`ndt-replay play --no-flags`; with --history cold: with the flags of the trials). Every readout of the bundle is written, not the
published one alone. Nothing is decoded of a gap that the bundle does not bridge: its bins are there, and their values are NaN.

OUT.nwb holds, in /processing/decoded: `rates` (spikes/s, at the centres of the bins) and a series for each readout (centre plus lag),
the tables `bins` (start_time, stop_time, seq, quality, reasons, trial, split), `rate_units` and `outputs` (the columns of the series), and
`provenance`. OUT.npz holds the arrays
  rates [bins, units]        spikes/s                   time_s [bins]     end of the bin in the recording's time, s
  unit_ids [units]           ids in the unit table      seq [bins]        number of the bin; a jump is a gap
  unit_is_input [units]      whether the model sees it  quality [bins]    good, warmup, gap or fault
  outputs [bins, outputs]    in output_units            reasons [bins]    separated by spaces
  output_names [outputs]     readout and component      trial [bins]      id in the trial table; -1 for none
  output_units [outputs]     such as m/s                split [bins]      train, val, test, none or empty
  output_lags_ms [outputs]   from the bin's centre      provenance_keys, provenance: where the numbers come from
  output_is_published [outputs]

Examples:
  ndt-train decode --bundle model --data session.nwb --out decoded.nwb
  ndt-train decode --bundle model --data session.nwb --split test --out decoded.npz
  ndt-train decode --bundle model --data continuous.nwb --all-time --out decoded.nwb";

/// The options of `decode`.
#[derive(Args)]
pub struct Decode {
    /// Bundle folder or .ndt file: a transformer's, or a linear decoder's from `baselines --out`.
    #[arg(long)]
    bundle: PathBuf,
    /// NWB recording.
    #[arg(long)]
    data: PathBuf,
    /// File to write: NWB if its name ends in .nwb, arrays for NumPy if it ends in .npz.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Split whose trials are decoded [default: every trial, or all observed time of a recording without trials].
    #[arg(long)]
    split: Option<String>,
    /// Decode all observed time, and not the trials alone.
    #[arg(long, conflicts_with = "split")]
    all_time: bool,
    /// What comes before each trial: the trials before it, as in a daemon that is told of no trial, or nothing.
    #[arg(long, value_enum, default_value = "stream")]
    history: History,
    /// Column of the trial table in which --split stands.
    #[arg(long, default_value = "split")]
    split_column: String,
    #[command(flatten)]
    selected: nwb::UnitOptions,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Carries out the command; returns its report.
pub fn decode(command: &Decode) -> anyhow::Result<String> {
    let started = Instant::now();
    let Decode { bundle: path, data, out, .. } = command;
    let format = ending::of(out, ["nwb", "npz"]);
    let kind = if matches!(format, Ok("npz")) { DECODED_ARRAYS } else { nwb::DECODED };
    let destination = command.overwrite.check(out, kind, [path, data])?;
    let format = format?;
    let bundle = Bundle::read(path).with_context(|| format!("bundle {}", path.display()))?;
    let session = nwb::read_units(data, &command.selected)?;
    let session = Selection::named(&session, &command.split_column)?;
    let wanted = Decoding {
        split: command.split.as_deref(),
        all_time: command.all_time,
        history: command.history.of_library(),
    };
    let bar = ProgressBar::new(0).with_style(style("bin {pos}/{len} {bar:30} {eta} left"));
    let decoded = decoding::decode(&bundle, &session, wanted, &mut |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let (mut decoded, notes) = decoded?;
    for note in &notes {
        say(format_args!("note: {note}"));
    }
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    decoded.decoded_unix_s = since_1970.map_or(0, |time| time.as_secs());
    decoded.provenance = recipe::decoding_provenance(&bundle, data, &decoded.identifier, wanted)?;
    destination.check_again()?;
    match format {
        "npz" => npz::write(out, &decoded.arrays())?,
        _ => nwb::write_decoded(&decoded, out)?,
    }
    report(command, &bundle, &decoded, started.elapsed().as_secs_f64())
}

fn report(
    command: &Decode,
    bundle: &Bundle,
    decoded: &DecodedSession,
    seconds: f64,
) -> anyhow::Result<String> {
    let counted = Quality::ALL.iter().zip(decoded.qualities()).filter(|(_, bins)| *bins > 0);
    let outputs = decoded.outputs_described();
    if command.json {
        let qualities: std::collections::BTreeMap<&str, usize> =
            counted.map(|(quality, bins)| (quality.name(), bins)).collect();
        let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
        let report = serde_json::json!({
            "out": command.out, "bundle": bundle.manifest.id, "recording": decoded.identifier,
            "bins": decoded.bins.len(), "quality": qualities, "units": decoded.units.len(),
            "outputs": names, "seconds": seconds,
        });
        return Ok(format!("{report:#}"));
    }
    let qualities: Vec<String> =
        counted.map(|(quality, bins)| format!("{} {bins}", quality.name())).collect();
    Ok(format!(
        "{} bins ({}): rates of {} units and {} outputs, {seconds:.1} s\ndecoded session in {}",
        decoded.bins.len(),
        qualities.join(", "),
        decoded.units.len(),
        outputs.len(),
        command.out.display()
    ))
}
