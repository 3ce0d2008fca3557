//! Fixtures that several tests share: models of random weights, and where other programs are.

pub mod endpoints;
pub mod holes;
pub mod lsl;
pub mod rig;

use ndt_daemon::config::Config;
use ndt_daemon::engine::linear::LinearDecoder;
use ndt_daemon::engine::native::simd::InstructionSet;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::{Architecture, Linear, Manifest, Readout, Training};
use ndt_protocol::bundle::origin::Origin;
use ndt_protocol::bundle::tensors::Tensors;
use ndt_protocol::endpoint::{Input, Output, Role, SocketAddress};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

pub use ndt_protocol::bundle::manifest::Positions;

/// The dimensions of a model.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Input channels.
    pub channels: usize,
    /// Output units.
    pub units: usize,
    /// Velocity components; 0 for none.
    pub dims: usize,
    /// The transformer.
    pub architecture: Architecture,
}

impl Shape {
    /// With an architecture of `(width, layers, heads, feed-forward, window)`.
    pub fn new(
        channels: usize,
        units: usize,
        dims: usize,
        (width, layers, heads, feedforward, window_bins): (usize, usize, usize, usize, usize),
        positions: Positions,
    ) -> Shape {
        let architecture = Architecture { width, layers, heads, feedforward, window_bins, positions };
        Shape { channels, units, dims, architecture }
    }
}

/// An architecture for tests that are not about the model.
pub const SMALL: Architecture = Architecture {
    width: 16,
    layers: 2,
    heads: 2,
    feedforward: 24,
    window_bins: 8,
    positions: Positions::LagBias,
};

/// Configuration of a fit that takes seconds, without a teacher. It ends in the section `[optimiser]`, so that a test can go on
/// with the number of epochs.
pub const SMALL_FIT: &str = "\
[model]
width = 16
layers = 1
feedforward = 16
[objective]
redrawn = 0.0
teacher-weight = 0.0
[optimiser]
";

/// An address on this machine that nobody uses.
///
/// # Panics
/// When the machine has no free port.
pub fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| panic!("{error}"));
    format!("tcp://{}", listener.local_addr().unwrap_or_else(|error| panic!("{error}")))
}

/// A manifest for `shape` with 20 ms bins, a warm-up of 5 and a longest gap of 10.
pub fn manifest(shape: Shape) -> Manifest {
    let velocity =
        Readout { dims: shape.dims, unit: "m/s".to_owned(), lag_ms: 0.0, series: "hand_vel".to_owned() };
    Manifest {
        format_version: ndt_protocol::bundle::manifest::FORMAT_VERSION,
        id: "0".repeat(64),
        bin_width_ms: 20.0,
        warmup_bins: 5,
        max_gap_bins: 10,
        count_max: 50,
        channel_ids: (0..shape.channels as i64).collect(),
        unit_ids: (0..shape.units as i64).collect(),
        architecture: shape.architecture,
        linear: None,
        readouts: (shape.dims > 0).then_some(velocity).into_iter().collect(),
        published: 0,
        training: Training::of_nothing("a test"),
        scores: BTreeMap::new(),
        precisions: BTreeMap::new(),
        files: BTreeMap::new(),
    }
}

/// Weights that make every part of the model matter: nothing is zero, nothing saturates.
pub fn random_weights(manifest: &Manifest, seed: u64) -> Tensors {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut array = |(name, shape): (String, Vec<usize>)| {
        let norm_weight = name.contains("norm") && name.ends_with("weight");
        let spread = if shape.len() == 2 { 1.5 / (shape[0] as f32).sqrt() } else { 0.3 };
        let values = (0..shape.iter().product::<usize>())
            .map(|_| random.random_range(-spread..spread) + f32::from(norm_weight))
            .collect();
        (name, (shape, values))
    };
    manifest.weight_shapes().into_iter().map(&mut array).collect()
}

/// A bundle of random weights without graphs or golden vectors, for tests that run the native engine alone.
pub fn weights_only(shape: Shape, seed: u64) -> Bundle {
    let manifest = manifest(shape);
    let weights = random_weights(&manifest, seed);
    Bundle {
        manifest,
        weights,
        step_onnx: Vec::new(),
        window_onnx: Vec::new(),
        golden: Tensors::new(),
        origin: Origin::default(),
    }
}

