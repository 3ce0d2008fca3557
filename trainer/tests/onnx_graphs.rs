//! The ONNX graphs of random models, run by ONNX Runtime in Python and compared with the model in numpy by
//! `tests/python/check_onnx.py`.

use ndt_protocol::bundle::manifest::{Architecture, FORMAT_VERSION, Manifest, Positions, Readout, Training};
use ndt_protocol::bundle::tensors::{self, Tensors};
use ndt_trainer::export::onnx::{GraphShape, step_graph, window_graph};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Width, layers, heads, feed-forward width, window; channels, units, velocity components.
const SHAPES: [([usize; 5], [usize; 3]); 6] = [
    ([30, 2, 3, 17, 5], [4, 6, 2]),
    ([8, 1, 1, 16, 2], [1, 1, 0]),
    ([64, 3, 4, 128, 20], [35, 50, 2]),
    ([7, 2, 7, 3, 3], [2, 5, 1]),
    ([1, 4, 1, 1, 9], [3, 2, 2]),
    ([48, 1, 6, 96, 33], [130, 3, 3]),
];

#[test]
fn onnx_runtime_computes_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let mut bundles = Vec::new();
    for positions in [Positions::LagBias, Positions::Learned] {
        for (seed, (sizes, ends)) in SHAPES.into_iter().enumerate() {
            let manifest = manifest(positions, sizes, ends);
            let bundle = folder.path().join(format!("{positions:?}-{seed}"));
            write_random_bundle(&bundle, &manifest, seed as u64);
            bundles.push(bundle);
        }
    }
    let output = Command::new(python())
        .arg("-B")
        .arg(root().join("tests/python/check_onnx.py"))
        .arg("--reference-only")
        .args(&bundles)
        .output()
        .unwrap();
    let (found, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{found}{errors}");
    assert!(output.status.success(), "{found}{errors}");
    assert_eq!(found.lines().count(), bundles.len());
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn python() -> PathBuf {
    let python = root().join("target/python/bin/python");
    assert!(python.exists(), "expected a Python environment in target/python, found none: run tests/run");
    python
}

fn manifest(positions: Positions, sizes: [usize; 5], ends: [usize; 3]) -> Manifest {
    let [width, layers, heads, feedforward, window_bins] = sizes;
    let [channels, units, dims] = ends;
    let velocity = Readout { dims, unit: "m/s".to_owned(), lag_ms: 0.0, series: "hand_vel".to_owned() };
    Manifest {
        format_version: FORMAT_VERSION,
        id: "0".repeat(64),
        bin_width_ms: 20.0,
        warmup_bins: 0,
        count_max: 50,
        max_gap_bins: 0,
        channel_ids: (0..channels as i64).collect(),
        unit_ids: (0..units as i64).collect(),
        architecture: Architecture { width, layers, heads, feedforward, window_bins, positions },
        linear: None,
        readouts: (dims > 0).then_some(velocity).into_iter().collect(),
        published: 0,
        training: Training {
            by: "a test".to_owned(),
            data: vec![],
            data_sha256: String::new(),
            seed: 0,
            epochs: 0,
            parent: None,
        },
        scores: BTreeMap::new(),
        precisions: BTreeMap::new(),
        files: BTreeMap::new(),
    }
}

/// Writes all files of a bundle except golden outputs, which `Bundle` itself would ask for.
fn write_random_bundle(folder: &Path, manifest: &Manifest, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let weights: Tensors = manifest
        .weight_shapes()
        .into_iter()
        .map(|(name, dims)| random_weight(&mut rng, name, dims))
        .collect();
    // The stream is longer than the reach of the model, so that old bins must leave the memory.
    let bins = manifest.reach_bins() + manifest.architecture.window_bins + 7;
    let channels = manifest.channels();
    let counts = (0..bins * channels).map(|_| rng.random_range(0..8u32).saturating_sub(4) as f32).collect();
    // The first bin and a run of bins are missing; their counts must not matter.
    let missing = (0..bins).map(|bin| f32::from(bin == 0 || (5..8).contains(&bin))).collect();
    let golden = Tensors::from([
        ("counts".to_owned(), (vec![bins, channels], counts)),
        ("missing".to_owned(), (vec![bins], missing)),
    ]);
    let shape = GraphShape::of(manifest);
    let metadata = [("format-version", "1"), ("seed", "random")];
    std::fs::create_dir(folder).unwrap();
    for (name, bytes) in [
        ("manifest.toml", toml::to_string(manifest).unwrap().into_bytes()),
        ("weights.safetensors", tensors::to_bytes(&weights)),
        ("golden.safetensors", tensors::to_bytes(&golden)),
        ("step.onnx", step_graph(&shape, &weights, &metadata)),
        ("window.onnx", window_graph(&shape, &weights, &metadata)),
    ] {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

/// Random weights, large enough that a transposed or forgotten weight is noticed, and small enough that f32 stays
/// within the tolerance.
fn random_weight(rng: &mut ChaCha8Rng, name: String, dims: Vec<usize>) -> (String, (Vec<usize>, Vec<f32>)) {
    let is_norm = name.contains("norm") && name.ends_with("weight");
    let is_linear = name.ends_with("weight") && !is_norm;
    let scale = if is_linear { 1.5 / (dims[0] as f32).sqrt() } else { 0.5 };
    let offset = if is_norm { 1.0 } else { 0.0 };
    let size: usize = dims.iter().product();
    let values = (0..size).map(|_| offset + scale * rng.random_range(-1.0..1.0f32)).collect();
    (name, (dims, values))
}
