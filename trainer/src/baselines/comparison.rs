//! The cheap baselines beside a fitted model: fitted to the same trials, shown the same units, scored on the same bins.
//!
//! A score says little alone: trials that resemble each other make every decoder good. So a fit reports what is reached without a
//! transformer: by linear filters over the usual histories and over the bins that the model sees, by a Kalman filter, and by the
//! clock. The recurrent network takes minutes and is left to `ndt-train baselines`, and so is a fit of too many multiplications.

use super::clock::Clock;
use super::kalman::{Kalman, State};
use super::runs::{Runs, r2};
use super::smoothing;
use super::table::{BaselineError, Method};
use super::wiener::{HISTORIES, PENALTIES, Wiener, single_lags, widening_lags};
use crate::data::Dataset;
use crate::evaluation::published_r2;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::origin::DecoderScore;
use std::ops::{ControlFlow, Range};
use std::time::Instant;

/// Name of the model's own row.
pub const TRANSFORMER: &str = "transformer";

/// Multiplications above which a baseline is left out: about half a minute on one processor.
const WORK_MAX: f64 = 2e11;

/// One decoder beside the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// Its scores.
    pub score: DecoderScore,
    /// The baseline of which `ndt-train baselines --out` writes this decoder's bundle; `None` where the daemon cannot run it.
    pub exported: Option<Method>,
}

/// Why there is nothing to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoComparison {
    /// The model estimates rates only.
    #[error("expected a behaviour to decode, found a model of rates alone")]
    NoBehavior,
    /// No component of the behaviour has two different values that are known.
    #[error("expected a behaviour that changes in the validation trials, found none")]
    Constant,
}

/// Why a baseline beside the model has no scores.
#[derive(Debug, thiserror::Error)]
enum LeftOut {
    #[error(transparent)]
    Failed(#[from] BaselineError),
    #[error(
        "expected at most {WORK_MAX:.0e} multiplications, found {found:.0e}; ndt-train baselines fits it all the same"
    )]
    Work { found: f64 },
    #[error("expected to fit it, found the program interrupted")]
    Interrupted,
}

/// A baseline that is fitted beside a model.
#[derive(Debug, Clone)]
enum Candidate {
    Clock,
    Smoothing,
    Wiener { lags: Vec<Range<usize>>, is_models: bool },
    Kalman(State),
}

/// From the counts `[T, C]` of a run to its behaviour `[T, V]`.
type Decode = Box<dyn Fn(&[f32]) -> Vec<f32>>;

/// A fitted baseline.
struct Fitted {
    history_bins: Option<usize>,
    chosen: String,
    validation_r2: f64,
    decode: Decode,
}

/// Scores the model of `bundle`, which was fitted to `data`, and fits and scores baselines beside it; the model comes first. `watch` is
/// called with `(baseline, fits done, fits in all)` before each of them, and may leave out the rest.
///
/// # Errors
/// [`NoComparison`] when the model has no behaviour to score. A baseline that cannot be fitted is a row that says why.
pub fn beside(
    bundle: &Bundle,
    data: &Dataset,
    watch: &mut dyn FnMut(&str, usize, usize) -> ControlFlow<()>,
) -> Result<Vec<Compared>, NoComparison> {
    let runs = Runs::of_readout(data, bundle.manifest.published).ok_or(NoComparison::NoBehavior)?;
    let score = |trials| published_r2(bundle, trials).and_then(|r2| r2.mean());
    let reach_bins = bundle.manifest.reach_bins();
    let model = DecoderScore {
        decoder: TRANSFORMER.to_owned(),
        history_bins: Some(reach_bins),
        chosen: String::new(),
        validation_r2: Some(score(&data.val).ok_or(NoComparison::Constant)?),
        test_r2: score(&data.test),
        seconds: 0.0,
        failed: None,
    };
    let has_trials = data.splits.iter().all(|splits| splits.train_pieces_s.is_empty());
    let candidates = candidates(reach_bins, has_trials);
    let mut rows = vec![Compared { score: model, exported: None }];
    let mut is_interrupted = false;
    for (at, candidate) in candidates.iter().enumerate() {
        let name = candidate.name();
        is_interrupted |= watch(&name, at, candidates.len()).is_break();
        let started = Instant::now();
        let fitted = if is_interrupted { Err(LeftOut::Interrupted) } else { candidate.fit(&runs) };
        let score = scored(name, &runs, fitted, started);
        rows.push(Compared { exported: candidate.exported(), score });
    }
    Ok(rows)
}

/// The baseline that scores best on the validation trials among `rows`; `None` where none was fitted.
pub fn best(rows: &[Compared], is_wanted: impl Fn(&Compared) -> bool) -> Option<&Compared> {
    let validated = |row: &Compared| row.score.validation_r2.unwrap_or(f64::NEG_INFINITY);
    let fitted = rows.iter().skip(1).filter(|row| row.score.validation_r2.is_some() && is_wanted(row));
    fitted.max_by(|a, b| validated(a).total_cmp(&validated(b)))
}