/// A linear decoder of random weights and means that looks at so many bins, of 20 ms, with its golden vectors; its warm-up
/// and longest gap are those of [`manifest`].
pub fn linear(channels: usize, dims: usize, window_bins: usize, seed: u64) -> Bundle {
    const BINS: usize = 40;
    let shape = Shape { channels, units: 0, dims, architecture: Architecture::NONE };
    let mut manifest = manifest(shape);
    manifest.linear = Some(Linear { window_bins });
    let mut weights = random_weights(&manifest, seed);
    // Means of counts, as a fit has them.
    weights.entry("missing".to_owned()).and_modify(|(_, means)| {
        means.iter_mut().for_each(|mean| *mean = mean.abs());
    });
    let counts = random_counts(BINS, channels, seed);
    let golden = Tensors::new();
    let (step_onnx, window_onnx) = (Vec::new(), Vec::new());
    let mut bundle = Bundle { manifest, weights, step_onnx, window_onnx, golden, origin: Origin::default() };
    let mut decoder = LinearDecoder::new(&bundle).unwrap_or_else(|| panic!("the manifest is linear"));
    let mut velocity = Vec::new();
    for counts in counts.chunks_exact(channels) {
        decoder.push(counts);
        velocity.extend_from_slice(decoder.velocity());
    }
    bundle.golden = Tensors::from([
        ("counts".to_owned(), (vec![BINS, channels], counts)),
        ("missing".to_owned(), (vec![BINS], vec![0.0; BINS])),
        ("readouts".to_owned(), (vec![BINS, dims], velocity)),
    ]);
    bundle
}

/// Poisson-like counts for `bins` bins of `channels` channels: mostly zeros, a few ones, rarely more.
pub fn random_counts(bins: usize, channels: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut count = || (0..3).filter(|_| random.random_bool(0.12)).count() as f32;
    (0..bins * channels).map(|_| count()).collect()
}

/// A daemon that waits for its rig and its subscribers on free ports of this machine.
pub fn on_loopback() -> Config {
    let any = SocketAddress { role: Some(Role::Bind), address: "tcp://127.0.0.1:0".to_owned() };
    Config { input: Input::Zeromq(any.clone()), outputs: vec![Output::Zeromq(any)], ..Config::default() }
}

/// Builds one of the project's programs and returns its path. It is built once in each test program, however often a test
/// asks for it.
///
/// # Panics
/// When it does not build.
pub fn program(name: &str) -> PathBuf {
    static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let path = workspace().join("target/debug").join(name);
    let mut built_before = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if built_before.contains(name) {
        return path;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--locked", "--workspace", "--bin", name])
        .current_dir(workspace())
        .status();
    assert!(built.is_ok_and(|status| status.success()), "expected {name} to build, found an error");
    built_before.insert(name.to_owned());
    path
}

/// The vector instructions that this machine has; says which it has not.
pub fn instruction_sets() -> impl Iterator<Item = InstructionSet> {
    InstructionSet::ALL.into_iter().filter(|set| {
        if !set.is_available() {
            println!("skipped: this machine has no {}", set.name());
        }
        set.is_available()
    })
}

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The Python of the interoperability tests, made by `tests/run`.
///
/// # Panics
/// When it is not there: a test that cannot compare must not pass.
pub fn python() -> PathBuf {
    let python = workspace().join("target/python/bin/python");
    assert!(python.exists(), "expected {}, found none: start the tests with tests/run", python.display());
    python
}

/// ONNX Runtime's shared library, as the Python package brings it.
///
/// # Panics
/// When it is not there.
pub fn onnxruntime_library() -> PathBuf {
    let packages = workspace().join("target/python/lib");
    let found = std::fs::read_dir(&packages).into_iter().flatten().flatten().find_map(|python| {
        let capi = python.path().join("site-packages/onnxruntime/capi");
        std::fs::read_dir(capi).ok()?.flatten().map(|entry| entry.path()).find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libonnxruntime.so"))
        })
    });
    found.unwrap_or_else(|| panic!("expected libonnxruntime.so under {}, found none", packages.display()))
}

/// A real recording beside the checkout; says that the test is skipped where there is none.
pub fn recording(name: &str) -> Option<PathBuf> {
    let path = workspace().join("../shared/data").join(name);
    if !path.exists() {
        println!("skipped: the recording {name} is not beside this checkout");
        return None;
    }
    Some(path)
}
