//! Trials as the baselines take them: counts of the units that are shown, and velocity at two lags.

use crate::dataset::{self, Dataset, DatasetError};
use crate::metrics::R2;
use ndt_protocol::binner::{BinError, Binner};
use ndt_replay::session::{SelectError, Session};

/// From a bin's centre to the instant of its velocity, ms: the same instant, and as far ahead as a prosthesis needs.
pub const LAGS_MS: [f64; 2] = [0.0, 100.0];

/// Which units are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Units {
    /// All of them.
    All,
    /// Those that are not held out.
    Heldin,
}

/// One uninterrupted run of bins.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Number of bins.
    pub bins: usize,
    /// Spikes `[T, C]` of the units that are shown.
    pub counts: Vec<f32>,
    /// Spikes `[T, H]` of the units that are not; empty where all are shown.
    pub hidden: Vec<f32>,
    /// Velocity `[T, V]` at each of [`LAGS_MS`], m/s; NaN where it is not known, or lies beyond the run's last bin.
    pub velocity: [Vec<f32>; 2],
}

/// Runs to fit, to choose by and to score.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// Ids of the units that are shown, in their order.
    pub channel_ids: Vec<i64>,
    /// Units that are not shown.
    pub hidden: usize,
    /// Components of the velocity.
    pub dims: usize,
    /// Width of a bin, ms.
    pub bin_width_ms: f64,
    /// To fit.
    pub train: Vec<Run>,
    /// To choose by.
    pub val: Vec<Run>,
    /// To score.
    pub scored: Vec<Run>,
}

/// Why there is nothing to fit.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The recordings.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The bin width.
    #[error(transparent)]
    Bin(#[from] BinError),
    /// The split to score.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// No velocity to decode.
    #[error("expected a series {} in every recording, found none", dataset::VELOCITY_SERIES)]
    NoVelocity,
}

impl Data {
    /// Bins `sessions`, whose units must agree; `split` is scored, `val` or any other that they have.
    ///
    /// # Errors
    /// [`DataError`] when there is nothing to fit, to choose by or to score.
    pub fn new(
        sessions: &[Session],
        bin_width_ms: f64,
        split: &str,
        units: Units,
    ) -> Result<Data, DataError> {
        let lags = LAGS_MS.map(|lag_ms| Dataset::new(sessions, bin_width_ms, lag_ms));
        let [now, ahead] = lags;
        let (now, ahead) = (now?, ahead?);
        if now.readouts.is_empty() {
            return Err(DataError::NoVelocity);
        }
        let cut = |now: &[dataset::Trial], ahead: &[dataset::Trial], heldout: &[bool]| {
            let runs = now.iter().zip(ahead);
            runs.map(|(now, ahead)| Run::new(now, ahead, heldout)).collect::<Vec<_>>()
        };
        let shown: Vec<bool> = now.heldout.iter().map(|heldout| units == Units::All || !heldout).collect();
        let scored = if split == "val" {
            cut(&now.val, &ahead.val, &shown)
        } else {
            let [now, ahead] = [&now, &ahead].map(|data| trials_of(sessions, data, split));
            cut(&now?, &ahead?, &shown)
        };
        let ids = now.unit_ids.iter().zip(&shown).filter(|(_, shown)| **shown);
        Ok(Data {
            channel_ids: ids.map(|(id, _)| *id).collect(),
            hidden: shown.iter().filter(|shown| !**shown).count(),
            dims: now.velocity_dims(),
            bin_width_ms,
            train: cut(&now.train, &ahead.train, &shown),
            val: cut(&now.val, &ahead.val, &shown),
            scored,
        })
    }

    /// Number of units that are shown.
    pub fn channels(&self) -> usize {
        self.channel_ids.len()
    }

    /// Mean spikes per bin of each unit that is shown, over the training runs.
    pub fn mean_counts(&self) -> Vec<f64> {
        let channels = self.channels();
        let mut sums = vec![0.0; channels];
        for row in self.train.iter().flat_map(|run| run.counts.chunks_exact(channels)) {
            sums.iter_mut().zip(row).for_each(|(sum, count)| *sum += f64::from(*count));
        }
        let bins: usize = self.train.iter().map(|run| run.bins).sum();
        sums.iter().map(|sum| sum / bins.max(1) as f64).collect()
    }
}

impl Run {
    fn new(now: &dataset::Trial, ahead: &dataset::Trial, shown: &[bool]) -> Run {
        let columns = |wanted: bool| {
            let rows = now.counts.chunks_exact(shown.len());
            let of_row = |row: &'_ [f32]| {
                let row = row.iter().zip(shown).filter(|(_, shown)| **shown == wanted);
                row.map(|(count, _)| *count).collect::<Vec<f32>>()
            };
            rows.flat_map(of_row).collect::<Vec<f32>>()
        };
        Run {
            bins: now.bins,
            counts: columns(true),
            hidden: columns(false),
            velocity: [now.velocity.clone(), ahead.velocity.clone()],
        }
    }
}

fn trials_of(sessions: &[Session], data: &Dataset, split: &str) -> Result<Vec<dataset::Trial>, DataError> {
    let binner = Binner::new(data.bin_width_ms)?;
    let mut trials = Vec::new();
    for session in sessions {
        let intervals = session.segments(Some(split))?;
        trials.extend(dataset::trials(session, &intervals, binner, &data.readouts));
    }
    Ok(trials)
}

/// R2 of `decode`, which is given the counts `[T, C]` of each run and answers with velocities `[T, V]`, m/s.
pub fn r2(runs: &[Run], lag: usize, dims: usize, mut decode: impl FnMut(&[f32]) -> Vec<f32>) -> R2 {
    let mut r2 = R2::new(dims);
    for run in runs {
        let decoded = decode(&run.counts);
        for (truth, decoded) in run.velocity[lag].chunks_exact(dims).zip(decoded.chunks_exact(dims)) {
            r2.add(truth, decoded);
        }
    }
    r2
}

/// Whether all components of a velocity are known.
pub(super) fn is_known(velocity: &[f32]) -> bool {
    velocity.iter().all(|value| value.is_finite())
}
