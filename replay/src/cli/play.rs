//! `ndt-replay play`: sends the bins of a recording to a socket or as a stream.

use super::keys::Keys;
use super::overwrite::Overwrite;
use super::{print, seconds};
use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::behavior::Behavior;
use ndt_protocol::endpoint::{PlayTarget, SocketAddress};
use ndt_protocol::lsl::Library;
use ndt_replay::listen::TRUTH_SERIES;
use ndt_replay::play::faults::{FaultKind, FaultPlan, Faults};
use ndt_replay::play::{Channels, Plan, PlayReport, Speed};
use ndt_replay::session::Session;
use ndt_replay::{nwb, session_log, transport};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  ndt-replay play sessions/2026-11-29T14-05-12.345Z-4711 --to tcp://127.0.0.1:5570
  ndt-replay play session.nwb --to tcp://127.0.0.1:5570 --bin-ms 20 --split val
  ndt-replay play session.nwb --to lsl:rig --bin-ms 20 --split val --behavior
  ndt-replay play session.nwb --to tcp://127.0.0.1:5570 --bin-ms 20 \\
    --faults drop=1%,reorder=2,jitter=3ms,stall=2s@30s,restart@50s --seed 7 --fault-plan plan.jsonl";

/// The help after the options: all kinds of fault, and examples.
pub fn faults_and_examples() -> String {
    format!(
        "Faults, separated by commas (durations D and times T such as 3ms or 30s; T counts from the first bin, at the \
         play's speed):\n{}  none           no faults: for a fault plan to check a faultless play against\n\n{EXAMPLES}",
        FaultKind::help()
    )
}

#[derive(Args)]
pub struct Play {
    /// NWB recording, or the folder of a session log, which goes to a socket.
    file: PathBuf,
    /// Where to send bins: a socket, which is bound (or connected, with `connect:` in front), or a stream lsl:NAME.
    #[arg(long)]
    to: PlayTarget,
    /// Width of a bin, in ms. The bins of a session log have a width of their own.
    #[arg(long)]
    bin_ms: Option<f64>,
    /// Play only the trials of this split.
    #[arg(long)]
    split: Option<String>,
    /// Take the splits from this bundle, which was fitted to the recording, for a recording without splits of its own.
    #[arg(long, value_name = "BUNDLE")]
    splits_of: Option<PathBuf>,
    /// Mark no trial, as a rig does that sends without a break: the bins of a trial follow those of the trial before, and unobserved time
    /// inside a trial is a gap in the bins' numbers. `ndt-train evaluate --history stream` scores what is decoded from this.
    #[arg(long, conflicts_with = "faults")]
    no_flags: bool,
    /// Speed: how many times faster than the recording, or max.
    #[arg(long, default_value = "1", value_parser = speed)]
    speed: Speed,
    /// Units to send.
    #[arg(long, default_value = "held-in")]
    units: Units,
    /// Faults to play, see below. The resulting fault plan is printed first, as JSON lines.
    #[arg(long, value_name = "FAULTS")]
    faults: Option<Faults>,
    /// Random seed of the faults. The same seed gives the same faults.
    #[arg(long, requires = "faults", default_value_t = 1)]
    seed: u64,
    /// Write the whole fault plan to this file before the first bin is sent, for `listen --expect`.
    #[arg(long, requires = "faults", value_name = "FILE")]
    fault_plan: Option<PathBuf>,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Also offer this behaviour as the stream NAME-behavior: a series, `NAME[0,1]`, or velocity(NAME). Needs a stream in --to.
    #[arg(long, value_name = "SERIES", num_args = 0..=1, default_missing_value = TRUTH_SERIES)]
    behavior: Option<String>,
    #[command(flatten)]
    selected: nwb::UnitOptions,
    #[command(flatten)]
    keys: Keys,
    /// Path of liblsl's shared library [default: beside the executable, or the system's].
    #[arg(long)]
    lsl_library: Option<PathBuf>,
    /// Longest wait for the first subscriber, in seconds.
    #[arg(long, default_value_t = 30.0)]
    wait_s: f64,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Units {
    /// Units that are not held out: the input of a model.
    #[value(alias = "heldin")]
    HeldIn,
    /// All units.
    All,
}

impl From<Units> for Channels {
    fn from(units: Units) -> Channels {
        match units {
            Units::HeldIn => Channels::HeldIn,
            Units::All => Channels::All,
        }
    }
}

fn speed(text: &str) -> Result<Speed, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Speed::Max),
        Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
        _ => Err(format!("expected a positive number or max, found \"{text}\"")),
    }
}

