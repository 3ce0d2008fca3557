//! What a fit is made of, decided before it starts: defaults that follow from the data, the configuration file over
//! them, and the provenance that is written into the bundle.
//!
//! `ndt-train fit` follows a [`Recipe`], and so does everything else that fits: `finetune`, each run of a sweep, other programs.
//! **[`Recipe::configure`] is the one way to a configuration.**

pub mod defaults;
mod provenance;
mod reference_page;

pub use provenance::{decoding_provenance, provenance, record};
pub use reference_page::{example, reference_page};

use crate::config::{Config, ConfigError, ConfigFile, Selected, Units};
use crate::data::dataset::{units_of, without_identity};
use crate::data::{BinnedSession, Dataset, DatasetError, Selection};
use crate::training::sessions::same_readouts;
use defaults::{Defaults, Kind};
use ndt_protocol::bundle::manifest::Positions;
use ndt_replay::inspect::findings::same_twice;
use ndt_replay::session::Session;
use std::borrow::Cow;

/// The choices of a fit. Choices that are left open are made by the configuration file, or else by defaults.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recipe {
    /// Width of a bin, ms, which overrides the configuration file.
    pub bin_width_ms: Option<f64>,
    /// Units whose spikes are inputs of the model, which overrides the configuration file.
    pub units: Option<Units>,
    /// Time and splits, which override the configuration file.
    pub selected: Selected,
    /// Configuration file, which overrides the defaults.
    pub config: Option<ConfigFile>,
    /// Named set of defaults, which overrides the defaults that are derived from the data.
    pub preset: Option<Preset>,
    /// Random seed, which overrides the configuration file.
    pub seed: Option<u64>,
    /// Largest number of epochs, which overrides the configuration file. No generation of the teacher takes more, unless the file
    /// says how many.
    pub epochs: Option<usize>,
    /// Whether the model is fitted without a teacher, whatever the configuration file says.
    pub no_teacher: bool,
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

impl Recipe {
    /// Bins sessions of the same units, and completes the configuration with defaults that follow from them.
    ///
    /// # Errors
    /// [`RecipeError`] when the configuration cannot be used, or the sessions do not make a dataset.
    pub fn prepare(&self, sessions: &[Session]) -> Result<Prepared, RecipeError> {
        let early = self.early()?;
        let sessions = shown(sessions, early.data.units);
        let selection = Selection::of(&early);
        let data = Dataset::selected(&sessions, early.data.bin_ms, &early.readouts.wanted(), &selection)?;
        let (config, decided) = self.configure(Kind::of(&data))?;
        let windows = cut_into_windows([&data], &config);
        let notes = data.notes.iter().cloned().chain(decided).chain(windows).collect();
        Ok(Prepared { data, config, notes })
    }

    /// Bins one session for models of other people, in the time and the splits of a fit.
    ///
    /// # Errors
    /// As [`Recipe::prepare`].
    pub fn binned(&self, session: &Session) -> Result<BinnedSession, RecipeError> {
        let early = self.early()?;
        Ok(BinnedSession::of(session, early.data.bin_ms, &Selection::of(&early))?)
    }

    /// Bins sessions that are fitted on one body with layers of their own; gives a dataset for each, the configuration, and what
    /// was decided about the configuration.
    ///
    /// # Errors
    /// As [`Recipe::prepare`].
    pub fn prepare_separate(
        &self,
        sessions: &[Session],
    ) -> Result<(Vec<Dataset>, Config, Vec<String>), RecipeError> {
        let early = self.early()?;
        let (sessions, wanted) = (&shown(sessions, early.data.units), early.readouts.wanted());
        let selection = Selection::of(&early);
        let dataset = |session| {
            Dataset::selected(std::slice::from_ref(session), early.data.bin_ms, &wanted, &selection)
        };
        if let Some((first, second)) = same_twice(sessions) {
            return Err(DatasetError::Twice { first, second }.into());
        }
        let mut data = sessions.iter().map(dataset).collect::<Result<Vec<_>, _>>()?;
        same_readouts(&mut data);
        // Rates of a teacher, and heads for later bins, would have to be each session's own.
        let (mut config, mut notes) =
            Recipe { no_teacher: true, ..self.clone() }.configure(Kind::of_all(&data))?;
        if std::mem::take(&mut config.objective.forward_bins) > 0 {
            notes.push(
                "objective.forward-bins = 0: separate sessions have no heads for later bins".to_owned(),
            );
        }
        notes.extend(cut_into_windows(&data, &config));
        Ok((data, config, notes))
    }

    /// The configuration of a fit to data of this kind, and what was decided about it, one sentence each: the recipe's own choices
    /// override the file, and the file overrides the defaults, which follow from the data or are the preset's.
    ///
    /// # Errors
    /// [`ConfigError`] when the configuration cannot be used.
    pub fn configure(&self, kind: Kind) -> Result<(Config, Vec<String>), ConfigError> {
        let defaults = match self.preset {
            Some(Preset::Ndt) => Defaults::ndt(),
            None => Defaults::of(kind),
        };
        let mut config = self.over(&defaults.config)?;
        let mut notes = Vec::new();
        if let Some(file) = self.config.as_ref().filter(|file| file.is_empty()) {
            notes
                .push(format!("the configuration {} is empty: all values are defaults", file.path.display()));
        }
        notes.extend(defaults.notes(&config)?);
        notes.extend(self.limit_teacher(&mut config));
        config.check()?;
        Ok((config, notes))
    }

