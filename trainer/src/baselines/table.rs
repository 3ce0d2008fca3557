//! Every baseline's figures on the same trials, one row each.

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

/// Which baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Counts smoothed with half a Gaussian, then ridge regression.
    Smoothing,
    /// Linear in the last bins' counts.
    Wiener,
    /// Kalman filters: velocity alone, and position, velocity and acceleration.
    Kalman,
    /// A recurrent network.
    Gru,
    /// Held-out units by Poisson regression.
    Poisson,
}

impl Method {
    /// All, in the order of the table.
    pub const ALL: [Method; 5] =
        [Method::Smoothing, Method::Wiener, Method::Kalman, Method::Gru, Method::Poisson];
}

/// One baseline's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// Which, in words.
    pub method: String,
    /// Units whose counts it saw.
    pub units: usize,
    /// What the validation trials chose, at each lag where that differs.
    pub chosen: String,
    /// R2 of velocity at each lag; empty where none is decoded.
    pub velocity: Vec<Velocity>,
    /// Bits/spike of the held-out units; absent where they are not predicted.
    pub co_bps: Option<f64>,
    /// Fitted numbers.
    pub parameters: usize,
    /// What the fit took, choosing included, s.
    pub seconds: f64,
    /// The decoder of the first lag, where the daemon can run it.
    #[serde(skip)]
    pub filter: Option<LinearFilter>,
}

/// R2 at one lag.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Velocity {
    /// From the bin's centre to the velocity's instant.
    pub lag_ms: f64,
    /// R2 of each component.
    pub r2: Vec<f64>,
    /// Their mean.
    pub mean: f64,
}

/// Why a row cannot be filled.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// Smoothing and ridge.
    #[error(transparent)]
    Smoothing(#[from] DecoderError),
    /// Smoothing and ridge, of a velocity that is not planar.
    #[error("expected a velocity of 2 components for smoothing and ridge, found {found}")]
    Dims {
        /// Components.
        found: usize,
    },
    /// The Wiener filter.
    #[error(transparent)]
    Ridge(#[from] RidgeError),
    /// The Kalman filter.
    #[error(transparent)]
    Kalman(#[from] KalmanError),
    /// The recurrent network.
    #[error(transparent)]
    Gru(#[from] gru::Diverged),
    /// Poisson regression.
    #[error(transparent)]
    Poisson(#[from] PoissonError),
    /// Nothing to score.
    #[error("expected at least two known velocities in the scored trials, found fewer")]
    NoVelocity,
}

/// Rows of `method` on `data`; of the recurrent network one for each of `seeds` seeds from `settings.seed` on.
/// `progress` is told `(what, steps done, steps at most)`.
///
/// # Errors
/// [`BaselineError`] when a fit has no solution, or nothing can be scored.
pub fn rows(
    method: Method,
    data: &Runs,
    settings: &GruSettings,
    seeds: u64,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<Vec<Row>, BaselineError> {
    match method {
        Method::Smoothing => smoothing_row(data).map(|row| vec![row]),
        Method::Wiener => {
            let row = |(at, history): (usize, &usize)| {
                progress("Wiener", at, HISTORIES.len());
                wiener_row(data, *history)
            };
            HISTORIES.iter().enumerate().map(row).collect()
        }
        Method::Kalman => {
            let states = [State::Velocity, State::PositionVelocityAcceleration];
            let row = |(at, state): (usize, &State)| {
                progress("Kalman", at, states.len());
                kalman_row(data, *state)
            };
            states.iter().enumerate().map(row).collect()
        }
        Method::Gru => {
            let row = |seed| {
                let settings = GruSettings { seed: settings.seed + seed, ..*settings };
                gru_row(data, &settings, progress)
            };
            (0..seeds).map(row).collect()
        }
        Method::Poisson => poisson_row(data).map(|row| vec![row]),
    }
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
        chosen.push(format!("width {} bins, penalty {}", fit.width_bins(), fit.alpha()));
        filter = filter.or_else(|| Some(LinearFilter::smoothing(&fit, lag)));
    }
    let parameters = (data.channels() + 1) * data.dims;
    let row = row("smoothing + ridge", data, chosen, velocity, parameters, seconds);
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
    let row = row(&format!("Wiener {history_bins} bins"), data, chosen, velocity, parameters, seconds);
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
        let settings = fit.settings();
        chosen.push(format!(
            "neural lag {} bins, {}, noise x{}",
            settings.neural_lag_bins,
            if settings.square_root { "square roots" } else { "counts" },
            settings.noise_scale
        ));
        parameters = fit.parameters(data.dims);
    }
    let name = match state {
        State::Velocity => "Kalman velocity",
        State::PositionVelocityAcceleration => "Kalman position, velocity, acceleration",
    };
    Ok(row(name, data, chosen, velocity, parameters, started.elapsed().as_secs_f64()))
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
    Ok(row(&format!("GRU {}", settings.width), data, chosen, velocity, fit.parameters(), seconds))
}

fn poisson_row(data: &Runs) -> Result<Row, BaselineError> {
    let started = Instant::now();
    let fit = PoissonRegression::fit(data)?;
    let seconds = started.elapsed().as_secs_f64();
    let chosen = vec![format!("penalty {}", fit.penalty())];
    let row = row("two exponentials + Poisson", data, chosen, Vec::new(), fit.parameters(), seconds);
    Ok(Row { co_bps: fit.co_bps(&data.scored), ..row })
}

fn row(
    method: &str,
    data: &Runs,
    mut chosen: Vec<String>,
    velocity: Vec<Velocity>,
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
        filter: None,
    }
}

fn scored(lag: usize, r2: R2) -> Result<Velocity, BaselineError> {
    let axes = r2.axes().ok_or(BaselineError::NoVelocity)?;
    let mean = r2.mean().ok_or(BaselineError::NoVelocity)?;
    Ok(Velocity { lag_ms: LAGS_MS[lag], r2: axes, mean })
}
