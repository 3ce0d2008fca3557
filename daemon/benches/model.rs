//! Shared by the benchmarks: models of random weights, spike counts, and the path of ONNX Runtime.

use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::{Architecture, FORMAT_VERSION, Manifest, Positions, Readout, Training};
use ndt_protocol::bundle::tensors::Tensors;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The dimensions that the benchmarks vary. All others are those of the reference model.
#[derive(Clone, Copy)]
pub struct Model {
    pub channels: usize,
    pub width: usize,
    pub layers: usize,
    pub window: usize,
    pub positions: Positions,
}

pub const REFERENCE: Model =
    Model { channels: 137, width: 128, layers: 4, window: 100, positions: Positions::LagBias };

/// The reference model with a learned position table: nothing can be cached, so that our kernel recomputes the window
/// too.
pub const LEARNED: Model = Model { positions: Positions::Learned, ..REFERENCE };

/// Returns pseudo-random numbers from -1 to 1; what the model computes from them does not matter.
fn numbers(count: usize, seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
}

/// Makes a bundle of random weights, with golden vectors of zeros.
pub fn bundle(model: Model) -> Bundle {
    let Model { channels, width, layers, window, positions } = model;
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        id: "0".repeat(64),
        bin_width_ms: 5.0,
        warmup_bins: 0,
        max_gap_bins: 20,
        count_max: 50,
        channel_ids: (0..channels as i64).collect(),
        unit_ids: (0..(channels as i64 + 45)).collect(),
        architecture: Architecture {
            width,
            layers,
            heads: 2,
            feedforward: 2 * width,
            window_bins: window,
            positions,
        },
        linear: None,
        readouts: vec![Readout { dims: 2, unit: "m/s".into(), lag_ms: 0.0, series: "hand_vel".into() }],
        published: 0,
        training: Training { seed: 1, ..Training::of_nothing("a benchmark") },
        scores: BTreeMap::new(),
        precisions: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    let array = |(at, (name, shape)): (usize, (String, Vec<usize>))| {
        let spread = if shape.len() == 2 { 1.0 / (shape[0] as f32).sqrt() } else { 0.1 };
        let base = f32::from(name.contains("norm") && name.ends_with("weight"));
        let values = numbers(shape.iter().product(), at as u64).map(|value| base + spread * value).collect();
        (name, (shape, values))
    };
    let weights: Tensors = manifest.weight_shapes().into_iter().enumerate().map(array).collect();
    let zero = |bins: usize, of: usize| vec![0.0; bins * of];
    let (units, dims) = (manifest.units(), manifest.readout_dims());
    ndt_trainer::export::assemble(manifest, weights, &vec![0.05; channels], |_, missing| {
        (zero(missing.len(), units), zero(missing.len(), dims))
    })
}

/// Returns counts `[bins, channels]` in which one in twenty channels has a spike, as at 10 spikes/s and 5 ms.
pub fn counts(bins: usize, channels: usize) -> Vec<f32> {
    numbers(bins * channels, 99).map(|value| f32::from(value > 0.9)).collect()
}

/// Returns the path of ONNX Runtime in the Python environment of the tests.
pub fn onnxruntime() -> Option<PathBuf> {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/lib");
    std::fs::read_dir(packages).ok()?.flatten().find_map(|python| {
        let capi = python.path().join("site-packages/onnxruntime/capi");
        let files = std::fs::read_dir(capi).ok()?.flatten().map(|entry| entry.path());
        files.into_iter().find(|path| path.to_string_lossy().contains("libonnxruntime.so"))
    })
}
