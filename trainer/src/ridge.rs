//! Ridge regression with an intercept.
//!
//! It minimises `|y - x w - b|^2 + alpha |w|^2`, without a penalty on `b`: columns and targets are centred, and the
//! normal equations are solved by a Cholesky decomposition. Everything is computed in f64 on one thread, so that the
//! same rows give the same weights.

use faer::prelude::Solve;
use faer::{Mat, MatRef, Side};

/// A fitted linear map with an intercept.
#[derive(Debug, Clone, PartialEq)]
pub struct Ridge {
    /// Weights `[columns, dims]`, row-major; never empty.
    weights: Vec<f64>,
    /// Intercept of each output, `[dims]`; never empty.
    intercept: Vec<f64>,
}

/// Why a ridge regression cannot be fitted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RidgeError {
    /// The values do not fill whole rows, or rows have no columns.
    #[error("expected {what} in whole rows of {columns} columns, found {found} values")]
    Shape {
        /// Name of the array with the error: `features` or `targets`.
        what: &'static str,
        /// Number of columns of a row.
        columns: usize,
        /// Number of values given.
        found: usize,
    },
    /// Features and targets have different numbers of rows, or no rows.
    #[error("expected as many rows of targets as of features and at least 1, found {targets} and {features}")]
    Rows {
        /// Number of rows of features.
        features: usize,
        /// Number of rows of targets.
        targets: usize,
    },
    /// A value is NaN or infinite.
    #[error("expected finite {what}, found {found} in row {row}")]
    Value {
        /// Name of the array with the error: `features` or `targets`.
        what: &'static str,
        /// The value that is not finite.
        found: f64,
        /// The value's row.
        row: usize,
    },
    /// The penalty is negative or not a number.
    #[error("expected a finite ridge penalty of at least 0, found {alpha}")]
    Penalty {
        /// Ridge penalty that was requested.
        alpha: f64,
    },
    /// Some features are linear combinations of others, and the penalty is too small for a unique solution.
    #[error("expected independent features for a ridge penalty of {alpha}, found dependent ones")]
    Singular {
        /// Ridge penalty that was requested.
        alpha: f64,
    },
}

/// Fits `y [rows, dims]` from `x [rows, columns]`, both row-major, with the penalty `alpha` on the weights
/// but not on the intercept.
///
/// # Errors
/// When the shapes do not fit, a value or `alpha` is not finite, or the equations have no unique solution.
pub fn fit(x: &[f64], columns: usize, y: &[f64], dims: usize, alpha: f64) -> Result<Ridge, RidgeError> {
    NormalEquations::new(x, columns, y, dims)?.solve(alpha)
}

impl Ridge {
    /// The map with `weights [columns, dims]`, row-major, and `intercept [dims]`; neither may be empty.
    pub(crate) fn of(weights: Vec<f64>, intercept: Vec<f64>) -> Ridge {
        Ridge { weights, intercept }
    }

    /// The weights, `[columns, dims]`, row-major.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The intercept, `[dims]`.
    pub fn intercept(&self) -> &[f64] {
        &self.intercept
    }

    /// Number of columns of the features.
    pub fn columns(&self) -> usize {
        self.weights.len() / self.intercept.len()
    }

    /// The predictions `x @ weights + intercept [rows, dims]` for `x [rows, columns]`, both row-major. Values after the
    /// last whole row are ignored.
    pub fn predict(&self, x: &[f64]) -> Vec<f64> {
        let dims = self.intercept.len();
        let rows = x.chunks_exact(self.columns());
        let mut y = Vec::with_capacity(rows.len() * dims);
        for row in rows {
            let start = y.len();
            y.extend_from_slice(&self.intercept);
            for (value, weights) in row.iter().zip(self.weights.chunks_exact(dims)) {
                for (sum, weight) in y[start..].iter_mut().zip(weights) {
                    *sum += value * weight;
                }
            }
        }
        y
    }
}

/// Normal equations of a ridge regression, summed over the rows: all that fits with any number of penalties need of the data.
pub(crate) struct NormalEquations {
    /// `x' x` of centred columns, `[columns, columns]`.
    gram: Mat<f64>,
    /// `x' y` of centred columns and targets, `[columns, dims]`.
    cross: Mat<f64>,
    mean_x: Vec<f64>,
    mean_y: Vec<f64>,
}

impl NormalEquations {
    /// Sums up rows in the form that [`fit`] takes.
    pub(crate) fn new(x: &[f64], columns: usize, y: &[f64], dims: usize) -> Result<Self, RidgeError> {
        let (features, targets) = (rows("features", x, columns)?, rows("targets", y, dims)?);
        if features != targets || features == 0 {
            return Err(RidgeError::Rows { features, targets });
        }
        let (x, mean_x) = centred(x, columns);
        let (y, mean_y) = centred(y, dims);
        let x = MatRef::from_row_major_slice(&x, features, columns);
        let y = MatRef::from_row_major_slice(&y, targets, dims);
        Ok(Self { gram: x.transpose() * x, cross: x.transpose() * y, mean_x, mean_y })
    }

