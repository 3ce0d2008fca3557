//! `ndt-replay listen`: counts, scores, checks and draws what a daemon publishes.

use super::keys::Keys;
use super::overwrite::Overwrite;
use super::{print, seconds};
use anyhow::{Context, bail};
use clap::Args;
use ndt_protocol::Estimate;
use ndt_protocol::bundle::behavior::Behavior;
use ndt_protocol::endpoint::ListenSource;
use ndt_protocol::lsl::{Library, Query};
use ndt_replay::listen::expectation::Expectation;
use ndt_replay::listen::picture::Picture;
use ndt_replay::listen::{Tally, Until};
use ndt_replay::play::faults::FaultPlan;
use ndt_replay::session::{Series, Session};
use ndt_replay::{nwb, stop, transport};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub const EXAMPLES: &str = "\
With --expect, listening ends with the last bin that was sent; the exit status is 1 if the contract was violated.

Examples:
  ndt-replay listen tcp://127.0.0.1:5571 --truth session.nwb --count 1000
  ndt-replay listen tcp://127.0.0.1:5571 --truth session.nwb --picture reaches.svg
  ndt-replay listen lsl:ndtd --truth lsl:rig
  ndt-replay listen tcp://127.0.0.1:5571 --expect plan.jsonl --idle-s 10";

