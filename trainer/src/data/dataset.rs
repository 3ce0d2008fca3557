//! Recordings as a fit takes them in: trials to fit and trials to validate on, in the model's bins.

use super::known::known;
use super::readouts::{self, Readout};
use super::selection::{Selection, SelectionError};
use super::splits::Splits;
use super::trial::{Trial, column_means, trials};
use ndt_protocol::binner::{BinError, Binner};
use ndt_protocol::bundle::origin::RecordingSplits;
use ndt_protocol::bundle::quantity::Quantity;
use ndt_replay::inspect::findings::{findings, same_twice};
use ndt_replay::session::{BehaviorError, Identity, Interval, Session, WidthError};

/// Recordings, ready for training.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Ids of all units, in the order of the counts' columns.
    pub unit_ids: Vec<i64>,
    /// Whether each unit is held out: its counts are predicted and never shown to the model.
    pub heldout: Vec<bool>,
    /// Width of a bin, ms.
    pub bin_width_ms: f64,
    /// What is read out besides the rates, in the order of the targets' columns; empty without behaviour.
    pub readouts: Vec<Readout>,
    /// Trials to fit.
    pub train: Vec<Trial>,
    /// Trials to validate on: the best epoch and other settings are chosen by their scores.
    pub val: Vec<Trial>,
    /// Trials to test on: what is to be expected of the model. Nothing is fitted to them or chosen by them.
    pub test: Vec<Trial>,
    /// The trials of each recording by their use.
    pub splits: Vec<RecordingSplits>,
    /// Number of elements of `train` that each training trial of each recording has given.
    pub train_runs: Vec<Vec<usize>>,
    /// What was decided while the recordings were read, one sentence each.
    pub notes: Vec<String>,
}

/// Why sessions do not make a dataset.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The bin width cannot be used.
    #[error(transparent)]
    Bin(#[from] BinError),
    /// The trials cannot be selected.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// There is no recording.
    #[error("expected at least one recording, found none")]
    NoSession,
    /// A recording lacks the behaviour that was asked for.
    #[error(transparent)]
    Behavior(#[from] BehaviorError),
    /// The recordings have different units.
    #[error("expected the unit ids of the first recording in each, found others in recording {found}")]
    Units {
        /// Number of the recording that differs, counted from 1.
        found: usize,
    },
    /// The ids of the units only number the rows of a table, so that nothing says that two recordings have the same units.
    #[error(
        "expected ids that say which units of recording 1 are in recording {found}, found numbers of rows: --same-units says that they \
         are the same, --unit-id COLUMN names a column that identifies them, and --sessions separate fits each recording by itself"
    )]
    NoIdentity {
        /// Number of the recording, counted from 1.
        found: usize,
    },
    /// The bins cannot be made of the recorded ones.
    #[error(transparent)]
    Width(#[from] WidthError),
    /// The same recording was given twice.
    #[error(
        "expected different recordings, found the spikes of recording {first} again in recording {second}"
    )]
    Twice {
        /// Number of the recording that comes first, counted from 1.
        first: usize,
        /// Number of the recording that repeats it.
        second: usize,
    },
    /// All trials are kept for a final test.
    #[error(
        "expected trials to fit, found all {trials} in the splits test and none, which no model is fitted to"
    )]
    Reserved {
        /// Number of trials of all recordings.
        trials: usize,
    },
    /// All units are held out, so that there is nothing to show to a model.
    #[error("expected at least one unit that is not held out among {units}, found none")]
    NoChannel {
        /// Units of the recording.
        units: usize,
    },
    /// No trial to fit, or none to validate on.
    #[error("expected at least one {part} trial of a whole {bin_width_ms} ms bin, found none")]
    NoTrial {
        /// Which trials are missing: `training` or `validation`.
        part: &'static str,
        /// Width of a bin, ms.
        bin_width_ms: f64,
    },
}

/// Id of each unit and whether it is held out: sessions that agree in this can be fitted together.
pub fn units_of(session: &Session) -> Vec<(i64, bool)> {
    session.units.iter().map(|unit| (unit.id, unit.heldout)).collect()
}

