//! How much of the recorded velocity was decoded: R2 over all scored bins.
//!
//! R2 of an axis is 1 - SSE/SST, with SST about the mean of the very bins that are scored; several axes are
//! averaged with equal weight. This is the definition of `ndt-train evaluate`, so the two compare.

/// Running sums of one axis.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Axis {
    mean: f64,
    /// Sum of squares about the mean (Welford's recurrence: no difference of large sums).
    total: f64,
    error: f64,
}

/// Decoded against recorded velocity, bin by bin.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Score {
    axes: Vec<Axis>,
    bins: u64,
}

impl Score {
    /// A score of `dims` axes.
    pub fn new(dims: usize) -> Self {
        Score { axes: vec![Axis::default(); dims], bins: 0 }
    }

    /// Takes one bin, m/s. The two must be of the score's axes and finite; it is the caller's to see to that.
    pub fn push(&mut self, recorded: &[f64], decoded: &[f32]) {
        self.bins += 1;
        for ((axis, recorded), decoded) in self.axes.iter_mut().zip(recorded).zip(decoded) {
            let before = recorded - axis.mean;
            axis.mean += before / self.bins as f64;
            axis.total += before * (recorded - axis.mean);
            axis.error += (recorded - f64::from(*decoded)).powi(2);
        }
    }

    /// Bins so far.
    pub fn bins(&self) -> u64 {
        self.bins
    }

    /// R2 of each axis; empty unless every axis has varied, for then there is none.
    pub fn r2_axes(&self) -> Vec<f64> {
        let varied = self.axes.iter().all(|axis| axis.total > 0.0);
        let r2 = |axis: &Axis| 1.0 - axis.error / axis.total;
        if varied { self.axes.iter().map(r2).collect() } else { Vec::new() }
    }

    /// The axes' mean R2; `None` where [`Score::r2_axes`] is empty.
    pub fn r2(&self) -> Option<f64> {
        let axes = self.r2_axes();
        (!axes.is_empty()).then(|| axes.iter().sum::<f64>() / axes.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r2_is_that_of_the_hand() {
        let mut score = Score::new(2);
        // x: mean 2, SST 2, SSE 0.25 + 0 + 0.25 = 0.5. y: mean 20, SST 200, SSE 0 + 100 + 0 = 100.
        score.push(&[1.0, 10.0], &[1.5, 10.0]);
        score.push(&[2.0, 20.0], &[2.0, 30.0]);
        score.push(&[3.0, 30.0], &[2.5, 30.0]);
        let axes = score.r2_axes();
        assert!((axes[0] - 0.75).abs() < 1e-12 && (axes[1] - 0.5).abs() < 1e-12, "{axes:?}");
        assert!((score.r2().unwrap() - 0.625).abs() < 1e-12);
        assert_eq!(score.bins(), 3);
    }

    #[test]
    fn without_variation_there_is_no_r2() {
        assert_eq!(Score::new(0).r2(), None);
        let mut score = Score::new(2);
        assert_eq!(score.r2(), None);
        score.push(&[1.0, 1.0], &[1.0, 1.0]);
        score.push(&[2.0, 1.0], &[1.0, 1.0]);
        assert_eq!(score.r2(), None);
    }
}
