//! The main job, on one machine: simulate a session (or take a recording), fit a small model, start the daemon,
//! replay trials that the model has not seen in real time, and compare with a smoothing-and-ridge decoder.
//!
//! ```sh
//! daemon/demo                      # simulated
//! daemon/demo --data session.nwb   # a recording
//! ```

use anyhow::{Context, Result, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use ndt_daemon::engine;
use ndt_daemon::pipeline;
use ndt_protocol::Bundle;
use ndt_protocol::binner::Binner;
use ndt_protocol::bundle::manifest::Training;
use ndt_protocol::destination::Destination;
use ndt_protocol::endpoint::SocketAddress;
use ndt_replay::listen::{Summary, TRUTH_SERIES, Tally, Until};
use ndt_replay::play::{Channels, Plan, Speed};
use ndt_replay::session::{Interval, Session};
use ndt_replay::simulate::{Recipe, simulate};
use ndt_replay::{inspect, nwb, transport};
use ndt_trainer::baselines::smoothing::{SmoothingDecoder, TrialCounts};
use ndt_trainer::config::Config;
use ndt_trainer::data::{Dataset, Trial, trials};
use ndt_trainer::evaluation::metrics::R2;
use ndt_trainer::{export, training};
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Names in the folder.
const SESSION: &str = "session.nwb";
const MODEL: &str = "model";

/// Folder that belongs to the demo.
const FOLDER: &str = "target/demo";

/// From simulated (or recorded) spikes to decoded velocity, in under three minutes.
#[derive(Parser)]
#[command(name = "demo")]
struct Demo {
    /// NWB recording to use instead of a simulated session.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Width of a bin, ms.
    #[arg(long, default_value_t = 20.0)]
    bin_ms: f64,
    /// Highest number of epochs.
    #[arg(long, default_value_t = 60)]
    epochs: usize,
    /// Longest duration of the replay, s.
    #[arg(long, default_value_t = 40.0)]
    replay_s: f64,
    /// Folder for the session and the bundle.
    #[arg(long, default_value = FOLDER)]
    folder: PathBuf,
    /// Replace the session and the bundle of an earlier run. They are always replaced in the default folder.
    #[arg(long)]
    overwrite: bool,
}

fn main() -> Result<()> {
    let demo = Demo::parse();
    let started = Instant::now();
    std::fs::create_dir_all(&demo.folder).with_context(|| format!("folder {}", demo.folder.display()))?;
    for (name, kind) in [(SESSION, nwb::RECORDING), (MODEL, Bundle::kind(Path::new(MODEL)))] {
        let overwrite = demo.overwrite || demo.folder == Path::new(FOLDER);
        Destination::check(&demo.folder.join(name), kind, overwrite, &demo.data)?;
    }
    let (path, session) = session(&demo)?;
    println!("{}\n", inspect::summarize(&session));

    let (bundle, data) = fit(&demo, &path, &session)?;
    let split = ["test", "val"].into_iter().find(|split| session.splits().iter().any(|found| found == split));
    let mut plan = Plan::new(&session, split, demo.bin_ms, Channels::HeldIn)?;
    plan.truncate((demo.replay_s * 1e3 / demo.bin_ms) as usize);
    let unseen = split.unwrap_or("(all trials: the recording has no split val or test)");
    println!("\nreplaying {} bins of the trials of split {unseen} in real time", plan.bins());
    let summary = replay(&bundle, &plan, &session)?;

    println!("\n{summary}");
    match ridge_r2(&data, &session, split, &plan)? {
        Some(ridge) => {
            let ndt = summary.velocity_r2_mean.unwrap_or(f64::NAN);
            println!("\nvelocity R2, mean of the axes, on the same bins");
            println!("  smoothing and ridge  {ridge:.3}");
            println!("  this decoder         {ndt:.3}");
        }
        None => println!("\nthe recording has no {TRUTH_SERIES}: rates only, no velocity to compare"),
    }
    println!(
        "\n{:.0} s in all; the session and the model are in {}",
        started.elapsed().as_secs_f64(),
        demo.folder.display()
    );
    ensure!(
        summary.estimates == plan.bins() as u64,
        "expected {} estimates, found {}",
        plan.bins(),
        summary.estimates
    );
    Ok(())
}

fn session(demo: &Demo) -> Result<(PathBuf, Session)> {
    if let Some(path) = &demo.data {
        return Ok((path.clone(), nwb::read(path)?));
    }
    let path = demo.folder.join(SESSION);
    let session = simulate(&Recipe::default());
    nwb::write(&session, &path)?;
    Ok((path, session))
}

fn fit(demo: &Demo, path: &Path, session: &Session) -> Result<(Bundle, Dataset)> {
    let mut config = Config::default();
    config.optimiser.epochs = demo.epochs;
    config.model.layers = 2;
    // A demonstration has no time for a teacher.
    (config.objective.redrawn, config.objective.teacher_weight) = (0.0, 0.0);
    let data = Dataset::new(std::slice::from_ref(session), demo.bin_ms, 0.0)?;
    for note in &data.notes {
        println!("note: {note}");
    }
    let bar = ProgressBar::new(demo.epochs as u64);
    let style = ProgressStyle::with_template("fitting  epoch {pos}/{len} {bar:30} {msg}  {eta} left");
    bar.set_style(style?);
    let fit = training::fit(&data, &config, None, &mut |progress| {
        let r2 = progress.scores.velocity_r2.map_or_else(String::new, |r2| format!("  R2 {r2:.3}"));
        bar.set_position(progress.epoch as u64);
        bar.set_message(format!(
            "loss {:.4}  bits/spike {:.4}{r2}",
            progress.loss, progress.scores.bits_per_spike
        ));
        ControlFlow::Continue(())
    })?;
    bar.finish();
    let training = Training {
        by: "daemon/demo".to_owned(),
        data: vec![path.file_name().unwrap_or_default().to_string_lossy().into_owned()],
        data_sha256: ndt_protocol::bundle::digest_files(&[path.to_owned()])?,
        seed: config.optimiser.seed,
        epochs: fit.epoch,
        parent: None,
    };
    let folder = demo.folder.join(MODEL);
    let manifest = export::bundle(&fit, &data, &config, training)?.write(&folder)?;
    println!("best epoch {}: {:?}", fit.epoch, manifest.scores);
    Ok((Bundle::read(&folder)?, data))
}

/// Plays `plan` into a daemon on this machine and counts what it publishes.
fn replay(bundle: &Bundle, plan: &Plan, session: &Session) -> Result<Summary> {
    let any = "bind:tcp://127.0.0.1:0";
    let (input, outputs) = (any.parse()?, vec![any.parse()?]);
    let config = ndt_daemon::config::Config { input, outputs, ..Default::default() };
    let engine = engine::load(&config.engine(), bundle)?;
    let pipeline = pipeline::start(&config, bundle, engine)?;
    let rig: SocketAddress = format!("connect:{}", pipeline.input()).parse()?;
    let output: SocketAddress = pipeline.output().parse()?;
    let mut tally = Tally::new(session.series(TRUTH_SERIES).cloned());
    let until = Until {
        count: Some(plan.bins() as u64),
        idle: Some(Duration::from_secs(3)),
        first: Duration::from_secs(20),
    };
    std::thread::scope(|scope| -> Result<()> {
        // The rig starts when the listener has heard the daemon, so that nothing is published to nobody.
        let (go, gone) = std::sync::mpsc::channel();
        let player = scope.spawn(move || {
            let heard: Result<(), _> = gone.recv();
            heard.context("expected the daemon to be heard, found silence")?;
            Ok::<_, anyhow::Error>(transport::zeromq::play(
                plan,
                None,
                &rig,
                Speed::Times(1.0),
                Duration::from_secs(10),
                &mut |_| {},
            )?)
        });
        let mut shown = Instant::now();
        let live = std::io::stderr().is_terminal();
        // A player that is gone already says why when it is joined.
        let mut start = || {
            let _ = go.send(());
        };
        let heard = transport::zeromq::listen(
            &output,
            &mut tally,
            until,
            &AtomicBool::new(false),
            &mut start,
            &mut |tally, estimate| {
                if shown.elapsed() > Duration::from_secs(if live { 1 } else { 10 }) {
                    shown = Instant::now();
                    let end = if live { "   \r" } else { "\n" };
                    eprint!("{}{end}", line(&tally.summary(), estimate.velocity()));
                }
                true
            },
        );
        drop(go);
        heard?;
        let report = player.join().map_err(|_| anyhow::anyhow!("the player panicked"))??;
        println!("sent {} bins, at most {} us late", report.bins, report.late_us_max.unwrap_or(0));
        Ok(())
    })?;
    pipeline.stop();
    Ok(tally.summary())
}

fn line(summary: &Summary, velocity: &[f32]) -> String {
    let quality: Vec<String> =
        summary.quality.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let r2 = summary.velocity_r2_mean.map_or_else(String::new, |r2| format!("  R2 {r2:.3}"));
    let now = velocity.iter().map(|part| format!("{part:+.2}")).collect::<Vec<_>>().join(" ");
    format!(
        "{} bins ({})  {}  velocity [{now}] m/s{r2}",
        summary.estimates,
        quality.join(", "),
        summary.arrival_to_published_us
    )
}

/// R2 of causal smoothing and ridge on the bins that were replayed; `None` without a velocity.
fn ridge_r2(data: &Dataset, session: &Session, split: Option<&str>, plan: &Plan) -> Result<Option<f64>> {
    let dims = data.readout_dims();
    if dims != 2 {
        return Ok(None);
    }
    let columns: Vec<usize> = data.channels().collect();
    let train = arrays(&data.train, data.units(), &columns);
    let val = arrays(&data.val, data.units(), &columns);
    let decoder = SmoothingDecoder::fit(&views(&train), &views(&val), columns.len())?;
    let segments: Vec<Interval> = match split {
        Some(split) => session.segments(Some(split))?,
        None => session.every_segment(),
    };
    let unseen = trials(session, &segments, Binner::new(data.bin_width_ms)?, &data.readouts);
    let mut r2 = R2::new(dims);
    let mut left = plan.bins();
    for (counts, velocity) in arrays(&unseen, data.units(), &columns) {
        for (truth, decoded) in velocity.iter().zip(decoder.decode(&counts)).take(left) {
            r2.add(&truth.map(|v| v as f32), &decoded.map(|v| v as f32));
        }
        left = left.saturating_sub(velocity.len());
    }
    Ok(r2.mean())
}

/// Counts of the input channels and velocity of a trial.
type Arrays = (Vec<f32>, Vec<[f64; 2]>);

fn arrays(trials: &[Trial], units: usize, columns: &[usize]) -> Vec<Arrays> {
    let of = |trial: &Trial| {
        let rows = trial.counts.chunks_exact(units);
        let counts = rows.flat_map(|row| columns.iter().map(|column| row[*column])).collect();
        let velocity = trial.targets.chunks_exact(2).map(|v| [f64::from(v[0]), f64::from(v[1])]).collect();
        (counts, velocity)
    };
    trials.iter().map(of).collect()
}

fn views(trials: &[Arrays]) -> Vec<TrialCounts<'_>> {
    trials.iter().map(|(counts, velocity)| TrialCounts { counts, velocity }).collect()
}