#[derive(Args)]
pub struct Listen {
    /// Where the daemon publishes estimates: a socket, or lsl:NAME for the streams of its output NAME.
    endpoint: ListenSource,
    /// Recording that holds the true behaviour. For streams: lsl:NAME, the name of the player.
    #[arg(long)]
    truth: Option<PathBuf>,
    /// Behaviour of the recording that is decoded, in the words of `ndt-train fit` and of the bundle's manifest: NAME, `NAME[0,1]`,
    /// `NAME[x,y]` or velocity(NAME), several side by side [default: what a fit decodes by default].
    #[arg(long, value_name = "NAME", requires = "truth")]
    behavior: Vec<String>,
    #[command(flatten)]
    selected: nwb::UnitOptions,
    #[command(flatten)]
    keys: Keys,
    /// Path of liblsl's shared library [default: beside the executable, or the system's].
    #[arg(long)]
    lsl_library: Option<PathBuf>,
    /// Fault plan that is being played, to check the estimates against.
    #[arg(long, value_name = "FILE", conflicts_with = "count")]
    expect: Option<PathBuf>,
    /// Write a picture (SVG) of decoded and true velocity and reaches. Needs a recording in --truth.
    #[arg(long, value_name = "FILE", requires = "truth")]
    picture: Option<PathBuf>,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Stop after this many estimates.
    #[arg(long)]
    count: Option<u64>,
    /// Stop after this many seconds without a bin of the source, counted from the first estimate on; estimates of a silent source
    /// (stale) do not count [default: 5 with --truth, otherwise never].
    #[arg(long)]
    idle_s: Option<f64>,
    /// Longest wait for the first estimate, in seconds.
    #[arg(long, default_value_t = 60.0)]
    wait_s: f64,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// Seconds without a bin of the source after which a replay that is scored has ended.
const IDLE_S: f64 = 5.0;

/// Where the true velocity comes from.
enum Truth {
    Unknown,
    /// The recording, and the behaviour of it that is decoded.
    Recording(Box<(Session, Series)>),
    Stream(Query),
}

pub fn listen(options: &Listen) -> anyhow::Result<()> {
    let idle = options.idle_s.or_else(|| options.truth.as_ref().map(|_| IDLE_S));
    let until = Until {
        count: options.count,
        idle: idle.map(|idle| seconds("--idle-s", idle)).transpose()?,
        first: seconds("--wait-s", options.wait_s)?,
    };
    let inputs = options.truth.iter().chain(&options.expect);
    let drawn = options.picture.as_ref().map(|path| options.overwrite.check(path, Picture::KIND, inputs));
    let drawn = drawn.transpose()?;
    let truth = truth(options)?;
    let (mut tally, mut picture) = (Tally::new(None), None);
    if let Truth::Recording(recording) = &truth {
        let (session, behavior) = recording.as_ref();
        tally = Tally::new(Some(behavior.clone()));
        picture = drawn.map(|destination| (destination, Picture::new(session)));
    }
    if let Some(path) = &options.expect {
        tally = tally.against(Expectation::new(&FaultPlan::read(path)?));
    }
    let stop = stop::on_signal()?;
    let mut status = StatusLine::new();
    let mut each = |tally: &Tally, estimate: &Estimate| {
        if let Some((_, picture)) = &mut picture {
            picture.push(estimate);
        }
        status.show(tally, estimate);
        true
    };
    match &options.endpoint {
        ListenSource::Lsl(query) => {
            if options.expect.is_some() {
                bail!("expected a socket for --expect, found {}", options.endpoint);
            }
            let library = Library::load(options.lsl_library.as_deref())?;
            let truth_stream = if let Truth::Stream(query) = &truth { Some(query) } else { None };
            let sources = transport::lsl::Sources::new(query, truth_stream);
            let mut ready = || eprintln!("hearing {}", sources.estimates.predicate());
            transport::lsl::listen(&library, &sources, &mut tally, until, &stop, &mut ready, &mut each)?;
        }
        ListenSource::Zeromq(socket) => {
            let security = options.keys.read()?;
            let from = (socket, &security);
            transport::zeromq::listen_with(from, &mut tally, until, &stop, &mut || {}, &mut each)?;
        }
    }
    status.end();
    let summary = tally.summary();
    // A picture that cannot be written must not cost the summary, nor the summary the picture.
    let drawn =
        picture.map_or(Ok(()), |(destination, picture)| destination.write(picture.svg(&summary).as_bytes()));
    if options.json { print(&serde_json::to_string_pretty(&summary)?) } else { print(&summary) }?;
    drawn?;
    match summary.contract.map_or(0, |contract| contract.violations) {
        0 => Ok(()),
        violations => bail!("expected estimates that keep the contract, found {violations} violations"),
    }
}

/// The true behaviour: what is asked for, or what a fit decodes by default.
fn behavior(session: &Session, asked: &[String]) -> anyhow::Result<Series> {
    let default = || session.default_behavior();
    let chosen =
        if asked.is_empty() { default() } else { Some(Behavior::joined(asked.iter().map(String::as_str))) };
    let chosen = chosen.with_context(|| {
        format!(
            "expected a velocity, position, EMG or force, or --behavior, found {}",
            session.behavior_in_words()
        )
    })?;
    Ok(session.decoded(&chosen)?.into_owned())
}

/// Reads `--truth`, which must fit the transport: a stream's stamps are those of a clock, a recording has times of its own.
fn truth(options: &Listen) -> anyhow::Result<Truth> {
    let Some(path) = &options.truth else { return Ok(Truth::Unknown) };
    let stream =
        path.to_str().and_then(|text| text.parse::<ListenSource>().ok()).and_then(|source| match source {
            ListenSource::Lsl(query) => Some(query),
            ListenSource::Zeromq(_) => None,
        });
    match (stream, &options.endpoint) {
        (None, ListenSource::Zeromq(_)) => {
            let session = nwb::read_units(path, &options.selected)?;
            let behavior =
                behavior(&session, &options.behavior).with_context(|| path.display().to_string())?;
            Ok(Truth::Recording(Box::new((session, behavior))))
        }
        (Some(query), ListenSource::Lsl(_)) if options.picture.is_none() => Ok(Truth::Stream(query)),
        (Some(_), ListenSource::Lsl(_)) => {
            bail!("expected a recording in --truth and a socket for --picture, found streams")
        }
        (None, ListenSource::Lsl(_)) => {
            bail!(
                "expected --truth lsl:NAME for estimates of a stream, whose times are a clock's, found a file"
            )
        }
        (Some(_), ListenSource::Zeromq(_)) => {
            bail!("expected a recording in --truth for estimates of a socket, found a stream")
        }
    }
}

/// A line on the terminal that is renewed once a second. Refused messages are reported even without a terminal.
struct StatusLine {
    is_terminal: bool,
    shown: Instant,
    refused: u64,
}

impl StatusLine {
    fn new() -> StatusLine {
        StatusLine { is_terminal: std::io::stderr().is_terminal(), shown: Instant::now(), refused: 0 }
    }

    fn show(&mut self, tally: &Tally, estimate: &Estimate) {
        if self.shown.elapsed() < Duration::from_secs(1) {
            return;
        }
        self.shown = Instant::now();
        let summary = tally.summary();
        if summary.refused > self.refused {
            let last = summary.last_refusal.unwrap_or_default();
            eprintln!("refused {} messages, the last with: {last}", summary.refused - self.refused);
            self.refused = summary.refused;
        }
        if self.is_terminal {
            let r2 = summary.velocity_r2_mean.map_or_else(String::new, |r2| format!("  R2 {r2:.3}"));
            let latency = summary.bin_end_to_received_us.unwrap_or(summary.arrival_to_published_us);
            let (seq, quality) = (estimate.seq, estimate.quality.name());
            eprint!("\r{} estimates  last {seq} {quality}  {latency}{r2}   ", summary.estimates);
        }
    }

    fn end(&self) {
        if self.is_terminal {
            eprintln!();
        }
    }
}
