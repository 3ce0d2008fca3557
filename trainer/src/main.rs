//! `ndt-train`: fits a model to recordings, and scores one.

mod benchmark;
mod comparison;
mod download;
mod finetuning;
mod separate;
mod sweeping;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Training;
use ndt_protocol::bundle::{self, BundleError};
use ndt_replay::nwb;
use ndt_replay::session::Session;
use ndt_trainer::checkpoint::Checkpoints;
use ndt_trainer::config::{Config, ConfigError};
use ndt_trainer::dataset::Dataset;
use ndt_trainer::defaults::{self, Kind};
use ndt_trainer::device::ComputeDevice;
use ndt_trainer::training::{self, Progress};
use ndt_trainer::{export, inference};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Fits a causal Neural Data Transformer to recordings and exports it for ndtd.
#[derive(Parser)]
#[command(name = "ndt-train", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fit a model and write its bundle.
    #[command(after_help = "Example: ndt-train fit --data session.nwb --bin-ms 20 --out model")]
    Fit(Fit),
    /// Make a bundle fit a new session, whose units may be others.
    #[command(after_help = finetuning::HELP)]
    Finetune(finetuning::Finetune),
    /// Score a bundle, bin by bin as the daemon would.
    #[command(
        after_help = "Example: ndt-train evaluate --bundle model --data session.nwb --split val --json"
    )]
    Evaluate(Evaluate),
    /// Download the published MC_Maze recordings from the DANDI archive.
    #[command(after_help = download::HELP)]
    Fetch(download::Command),
    /// Fit each point of a space of configurations and rank them by their validation score.
    #[command(after_help = sweeping::HELP)]
    Sweep(sweeping::Sweep),
    /// Tensors, submissions and scores of the Neural Latents Benchmark.
    #[command(subcommand)]
    Nlb(benchmark::Command),
    /// Fit and score what a transformer has to be better than, on the same trials.
    #[command(after_help = comparison::HELP)]
    Baselines(comparison::Baselines),
}

#[derive(Args)]
struct Fit {
    /// NWB recordings.
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// What several recordings are [default: together if their units are the same].
    #[arg(long, value_enum)]
    sessions: Option<separate::Sessions>,
    /// Where the bundle goes: a folder, or a file that ends in .ndt.
    #[arg(long)]
    out: PathBuf,
    /// Training configuration (TOML); every key has a default, which follows from the data or is the preset's.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Defaults of a name: ndt is the original transformer's masking and positions.
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Units that go in: heldin leaves out those that the recording marks as held out, all does not.
    #[arg(long, value_enum, default_value = "heldin")]
    units: Units,
    /// Width of a bin, ms.
    #[arg(long, default_value_t = 20.0)]
    bin_ms: f64,
    /// Random seed; comes before the configuration's.
    #[arg(long)]
    seed: Option<u64>,
    /// Epochs at most; comes before the configuration's.
    #[arg(long)]
    epochs: Option<usize>,
    /// Epochs from one checkpoint (in OUT.checkpoint) to the next.
    #[arg(long, default_value_t = 10)]
    checkpoint_epochs: usize,
    /// Where to compute: cpu, or wgpu (a graphics card; built with `--features wgpu`, run in software Vulkan alone so far).
    #[arg(long, default_value = "cpu")]
    device: ComputeDevice,
    /// Go on from OUT.checkpoint, if it is there.
    #[arg(long)]
    resume: bool,
    /// How progress is told on standard error; json is a line each epoch, for programs.
    #[arg(long, value_enum, default_value = "text")]
    progress: ProgressForm,
    /// Print JSON at the end.
    #[arg(long)]
    json: bool,
}

/// A configuration of a name.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Preset {
    Ndt,
}

/// Which units go in.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Units {
    Heldin,
    All,
}

/// How progress is told.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ProgressForm {
    Text,
    Json,
}