    /// Checks what can be checked of the configuration without recordings.
    ///
    /// # Errors
    /// [`ConfigError`] with all problems.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.early().map(|_| ())
    }

    /// The sessions with the units as inputs that the recipe wants.
    ///
    /// # Errors
    /// As [`Recipe::check`].
    pub fn shown<'a>(&self, sessions: &'a [Session]) -> Result<Cow<'a, [Session]>, ConfigError> {
        Ok(shown(sessions, self.early()?.data.units))
    }

    /// How the recordings are split, as far as that does not depend on them.
    ///
    /// # Errors
    /// As [`Recipe::check`].
    pub fn selection(&self) -> Result<Selection, ConfigError> {
        Ok(Selection::of(&self.early()?))
    }

    /// Whether each of these sessions needs layers of its own, because their units differ.
    ///
    /// # Errors
    /// As [`Recipe::check`].
    pub fn tells_apart(&self, sessions: &[Session]) -> Result<bool, ConfigError> {
        let units = self.early()?.data.units;
        if without_identity(sessions).is_some() {
            return Ok(true);
        }
        // As [`shown`] would leave them, without a copy of the recordings.
        let of = |session: &Session| -> Vec<(i64, bool)> {
            let marked = units_of(session).into_iter();
            marked.map(|(id, heldout)| (id, heldout && units == Units::Heldin)).collect()
        };
        Ok(sessions.iter().any(|session| of(session) != of(&sessions[0])))
    }

    /// The configuration before the recordings are known: bins, units and readouts do not depend on them.
    fn early(&self) -> Result<Config, ConfigError> {
        let mut config = self.over(&match self.preset {
            Some(Preset::Ndt) => Defaults::ndt().config,
            None => Config::default(),
        })?;
        self.limit_teacher(&mut config);
        config.check()?;
        Ok(config)
    }

    /// The file and the recipe's own choices over these defaults, unchecked.
    fn over(&self, defaults: &Config) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(file) => file.over(defaults)?,
            None => defaults.clone(),
        };
        config.data.bin_ms = self.bin_width_ms.unwrap_or(config.data.bin_ms);
        config.data.units = self.units.unwrap_or(config.data.units);
        self.selected.over(&mut config.data);
        config.optimiser.seed = self.seed.unwrap_or(config.optimiser.seed);
        config.optimiser.epochs = self.epochs.unwrap_or(config.optimiser.epochs);
        Ok(config)
    }

    /// Leaves out the teacher, or shortens it, as the recipe wants it; says so.
    fn limit_teacher(&self, config: &mut Config) -> Option<String> {
        let sets = |key: &str| self.config.as_ref().is_some_and(|file| file.sets(key));
        let Config { objective, teacher, .. } = config;
        let needed = objective.redrawn != 0.0 || objective.teacher_weight != 0.0;
        if self.no_teacher || teacher.epochs.is_empty() {
            let was = (objective.redrawn, objective.teacher_weight);
            if self.no_teacher || !sets("objective.redrawn") {
                objective.redrawn = 0.0;
            }
            if self.no_teacher || !sets("objective.teacher-weight") {
                objective.teacher_weight = 0.0;
            }
            let is_changed = was != (objective.redrawn, objective.teacher_weight);
            return is_changed
                .then(|| "no teacher: objective.redrawn and objective.teacher-weight are 0".to_owned());
        }
        let most = self.epochs.filter(|_| needed && !sets("teacher.epochs"))?;
        if teacher.epochs.iter().all(|epochs| *epochs <= most) {
            return None;
        }
        teacher.epochs.iter_mut().for_each(|epochs| *epochs = most.min(*epochs));
        Some(format!(
            "teacher.epochs = {:?}: no generation takes more than the model's epochs",
            teacher.epochs
        ))
    }
}

/// What becomes of trials that are longer than the window of a model with learned positions, which has no position for later bins; `None`
/// where there are none.
pub fn cut_into_windows<'a>(data: impl IntoIterator<Item = &'a Dataset>, config: &Config) -> Option<String> {
    if config.model.positions != Positions::Learned {
        return None;
    }
    let window = |data: &Dataset| (config.model.window_ms / data.bin_width_ms).round() as usize;
    let cut = |data: &'a Dataset| {
        let trials = data.train.iter().chain(&data.val).map(|trial| trial.bins);
        Some((trials.max()?, window(data))).filter(|(longest, window)| longest > window)
    };
    let (longest, window) = data.into_iter().filter_map(cut).max()?;
    Some(format!(
        "learned positions exist for {window} bins, and trials have up to {longest}: trials are fitted and validated in windows of \
         {window} bins, and evaluation and stream decode each bin from the last {window}"
    ))
}

/// The sessions with these units as inputs of a model: with all, none is held out any more.
fn shown(sessions: &[Session], units: Units) -> Cow<'_, [Session]> {
    if units == Units::Heldin {
        return Cow::Borrowed(sessions);
    }
    let mut sessions = sessions.to_vec();
    sessions.iter_mut().flat_map(|session| &mut session.units).for_each(|unit| unit.heldout = false);
    Cow::Owned(sessions)
}