    /// Sums up rows that come in blocks, each in the form that [`fit`] takes, so that they are never all in memory.
    pub(crate) fn of_blocks(
        blocks: impl Iterator<Item = (Vec<f64>, Vec<f64>)>,
        columns: usize,
        dims: usize,
    ) -> Result<Self, RidgeError> {
        let mut sums: Option<Blocks> = None;
        for (x, y) in blocks {
            let (features, targets) = (rows("features", &x, columns)?, rows("targets", &y, dims)?);
            if features != targets {
                return Err(RidgeError::Rows { features, targets });
            }
            if features > 0 {
                sums.get_or_insert_with(|| Blocks::about(means(&x, columns), means(&y, dims))).add(x, y);
            }
        }
        sums.map(Blocks::centred).ok_or(RidgeError::Rows { features: 0, targets: 0 })
    }

    /// Solves the equations with this penalty.
    pub(crate) fn solve(&self, alpha: f64) -> Result<Ridge, RidgeError> {
        if !(alpha.is_finite() && alpha >= 0.0) {
            return Err(RidgeError::Penalty { alpha });
        }
        let (columns, dims) = (self.mean_x.len(), self.mean_y.len());
        let mut penalised = self.gram.clone();
        for column in 0..columns {
            penalised[(column, column)] += alpha;
        }
        let factor = penalised.llt(Side::Lower).map_err(|_| RidgeError::Singular { alpha })?;
        let solved = factor.solve(&self.cross);
        let weights: Vec<f64> = (0..columns * dims).map(|at| solved[(at / dims, at % dims)]).collect();
        if !weights.iter().all(|weight| weight.is_finite()) {
            return Err(RidgeError::Singular { alpha });
        }
        let mut intercept = self.mean_y.clone();
        for (mean, weights) in self.mean_x.iter().zip(weights.chunks_exact(dims)) {
            for (sum, weight) in intercept.iter_mut().zip(weights) {
                *sum -= mean * weight;
            }
        }
        Ok(Ridge { weights, intercept })
    }
}

/// Number of rows of finite values.
fn rows(what: &'static str, values: &[f64], columns: usize) -> Result<usize, RidgeError> {
    if columns == 0 || !values.len().is_multiple_of(columns) {
        return Err(RidgeError::Shape { what, columns, found: values.len() });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(RidgeError::Value { what, found: values[at], row: at / columns }),
        None => Ok(values.len() / columns),
    }
}

/// The values with their columns' means subtracted, and the means.
fn centred(values: &[f64], columns: usize) -> (Vec<f64>, Vec<f64>) {
    let means = means(values, columns);
    let centred = values.iter().enumerate().map(|(at, value)| value - means[at % columns]).collect();
    (centred, means)
}

/// The mean of each column.
fn means(values: &[f64], columns: usize) -> Vec<f64> {
    let mut means = vec![0.0; columns];
    for row in values.chunks_exact(columns) {
        for (mean, value) in means.iter_mut().zip(row) {
            *mean += value;
        }
    }
    let rows = (values.len() / columns) as f64;
    means.iter_mut().for_each(|mean| *mean /= rows);
    means
}

/// Sums over blocks of rows. They are taken about the means of the first block, so that the last step, which moves them to the means of
/// all rows, subtracts small numbers.
struct Blocks {
    about_x: Vec<f64>,
    about_y: Vec<f64>,
    rows: f64,
    sum_x: Vec<f64>,
    sum_y: Vec<f64>,
    gram: Mat<f64>,
    cross: Mat<f64>,
}

impl Blocks {
    fn about(about_x: Vec<f64>, about_y: Vec<f64>) -> Blocks {
        let (columns, dims) = (about_x.len(), about_y.len());
        Blocks {
            about_x,
            about_y,
            rows: 0.0,
            sum_x: vec![0.0; columns],
            sum_y: vec![0.0; dims],
            gram: Mat::zeros(columns, columns),
            cross: Mat::zeros(columns, dims),
        }
    }

    /// Adds whole rows.
    fn add(&mut self, mut x: Vec<f64>, mut y: Vec<f64>) {
        let (columns, dims) = (self.about_x.len(), self.about_y.len());
        for (values, about, sums) in
            [(&mut x, &self.about_x, &mut self.sum_x), (&mut y, &self.about_y, &mut self.sum_y)]
        {
            for row in values.chunks_exact_mut(about.len()) {
                for ((value, about), sum) in row.iter_mut().zip(about).zip(sums.iter_mut()) {
                    *value -= about;
                    *sum += *value;
                }
            }
        }
        let rows = x.len() / columns;
        self.rows += rows as f64;
        let x = MatRef::from_row_major_slice(&x, rows, columns);
        let y = MatRef::from_row_major_slice(&y, rows, dims);
        self.gram += x.transpose() * x;
        self.cross += x.transpose() * y;
    }

