//! A bundle's readouts: the velocity that is published, and others that can be published in its place.
//!
//! All readouts are linear in the final state, so that another one costs a matrix of `width` rows. Which one is
//! published is chosen when the bundle is loaded; all later code sees a single velocity.

use crate::bundle::Bundle;
use crate::bundle::manifest::{Manifest, Velocity};
use crate::bundle::quantity::Quantity;
use crate::bundle::tensors::Tensors;

/// The bundle has no velocity of the lag that was asked for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("expected a velocity for {expected} ms after the bin's centre in the bundle, found {found}")]
pub struct ReadoutError {
    /// Lag that was asked for, ms.
    pub expected: f64,
    /// Lags of the bundle.
    pub found: String,
}

/// Returns the published velocity and all further readouts, in the order of their columns.
pub fn readouts(manifest: &Manifest) -> Vec<Velocity> {
    manifest.velocity.iter().chain(&manifest.further).cloned().collect()
}

/// Puts the columns of all readouts side by side: `rows` rows of the published readout, and of the further ones.
pub fn joined(manifest: &Manifest, published: &[f32], further: &[f32], rows: usize) -> Vec<f32> {
    let (dims, others) = (manifest.velocity_dims(), manifest.further_dims());
    let row = |row: usize| [&published[row * dims..][..dims], &further[row * others..][..others]].concat();
    (0..rows).flat_map(row).collect()
}

/// Reorders the columns of `values`: column `i` of each row becomes what column `columns[i]` was.
pub fn moved(values: &[f32], columns: &[usize]) -> Vec<f32> {
    let rows = values.chunks_exact(columns.len().max(1));
    rows.flat_map(|row| columns.iter().map(|column| row[*column])).collect()
}

/// Splits columns that stand side by side: those of the published readout first, then those of the others.
pub fn parted(manifest: &Manifest, all: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let dims = manifest.velocity_dims();
    let rows = || all.chunks_exact((dims + manifest.further_dims()).max(1));
    (
        rows().flat_map(|row| &row[..dims]).copied().collect(),
        rows().flat_map(|row| &row[dims..]).copied().collect(),
    )
}

impl Bundle {
    /// Returns the bundle with the velocity of lag `lag_ms` published, and the one that was published among the
    /// further readouts. The bundle then has no ONNX graphs, because those compute the first velocity.
    ///
    /// # Errors
    /// [`ReadoutError`] when no velocity has this lag.
    pub fn reading(mut self, lag_ms: f64) -> Result<Bundle, ReadoutError> {
        let readouts = readouts(&self.manifest);
        let can_be_published = |readout: &&Velocity| readout.quantity().is_some_and(Quantity::is_publishable);
        let is_it = |readout: &Velocity| readout.lag_ms == lag_ms && can_be_published(&readout);
        let Some(at) = readouts.iter().position(is_it) else {
            let lags = readouts.iter().filter(can_be_published);
            let found = lags.map(|readout| format!("{} ms", readout.lag_ms)).collect::<Vec<_>>().join(", ");
            let found = if found.is_empty() { "none".to_owned() } else { found };
            return Err(ReadoutError { expected: lag_ms, found });
        };
        if at == 0 {
            return Ok(self);
        }
        let mut order: Vec<usize> = (0..readouts.len()).collect();
        order.swap(0, at);
        let before = self.manifest.clone();
        self.manifest.velocity = Some(readouts[at].clone());
        self.manifest.further = order[1..].iter().map(|readout| readouts[*readout].clone()).collect();
        let columns = columns(&readouts, &order);
        let rows = before.architecture.width;
        let bins = self.golden_bins();
        let manifests = [&before, &self.manifest];
        reorder(&mut self.weights, ["velocity.weight", "further.weight"], rows, &columns, manifests);
        reorder(&mut self.weights, ["velocity.bias", "further.bias"], 1, &columns, manifests);
        reorder(&mut self.golden, ["velocity", "further"], bins, &columns, manifests);
        self.step_onnx.clear();
        self.window_onnx.clear();
        Ok(self)
    }
}

/// Returns, for each column, the column that it comes from when the readouts are put in the order `order`.
pub fn columns(readouts: &[Velocity], order: &[usize]) -> Vec<usize> {
    let first = |readout: usize| readouts[..readout].iter().map(|readout| readout.dims).sum::<usize>();
    order.iter().flat_map(|readout| first(*readout)..first(*readout) + readouts[*readout].dims).collect()
}

fn reorder(
    tensors: &mut Tensors,
    names: [&str; 2],
    rows: usize,
    columns: &[usize],
    [before, after]: [&Manifest; 2],
) {
    let [Some(published), Some(further)] = names.map(|name| tensors.get(name).cloned()) else { return };
    let all = joined(before, &published.1, &further.1, rows);
    let (velocity, others) = parted(after, &moved(&all, columns));
    for (name, values, shape) in [(names[0], velocity, published.0), (names[1], others, further.0)] {
        let mut shape = shape;
        if let Some(last) = shape.last_mut() {
            *last = values.len() / rows.max(1);
        }
        tensors.insert(name.to_owned(), (shape, values));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_joined_moved_and_parted_again() {
        let readout = |dims, lag_ms| Velocity { dims, unit: "m/s".into(), lag_ms, series: "hand_vel".into() };
        let readouts = [readout(2, 0.0), readout(1, 0.0), readout(2, 100.0)];
        assert_eq!(columns(&readouts, &[2, 1, 0]), [3, 4, 2, 0, 1]);
        let rows = [0.0, 1.0, 2.0, 3.0, 4.0, 10.0, 11.0, 12.0, 13.0, 14.0];
        let moved = moved(&rows, &[3, 4, 2, 0, 1]);
        assert_eq!(moved, [3.0, 4.0, 2.0, 0.0, 1.0, 13.0, 14.0, 12.0, 10.0, 11.0]);
    }
}
