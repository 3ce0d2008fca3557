//! Standardisation: mean and standard deviation of a column of numbers.

/// Mean and standard deviation of a quantity, in its own unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Mean of the quantity, in its own unit.
    pub mean: f64,
    /// Standard deviation; 1 for a quantity that never changes, which is shifted but not scaled.
    pub deviation: f64,
}

impl Scale {
    /// Mean and standard deviation (division by n) of the finite values.
    pub fn of(values: impl Iterator<Item = f64>) -> Scale {
        let known: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        let count = known.len().max(1) as f64;
        let mean = known.iter().sum::<f64>() / count;
        let deviation = (known.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
        Scale { mean, deviation: if deviation > 0.0 { deviation } else { 1.0 } }
    }

    /// Distance from the mean in standard deviations.
    pub fn standardise(&self, value: f64) -> f64 {
        (value - self.mean) / self.deviation
    }

    /// Returns the value that lies `standard` standard deviations above the mean: undoes [`Scale::standardise`].
    pub fn restore(&self, standard: f64) -> f64 {
        standard * self.deviation + self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_values_do_not_count_and_a_constant_is_only_shifted() {
        let scale = Scale::of([1.0, f64::NAN, 3.0].into_iter());
        assert_eq!(scale, Scale { mean: 2.0, deviation: 1.0 });
        assert_eq!(scale.restore(scale.standardise(7.0)), 7.0);
        assert_eq!(Scale::of([4.0, 4.0].into_iter()), Scale { mean: 4.0, deviation: 1.0 });
    }
}
