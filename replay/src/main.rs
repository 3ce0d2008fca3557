//! `ndt-replay`: the command line of the rig that isn't there.

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use ndt_protocol::Estimate;
use ndt_protocol::endpoint::{Endpoint, ListenSource, PlayTarget};
use ndt_protocol::lsl::Library;
use ndt_replay::expect::Expectation;
use ndt_replay::faults::{FaultPlan, Faults};
use ndt_replay::listen::{self, TRUTH_SERIES, Tally, Until};
use ndt_replay::play::{self, Channels, Plan, Speed};
use ndt_replay::session::Session;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_replay::{inspect, lsl, nwb, nwb_write, stop};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A rig that isn't there: looks into NWB recordings, makes them up, plays them out, and listens to a decoder.
#[derive(Parser)]
#[command(name = "ndt-replay", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what is in a recording.
    #[command(after_help = "Example: ndt-replay inspect session.nwb --json")]
    Inspect(Inspect),
    /// Make up a session of delayed reaches and write it as NWB. The same seed gives the same data.
    #[command(after_help = "Example: ndt-replay simulate --out session.nwb --trials 200 --seed 7")]
    Simulate(Simulate),
    /// Send a recording's bins as a rig would, in real time, or as a bad one would.
    #[command(after_help = PLAY_HELP)]
    Play(Play),
    /// Count and score what a daemon publishes, and check it against the faults that were played.
    #[command(after_help = LISTEN_HELP)]
    Listen(Listen),
}

const PLAY_HELP: &str = "\
Faults, separated by commas; times count from the first bin, at the play's speed:
  drop=P%        bins are lost              stall=D@T        at T nothing is sent for D, then all at once
  dup=P%         bins are sent twice        channels=+K@T    for 1 s, K channels more (-K: fewer)
  reorder=N      1% come up to N bins late  clock=+D@T       the source's time jumps by D (or -D)
  jitter=D       sent up to D late          restart@T        another run of the source, from number 0
  burst=N        once in 500, N are lost    nan=P%           counts are NaN
  none           nothing goes wrong: a plan to check against all the same

Examples:
  ndt-replay play session.nwb --to tcp://127.0.0.1:5570 --bin-ms 20 --split val
  ndt-replay play session.nwb --to lsl:rig --bin-ms 20 --split val --behavior
  ndt-replay play session.nwb --to tcp://127.0.0.1:5570 --bin-ms 20 \\
    --faults drop=1%,reorder=2,jitter=3ms,stall=2s@30s,restart@50s --seed 7 --fault-plan plan.jsonl";

const LISTEN_HELP: &str = "\
With --expect, listening ends with the last bin that was sent; the exit status is 1 if the contract was violated.

Examples:
  ndt-replay listen tcp://127.0.0.1:5571 --truth session.nwb --count 1000
  ndt-replay listen lsl:ndtd --truth lsl:rig --idle-s 5
  ndt-replay listen tcp://127.0.0.1:5571 --expect plan.jsonl --idle-s 10";

#[derive(Args)]
struct Inspect {
    /// NWB recording.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Simulate {
    /// Where the recording goes.
    #[arg(long)]
    out: PathBuf,
    /// Trials; one lasts about 1.7 s.
    #[arg(long, default_value_t = Recipe::default().trials)]
    trials: usize,
    /// Units, held-out ones included.
    #[arg(long, default_value_t = Recipe::default().units)]
    units: usize,
    /// Held-out units; a quarter of the units unless given.
    #[arg(long)]
    heldout: Option<usize>,
    /// Random seed.
    #[arg(long, default_value_t = Recipe::default().seed)]
    seed: u64,
}