#[derive(Args)]
struct Evaluate {
    /// Bundle folder or .ndt file.
    #[arg(long)]
    bundle: PathBuf,
    /// NWB recording.
    #[arg(long)]
    data: PathBuf,
    /// Which trials.
    #[arg(long, default_value = "val")]
    split: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Fit(command) => fit(&command),
        Command::Finetune(command) => finetuning::run(&command).map(|text| println!("{text}")),
        Command::Evaluate(command) => evaluate(&command),
        Command::Fetch(command) => download::run(&command).map(|text| println!("{text}")),
        Command::Sweep(command) => sweeping::run(&command).map(|text| println!("{text}")),
        Command::Nlb(command) => benchmark::run(&command).map(|text| println!("{text}")),
        Command::Baselines(command) => comparison::run(&command).map(|text| println!("{text}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ndt-train: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn fit(command: &Fit) -> anyhow::Result<()> {
    let sessions = read(command)?;
    if separate::is_wanted(command, &sessions) {
        return separate::fit(command, &sessions).map(|text| println!("{text}"));
    }
    let (data, config, decided) = prepare(command, &sessions)?;
    for note in data.notes.iter().chain(&decided) {
        eprintln!("note: {note}");
    }
    eprintln!(
        "{} channels in, {} units out, {} training and {} validation trials",
        data.channels().count(),
        data.units(),
        data.train.len(),
        data.val.len()
    );
    let started = std::time::Instant::now();
    let bar = Bar::new(config.optimiser.epochs, command.progress);
    let mut folder = command.out.clone().into_os_string();
    folder.push(".checkpoint");
    let checkpoints = Checkpoints {
        folder: folder.into(),
        every_epochs: command.checkpoint_epochs,
        resume: command.resume,
    };
    let fit = training::fit_on(command.device, &data, &config, Some(&checkpoints), &mut |progress| {
        bar.show(progress)
    })?;
    bar.bar.finish_and_clear();
    let training = provenance(&command.data, config.optimiser.seed, fit.epoch, None)?;
    let manifest = export::fitted(&fit, &data, &config, training)?.write(&command.out)?;
    // The bundle is there: what was kept in case of a cut has done its work.
    if checkpoints.folder.exists() {
        std::fs::remove_dir_all(&checkpoints.folder)
            .with_context(|| format!("checkpoint {}", checkpoints.folder.display()))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    if command.json {
        let report = serde_json::json!({
            "bundle": command.out, "id": manifest.id, "scores": manifest.scores,
            "epoch": fit.epoch, "seconds": seconds,
        });
        println!("{report:#}");
    } else {
        println!("bundle {} in {}", &manifest.id[..12], command.out.display());
        println!("best epoch {} of {}, {seconds:.0} s", fit.epoch, config.optimiser.epochs);
        for (name, score) in &manifest.scores {
            println!("validation {name} {score:.4}");
        }
    }
    Ok(())
}

/// The recordings, with all units to go in if that is wanted.
fn read(command: &Fit) -> anyhow::Result<Vec<Session>> {
    let mut sessions = command.data.iter().map(|path| nwb::read(path)).collect::<Result<Vec<_>, _>>()?;
    if command.units == Units::All {
        sessions.iter_mut().flat_map(|session| &mut session.units).for_each(|unit| unit.heldout = false);
    }
    Ok(sessions)
}

/// The configuration: the command line comes before the file, and that before the defaults.
fn configuration(command: &Fit, defaults: &Config) -> Result<Config, ConfigError> {
    let mut config = match &command.config {
        Some(path) => Config::read_over(path, defaults)?,
        None => defaults.clone(),
    };
    config.optimiser.seed = command.seed.unwrap_or(config.optimiser.seed);
    config.optimiser.epochs = command.epochs.unwrap_or(config.optimiser.epochs);
    config.check()?;
    Ok(config)
}

/// The recordings in bins, the configuration for them, and what was decided on the way.
fn prepare(command: &Fit, sessions: &[Session]) -> anyhow::Result<(Dataset, Config, Vec<String>)> {
    let wanted = configuration(command, &Config::default())?.velocity.wanted();
    let data = Dataset::reading(sessions, command.bin_ms, &wanted)?;
    let (defaults, decided) = match command.preset {
        Some(Preset::Ndt) => (defaults::ndt(), vec!["defaults of the preset ndt".to_owned()]),
        None => defaults::for_data(Kind::of(&data)),
    };
    let config = configuration(command, &defaults)?;
    Ok((data, config, decided))
}

fn evaluate(command: &Evaluate) -> anyhow::Result<()> {
    let bundle =
        Bundle::read(&command.bundle).with_context(|| format!("bundle {}", command.bundle.display()))?;
    let session = nwb::read(&command.data)?;
    let evaluation = inference::evaluate(&bundle, &session, &command.split)?;
    if command.json {
        println!("{}", serde_json::to_string_pretty(&evaluation)?);
        return Ok(());
    }
    println!("{} trials, {} bins of split {}", evaluation.trials, evaluation.bins, evaluation.split);
    match evaluation.co_bps {
        Some(score) => println!("co-bps       {score:.4}"),
        None => println!("co-bps       none: no held-out units with spikes"),
    }
    if evaluation.readouts.is_empty() {
        println!("velocity R2  none: no velocity head");
    }
    for readout in &evaluation.readouts {
        let (series, lag_ms) = (&readout.series, readout.lag_ms);
        match (&readout.r2, readout.mean) {
            (Some(axes), Some(mean)) => println!("{series} R2  {axes:.4?}, mean {mean:.4}, lag {lag_ms} ms"),
            _ => println!("{series} R2  none: no behaviour, lag {lag_ms} ms"),
        }
    }
    Ok(())
}

/// A file's name without its folder, as provenance takes it.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Where a model that this program has fitted to `data` comes from.
fn provenance(
    data: &[PathBuf],
    seed: u64,
    epochs: usize,
    parent: Option<String>,
) -> Result<Training, BundleError> {
    Ok(Training {
        by: concat!("ndt-train ", env!("CARGO_PKG_VERSION")).to_owned(),
        data: data.iter().map(|path| name(path)).collect(),
        data_sha256: bundle::digest_files(data)?,
        seed,
        epochs,
        parent,
    })
}

/// A bar for a person, a line each tenth of the way for a log.
struct Bar {
    bar: ProgressBar,
    for_person: bool,
    form: ProgressForm,
    started: std::time::Instant,
}

impl Bar {
    fn new(epochs: usize, form: ProgressForm) -> Bar {
        let style = ProgressStyle::with_template("epoch {pos}/{len} {bar:30} {msg}  {eta} left");
        let bar = ProgressBar::new(epochs as u64);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let for_person = form == ProgressForm::Text && std::io::stderr().is_terminal();
        Bar { bar, for_person, form, started: std::time::Instant::now() }
    }

    fn show(&self, progress: &Progress) {
        if self.form == ProgressForm::Json {
            let line = serde_json::json!({
                "generation": progress.generation, "epoch": progress.epoch, "epochs": progress.epochs, "loss": progress.loss,
                "bits-per-spike": progress.scores.bits_per_spike, "velocity-r2": progress.scores.velocity_r2,
                "best": progress.best, "seconds": self.started.elapsed().as_secs_f64(),
            });
            eprintln!("{line}");
            return;
        }
        let velocity = progress.scores.velocity_r2.map_or_else(String::new, |r2| format!("  R2 {r2:.3}"));
        let line = format!(
            "loss {:.4}  bits/spike {:.4} (best {:.4}){velocity}",
            progress.loss, progress.scores.bits_per_spike, progress.best
        );
        let who = match progress.generation {
            0 => String::new(),
            generation => format!("teacher {generation}  "),
        };
        self.show_line(progress.epoch, progress.epochs, &who, &line);
    }

    fn show_line(&self, epoch: usize, epochs: usize, who: &str, line: &str) {
        if self.for_person {
            self.bar.set_length(epochs as u64);
            self.bar.set_position(epoch as u64);
            self.bar.set_message(format!("{who}{line}"));
        } else if epoch == 1 || epoch.is_multiple_of((epochs / 10).max(1)) {
            eprintln!("{who}epoch {epoch}/{epochs}  {line}");
        }
    }
}
