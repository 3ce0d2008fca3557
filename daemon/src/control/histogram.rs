//! A histogram with fixed buckets, as Prometheus reads it.

/// Counts of values in buckets, with their sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Upper limit of each bucket, ascending. Higher values are in a last bucket without a limit.
    bounds: &'static [f64],
    /// Values in each bucket, the last one included.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// Makes an empty histogram with a bucket up to each of `bounds`, which ascend.
    pub fn new(bounds: &'static [f64]) -> Histogram {
        Histogram { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts a value. One that is not finite is ignored.
    pub fn add(&mut self, value: f64) {
        if value.is_finite() {
            let bucket = self.bounds.partition_point(|bound| *bound < value);
            self.counts[bucket] += 1;
            self.sum += value;
        }
    }

    /// Upper limit of each bucket but the last, and the number of values up to it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let counts = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        self.bounds.iter().copied().zip(counts)
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of the values.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_up_to_every_limit_that_is_not_below_it() {
        let mut histogram = Histogram::new(&[1.0, 2.0, 5.0]);
        [0.5, 1.0, 1.5, 7.0, f64::NAN].into_iter().for_each(|value| histogram.add(value));
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [(1.0, 2), (2.0, 3), (5.0, 3)]);
        assert_eq!((histogram.count(), histogram.sum()), (4, 10.0));
    }
}