#[derive(Args)]
struct Play {
    /// NWB recording.
    file: PathBuf,
    /// Where bins go: a socket, which binds, or connects with connect: in front; or the stream lsl:NAME.
    #[arg(long)]
    to: PlayTarget,
    /// Width of a bin, ms.
    #[arg(long)]
    bin_ms: f64,
    /// Only the trials of this split.
    #[arg(long)]
    split: Option<String>,
    /// How many times faster than the recording, or max.
    #[arg(long, default_value = "1", value_parser = speed)]
    speed: Speed,
    /// Which units are sent.
    #[arg(long, default_value = "held-in")]
    units: Channels,
    /// What goes wrong, see below; the faults that this comes to are printed first, as JSON lines.
    #[arg(long, value_name = "FAULTS")]
    faults: Option<Faults>,
    /// Random seed of the faults. The same seed gives the same faults.
    #[arg(long, requires = "faults", default_value_t = 1)]
    seed: u64,
    /// Where the faults are written, with all that is sent, before the first bin is.
    #[arg(long, requires = "faults", value_name = "FILE")]
    fault_plan: Option<PathBuf>,
    /// Offer the behaviour as a stream, too, NAME-behavior: only with a stream in --to.
    #[arg(long, value_name = "SERIES", num_args = 0..=1, default_missing_value = TRUTH_SERIES)]
    behavior: Option<String>,
    /// liblsl's shared library; beside the executable or the system's where not given.
    #[arg(long)]
    lsl_library: Option<PathBuf>,
    /// How long to wait for the first subscriber, s.
    #[arg(long, default_value_t = 30.0)]
    wait_s: f64,
    /// Print JSON at the end.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Listen {
    /// Where estimates are published; lsl:NAME for the streams of the daemon's output of that name.
    endpoint: ListenSource,
    /// Recording whose hand velocity is the truth; of streams, lsl:NAME for that of the player of that name.
    #[arg(long)]
    truth: Option<PathBuf>,
    /// liblsl's shared library; beside the executable or the system's where not given.
    #[arg(long)]
    lsl_library: Option<PathBuf>,
    /// Fault plan that is played, to check the estimates against.
    #[arg(long, value_name = "FILE", conflicts_with = "count")]
    expect: Option<PathBuf>,
    /// End after so many estimates.
    #[arg(long)]
    count: Option<u64>,
    /// End after so long without an estimate, s, once there was one.
    #[arg(long)]
    idle_s: Option<f64>,
    /// How long to wait for the first estimate, s.
    #[arg(long, default_value_t = 60.0)]
    wait_s: f64,
    /// Print JSON at the end.
    #[arg(long)]
    json: bool,
}