/// What is fitted beside a model that sees so many bins. The clock tells nothing where there are no trials.
fn candidates(reach_bins: usize, has_trials: bool) -> Vec<Candidate> {
    // A long history has lags in groups: 77 bins of 71 channels would be 5,467 columns, and a fit of minutes.
    let is_long = HISTORIES.iter().all(|bins| reach_bins > *bins);
    let lags = if is_long { widening_lags(reach_bins) } else { single_lags(reach_bins) };
    let mut candidates = vec![Candidate::Wiener { lags, is_models: true }];
    candidates.extend(has_trials.then_some(Candidate::Clock));
    candidates.push(Candidate::Smoothing);
    let usual = HISTORIES.iter().filter(|bins| **bins != reach_bins);
    candidates.extend(usual.map(|bins| Candidate::Wiener { lags: single_lags(*bins), is_models: false }));
    // The filter of velocity alone is left out: on recorded reaches it scores 0.2 below this one.
    candidates.push(Candidate::Kalman(State::PositionVelocityAcceleration));
    candidates
}

impl Candidate {
    fn name(&self) -> String {
        match self {
            Candidate::Clock => "clock: time in the trial alone".to_owned(),
            Candidate::Smoothing => smoothing::NAME.to_owned(),
            Candidate::Wiener { lags, is_models } => {
                let bins = lags.last().map_or(0, |lags| lags.end);
                format!("Wiener {bins} bins{}", if *is_models { ", the model's history" } else { "" })
            }
            Candidate::Kalman(state) => state.name().to_owned(),
        }
    }

    fn exported(&self) -> Option<Method> {
        match self {
            Candidate::Smoothing => Some(Method::Smoothing),
            Candidate::Wiener { lags, .. } => {
                let is_usual = HISTORIES.iter().any(|bins| single_lags(*bins) == *lags);
                is_usual.then_some(Method::Wiener)
            }
            Candidate::Clock | Candidate::Kalman(_) => None,
        }
    }

    /// Multiplications that a fit takes, of the steps that cost most.
    fn work(&self, runs: &Runs) -> f64 {
        let bins = runs.train.iter().map(|run| run.bins).sum::<usize>() as f64;
        let channels = runs.channels() as f64;
        match self {
            Candidate::Clock => 0.0,
            Candidate::Smoothing => smoothing::FITS as f64 * bins * channels.powi(2),
            Candidate::Wiener { lags, .. } => {
                let columns = lags.len() as f64 * channels;
                bins * columns.powi(2) + PENALTIES as f64 * columns.powi(3) / 3.0
            }
            Candidate::Kalman(state) => Kalman::work(runs, *state),
        }
    }

    fn fit(&self, runs: &Runs) -> Result<Fitted, LeftOut> {
        let found = self.work(runs);
        if found > WORK_MAX {
            return Err(LeftOut::Work { found });
        }
        Ok(self.fitted(runs)?)
    }

    fn fitted(&self, runs: &Runs) -> Result<Fitted, BaselineError> {
        Ok(match self {
            Candidate::Clock => {
                let (fit, channels) =
                    (Clock::fit(runs, 0).ok_or(BaselineError::NoVelocity)?, runs.channels());
                Fitted {
                    history_bins: None,
                    chosen: String::new(),
                    validation_r2: fit.validation_r2(),
                    decode: Box::new(move |counts| fit.decode(counts.len() / channels)),
                }
            }
            Candidate::Smoothing => {
                if runs.dims != 2 {
                    return Err(BaselineError::Dims { found: runs.dims });
                }
                let fit = smoothing::fit_runs(runs, 0)?;
                let single = |axes: &f64| *axes as f32;
                Fitted {
                    history_bins: Some(fit.taps().len()),
                    chosen: fit.chosen(),
                    validation_r2: fit.validation_r2(),
                    decode: Box::new(move |counts| fit.decode(counts).iter().flatten().map(single).collect()),
                }
            }
            Candidate::Wiener { lags, .. } => {
                let fit = Wiener::fit_groups(runs, 0, lags.clone())?;
                let (bins, penalty) = (fit.history_bins(), format!("penalty {:.0}", fit.penalty()));
                let groups = match lags.len() < bins {
                    true => format!("lags in {} groups, {penalty}", lags.len()),
                    false => penalty,
                };
                Fitted {
                    history_bins: Some(bins),
                    chosen: groups,
                    validation_r2: fit.validation_r2(),
                    decode: Box::new(move |counts| fit.decode(counts)),
                }
            }
            Candidate::Kalman(state) => {
                let fit = Kalman::choose(runs, 0, *state)?;
                Fitted {
                    history_bins: None,
                    chosen: fit.settings().to_string(),
                    validation_r2: fit.validation_r2(),
                    decode: Box::new(move |counts| fit.decode(counts)),
                }
            }
        })
    }
}

/// The row of a baseline that was fitted since `started`, or was left out.
fn scored(decoder: String, runs: &Runs, fitted: Result<Fitted, LeftOut>, started: Instant) -> DecoderScore {
    let without = |failed: String| DecoderScore {
        decoder: decoder.clone(),
        history_bins: None,
        chosen: String::new(),
        validation_r2: None,
        test_r2: None,
        seconds: started.elapsed().as_secs_f64(),
        failed: Some(failed),
    };
    let Fitted { history_bins, chosen, validation_r2, decode } = match fitted {
        Ok(fitted) => fitted,
        Err(why) => return without(why.to_string()),
    };
    if !validation_r2.is_finite() {
        return without(BaselineError::NoVelocity.to_string());
    }
    let seconds = started.elapsed().as_secs_f64();
    let test_r2 = r2(&runs.scored, 0, runs.dims, |counts| decode(counts)).mean();
    let validation_r2 = Some(validation_r2);
    DecoderScore { decoder, history_bins, chosen, validation_r2, test_r2, seconds, failed: None }
}
