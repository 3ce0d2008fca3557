//! Velocity decoded from rates, as the benchmark does it: by ridge regression, whose penalty is chosen by
//! cross-validation over contiguous parts of the training rows.

use super::metrics::{ScoreError, r2_by_column, same_length};
use crate::evaluation::metrics::mean;
use crate::ridge::{self, Ridge};

/// Number of penalties that are tried, from 1e-4 to 1 in half decades. They are meant for rates in spikes per bin: in 5
/// ms bins, rates in Hz would be penalised 40,000 times less.
pub const PENALTIES: usize = 9;

/// Number of parts of the training rows; each part is predicted by a fit to the others.
const FOLDS: usize = 5;

/// Rates and velocities of the same bins, one row a bin.
#[derive(Debug, Clone)]
pub struct Rows {
    rates: Vec<f64>,
    neurons: usize,
    velocity: Vec<f64>,
    dims: usize,
}

/// A fitted decoder, and the scores by which its penalty was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoder {
    /// The regression, fitted to all training rows.
    pub ridge: Ridge,
    /// The penalty of the regression.
    pub penalty: f64,
    /// Mean R2 over the folds for each penalty that was tried.
    pub cross_validated: Vec<f64>,
}

impl Rows {
    /// Rows of `rates [rows, neurons]` and `velocity [rows, dims]`. A row whose first velocity is unknown (NaN) is left
    /// out.
    ///
    /// # Errors
    /// [`ScoreError::Shape`] when rates and velocities have different numbers of rows.
    pub fn new(rates: &[f64], neurons: usize, velocity: &[f64], dims: usize) -> Result<Rows, ScoreError> {
        same_length("the velocity", velocity.len(), rates.len() / neurons.max(1) * dims)?;
        let mut known = Rows { rates: Vec::with_capacity(rates.len()), neurons, velocity: Vec::new(), dims };
        for (rates, velocity) in rates.chunks_exact(neurons.max(1)).zip(velocity.chunks_exact(dims.max(1))) {
            if !velocity[0].is_nan() {
                known.rates.extend_from_slice(rates);
                known.velocity.extend_from_slice(velocity);
            }
        }
        Ok(known)
    }

    fn len(&self) -> usize {
        self.velocity.len() / self.dims.max(1)
    }

    /// All rows except those of `fold`.
    fn without(&self, fold: &std::ops::Range<usize>) -> Rows {
        let others = |values: &[f64], width: usize| {
            [&values[..fold.start * width], &values[fold.end * width..]].concat()
        };
        Rows {
            rates: others(&self.rates, self.neurons),
            neurons: self.neurons,
            velocity: others(&self.velocity, self.dims),
            dims: self.dims,
        }
    }
}

impl Decoder {
    /// Tries every penalty on five contiguous parts of `train`, and fits all of `train` with the penalty of the highest
    /// mean R2. Of equal penalties the smallest is taken.
    ///
    /// # Errors
    /// [`ScoreError`] when there are fewer than two rows for each part, or a rate is not finite.
    pub fn fit(train: &Rows) -> Result<Decoder, ScoreError> {
        if train.len() < 2 * FOLDS {
            return Err(ScoreError::TooFew { what: "rows", expected: 2 * FOLDS, found: train.len() });
        }
        let mut cross_validated = vec![0.0; PENALTIES];
        for fold in folds(train.len()) {
            let equations = ridge::NormalEquations::of(&train.without(&fold))?;
            let rates = &train.rates[fold.start * train.neurons..fold.end * train.neurons];
            let velocity = &train.velocity[fold.start * train.dims..fold.end * train.dims];
            for (sum, penalty) in cross_validated.iter_mut().zip(penalties()) {
                let predicted = equations.solve(penalty)?.predict(rates);
                *sum += mean(&r2_by_column(velocity, &predicted, train.dims)?) / FOLDS as f64;
            }
        }
        let best = (1..PENALTIES)
            .fold(0, |best, other| if cross_validated[other] > cross_validated[best] { other } else { best });
        let penalty = penalties().nth(best).unwrap_or(1.0);
        Ok(Decoder { cross_validated, ..Decoder::with_penalty(train, penalty)? })
    }

    /// Fits all of `train` with this penalty.
    ///
    /// # Errors
    /// [`ScoreError::Ridge`] without rows, or when a rate is not finite.
    pub fn with_penalty(train: &Rows, penalty: f64) -> Result<Decoder, ScoreError> {
        let ridge = ridge::NormalEquations::of(train)?.solve(penalty)?;
        Ok(Decoder { ridge, penalty, cross_validated: Vec::new() })
    }

    /// R2 of the predicted velocity, mean over its components.
    ///
    /// # Errors
    /// [`ScoreError`] when there are fewer than two rows.
    pub fn r2(&self, eval: &Rows) -> Result<f64, ScoreError> {
        same_length("a row of rates", eval.neurons, self.ridge.columns())?;
        Ok(mean(&r2_by_column(&eval.velocity, &self.ridge.predict(&eval.rates), eval.dims)?))
    }
}

impl ridge::NormalEquations {
    fn of(rows: &Rows) -> Result<Self, ridge::RidgeError> {
        ridge::NormalEquations::new(&rows.rates, rows.neurons, &rows.velocity, rows.dims)
    }
}

fn penalties() -> impl Iterator<Item = f64> {
    (0..PENALTIES).map(|step| 10f64.powf(-4.0 + 0.5 * step as f64))
}

/// Contiguous parts of `rows` rows; the first `rows % FOLDS` parts are one row longer.
fn folds(rows: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..FOLDS).scan(0, move |start, fold| {
        let part = *start..*start + rows / FOLDS + usize::from(fold < rows % FOLDS);
        *start = part.end;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_are_contiguous_and_the_first_are_longer() {
        assert_eq!(folds(12).collect::<Vec<_>>(), [0..3, 3..6, 6..8, 8..10, 10..12]);
        assert_eq!(folds(34).collect::<Vec<_>>(), [0..7, 7..14, 14..21, 21..28, 28..34]);
    }
}