fn speed(text: &str) -> Result<Speed, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Speed::Max),
        Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
        _ => Err(format!("expected a positive number or max, found \"{text}\"")),
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Inspect(command) => run_inspect(&command),
        Command::Simulate(command) => run_simulate(&command),
        Command::Play(command) => run_play(&command),
        Command::Listen(command) => run_listen(&command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ndt-replay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_inspect(command: &Inspect) -> anyhow::Result<()> {
    let summary = inspect::summarize(&nwb::read(&command.file)?);
    if command.json { say(&serde_json::to_string_pretty(&summary)?) } else { say(&summary) }
}

fn run_simulate(command: &Simulate) -> anyhow::Result<()> {
    let Simulate { trials, units, seed, .. } = *command;
    let recipe = Recipe { trials, units, heldout: command.heldout.unwrap_or(units / 4), seed };
    recipe.check()?;
    let session = simulate(&recipe);
    nwb_write::write(&session, &command.out)?;
    say(&inspect::summarize(&session))
}

fn run_play(command: &Play) -> anyhow::Result<()> {
    let wait = seconds("--wait-s", command.wait_s)?;
    let session = nwb::read(&command.file)?;
    let plan = Plan::new(&session, command.split.as_deref(), command.bin_ms, command.units)?;
    let socket = match &command.to {
        PlayTarget::Lsl { name } => return run_play_lsl(command, name, &session, &plan, wait),
        PlayTarget::Zeromq(socket) => socket,
    };
    if command.behavior.is_some() {
        bail!("expected a stream for --behavior, such as --to lsl:rig, found {}", command.to);
    }
    let channels = plan.channel_ids().len();
    let faults = command.faults.as_ref().map(|faults| FaultPlan::new(&plan, faults, command.seed));
    if let Some(faults) = &faults {
        if let Some(path) = &command.fault_plan {
            faults.write(path)?;
        }
        faults.announcement().try_for_each(|line| say(&line))?;
    }
    eprintln!(
        "{} bins of {channels} channels in {} segments to {}, once somebody subscribes",
        plan.bins(),
        plan.segments(),
        command.to
    );
    let bar = ProgressBar::new(faults.as_ref().map_or(plan.bins(), |faults| faults.sendings.len()) as u64);
    let style = ProgressStyle::with_template("{pos}/{len} bins, {msg} {bar:40} {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message("waiting for a subscriber");
    bar.tick();
    let mut segment = 0;
    let report = play::run(&plan, faults.as_ref(), socket, command.speed, wait, &mut |progress| {
        if segment != progress.segment {
            segment = progress.segment;
            bar.set_message(format!("segment {segment}/{}", plan.segments()));
        }
        bar.set_position(progress.sent as u64);
    });
    bar.finish_and_clear();
    say_played(&report?, command.json)
}

/// Plays a plan as streams: in real time, and without faults.
fn run_play_lsl(
    command: &Play,
    name: &str,
    session: &Session,
    plan: &Plan,
    wait: Duration,
) -> anyhow::Result<()> {
    if command.faults.is_some() || command.speed != Speed::Times(1.0) {
        bail!(
            "expected lsl:NAME without --faults and --speed, as a stream's stamps are a clock's, found others"
        );
    }
    let library = Library::load(command.lsl_library.as_deref())?;
    let series = |name: &String| {
        session.series(name).with_context(|| format!("expected a series {name} in the recording, found none"))
    };
    let behavior = command.behavior.as_ref().map(series).transpose()?;
    eprintln!(
        "{} bins of {} channels in {} segments to lsl:{name}, once somebody receives",
        plan.bins(),
        plan.channel_ids().len(),
        plan.segments()
    );
    let bar = ProgressBar::new(plan.bins() as u64);
    let sending = lsl::Sending { name, recording: &session.identifier, behavior, wait };
    let report = lsl::send(plan, &library, &sending, &mut |progress| bar.set_position(progress.sent as u64));
    bar.finish_and_clear();
    say_played(&report?, command.json)
}

fn say_played(report: &play::Report, json: bool) -> anyhow::Result<()> {
    if json {
        say(&serde_json::to_string_pretty(report)?)
    } else {
        let late = report.late_us_max.map_or_else(String::new, |late| format!(", at most {late} us late"));
        say(&format!(
            "{} bins in {} segments sent in {:.3} s{late}, {} dropped",
            report.bins, report.segments, report.seconds, report.dropped
        ))
    }
}

fn run_listen(command: &Listen) -> anyhow::Result<()> {
    let until = Until {
        count: command.count,
        idle: command.idle_s.map(|idle| seconds("--idle-s", idle)).transpose()?,
        first: seconds("--wait-s", command.wait_s)?,
    };
    let truth_stream = command.truth.as_ref().and_then(|truth| truth.to_str()?.parse::<Endpoint>().ok());
    let truth_stream = truth_stream.and_then(|truth| match truth {
        Endpoint::Lsl(query) => Some(query),
        Endpoint::Zeromq(_) => None,
    });
    let truth = match (&command.truth, &truth_stream, &command.endpoint) {
        (Some(path), None, ListenSource::Zeromq(_)) => {
            let session = nwb::read(path)?;
            let series = session.series(TRUTH_SERIES).cloned();
            Some(series.with_context(|| {
                format!("expected a series {TRUTH_SERIES} in {}, found none", path.display())
            })?)
        }
        (Some(_), None, ListenSource::Lsl(_)) => {
            bail!(
                "expected --truth lsl:NAME for estimates of a stream, whose times are a clock's, found a file"
            )
        }
        (Some(_), Some(_), ListenSource::Zeromq(_)) => {
            bail!("expected a recording in --truth for estimates of a socket, found a stream")
        }
        _ => None,
    };
    let mut tally = Tally::new(truth);
    if let Some(path) = &command.expect {
        tally = tally.against(Expectation::new(&FaultPlan::read(path)?));
    }
    let live = std::io::stderr().is_terminal();
    let mut shown = Instant::now();
    let mut refused = 0;
    let stop = stop::on_signal()?;
    let mut each = |tally: &Tally, estimate: &Estimate| {
        if shown.elapsed() < Duration::from_secs(1) {
            return true;
        }
        shown = Instant::now();
        let summary = tally.summary();
        if summary.refused > refused {
            let last = summary.last_refusal.unwrap_or_default();
            eprintln!("refused {} messages, the last with: {last}", summary.refused - refused);
            refused = summary.refused;
        }
        if live {
            let r2 = summary.velocity_r2_mean.map_or_else(String::new, |r2| format!("  R2 {r2:.3}"));
            let latency = summary.bin_end_to_received_us.unwrap_or(summary.arrival_to_published_us);
            let (seq, quality) = (estimate.seq, estimate.quality.name());
            eprint!("\r{} estimates  last {seq} {quality}  {latency}{r2}   ", summary.estimates);
        }
        true
    };
    match &command.endpoint {
        ListenSource::Lsl(query) => {
            if command.expect.is_some() {
                bail!("expected a socket for --expect, found {}", command.endpoint);
            }
            let library = Library::load(command.lsl_library.as_deref())?;
            let sources = lsl::Sources::new(query, truth_stream.as_ref());
            let mut ready = || eprintln!("hearing {}", sources.estimates.predicate());
            lsl::hear(&stop, &library, &sources, &mut tally, until, &mut ready, &mut each)?;
        }
        ListenSource::Zeromq(socket) => {
            listen::run_unless(&stop, socket, &mut tally, until, &mut || {}, &mut each)?;
        }
    }
    if live {
        eprintln!();
    }
    let summary = tally.summary();
    if command.json { say(&serde_json::to_string_pretty(&summary)?) } else { say(&summary) }?;
    match summary.contract.map_or(0, |contract| contract.violations) {
        0 => Ok(()),
        violations => bail!("expected estimates that keep the contract, found {violations} violations"),
    }
}

/// Prints a line. A reader that has had enough (`| head`) is no error.
fn say(line: &dyn std::fmt::Display) -> anyhow::Result<()> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}

fn seconds(name: &str, value: f64) -> anyhow::Result<Duration> {
    match Duration::try_from_secs_f64(value) {
        Ok(duration) => Ok(duration),
        Err(_) => bail!("expected a number of seconds for {name}, found {value}"),
    }
}
