//! Scores as the Neural Latents Benchmark defines them.
//!
//! Bits/spike is `(NLL of the unit's mean - NLL of the model) / (spikes ln 2)` with Poisson likelihoods, pooled over
//! units (Pei et al. 2021, `evaluation.py` of nlb_tools). R2 is `1 - squared errors / squared deviations` over all
//! scored bins of an axis. [`BitsPerSpike`] and [`R2`] take bins one by one; [`squares_by_column`] takes whole arrays.

/// Rates below this, spikes per bin, are raised to it, so that one spike at a rate of 0 is not infinitely surprising.
const RATE_MIN: f64 = 1e-9;

/// Bits/spike of predicted rates, added up bin by bin.
#[derive(Debug, Clone)]
pub struct BitsPerSpike {
    /// For each unit: spikes, bins, sum of rates, sum of count times log rate.
    units: Vec<[f64; 4]>,
}

impl BitsPerSpike {
    /// An empty score for this number of units.
    pub fn new(units: usize) -> Self {
        BitsPerSpike { units: vec![[0.0; 4]; units] }
    }

    /// Adds one bin of one unit: its count, and the count that the model expects.
    pub fn add(&mut self, unit: usize, count: f64, rate: f64) {
        let rate = rate.max(RATE_MIN);
        let sums = &mut self.units[unit];
        for (sum, value) in sums.iter_mut().zip([count, 1.0, rate, count * rate.ln()]) {
            *sum += value;
        }
    }

    /// Adds what another score of the same units has seen.
    pub fn merge(&mut self, other: &BitsPerSpike) {
        for (sums, others) in self.units.iter_mut().zip(&other.units) {
            sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
        }
    }

    /// The score; `None` without a spike. The null model is each unit's mean over the bins added. The likelihood's
    /// `ln(count!)` is the same in both models and cancels.
    pub fn score(&self) -> Option<f64> {
        let mut gained = 0.0;
        let mut all_spikes = 0.0;
        for [spikes, bins, rates, log_likelihood] in &self.units {
            let mean = (spikes / bins.max(1.0)).max(RATE_MIN);
            let model = log_likelihood - rates;
            let null = spikes * mean.ln() - mean * bins;
            gained += model - null;
            all_spikes += spikes;
        }
        (all_spikes > 0.0).then(|| gained / (all_spikes * std::f64::consts::LN_2))
    }
}

/// R2 of decoded behaviour, added up bin by bin.
#[derive(Debug, Clone)]
pub struct R2 {
    axes: Vec<Axis>,
}

/// The sums of one axis.
#[derive(Debug, Clone)]
struct Axis {
    count: f64,
    sum: f64,
    squares: f64,
    errors: f64,
    /// Lowest and highest true value: sums cannot tell a constant from rounding.
    range: [f32; 2],
}

impl Axis {
    /// R2 of the axis; NaN for a truth that never changes.
    fn r2(&self) -> f64 {
        let deviations = self.squares - self.sum * self.sum / self.count;
        let varies = self.range[0] < self.range[1] && deviations > 0.0;
        if varies { Squares { errors: self.errors, deviations }.r2() } else { f64::NAN }
    }
}

impl R2 {
    /// An empty score for this number of axes.
    pub fn new(dims: usize) -> Self {
        let range = [f32::INFINITY, f32::NEG_INFINITY];
        R2 { axes: vec![Axis { count: 0.0, sum: 0.0, squares: 0.0, errors: 0.0, range }; dims] }
    }

    /// Adds one bin; a bin whose truth is unknown (NaN) is left out.
    pub fn add(&mut self, truth: &[f32], decoded: &[f32]) {
        if truth.iter().any(|value| value.is_nan()) {
            return;
        }
        for ((axis, value), decoded) in self.axes.iter_mut().zip(truth).zip(decoded) {
            axis.range = [axis.range[0].min(*value), axis.range[1].max(*value)];
            let (truth, error) = (f64::from(*value), f64::from(*value) - f64::from(*decoded));
            axis.count += 1.0;
            axis.sum += truth;
            axis.squares += truth * truth;
            axis.errors += error * error;
        }
    }

    /// Adds what another score of the same axes has seen.
    pub fn merge(&mut self, other: &R2) {
        for (axis, other) in self.axes.iter_mut().zip(&other.axes) {
            axis.range = [axis.range[0].min(other.range[0]), axis.range[1].max(other.range[1])];
            axis.count += other.count;
            axis.sum += other.sum;
            axis.squares += other.squares;
            axis.errors += other.errors;
        }
    }

    /// R2 of each axis, NaN for one whose true value never changes; `None` unless some axis has two different true values.
    pub fn axes(&self) -> Option<Vec<f64>> {
        let axes: Vec<f64> = self.axes.iter().map(Axis::r2).collect();
        axes.iter().any(|r2| !r2.is_nan()).then_some(axes)
    }

