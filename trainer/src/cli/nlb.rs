//! `ndt-train nlb`: makes the tensors, submissions and scores of the Neural Latents Benchmark.

use super::overwrite::Overwrite;
use super::progress::style;
use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::ProgressBar;
use ndt_protocol::Bundle;
use ndt_protocol::terminal::say;
use ndt_replay::{h5, nwb};
use ndt_trainer::nlb::array::Tensor;
use ndt_trainer::nlb::score::{Scores, score};
use ndt_trainer::nlb::tensors::{Phase, Tensors};
use ndt_trainer::nlb::variant::{self, Variant};
use ndt_trainer::nlb::{store, submission};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// The commands of `nlb`.
#[derive(Subcommand)]
pub enum Nlb {
    /// Write the tensors for training and scoring, as the benchmark's tools make them.
    #[command(after_help = TENSORS_HELP)]
    Tensors(WriteTensors),
    /// Predict a data set with a bundle, causally and from each trial's window alone, and write the submission.
    #[command(after_help = SUBMIT_HELP)]
    Submit(Submit),
    /// Score a submission: co-bps, velocity R2, PSTH R2 and forward prediction, equal to the benchmark's scores to 1e-6.
    #[command(after_help = "\
Example: ndt-train nlb score --targets tensors.h5 --submission submission.h5 --json")]
    Score(Score),
}

const TENSORS_HELP: &str = "\
The root of the file holds what a model reads (train_spikes_heldin, ..., eval_spikes_heldin), and the group of the data set,
such as mc_maze_small_20, what the model is scored against. Numbers are float32: spikes per bin and mm/s; NaN is an unknown
value.

Examples:
  ndt-train nlb tensors --data sub-Jenkins_ses-small_desc-train_behavior+ecephys.nwb \\
    --variant mc_maze_small --bin-ms 5 --out tensors.h5
  ndt-train nlb tensors --data session.nwb --variant reach --align go_cue_time --from-ms -100 --to-ms 500 \\
    --lag-ms 80 --conditions target_direction --bin-ms 20 --out tensors.h5";

const SUBMIT_HELP: &str = "\
Rates are expected spikes per bin. Forward rates are left out, because the model predicts no bin later than the one it sees.

Example: ndt-train nlb submit --bundle model --data train.nwb test.nwb --variant mc_maze_small --phase test \\
  --out submission.h5";

/// The options of `nlb tensors`.
#[derive(Args)]
pub struct WriteTensors {
    #[command(flatten)]
    windows: Windows,
    /// Width of a bin, ms.
    #[arg(long, default_value_t = 5)]
    bin_ms: usize,
    /// Path of the tensors (HDF5).
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
}

/// The options of `nlb submit`.
#[derive(Args)]
pub struct Submit {
    #[command(flatten)]
    windows: Windows,
    /// Bundle folder or .ndt file; the submission has the bundle's bin width.
    #[arg(long)]
    bundle: PathBuf,
    /// Path of the submission (HDF5).
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
}

