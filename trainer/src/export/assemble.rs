//! A bundle from its weights: graphs written, golden outputs computed.

use super::golden::{GOLDEN_BINS, golden_input};
use super::onnx::{GraphShape, step_graph, window_graph};
use super::precision;
use crate::evaluation::Reference;
use ndt_protocol::bundle::manifest::{FORMAT_VERSION, Manifest};
use ndt_protocol::bundle::origin::Origin;
use ndt_protocol::bundle::quantity::Quantity;
use ndt_protocol::bundle::tensors::Tensors;
use ndt_protocol::bundle::{Bundle, BundleError};

/// The bundle of `manifest`, whose id and digests are filled in when it is written, with `weights` in SI units. Golden
/// outputs and the losses in fewer bits are computed by Burn. `mean_counts` are the channels' mean spikes per bin.
///
/// # Errors
/// [`BundleError::Check`] when weights and manifest do not fit each other.
pub fn from_weights(
    manifest: Manifest,
    weights: Tensors,
    mean_counts: &[f64],
) -> Result<Bundle, BundleError> {
    let reference = Reference::new(&manifest, &weights);
    let mut bundle =
        assemble(manifest, weights, mean_counts, |counts, missing| reference.stream(counts, missing));
    bundle.check()?;
    precision::measure(&mut bundle, None);
    Ok(bundle)
}

/// As [`from_weights`], with golden outputs from `run` instead of Burn, and unchecked. `run` computes the outputs of a
/// cold-started stream with these weights: `(counts [T, C], missing [T]) -> (log rates [T, N], all readouts [T, R])`.
pub fn assemble(
    mut manifest: Manifest,
    weights: Tensors,
    mean_counts: &[f64],
    run: impl FnOnce(&[f32], &[f32]) -> (Vec<f32>, Vec<f32>),
) -> Bundle {
    manifest.format_version = FORMAT_VERSION;
    let shape = GraphShape::of(&manifest);
    let version = FORMAT_VERSION.to_string();
    let unit = manifest
        .velocity()
        .map_or_else(|| Quantity::Velocity.unit().to_owned(), |velocity| velocity.unit.clone());
    let bin_width = manifest.bin_width_ms.to_string();
    let metadata = [
        ("ndt.format-version", version.as_str()),
        ("ndt.bin-width-ms", bin_width.as_str()),
        ("ndt.log-rates", "ln(spikes/s)"),
        ("ndt.rates", "spikes/s"),
        ("ndt.velocity", unit.as_str()),
    ];
    let (counts, missing) = golden_input(mean_counts, manifest.training.seed);
    let (log_rates, readouts) = run(&counts, &missing);
    let mut golden = Tensors::from([
        ("counts".to_owned(), (vec![GOLDEN_BINS, shape.channels], counts)),
        ("missing".to_owned(), (vec![GOLDEN_BINS], missing)),
        ("log_rates".to_owned(), (vec![GOLDEN_BINS, shape.units], log_rates)),
    ]);
    if manifest.readout_dims() > 0 {
        golden.insert("readouts".to_owned(), (vec![GOLDEN_BINS, manifest.readout_dims()], readouts));
    }
    Bundle {
        step_onnx: step_graph(&shape, &weights, &metadata),
        window_onnx: window_graph(&shape, &weights, &metadata),
        manifest,
        weights,
        golden,
        origin: Origin::default(),
    }
}
