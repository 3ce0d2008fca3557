//! The scores of all baselines on the same trials, one row each.

use super::gru::{self, Gru, GruSettings};
use super::kalman::{Kalman, KalmanError, State};
use super::linear::LinearFilter;
use super::poisson::{PoissonError, PoissonRegression};
use super::runs::{LAGS_MS, Runs, r2};
use super::smoothing;
use super::smoothing::DecoderError;
use super::wiener::{HISTORIES, Wiener};
use crate::evaluation::metrics::R2;
use crate::ridge::RidgeError;
use serde::Serialize;
use std::time::Instant;

/// A baseline decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Counts smoothed with half a Gaussian, then ridge regression.
    Smoothing,
    /// Wiener filter: linear in the last bins' counts.
    Wiener,
    /// Kalman filters: of velocity alone, and of position, velocity and acceleration.
    Kalman,
    /// Recurrent network of gated units.
    Gru,
    /// Poisson regression of the held-out units.
    Poisson,
}

impl Method {
    /// All baselines, in the order of the table.
    pub const ALL: [Method; 5] =
        [Method::Smoothing, Method::Wiener, Method::Kalman, Method::Gru, Method::Poisson];
}

/// The scores of one baseline.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// Name of the baseline.
    pub method: String,
    /// Number of units whose counts the baseline saw.
    pub units: usize,
    /// The settings that were chosen on the validation trials, at each lag where they differ.
    pub chosen: String,
    /// R2 of the velocity at each lag; empty if the baseline decodes no velocity.
    pub velocity: Vec<LagR2>,
    /// Bits/spike of the held-out units; absent if the baseline does not predict them.
    pub co_bps: Option<f64>,
    /// Number of fitted parameters.
    pub parameters: usize,
    /// Duration of the fit and of the choice of settings, s.
    pub seconds: f64,
    /// Why the baseline has no scores; absent of one that was fitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The decoder of the first lag, if the daemon can run it.
    #[serde(skip)]
    pub filter: Option<LinearFilter>,
}

/// R2 of the velocity at one lag.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LagR2 {
    /// Lag from the bin's centre to the instant of the velocity, ms.
    pub lag_ms: f64,
    /// R2 of each component, not a number for one that never changes.
    pub r2: Vec<f64>,
    /// Mean R2 over the components that change.
    pub mean: f64,
}