/// The options of `nlb score`.
#[derive(Args)]
pub struct Score {
    /// HDF5 file with the targets, from `nlb tensors` or from the benchmark.
    #[arg(long)]
    targets: PathBuf,
    /// HDF5 file with the predicted rates.
    #[arg(long)]
    submission: PathBuf,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// The splits to train on and to score.
#[derive(Clone, Copy, ValueEnum)]
enum Splits {
    /// Train on `train`, score `val`.
    Val,
    /// Train on `train` and `val`, score `test`.
    Test,
}

/// The recordings, and the windows to cut out of them.
#[derive(Args)]
struct Windows {
    /// NWB recordings. They are put one after the other in the order of their names, as the benchmark's tools do.
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Data set: mc_maze, mc_maze_large, mc_maze_medium or mc_maze_small. Any other name needs --from-ms, --to-ms and
    /// --lag-ms.
    #[arg(long)]
    variant: String,
    /// Trials that are scored.
    #[arg(long, value_enum, default_value = "val")]
    phase: Splits,
    /// Column of the trial table whose instants the windows are aligned to [default: move_onset_time].
    #[arg(long)]
    align: Option<String>,
    /// Start of the window, ms from the alignment.
    #[arg(long, allow_negative_numbers = true)]
    from_ms: Option<i64>,
    /// End of the window, ms from the alignment.
    #[arg(long, allow_negative_numbers = true)]
    to_ms: Option<i64>,
    /// Length of the window of forward prediction, ms; 0 for no forward prediction [default: 200].
    #[arg(long)]
    forward_ms: Option<i64>,
    /// Lag from a bin's spikes to the behaviour that is decoded from them, ms.
    #[arg(long, allow_negative_numbers = true)]
    lag_ms: Option<i64>,
    /// Behaviour series that is decoded [default: hand_vel].
    #[arg(long)]
    behavior: Option<String>,
    /// Columns of the trial table that define a condition, separated by commas [default: trial_type,trial_version].
    #[arg(long, value_delimiter = ',')]
    conditions: Option<Vec<String>>,
    /// Standard deviation of the Gaussian that smooths PSTHs, ms [default: 70 for mc_maze, else 50].
    #[arg(long)]
    psth_sd_ms: Option<f64>,
}

/// Carries out one of the commands; returns its report.
pub fn nlb(command: &Nlb) -> anyhow::Result<String> {
    match command {
        Nlb::Tensors(command) => {
            let out = command.overwrite.check(&command.out, store::TENSORS, &command.windows.data)?;
            let tensors = command.windows.tensors(command.bin_ms)?;
            out.check_again()?;
            store::write_tensors(&tensors, &command.out)?;
            Ok(format!("{}tensors in {}", summary(&tensors), command.out.display()))
        }
        Nlb::Submit(command) => submit(command),
        Nlb::Score(command) => compare(command),
    }
}

fn submit(command: &Submit) -> anyhow::Result<String> {
    let inputs = command.windows.data.iter().chain([&command.bundle]);
    let out = command.overwrite.check(&command.out, store::SUBMISSION, inputs)?;
    let bundle =
        Bundle::read(&command.bundle).with_context(|| format!("bundle {}", command.bundle.display()))?;
    let width_ms = bundle.manifest.bin_width_ms;
    ensure!(
        width_ms.fract() == 0.0,
        "expected a bundle with bins of whole milliseconds, found {width_ms} ms"
    );
    let tensors = command.windows.tensors(width_ms as usize)?;
    let bar = ProgressBar::new(0).with_style(style("trial {pos}/{len} {bar:30} {eta} left"));
    let predicted = submission::predict(&bundle, &tensors, &mut |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let predicted = predicted?;
    out.check_again()?;
    store::write_submission(&predicted, &command.out)?;
    let mut text = summary(&tensors);
    writeln!(text, "no forward rates: the model predicts no bin later than the one it sees")?;
    write!(text, "submission in {}", command.out.display())?;
    Ok(text)
}

fn compare(command: &Score) -> anyhow::Result<String> {
    let open = |path: &PathBuf| h5::open(path).with_context(|| format!("{}", path.display()));
    let (targets, submission) = (open(&command.targets)?, open(&command.submission)?);
    let mut scores: BTreeMap<String, Scores> = BTreeMap::new();
    for name in submission.members()? {
        if submission.is_group(&name)? && targets.has(&name) && targets.is_group(&name)? {
            let found = score(&targets.group(&name)?, &submission.group(&name)?);
            scores.insert(name.clone(), found.with_context(|| name)?);
        }
    }
    if scores.is_empty() {
        let (targets, submission) = (targets.members()?.join(", "), submission.members()?.join(", "));
        bail!("expected a group of the submission among the targets' {targets}, found {submission}");
    }
    if command.json {
        return Ok(serde_json::to_string_pretty(&scores)?);
    }
    let mut text = String::new();
    for (name, scores) in &scores {
        writeln!(text, "{name}")?;
        let rows = [
            ("co-bps", Some(scores.co_bps)),
            ("vel R2", scores.velocity_r2),
            ("psth R2", scores.psth_r2),
            ("fp-bps", scores.fp_bps),
        ];
        for (name, score) in rows {
            let score =
                score.map_or_else(|| "none: not in both files".to_owned(), |score| format!("{score:.4}"));
            writeln!(text, "  {name:<8} {score}")?;
        }
    }
    Ok(text.trim_end().to_owned())
}

impl Windows {
    fn tensors(&self, bin_ms: usize) -> anyhow::Result<Tensors> {
        let variant = self.variant()?;
        let mut paths = self.data.clone();
        paths.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        let bar = ProgressBar::new(paths.len() as u64).with_style(style("recording {pos}/{len} {bar:30}"));
        let mut sessions = Vec::new();
        for path in &paths {
            bar.tick();
            sessions.push(nwb::read(path)?);
            bar.inc(1);
        }
        bar.set_style(style("window {pos}/{len} {bar:30} {eta} left"));
        bar.reset();
        let phase = match self.phase {
            Splits::Val => Phase::Val,
            Splits::Test => Phase::Test,
        };
        let tensors = Tensors::watched(&sessions, &variant, bin_ms, phase, &mut |done, of| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        let tensors = tensors?;
        for note in &tensors.notes {
            say(format_args!("note: {note}"));
        }
        Ok(tensors)
    }

    fn variant(&self) -> anyhow::Result<Variant> {
        let is_told = self.from_ms.is_some() && self.to_ms.is_some() && self.lag_ms.is_some();
        ensure!(
            is_told || variant::NAMES.contains(&self.variant.as_str()),
            "expected one of {}, or --from-ms, --to-ms and --lag-ms for another set, found {}",
            variant::NAMES.join(", "),
            self.variant
        );
        let known = Variant::named(&self.variant);
        Ok(Variant {
            align: self.align.clone().unwrap_or(known.align),
            from_ms: self.from_ms.unwrap_or(known.from_ms),
            to_ms: self.to_ms.unwrap_or(known.to_ms),
            forward_ms: self.forward_ms.unwrap_or(known.forward_ms),
            behavior: self.behavior.clone().unwrap_or(known.behavior),
            lag_ms: self.lag_ms.unwrap_or(known.lag_ms),
            conditions: self.conditions.clone().unwrap_or(known.conditions),
            psth_sd_ms: self.psth_sd_ms.unwrap_or(known.psth_sd_ms),
            ..known
        })
    }
}

/// The sizes of the tensors, in lines.
fn summary(tensors: &Tensors) -> String {
    let shape = |tensor: &Tensor| format!("{} trials of {} bins", tensor.shape[0], tensor.shape[1]);
    let conditions = tensors.psths.as_ref().map_or(0, |psths| psths.rates.shape[0]);
    format!(
        "{}: {} held-in and {} held-out neurons, {} ms bins\n\
         training   {}\nevaluation {}\nconditions {conditions}\n",
        tensors.group,
        tensors.heldin_ids.len(),
        tensors.heldout_ids.len(),
        tensors.bin_ms,
        shape(&tensors.train.heldin),
        shape(&tensors.eval.heldin),
    )
}