    /// Mean of the R2 of the axes whose true value changes.
    pub fn mean(&self) -> Option<f64> {
        self.axes().map(|axes| mean(&axes.into_iter().filter(|r2| !r2.is_nan()).collect::<Vec<_>>()))
    }
}

/// The two sums that R2 compares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Squares {
    /// Sum of the squared errors of the prediction.
    pub errors: f64,
    /// Sum of the squared deviations of the truth from its mean.
    pub deviations: f64,
}

impl Squares {
    /// The fraction of the variance that is explained; not a number for a truth that never changes.
    pub fn r2(self) -> f64 {
        1.0 - self.errors / self.deviations
    }
}

/// Squared errors and deviations of each column of `truth` and `predicted`, both `[rows, columns]`.
pub fn squares_by_column(truth: &[f64], predicted: &[f64], columns: usize) -> Vec<Squares> {
    let rows = truth.len() / columns.max(1);
    let column = |column: usize| {
        let truth = || truth.iter().skip(column).step_by(columns);
        let mean = truth().sum::<f64>() / rows as f64;
        let pairs = truth().zip(predicted.iter().skip(column).step_by(columns));
        Squares {
            errors: pairs.map(|(truth, predicted)| (truth - predicted).powi(2)).sum(),
            deviations: truth().map(|value| (value - mean).powi(2)).sum(),
        }
    };
    (0..columns).map(column).collect()
}

/// Mean of several scores.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(counts: &[&[f64]], rates: &[&[f64]]) -> Option<f64> {
        let mut score = BitsPerSpike::new(counts.len());
        for (unit, (counts, rates)) in counts.iter().zip(rates).enumerate() {
            counts.iter().zip(*rates).for_each(|(count, rate)| score.add(unit, *count, *rate));
        }
        score.score()
    }

    #[test]
    fn bits_per_spike_is_the_benchmarks_worked_example() {
        let counts: [&[f64]; 2] = [&[0.0, 1.0, 2.0, 1.0], &[1.0, 0.0, 0.0, 1.0]];
        let rates: [&[f64]; 2] = [&[0.5, 1.0, 1.5, 1.0], &[0.8, 0.2, 0.2, 0.8]];
        assert!((bits(&counts, &rates).unwrap() - 0.42101147).abs() < 1e-8);
    }

    #[test]
    fn a_mean_rate_scores_nothing_and_a_silent_unit_is_pure_cost() {
        assert!(bits(&[&[0.0, 2.0]], &[&[1.0, 1.0]]).unwrap().abs() < 1e-12);
        assert!(bits(&[&[0.0, 2.0], &[0.0, 0.0]], &[&[1.0, 1.0], &[0.5, 0.5]]).unwrap() < 0.0);
        assert!(bits(&[&[0.0, 1.0]], &[&[0.0, 1.0]]).unwrap().is_finite());
        assert_eq!(bits(&[&[0.0, 0.0]], &[&[1.0, 1.0]]), None);
    }

    #[test]
    fn r2_is_one_minus_unexplained_variance_and_leaves_unknown_bins_out() {
        let mut r2 = R2::new(2);
        let nan = f32::NAN;
        for (truth, decoded) in [([1.0, 0.0], [1.0, 1.0]), ([2.0, 2.0], [2.0, 1.0]), ([nan, 1.0], [9.0, 9.0])]
        {
            r2.add(&truth, &decoded);
        }
        assert_eq!(r2.axes(), Some(vec![1.0, 0.0]));
        assert_eq!(r2.mean(), Some(0.5));
        assert_eq!(R2::new(2).mean(), None);
    }

    #[test]
    fn an_axis_that_never_changes_has_no_r2_and_leaves_the_others_theirs() {
        let mut r2 = R2::new(3);
        for (at, x) in [1.0f32, 2.0, 1.0, 2.0].into_iter().enumerate() {
            // The sum of the squares of 0.1 is not exactly its square of the sum divided by their number.
            r2.add(&[x, 0.1, at as f32], &[x, 0.0, 1.5]);
        }
        let axes = r2.axes().unwrap();
        assert!(axes[0] == 1.0 && axes[1].is_nan() && axes[2].abs() < 1e-9, "{axes:?}");
        assert!((r2.mean().unwrap() - 0.5).abs() < 1e-9);
        let mut still = R2::new(1);
        (0..3).for_each(|_| still.add(&[0.1], &[0.0]));
        assert_eq!((still.axes(), still.mean()), (None, None));
    }

    #[test]
    fn squares_are_the_sums_of_each_column() {
        // The columns are 1, 3 and 0, 0; the first is predicted as 2, 3, the second as 1, 0.
        let [first, second] = squares_by_column(&[1.0, 0.0, 3.0, 0.0], &[2.0, 1.0, 3.0, 0.0], 2)[..] else {
            panic!("expected two columns");
        };
        assert_eq!(first, Squares { errors: 1.0, deviations: 2.0 });
        assert_eq!((first.r2(), second.deviations), (0.5, 0.0));
        assert_eq!(mean(&[first.r2(), 1.0]), 0.75);
    }
}
