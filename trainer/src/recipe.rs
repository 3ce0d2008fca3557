//! What a fit is made of, decided before it starts: defaults that follow from the data, the configuration file over
//! them, and the provenance that is written into the bundle.
//!
//! `ndt-train fit` follows a [`Recipe`]; so does every other program that fits as it does.

pub mod defaults;

use crate::config::{Config, ConfigError};
use crate::data::dataset::units_of;
use crate::data::{Dataset, DatasetError};
use crate::training::sessions::same_readouts;
use defaults::Kind;
use ndt_protocol::bundle::manifest::Training;
use ndt_protocol::bundle::{self, BundleError};
use ndt_replay::inspect::findings::same_twice;
use ndt_replay::session::Session;
use std::path::{Path, PathBuf};

/// The choices of a fit. Choices that are left open are made by the configuration file, or else by defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Width of a bin, ms.
    pub bin_width_ms: f64,
    /// Configuration file (TOML), which overrides the defaults.
    pub config: Option<PathBuf>,
    /// Named set of defaults, which overrides the defaults that are derived from the data.
    pub preset: Option<Preset>,
    /// Random seed, which overrides the configuration file.
    pub seed: Option<u64>,
    /// Largest number of epochs, which overrides the configuration file.
    pub epochs: Option<usize>,
}

/// A named set of defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// The masking and the learned positions of the original Neural Data Transformer.
    Ndt,
}

/// A fit that is ready to start.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// The recordings in bins.
    pub data: Dataset,
    /// The configuration.
    pub config: Config,
    /// What was decided about the data and the defaults, one sentence each.
    pub notes: Vec<String>,
}

/// Why a recipe cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The recordings do not make a dataset.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

impl Default for Recipe {
    fn default() -> Self {
        Recipe { bin_width_ms: 20.0, config: None, preset: None, seed: None, epochs: None }
    }
}

impl Recipe {
    /// Bins sessions of the same units, and completes the configuration with defaults that follow from them.
    ///
    /// # Errors
    /// [`RecipeError`] when the configuration cannot be used, or the sessions do not make a dataset.
    pub fn prepare(&self, sessions: &[Session]) -> Result<Prepared, RecipeError> {
        let wanted = self.configure(&Config::default())?.readouts.wanted();
        let data = Dataset::reading(sessions, self.bin_width_ms, &wanted)?;
        let (defaults, decided) = match self.preset {
            Some(Preset::Ndt) => (defaults::ndt(), vec!["defaults of the preset ndt".to_owned()]),
            None => defaults::for_data(Kind::of(&data)),
        };
        let config = self.configure(&defaults)?;
        let notes = data.notes.iter().cloned().chain(decided).collect();
        Ok(Prepared { data, config, notes })
    }

    /// Bins sessions that are fitted on one body with layers of their own; gives a dataset for each, and the
    /// configuration.
    ///
    /// # Errors
    /// As [`Recipe::prepare`].
    pub fn prepare_separate(&self, sessions: &[Session]) -> Result<(Vec<Dataset>, Config), RecipeError> {
        let mut config = self.configure(&Config::default())?;
        // Heads for later bins would have to be each session's own.
        config.objective.forward_bins = 0;
        let wanted = config.readouts.wanted();
        let dataset = |session| Dataset::reading(std::slice::from_ref(session), self.bin_width_ms, &wanted);
        if let Some((first, second)) = same_twice(sessions) {
            return Err(DatasetError::Twice { first, second }.into());
        }
        let mut data = sessions.iter().map(dataset).collect::<Result<Vec<_>, _>>()?;
        same_readouts(&mut data);
        Ok((data, config))
    }

    /// The configuration over these defaults: the recipe's own choices override the file, and the file overrides the
    /// defaults.
    fn configure(&self, defaults: &Config) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(path) => Config::read_over(path, defaults)?,
            None => defaults.clone(),
        };
        config.optimiser.seed = self.seed.unwrap_or(config.optimiser.seed);
        config.optimiser.epochs = self.epochs.unwrap_or(config.optimiser.epochs);
        config.check()?;
        Ok(config)
    }
}

/// Whether sessions have different units, so that each needs layers of its own.
pub fn units_differ(sessions: &[Session]) -> bool {
    sessions.iter().any(|session| units_of(session) != units_of(&sessions[0]))
}

/// Makes all units inputs of the model, those included that the recordings mark as held out.
pub fn show_all_units(sessions: &mut [Session]) {
    sessions.iter_mut().flat_map(|session| &mut session.units).for_each(|unit| unit.heldout = false);
}

/// The provenance of a model that this library has fitted to the files `data`; `parent` is the id of the bundle that it
/// was fine-tuned from.
///
/// # Errors
/// [`BundleError`] when a file cannot be read.
pub fn provenance(
    data: &[PathBuf],
    seed: u64,
    epochs: usize,
    parent: Option<String>,
) -> Result<Training, BundleError> {
    Ok(Training {
        by: concat!("ndt-train ", env!("CARGO_PKG_VERSION")).to_owned(),
        data: data.iter().map(|path| file_name(path)).collect(),
        data_sha256: bundle::digest_files(data)?,
        seed,
        epochs,
        parent,
    })
}

/// A file's name without its folder: a bundle does not tell where a recording lay.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
