//! R2 of the decoded against the recorded velocity, over all scored bins.
//!
//! R2 of an axis is 1 - SSE/SST, where SST is about the mean of the scored bins. Axes are averaged with equal weight; one whose
//! recorded value never changes has no R2 and is left out of the mean. This is
//! the definition of `ndt-train evaluate`, so that the two can be compared.

/// Running sums for one axis.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Axis {
    mean: f64,
    /// SST: sum of squares about the mean, by Welford's recurrence, which subtracts no large sums.
    total: f64,
    /// SSE: sum of squared errors.
    error: f64,
}

/// Accumulates R2 bin by bin.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Score {
    axes: Vec<Axis>,
    bins: u64,
}

impl Score {
    /// Makes an empty score of `dims` axes.
    pub fn new(dims: usize) -> Self {
        Score { axes: vec![Axis::default(); dims], bins: 0 }
    }

    /// Adds one bin, both in the same units. The caller makes sure that both slices have one finite value for each axis.
    pub fn push(&mut self, recorded: &[f64], decoded: &[f32]) {
        self.bins += 1;
        for ((axis, recorded), decoded) in self.axes.iter_mut().zip(recorded).zip(decoded) {
            let before = recorded - axis.mean;
            axis.mean += before / self.bins as f64;
            axis.total += before * (recorded - axis.mean);
            axis.error += (recorded - f64::from(*decoded)).powi(2);
        }
    }

    /// Number of bins so far.
    pub fn bins(&self) -> u64 {
        self.bins
    }

    /// R2 of each axis, NaN for an axis on which the recorded velocity has not varied, because R2 is then undefined; empty while it
    /// has varied on none.
    pub fn r2_axes(&self) -> Vec<f64> {
        let varied = self.axes.iter().any(|axis| axis.total > 0.0);
        let r2 = |axis: &Axis| if axis.total > 0.0 { 1.0 - axis.error / axis.total } else { f64::NAN };
        if varied { self.axes.iter().map(r2).collect() } else { Vec::new() }
    }

    /// Mean R2 of the axes that have varied; `None` while [`Score::r2_axes`] is empty.
    pub fn r2(&self) -> Option<f64> {
        let axes: Vec<f64> = self.r2_axes().into_iter().filter(|r2| !r2.is_nan()).collect();
        (!axes.is_empty()).then(|| axes.iter().sum::<f64>() / axes.len() as f64)
    }
}

/// R2 of each axis as text with the names of the axes, such as `x 0.9334, y 0.9209`.
pub fn by_axis(axes: &[f64]) -> String {
    let name = |at: usize| {
        ["x", "y", "z"].get(at).map_or_else(|| format!("axis {}", at + 1), |name| (*name).to_owned())
    };
    by_name(&(0..axes.len()).map(name).collect::<Vec<_>>(), axes)
}

/// R2 of each output as text with the names of the outputs, as [`by_axis`] does for x, y and z.
pub fn by_name(names: &[String], outputs: &[f64]) -> String {
    let named = outputs.iter().enumerate().map(|(at, r2)| {
        let name = names.get(at).map_or("?", String::as_str);
        if r2.is_nan() { format!("{name} none (it never changes)") } else { format!("{name} {r2:.4}") }
    });
    named.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r2_is_the_one_computed_by_hand() {
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
        assert_eq!(score.r2(), None);
        score.push(&[2.0, 1.0], &[1.0, 1.0]);
        assert_eq!(score.r2(), Some(-1.0), "the axis that varied: SST 0.5, SSE 1");
        assert_eq!(by_axis(&score.r2_axes()), "x -1.0000, y none (it never changes)");
    }
}