/// Why a baseline has no scores.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// Smoothing and ridge failed.
    #[error(transparent)]
    Smoothing(#[from] DecoderError),
    /// Smoothing and ridge decodes velocities of two components only.
    #[error("expected a velocity of 2 components for smoothing and ridge, found {found}")]
    Dims {
        /// Number of components.
        found: usize,
    },
    /// The Wiener filter failed.
    #[error(transparent)]
    Ridge(#[from] RidgeError),
    /// The Kalman filter failed.
    #[error(transparent)]
    Kalman(#[from] KalmanError),
    /// The recurrent network failed.
    #[error(transparent)]
    Gru(#[from] gru::Diverged),
    /// The Poisson regression failed.
    #[error(transparent)]
    Poisson(#[from] PoissonError),
    /// The scored trials have too few known velocities.
    #[error("expected at least two known velocities in the scored trials, found fewer")]
    NoVelocity,
}

/// Fits and scores `method` on `data`; returns its rows. The recurrent network has one row for each of `seeds` seeds,
/// from `settings.seed` on. `progress` is called with `(baseline, steps done, steps in all)`. A fit without a solution, and one that
/// cannot be scored, is a row that says why.
pub fn rows(
    method: Method,
    data: &Runs,
    settings: &GruSettings,
    seeds: u64,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Vec<Row> {
    let or_failed =
        |name: &str, row: Result<Row, BaselineError>| row.unwrap_or_else(|why| failed(name, data, &why));
    match method {
        Method::Smoothing => vec![or_failed(smoothing::NAME, smoothing_row(data))],
        Method::Wiener => {
            let row = |(at, history): (usize, &usize)| {
                progress("Wiener", at, HISTORIES.len());
                or_failed(&wiener_name(*history), wiener_row(data, *history))
            };
            HISTORIES.iter().enumerate().map(row).collect()
        }
        Method::Kalman => {
            let states = [State::Velocity, State::PositionVelocityAcceleration];
            let row = |(at, state): (usize, &State)| {
                progress("Kalman", at, states.len());
                or_failed(state.name(), kalman_row(data, *state))
            };
            states.iter().enumerate().map(row).collect()
        }
        Method::Gru => {
            let row = |seed| {
                let settings = GruSettings { seed: settings.seed + seed, ..*settings };
                or_failed(&gru_name(&settings), gru_row(data, &settings, progress))
            };
            (0..seeds).map(row).collect()
        }
        Method::Poisson => vec![or_failed(POISSON, poisson_row(data))],
    }
}

/// Name of the Poisson regression in reports.
const POISSON: &str = "two exponentials + Poisson";

fn wiener_name(history_bins: usize) -> String {
    format!("Wiener {history_bins} bins")
}

fn gru_name(settings: &GruSettings) -> String {
    format!("GRU {}", settings.width)
}

fn smoothing_row(data: &Runs) -> Result<Row, BaselineError> {
    if data.dims != 2 {
        return Err(BaselineError::Dims { found: data.dims });
    }
    let started = Instant::now();
    let fits = [0, 1].map(|lag| smoothing::fit_runs(data, lag));
    let seconds = started.elapsed().as_secs_f64();
    let mut velocity = Vec::new();
    let mut chosen = Vec::new();
    let mut filter = None;
    for (lag, fit) in fits.into_iter().enumerate() {
        let fit = fit?;
        let decode = |counts: &[f32]| fit.decode(counts).iter().flatten().map(|axis| *axis as f32).collect();
        velocity.push(scored(lag, r2(&data.scored, lag, data.dims, decode))?);
        chosen.push(fit.chosen());
        filter = filter.or_else(|| Some(LinearFilter::smoothing(&fit, lag)));
    }
    let parameters = (data.channels() + 1) * data.dims;
    let row = row(smoothing::NAME, data, chosen, velocity, parameters, seconds);
    Ok(Row { filter, ..row })
}

fn wiener_row(data: &Runs, history_bins: usize) -> Result<Row, BaselineError> {
    let started = Instant::now();
    let mut velocity = Vec::new();
    let mut chosen = Vec::new();
    let mut filter = None;
    for lag in 0..LAGS_MS.len() {
        let fit = Wiener::fit(data, lag, history_bins)?;
        velocity.push(scored(lag, r2(&data.scored, lag, data.dims, |counts| fit.decode(counts)))?);
        chosen.push(format!("penalty {:.0}", fit.penalty()));
        filter = filter.or_else(|| Some(LinearFilter::wiener(&fit, lag)));
    }
    let parameters = (history_bins * data.channels() + 1) * data.dims;
    let seconds = started.elapsed().as_secs_f64();
    let row = row(&wiener_name(history_bins), data, chosen, velocity, parameters, seconds);
    Ok(Row { filter, ..row })
}

fn kalman_row(data: &Runs, state: State) -> Result<Row, BaselineError> {
    let started = Instant::now();
    let mut velocity = Vec::new();
    let mut chosen = Vec::new();
    let mut parameters = 0;
    for lag in 0..LAGS_MS.len() {
        let fit = Kalman::choose(data, lag, state)?;
        velocity.push(scored(lag, r2(&data.scored, lag, data.dims, |counts| fit.decode(counts)))?);
        chosen.push(fit.settings().to_string());
        parameters = fit.parameters(data.dims);
    }
    Ok(row(state.name(), data, chosen, velocity, parameters, started.elapsed().as_secs_f64()))
}

fn gru_row(
    data: &Runs,
    settings: &GruSettings,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<Row, BaselineError> {
    let started = Instant::now();
    let fit = Gru::fit(data, settings, &mut |epoch, score| {
        progress(&format!("GRU, R2 {score:.3}"), epoch, settings.epochs);
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let score = |lag| scored(lag, fit.r2(&data.scored, lag, data.dims));
    let velocity = (0..LAGS_MS.len()).map(score).collect::<Result<Vec<_>, _>>()?;
    let chosen = vec![format!("epoch {}, seed {}", fit.epoch(), settings.seed)];
    Ok(row(&gru_name(settings), data, chosen, velocity, fit.parameters(), seconds))
}

fn poisson_row(data: &Runs) -> Result<Row, BaselineError> {
    let started = Instant::now();
    let fit = PoissonRegression::fit(data)?;
    let seconds = started.elapsed().as_secs_f64();
    let chosen = vec![format!("penalty {}", fit.penalty())];
    let row = row(POISSON, data, chosen, Vec::new(), fit.parameters(), seconds);
    Ok(Row { co_bps: fit.co_bps(&data.scored), ..row })
}

fn row(
    method: &str,
    data: &Runs,
    mut chosen: Vec<String>,
    velocity: Vec<LagR2>,
    parameters: usize,
    seconds: f64,
) -> Row {
    chosen.dedup();
    let chosen = chosen.join(" / ");
    Row {
        method: method.to_owned(),
        units: data.channels(),
        chosen,
        velocity,
        co_bps: None,
        parameters,
        seconds,
        failed: None,
        filter: None,
    }
}

/// The row of a baseline that has no scores for this reason.
fn failed(method: &str, data: &Runs, why: &BaselineError) -> Row {
    Row { failed: Some(why.to_string()), ..row(method, data, Vec::new(), Vec::new(), 0, 0.0) }
}

fn scored(lag: usize, r2: R2) -> Result<LagR2, BaselineError> {
    let axes = r2.axes().ok_or(BaselineError::NoVelocity)?;
    let mean = r2.mean().ok_or(BaselineError::NoVelocity)?;
    Ok(LagR2 { lag_ms: LAGS_MS[lag], r2: axes, mean })
}