/// The first recording after the first one whose units nothing identifies with those of the first; `None` if all are one population.
pub fn without_identity(sessions: &[Session]) -> Option<usize> {
    let is_nobody = |session: &Session| session.source.identity == Identity::Rows;
    let first = sessions.first()?;
    (1..sessions.len()).find(|&at| is_nobody(first) || is_nobody(&sessions[at]))
}

/// What is odd about each of the recordings, one sentence each.
pub fn oddities(sessions: &[Session]) -> Vec<String> {
    let of_session = |(at, session): (usize, &Session)| {
        let whose = if sessions.len() > 1 { format!("recording {}: ", at + 1) } else { String::new() };
        findings(session).into_iter().map(move |finding| format!("{whose}{finding}"))
    };
    sessions.iter().enumerate().flat_map(of_session).collect()
}

impl Dataset {
    /// Bins sessions of the same units into one dataset, with the hand's velocity at one lag as the only readout.
    ///
    /// # Errors
    /// [`DatasetError`] when there is nothing to fit, or when the sessions have different units.
    pub fn new(sessions: &[Session], bin_width_ms: f64, lag_ms: f64) -> Result<Dataset, DatasetError> {
        Dataset::reading(sessions, bin_width_ms, &[(Quantity::Velocity, lag_ms)])
    }

    /// Bins sessions of the same units into one dataset with several readouts.
    ///
    /// Each readout is a quantity of the hand and the ms from a bin's centre to the instant that is read out. In the place of the velocity
    /// stands the behaviour that the selection names, or the default of [`Session::default_behavior`]. Without it in every recording, in one unit and in some training trial, there are no readouts; another quantity that is
    /// missing in this way is left out. [`Dataset::notes`] says so, and what is odd about the recordings.
    ///
    /// # Errors
    /// As [`Dataset::new`].
    pub fn reading(
        sessions: &[Session],
        bin_width_ms: f64,
        wanted: &[(Quantity, f64)],
    ) -> Result<Dataset, DatasetError> {
        Dataset::selected(sessions, bin_width_ms, wanted, &Selection::default())
    }

    /// As [`Dataset::reading`], with time and splits by `selection`.
    ///
    /// # Errors
    /// As [`Dataset::new`], and when a recording lacks the columns and values of the selection.
    pub fn selected(
        sessions: &[Session],
        bin_width_ms: f64,
        wanted: &[(Quantity, f64)],
        selection: &Selection,
    ) -> Result<Dataset, DatasetError> {
        let binner = Binner::new(bin_width_ms)?;
        let first = sessions.first().ok_or(DatasetError::NoSession)?;
        sessions.iter().try_for_each(|session| session.check_width(bin_width_ms))?;
        if let Some(other) = without_identity(sessions) {
            return Err(DatasetError::NoIdentity { found: other + 1 });
        }
        let units = units_of(first);
        if let Some(other) = sessions.iter().position(|session| units_of(session) != units) {
            return Err(DatasetError::Units { found: other + 1 });
        }
        if units.iter().all(|(_, heldout)| *heldout) {
            return Err(DatasetError::NoChannel { units: units.len() });
        }
        if let Some((first, second)) = same_twice(sessions) {
            return Err(DatasetError::Twice { first, second });
        }
        let mut notes = oddities(sessions);
        let (mut readouts, decided) = readouts::available(sessions, wanted, &selection.data.behavior)?;
        notes.extend(decided);
        let relabelled = sessions.iter().map(|session| selection.relabelled(session));
        let relabelled = relabelled.collect::<Result<Vec<_>, _>>()?;
        let sessions: Vec<&Session> = relabelled.iter().map(AsRef::as_ref).collect();
        let of_session = |session: &&Session| Splits::of(session, selection, binner, &mut notes);
        let splits: Vec<Splits> = sessions.iter().map(of_session).collect();
        let cut = |part: fn(&Splits) -> &Vec<Interval>, readouts: &[Readout]| -> Vec<Trial> {
            let of_session =
                |(session, splits): (&&Session, &Splits)| trials(session, part(splits), binner, readouts);
            sessions.iter().zip(&splits).flat_map(of_session).collect()
        };
        let mut train = cut(|splits| &splits.train, &readouts);
        let found = known(&readouts, &train, "training", &mut notes);
        if found.len() < readouts.len() {
            readouts = found;
            train = cut(|splits| &splits.train, &readouts);
        }
        let val = cut(|splits| &splits.val, &readouts);
        let test = cut(|splits| &splits.test, &readouts);
        if !val.is_empty() {
            known(&readouts, &val, "validation", &mut notes);
        }
        if splits.iter().all(|splits| splits.train.is_empty())
            && sessions.iter().any(|session| session.reserved_trials() > 0)
        {
            return Err(DatasetError::Reserved {
                trials: sessions.iter().map(|session| session.reserved_trials()).sum(),
            });
        }
        for (part, trials) in [("training", &train), ("validation", &val)] {
            if trials.is_empty() {
                return Err(DatasetError::NoTrial { part, bin_width_ms });
            }
        }
        let recorded =
            sessions.iter().zip(&splits).map(|(session, splits)| splits.recorded(session)).collect();
        let runs = |(session, splits): (&&Session, &Splits)| {
            let observed = splits.train.iter().map(|interval| session.observed_bins(*interval, binner).len());
            observed.collect()
        };
        let train_runs = sessions.iter().zip(&splits).map(runs).collect();
        let (unit_ids, heldout) = units.into_iter().unzip();
        Ok(Dataset {
            unit_ids,
            heldout,
            bin_width_ms,
            readouts,
            train,
            val,
            test,
            splits: recorded,
            train_runs,
            notes,
        })
    }

