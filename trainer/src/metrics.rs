//! Scores as the Neural Latents Benchmark defines them.
//!
//! bits/spike = (NLL of the unit's mean - NLL of the model) / (spikes ln 2), Poisson, pooled over units
//! (Pei et al. 2021, `evaluation.py` of nlb_tools); R2 = 1 - SSE / SST over all scored bins of an axis.

/// Rates of exactly 0 become this, spikes per bin, so that one spike there is not infinitely surprising.
const RATE_MIN: f64 = 1e-9;

/// Sums that bits/spike is made of, filled bin by bin.
#[derive(Debug, Clone)]
pub struct BitsPerSpike {
    /// For each unit: spikes, bins, sum of rates, sum of count times log rate.
    units: Vec<[f64; 4]>,
}

impl BitsPerSpike {
    /// Nothing seen yet, for `units` units.
    pub fn new(units: usize) -> Self {
        BitsPerSpike { units: vec![[0.0; 4]; units] }
    }

    /// Adds one unit's bin: its count and the model's expected count.
    pub fn add(&mut self, unit: usize, count: f64, rate: f64) {
        let rate = rate.max(RATE_MIN);
        let sums = &mut self.units[unit];
        for (sum, value) in sums.iter_mut().zip([count, 1.0, rate, count * rate.ln()]) {
            *sum += value;
        }
    }

    /// The score; `None` without a spike. The null model is each unit's mean over the bins added; the
    /// likelihood's ln(count!) is in both and cancels.
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

/// Sums that R2 is made of, for each axis.
#[derive(Debug, Clone)]
pub struct R2 {
    /// For each axis: values, sum, sum of squares, sum of squared errors.
    axes: Vec<[f64; 4]>,
}

impl R2 {
    /// Nothing seen yet, for `dims` axes.
    pub fn new(dims: usize) -> Self {
        R2 { axes: vec![[0.0; 4]; dims] }
    }

    /// Adds one bin; a truth that is not known (NaN) is left out.
    pub fn add(&mut self, truth: &[f32], decoded: &[f32]) {
        if truth.iter().any(|value| value.is_nan()) {
            return;
        }
        for ((sums, truth), decoded) in self.axes.iter_mut().zip(truth).zip(decoded) {
            let (truth, error) = (f64::from(*truth), f64::from(*truth) - f64::from(*decoded));
            for (sum, value) in sums.iter_mut().zip([1.0, truth, truth * truth, error * error]) {
                *sum += value;
            }
        }
    }

    /// R2 of each axis; `None` without two different true values in each.
    pub fn axes(&self) -> Option<Vec<f64>> {
        let axis = |[count, sum, squares, errors]: &[f64; 4]| {
            let spread = squares - sum * sum / count;
            (*count >= 2.0 && spread > 0.0).then(|| 1.0 - errors / spread)
        };
        if self.axes.is_empty() { None } else { self.axes.iter().map(axis).collect() }
    }

    /// Mean of the axes.
    pub fn mean(&self) -> Option<f64> {
        self.axes().map(|axes| axes.iter().sum::<f64>() / axes.len() as f64)
    }
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
}
