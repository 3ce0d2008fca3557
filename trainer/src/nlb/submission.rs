//! The predictions of a bundle for the benchmark: causal, and from each trial's window alone.

use super::array::Tensor;
use super::store::Submission;
use super::tensors::Tensors;
use crate::evaluation::Reference;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::BundleError;

/// Why a bundle cannot predict the tensors.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The bundle is not valid.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle estimates no rates.
    #[error("expected a bundle that estimates rates, found a linear decoder of velocity")]
    Linear,
    /// The tensors have bins of another width.
    #[error("expected tensors in the bundle's {bundle_ms} ms bins, found {found_ms} ms")]
    Width {
        /// The bundle's bin width, ms.
        bundle_ms: f64,
        /// The tensors' bin width, ms.
        found_ms: usize,
    },
    /// The bundle's channels are not the held-in neurons, or its units are not all neurons.
    #[error("expected the bundle's {what} to be those of the recording, found unit {id} in one of them only")]
    Neurons {
        /// What does not fit: the bundle's `channels` or its `units`.
        what: &'static str,
        /// Id of a neuron that only the bundle or only the recording has.
        id: i64,
    },
}

/// Predicts every trial of `tensors` with the weights of `bundle`: causally, from a cold start at the window's first
/// bin. An unobserved bin enters the model as a missing one. Forward rates are left out, because the model predicts the
/// bin that it sees and no later one.
///
/// `watch` is called after each trial with the number of trials done and the number of all.
///
/// # Errors
/// [`SubmitError`] when bundle and tensors do not fit each other.
pub fn predict(
    bundle: &Bundle,
    tensors: &Tensors,
    watch: &mut dyn FnMut(usize, usize),
) -> Result<Submission, SubmitError> {
    bundle.check()?;
    let manifest = &bundle.manifest;
    if manifest.linear.is_some() {
        return Err(SubmitError::Linear);
    }
    if manifest.bin_width_ms != tensors.bin_ms as f64 {
        return Err(SubmitError::Width { bundle_ms: manifest.bin_width_ms, found_ms: tensors.bin_ms });
    }
    let units = [tensors.heldin_ids.as_slice(), &tensors.heldout_ids].concat();
    let inputs = columns("channels", &manifest.channel_ids, &tensors.heldin_ids)?;
    let outputs = columns("units", &units, &manifest.unit_ids)?;
    let (heldin, heldout) = outputs.split_at(tensors.heldin_ids.len());
    let reference = Reference::new(manifest, &bundle.weights);
    let bin_s = manifest.bin_width_ms / 1e3;
    let all = tensors.train.heldin.shape[0] + tensors.eval.heldin.shape[0];
    let mut done = 0;
    let mut predicted = |shown: &Tensor| {
        let [trials, bins, neurons] = shown.shape;
        let mut rates = [heldin, heldout].map(|columns| Tensor {
            shape: [trials, bins, columns.len()],
            values: Vec::with_capacity(trials * bins * columns.len()),
        });
        for trial in shown.values.chunks_exact((bins * neurons).max(1)) {
            let rows = trial.chunks_exact(neurons);
            let missing: Vec<f32> =
                rows.clone().map(|row| f32::from(row.iter().any(|count| count.is_nan()))).collect();
            let known = |count: f32| if count.is_nan() { 0.0 } else { count };
            let counts: Vec<f32> =
                rows.flat_map(|row| inputs.iter().map(|column| known(row[*column]))).collect();
            let (log_rates, _) = reference.stream(&counts, &missing);
            for row in log_rates.chunks_exact(units.len()) {
                for (rates, columns) in rates.iter_mut().zip([heldin, heldout]) {
                    let per_bin = |column: &usize| (f64::from(row[*column]).exp() * bin_s) as f32;
                    rates.values.extend(columns.iter().map(per_bin));
                }
            }
            done += 1;
            watch(done, all);
        }
        let [heldin, heldout] = rates;
        (heldin, heldout)
    };
    Ok(Submission {
        group: tensors.group.clone(),
        train: predicted(&tensors.train.heldin),
        eval: predicted(&tensors.eval.heldin),
        forward: None,
    })
}

/// The index of each id of `wanted` in `found`, which must hold the same ids.
fn columns(what: &'static str, wanted: &[i64], found: &[i64]) -> Result<Vec<usize>, SubmitError> {
    if let Some(id) = found.iter().find(|id| !wanted.contains(id)) {
        return Err(SubmitError::Neurons { what, id: *id });
    }
    let column = |id: &i64| {
        let at = found.iter().position(|other| other == id);
        at.ok_or(SubmitError::Neurons { what, id: *id })
    };
    wanted.iter().map(column).collect()
}