    /// Leaves out all training trials but the first `count`, in the splits too.
    pub fn keep_training(&mut self, count: usize) {
        self.train.truncate(count);
        let mut left = self.train.len();
        for (splits, runs) in self.splits.iter_mut().zip(&self.train_runs) {
            let mut kept = 0;
            // A trial with unobserved time has several runs of bins, and one without a whole bin has none.
            for runs in runs {
                if left == 0 {
                    break;
                }
                left -= left.min(*runs);
                kept += 1;
            }
            splits.train.truncate(kept);
            splits.train_pieces_s.truncate(kept);
        }
    }

    /// Columns of the input channels among all units.
    pub fn channels(&self) -> impl Iterator<Item = usize> + '_ {
        self.heldout.iter().enumerate().filter(|(_, heldout)| !**heldout).map(|(unit, _)| unit)
    }

    /// Whether any unit is held out, so that co-smoothing can be scored.
    pub fn has_heldout(&self) -> bool {
        self.heldout.contains(&true)
    }

    /// A digest (sha256) of units, bins, counts and targets, by which a checkpoint recognises its dataset.
    pub fn fingerprint(&self) -> String {
        let mut bytes = Vec::new();
        bytes.extend(self.unit_ids.iter().flat_map(|id| id.to_le_bytes()));
        bytes.extend(self.heldout.iter().map(|heldout| u8::from(*heldout)));
        let lags = self.readouts.iter().map(|readout| readout.lag_ms);
        bytes.extend(lags.chain([self.bin_width_ms]).flat_map(f64::to_le_bytes));
        bytes.extend(self.readouts.iter().flat_map(|readout| readout.series.bytes()));
        for trial in self.train.iter().chain(&self.val) {
            bytes.extend((trial.bins as u64).to_le_bytes());
            bytes.extend(trial.counts.iter().chain(&trial.targets).flat_map(|value| value.to_le_bytes()));
        }
        ndt_protocol::bundle::sha256(&bytes)
    }

    /// Number of units, held-out ones included.
    pub fn units(&self) -> usize {
        self.unit_ids.len()
    }

    /// Number of columns of all readouts together.
    pub fn readout_dims(&self) -> usize {
        readouts::dims(&self.readouts)
    }

    /// Mean spikes per bin of each unit over the training trials.
    pub fn mean_counts(&self) -> Vec<f64> {
        let rows = self.train.iter().flat_map(|trial| trial.counts.chunks_exact(self.units()));
        column_means(rows, self.units())
    }
}