pub fn play(options: &Play) -> anyhow::Result<()> {
    let wait = seconds("--wait-s", options.wait_s)?;
    if let Some(path) = &options.fault_plan {
        options.overwrite.check(path, FaultPlan::KIND, [&options.file])?;
    }
    if session_log::is_log(&options.file) {
        return play_log(options, wait);
    }
    let Some(bin_ms) = options.bin_ms else { bail!("expected --bin-ms for a recording, found none") };
    let mut session = nwb::read_units(&options.file, &options.selected)?;
    if let Some(path) = &options.splits_of {
        let bundle = Bundle::read(path).with_context(|| format!("bundle {}", path.display()))?;
        let Some(splits) = bundle.origin.splits_of(&session.identifier) else {
            bail!(
                "expected a bundle that was fitted to {}, found one of other recordings",
                session.identifier
            );
        };
        session = session.with_splits(splits);
    } else if let Some(split) = options.split.as_ref().filter(|_| session.splits().is_empty()) {
        bail!(
            "expected a recording with splits for --split {split}, found none; --splits-of BUNDLE takes those of a bundle that \
             was fitted to it"
        );
    }
    let plan = Plan::new(&session, options.split.as_deref(), bin_ms, options.units.into())?;
    let plan = if options.no_flags { plan.unflagged() } else { plan };
    let report = match &options.to {
        PlayTarget::Zeromq(socket) => play_to_socket(options, socket, &plan, wait),
        PlayTarget::Lsl { name } => play_to_stream(options, name, &session, &plan, wait),
    }?;
    tell(options, &report)
}

/// Sends the bins of a session log.
fn play_log(options: &Play, wait: Duration) -> anyhow::Result<()> {
    let plan = session_log::bins::plan(&options.file)?;
    if let Some(bin_ms) = options.bin_ms.filter(|bin_ms| (bin_ms * 1e6).round() != plan.bin_width_ns() as f64)
    {
        bail!(
            "expected the {} ms of the log for --bin-ms, found {bin_ms}",
            plan.bin_width_ns() as f64 * 1e-6
        );
    }
    if options.split.is_some() || options.splits_of.is_some() {
        bail!("expected a recording for --split and --splits-of, found a session log");
    }
    let plan = if options.no_flags { plan.unflagged() } else { plan };
    let PlayTarget::Zeromq(socket) = &options.to else {
        bail!("expected a socket for a session log, found {}", options.to);
    };
    tell(options, &play_to_socket(options, socket, &plan, wait)?)
}

fn tell(options: &Play, report: &PlayReport) -> anyhow::Result<()> {
    if options.json {
        return print(&serde_json::to_string_pretty(report)?);
    }
    let late = report.late_us_max.map_or_else(String::new, |late| format!(", at most {late} us late"));
    print(&format!(
        "{} bins in {} segments sent in {:.3} s{late}, {} dropped",
        report.bins, report.segments, report.seconds, report.dropped
    ))
}

fn play_to_socket(
    options: &Play,
    socket: &SocketAddress,
    plan: &Plan,
    wait: Duration,
) -> anyhow::Result<PlayReport> {
    if options.behavior.is_some() {
        bail!("expected a stream for --behavior, such as --to lsl:rig, found {}", options.to);
    }
    let security = options.keys.read()?;
    let faults = options.faults.as_ref().map(|faults| FaultPlan::new(plan, faults, options.seed));
    if let Some(faults) = &faults {
        if let Some(path) = &options.fault_plan {
            faults.write(path)?;
        }
        faults.announcement().try_for_each(|line| print(&line))?;
    }
    eprintln!(
        "{} bins of {} channels in {} segments to {}, once somebody subscribes",
        plan.bins(),
        plan.channel_ids().len(),
        plan.segments(),
        options.to
    );
    let bar = ProgressBar::new(faults.as_ref().map_or(plan.bins(), |faults| faults.sendings.len()) as u64);
    bar.set_style(bar_style("{pos}/{len} bins, {msg} {bar:40} {eta} left"));
    bar.set_message("waiting for a subscriber");
    bar.tick();
    let mut segment = 0;
    let mut progress = |progress: ndt_replay::play::Progress| {
        if segment != progress.segment {
            segment = progress.segment;
            bar.set_message(format!("segment {segment}/{}", plan.segments()));
        }
        bar.set_position(progress.sent as u64);
    };
    let report = transport::zeromq::play_with(
        plan,
        faults.as_ref(),
        (socket, &security),
        options.speed,
        wait,
        &mut progress,
    );
    bar.finish_and_clear();
    Ok(report?)
}

fn bar_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Plays a plan as streams: in real time, and without faults.
fn play_to_stream(
    options: &Play,
    name: &str,
    session: &Session,
    plan: &Plan,
    wait: Duration,
) -> anyhow::Result<PlayReport> {
    if options.faults.is_some() || options.speed != Speed::Times(1.0) {
        bail!(
            "expected lsl:NAME without --faults and --speed, as a stream's stamps are a clock's, found others"
        );
    }
    let library = Library::load(options.lsl_library.as_deref())?;
    let series = |text: &String| session.decoded(&Behavior::parse(text));
    let behavior = options.behavior.as_ref().map(series).transpose()?;
    let behavior = behavior.as_deref();
    eprintln!(
        "{} bins of {} channels in {} segments to lsl:{name}, once somebody receives",
        plan.bins(),
        plan.channel_ids().len(),
        plan.segments()
    );
    let bar = ProgressBar::new(plan.bins() as u64);
    bar.set_style(bar_style("{pos}/{len} bins {bar:40} {eta} left"));
    let streams = transport::lsl::Streams { name, recording: &session.identifier, behavior, wait };
    let mut progress = |progress: ndt_replay::play::Progress| bar.set_position(progress.sent as u64);
    let report = transport::lsl::play(plan, &library, &streams, &mut progress);
    bar.finish_and_clear();
    Ok(report?)
}