    /// The equations about the means of all rows.
    fn centred(self) -> NormalEquations {
        let Blocks { about_x, about_y, rows, sum_x, sum_y, mut gram, mut cross } = self;
        for at in 0..sum_x.len() {
            let mean = sum_x[at] / rows;
            for (column, sum) in sum_x.iter().enumerate() {
                gram[(column, at)] -= sum * mean;
            }
            for (dim, sum) in sum_y.iter().enumerate() {
                cross[(at, dim)] -= sum * mean;
            }
        }
        let moved = |about: Vec<f64>, sums: &[f64]| {
            about.iter().zip(sums).map(|(about, sum)| about + sum / rows).collect::<Vec<f64>>()
        };
        let (mean_x, mean_y) = (moved(about_x, &sum_x), moved(about_y, &sum_y));
        NormalEquations { gram, cross, mean_x, mean_y }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(found: &[f64], expected: &[f64], within: f64) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= within, "expected {expected}, found {found}");
        }
    }

    #[test]
    fn numpy_gives_the_same() {
        // a, b = x - x.mean(0), y - y.mean(0); w = np.linalg.solve(a.T @ a + 2.5 * np.eye(2), a.T @ b)
        let x = [1.0, 0.5, -2.0, 3.0, 4.0, 1.5, 0.0, -1.0, 2.0, 2.0, -3.0, 0.25];
        let y = [1.0, -1.0, 2.0, 0.5, 3.5, 2.0, -0.5, 1.0, 0.0, 4.0, 1.5, -2.0];
        let weights = [0.09437809496067577, 0.4978153218759102, 0.3708709583454704, 0.3969705796679289];
        let ridge = fit(&x, 2, &y, 2, 2.5).unwrap();
        close(&ridge.weights, &weights, 1e-12);
        close(&ridge.intercept, &[0.8322167200699098, 0.17055053888727056], 1e-12);
    }

    proptest! {
        #[test]
        fn the_gradient_vanishes(
            values in proptest::collection::vec(-10.0..10.0f64, 40..200),
            columns in 1..6usize,
            alpha in 0.01..100.0f64,
        ) {
            let rows = values.len() / (columns + 1);
            let (x, y) = (&values[..rows * columns], &values[rows * columns..rows * (columns + 1)]);
            let ridge = fit(x, columns, y, 1, alpha).unwrap();
            let residuals: Vec<f64> = ridge.predict(x).iter().zip(y).map(|(found, y)| found - y).collect();
            prop_assert!(residuals.iter().sum::<f64>().abs() < 1e-7);
            // Rows in blocks are the same rows.
            let block = |start: usize| {
                let rows = start..(start + 3).min(rows);
                (x[rows.start * columns..rows.end * columns].to_vec(), y[rows].to_vec())
            };
            let blocks = (0..rows).step_by(3).map(block);
            let other = NormalEquations::of_blocks(blocks, columns, 1).unwrap().solve(alpha).unwrap();
            for (one, other) in ridge.weights.iter().zip(&other.weights) {
                prop_assert!((one - other).abs() < 1e-7);
            }
            prop_assert!((ridge.intercept[0] - other.intercept[0]).abs() < 1e-7);
            for column in 0..columns {
                let slope: f64 = (0..rows).map(|row| x[row * columns + column] * residuals[row]).sum();
                prop_assert!((slope + alpha * ridge.weights[column]).abs() < 1e-7);
            }
        }
    }

    #[test]
    fn bad_input_is_one_sentence() {
        let check = |x: &[f64], columns, y: &[f64], alpha, expected: &str| {
            assert_eq!(fit(x, columns, y, 1, alpha).unwrap_err().to_string(), expected);
        };
        check(&[1.0; 5], 2, &[1.0; 2], 1.0, "expected features in whole rows of 2 columns, found 5 values");
        check(&[], 0, &[1.0], 1.0, "expected features in whole rows of 0 columns, found 0 values");
        let rows = "expected as many rows of targets as of features and at least 1, found";
        check(&[1.0; 4], 2, &[1.0; 3], 1.0, &format!("{rows} 3 and 2"));
        check(&[], 2, &[], 1.0, &format!("{rows} 0 and 0"));
        check(&[1.0, 2.0, f64::NAN, 1.0], 2, &[1.0; 2], 1.0, "expected finite features, found NaN in row 1");
        check(&[1.0, 2.0], 1, &[1.0, f64::INFINITY], 1.0, "expected finite targets, found inf in row 1");
        check(&[1.0, 2.0], 1, &[1.0; 2], -1.0, "expected a finite ridge penalty of at least 0, found -1");
        // A channel that never spikes.
        let silent = "expected independent features for a ridge penalty of 0, found dependent ones";
        check(&[1.0, 0.0, 2.0, 0.0, 4.0, 0.0], 2, &[1.0, 2.0, 3.0], 0.0, silent);
    }
}
