//! Arrays of three axes, as the benchmark's files hold them.

/// An array of three axes, mostly `[trials, bins, neurons]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Shape of the array: the lengths of its three axes.
    pub shape: [usize; 3],
    /// The values; NaN where unknown.
    pub values: Vec<f32>,
}

impl Tensor {
    /// An array of this shape in which all values are unknown (NaN).
    pub fn unknown(shape: [usize; 3]) -> Tensor {
        Tensor { shape, values: vec![f32::NAN; shape.iter().product()] }
    }

    /// The values in double precision, as scores take them.
    pub fn to_f64(&self) -> Vec<f64> {
        self.values.iter().map(|value| f64::from(*value)).collect()
    }

    /// Both arrays side by side along the last axis; `None` when their other axes differ.
    pub fn beside(&self, other: &Tensor) -> Option<Tensor> {
        let ([trials, bins, left], right) = (self.shape, other.shape[2]);
        if other.shape[..2] != self.shape[..2] {
            return None;
        }
        let rows = self.values.chunks_exact(left.max(1)).zip(other.values.chunks_exact(right.max(1)));
        let values = rows.flat_map(|(a, b)| a.iter().chain(b).copied()).collect();
        Some(Tensor { shape: [trials, bins, left + right], values })
    }

    /// The array if any of its values is known.
    pub(super) fn known(self) -> Option<Tensor> {
        self.values.iter().any(|value| !value.is_nan()).then_some(self)
    }
}
