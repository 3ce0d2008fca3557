//! `ndt-train fit`: fits a model to recordings and writes its bundle.

use super::progress::{FitProgress, ProgressForm};
use super::{report, sessions};
use anyhow::Context;
use clap::{Args, ValueEnum};
use ndt_replay::nwb;
use ndt_replay::session::Session;
use ndt_trainer::export;
use ndt_trainer::recipe::{self, Prepared, Recipe, provenance};
use ndt_trainer::training::{self, Checkpoints, ComputeDevice};
use std::path::PathBuf;

pub const HELP: &str = "\
Options override the configuration file, and the file overrides the defaults, which follow from the data or are the preset's.

Example: ndt-train fit --data session.nwb --bin-ms 20 --out model";

/// The options of `fit`.
#[derive(Args)]
pub struct Fit {
    /// NWB recordings.
    #[arg(long, required = true, num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// How several recordings are fitted [default: together if their units are the same, else separate].
    #[arg(long, value_enum)]
    pub sessions: Option<SessionsMode>,
    /// Path of the bundle: a folder, or a file whose name ends in .ndt.
    #[arg(long)]
    pub out: PathBuf,
    /// Configuration file (TOML). Keys that it leaves out have default values.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Named preset. `ndt` uses the masking and the learned positions of the original Neural Data Transformer.
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Units whose spikes are inputs of the model.
    #[arg(long, value_enum, default_value = "heldin")]
    units: Units,
    /// Width of a bin, ms.
    #[arg(long, default_value_t = 20.0)]
    bin_ms: f64,
    /// Random seed (overrides the configuration file).
    #[arg(long)]
    seed: Option<u64>,
    /// Largest number of epochs (overrides the configuration file).
    #[arg(long)]
    epochs: Option<usize>,
    /// Number of epochs from one checkpoint to the next. Checkpoints are written to OUT.checkpoint.
    #[arg(long, default_value_t = 10)]
    checkpoint_epochs: usize,
    /// Device to compute on: cpu, or wgpu for a graphics card (needs a build with `--features wgpu`; run on software Vulkan
    /// only so far).
    #[arg(long, default_value = "cpu")]
    pub device: ComputeDevice,
    /// Resume from OUT.checkpoint, if it exists.
    #[arg(long)]
    pub resume: bool,
    /// Form of the progress on standard error.
    #[arg(long, value_enum, default_value = "text")]
    pub progress: ProgressForm,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// How several recordings are fitted.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SessionsMode {
    /// One model and one bundle; the recordings must have the same units.
    Together,
    /// One bundle OUT/<name of the recording> for each recording; the recordings share the body of the model.
    Separate,
}

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    Ndt,
}

/// Units whose spikes are inputs of the model.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Units {
    /// All units except those that the recording marks as held out.
    Heldin,
    /// All units.
    All,
}

impl Fit {
    /// The recipe that these options ask for.
    pub fn recipe(&self) -> Recipe {
        Recipe {
            bin_width_ms: self.bin_ms,
            config: self.config.clone(),
            preset: self.preset.map(|Preset::Ndt| recipe::Preset::Ndt),
            seed: self.seed,
            epochs: self.epochs,
        }
    }

    fn read(&self) -> anyhow::Result<Vec<Session>> {
        let mut sessions = self.data.iter().map(|path| nwb::read(path)).collect::<Result<Vec<_>, _>>()?;
        if self.units == Units::All {
            recipe::show_all_units(&mut sessions);
        }
        Ok(sessions)
    }

    fn wants_separate(&self, sessions: &[Session]) -> bool {
        match self.sessions {
            Some(mode) => mode == SessionsMode::Separate,
            None => recipe::units_differ(sessions),
        }
    }

    fn checkpoints(&self) -> Checkpoints {
        let mut folder = self.out.clone().into_os_string();
        folder.push(".checkpoint");
        Checkpoints { folder: folder.into(), every_epochs: self.checkpoint_epochs, resume: self.resume }
    }
}

/// Carries out the command; returns its report.
pub fn fit(command: &Fit) -> anyhow::Result<String> {
    let sessions = command.read()?;
    if command.wants_separate(&sessions) {
        return sessions::fit(command, &sessions);
    }
    let Prepared { data, config, notes } = command.recipe().prepare(&sessions)?;
    for note in &notes {
        eprintln!("note: {note}");
    }
    eprintln!(
        "{} channels in, {} units out, {} training and {} validation trials",
        data.channels().count(),
        data.units(),
        data.train.len(),
        data.val.len()
    );
    let progress = FitProgress::new(config.optimiser.epochs, command.progress);
    let checkpoints = command.checkpoints();
    let fit = training::fit_on(command.device, &data, &config, Some(&checkpoints), &mut |state| {
        progress.show(state)
    })?;
    progress.clear();
    let training = provenance(&command.data, config.optimiser.seed, fit.epoch, None)?;
    let manifest = export::bundle(&fit, &data, &config, training)?.write(&command.out)?;
    // The bundle is written: the checkpoint has done its work.
    if checkpoints.folder.exists() {
        std::fs::remove_dir_all(&checkpoints.folder)
            .with_context(|| format!("checkpoint {}", checkpoints.folder.display()))?;
    }
    let seconds = progress.seconds();
    if command.json {
        let report = serde_json::json!({
            "bundle": command.out, "id": manifest.id, "scores": manifest.scores,
            "epoch": fit.epoch, "seconds": seconds,
        });
        return Ok(format!("{report:#}"));
    }
    let mut lines = vec![
        report::bundle(&manifest, &command.out),
        format!("best epoch {} of {}, {seconds:.0} s", fit.epoch, config.optimiser.epochs),
    ];
    lines.extend(report::scores(&manifest));
    Ok(lines.join("\n"))
}
