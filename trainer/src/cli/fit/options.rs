//! The options of `ndt-train fit`.

use crate::cli::overwrite::Overwrite;
use crate::cli::progress::ProgressForm;
use crate::cli::selected::{Preset, SelectionOptions, Units};
use anyhow::anyhow;
use clap::{Args, ValueEnum};
use ndt_protocol::Bundle;
use ndt_protocol::destination::{Destination, DestinationError};
use ndt_replay::nwb;
use ndt_replay::session::Session;
use ndt_trainer::config::{ConfigError, ConfigFile};
use ndt_trainer::recipe::Recipe;
use ndt_trainer::training::{Checkpoints, ComputeDevice, checkpoint};
use std::path::{Path, PathBuf};

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
    #[arg(long, required_unless_present = "print_config")]
    out: Option<PathBuf>,
    #[command(flatten)]
    pub overwrite: Overwrite,
    /// Configuration file (TOML), such as the config.toml of a bundle. Keys that it leaves out have default values.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Print the configuration that the fit would have, every key with a comment, and fit nothing.
    #[arg(long)]
    pub print_config: bool,
    #[command(flatten)]
    selection: SelectionOptions,
    #[command(flatten)]
    pub selected: nwb::UnitOptions,
    /// Named preset. `ndt` uses the masking and the learned positions of the original Neural Data Transformer.
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Units whose spikes are inputs of the model (overrides the configuration file) [default: held-in].
    #[arg(long, value_enum)]
    units: Option<Units>,
    /// Width of a bin, ms (overrides the configuration file) [default: 20].
    #[arg(long)]
    bin_ms: Option<f64>,
    /// Random seed (overrides the configuration file).
    #[arg(long)]
    seed: Option<u64>,
    /// Largest number of epochs (overrides the configuration file), of each generation of the teacher too unless the configuration
    /// file sets teacher.epochs.
    #[arg(long)]
    epochs: Option<usize>,
    /// Fit without a teacher (overrides the configuration file): faster, and a little less accurate.
    #[arg(long)]
    no_teacher: bool,
    /// Number of epochs from one checkpoint to the next. Checkpoints are written to OUT.checkpoint.
    #[arg(long, default_value_t = 10)]
    checkpoint_epochs: usize,
    /// Device to compute on: cpu, or wgpu for a graphics card (needs a build with `--features wgpu`; run on software
    /// Vulkan only so far).
    #[arg(long, default_value = "cpu")]
    pub device: ComputeDevice,
    /// Resume from OUT.checkpoint, if it exists. Without this option a checkpoint that is there is refused, or with --overwrite
    /// replaced.
    #[arg(long)]
    pub resume: bool,
    /// Fit no baselines beside the model. They take seconds to a minute: linear filters, a Kalman filter, and the time in the trial alone.
    #[arg(long)]
    pub no_baselines: bool,
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
    /// One bundle OUT/NAME for each recording NAME.nwb; the recordings share the body of the model.
    Separate,
}

impl Fit {
    /// The recipe that these options ask for. Reads the configuration file, which may be a pipe: once.
    pub fn recipe(&self) -> Result<Recipe, ConfigError> {
        Ok(Recipe {
            bin_width_ms: self.bin_ms,
            units: self.units.map(Units::of_library),
            selected: self.selection.selected(),
            config: self.config.as_deref().map(ConfigFile::read).transpose()?,
            preset: self.preset.map(Preset::of_library),
            seed: self.seed,
            epochs: self.epochs,
            no_teacher: self.no_teacher,
        })
    }

    /// Path of the bundle; empty where only the configuration is printed.
    pub fn out(&self) -> &Path {
        self.out.as_deref().unwrap_or(Path::new(""))
    }

    /// The recordings.
    pub fn read(&self) -> anyhow::Result<Vec<Session>> {
        Ok(nwb::read_all(&self.data, &self.selected)?)
    }

    /// Whether each recording gets layers and a bundle of its own: if asked for, or if their units differ.
    pub fn wants_separate(&self, recipe: &Recipe, sessions: &[Session]) -> Result<bool, ConfigError> {
        match self.sessions {
            Some(mode) => Ok(mode == SessionsMode::Separate),
            None => recipe.tells_apart(sessions),
        }
    }

    /// The files that the fit reads.
    pub fn inputs(&self) -> impl Iterator<Item = &PathBuf> {
        self.data.iter().chain(&self.config)
    }

    /// Whether the command line alone says that one bundle is fitted, to which no other recording than these belongs.
    pub fn is_surely_together(&self) -> bool {
        match self.sessions {
            Some(mode) => mode == SessionsMode::Together,
            None => self.data.len() == 1,
        }
    }

    /// Checks that the bundle and its checkpoints may be written; returns the bundle's destination.
    pub fn check_destinations(&self) -> anyhow::Result<Destination> {
        let bundle = self.overwrite.check(self.out(), Bundle::kind(self.out()), self.inputs())?;
        self.check_checkpoints().map(|()| bundle)
    }

    /// Checks that the checkpoints may be written.
    pub fn check_checkpoints(&self) -> anyhow::Result<()> {
        let Checkpoints { folder, resume, .. } = self.checkpoints();
        let overwrite = resume || self.overwrite.is_given();
        match Destination::check(&folder, checkpoint::KIND, overwrite, self.inputs()) {
            Err(error @ DestinationError::Exists { .. }) => Err(anyhow!("{error}, --resume goes on from it")),
            checked => Ok(checked.map(drop)?),
        }
    }

    /// The checkpoints of the fit, beside its bundle or the folder of its bundles.
    pub fn checkpoints(&self) -> Checkpoints {
        let mut folder = self.out().as_os_str().to_owned();
        folder.push(".checkpoint");
        Checkpoints { folder: folder.into(), every_epochs: self.checkpoint_epochs, resume: self.resume }
    }
}
