//! How long one bin takes in each engine, side by side in one run: our kernel with every instruction set that the machine
//! has, ONNX Runtime's cached step, and ONNX Runtime over a whole window, which is what a daemon without a cache does.
//!
//! ```sh
//! tests/python-environment && cargo bench -p ndt-daemon --bench engines
//! ```
//!
//! Engines take turns, a few hundred bins each, so that a machine that slows down slows all of them; the median of a
//! bin is told, in microseconds, and written to `target/bench/engines.json`. One thread computes.

use ndt_daemon::engine::native::Native;
use ndt_daemon::engine::native::simd::InstructionSet;
use ndt_daemon::engine::onnx::{OnnxStep, OnnxWindow};
use ndt_daemon::engine::{Engine, Input, Output};
use ndt_daemon::machine::Machine;
use ndt_protocol::Bundle;
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::manifest::{Architecture, FORMAT_VERSION, Manifest, Positions, Training, Velocity};
use ndt_protocol::precision::Precision;
use ndt_protocol::tensors::Tensors;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Rounds of turns, and bins in a turn.
const ROUNDS: usize = 5;
const BINS: usize = 300;
/// A window is a hundred times as long.
const WINDOWS: usize = 20;

/// What is varied: channels, width, layers, window; all else is the reference model's.
#[derive(Clone, Copy)]
struct Model {
    channels: usize,
    width: usize,
    layers: usize,
    window: usize,
}

const REFERENCE: Model = Model { channels: 137, width: 128, layers: 4, window: 100 };

fn models() -> Vec<Model> {
    let channels = [32, 512, 4096].map(|channels| Model { channels, ..REFERENCE });
    let widths = [32, 64, 256, 512].map(|width| Model { width, ..REFERENCE });
    let layers = [2, 8].map(|layers| Model { layers, ..REFERENCE });
    let windows = [16, 400].map(|window| Model { window, ..REFERENCE });
    [REFERENCE].into_iter().chain(channels).chain(widths).chain(layers).chain(windows).collect()
}

/// Numbers that spread over -1..1; nobody looks at what the model says.
fn numbers(count: usize, seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
}

fn bundle(model: Model) -> Bundle {
    let Model { channels, width, layers, window } = model;
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
            positions: Positions::LagBias,
        },
        velocity: Some(Velocity { dims: 2, unit: "m/s".into(), lag_ms: 0.0, series: "hand_vel".into() }),
        training: Training {
            by: "a benchmark".into(),
            data: Vec::new(),
            data_sha256: "0".repeat(64),
            seed: 1,
            epochs: 0,
        },
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
    let (units, dims) = (manifest.units(), manifest.velocity_dims());
    ndt_trainer::export::bundle(manifest, weights, &vec![0.05; channels], |_, missing| {
        (zero(missing.len(), units), zero(missing.len(), dims))
    })
}

/// One in twenty channels has a spike, as at 10 spikes/s and 5 ms.
fn counts(channels: usize) -> Vec<f32> {
    numbers(BINS * channels, 99).map(|value| f32::from(value > 0.9)).collect()
}

/// What takes turns.
enum Contender {
    Step(Box<dyn Engine>),
    Window(Box<OnnxWindow>),
}

struct Row {
    name: String,
    contender: Contender,
    bins_ns: Vec<u64>,
}

impl Row {
    fn turn(&mut self, bundle: &Bundle, counts: &[f32], window: usize) {
        let channels = bundle.manifest.channels();
        let mut output = Output::for_bundle(bundle);
        match &mut self.contender {
            Contender::Step(engine) => {
                for counts in counts.chunks_exact(channels) {
                    let from_ns = monotonic_ns();
                    if engine.step(Input { counts, missing: false }, &mut output).is_ok() {
                        self.bins_ns.push(monotonic_ns() - from_ns);
                    }
                }
            }
            Contender::Window(graph) => {
                let stretch: Vec<f32> = counts.iter().cycle().take(window * channels).copied().collect();
                for _ in 0..WINDOWS {
                    let from_ns = monotonic_ns();
                    if graph.run(&stretch, &vec![0.0; window], 1, window).is_ok() {
                        self.bins_ns.push(monotonic_ns() - from_ns);
                    }
                }
            }
        }
    }

    fn median_us(&mut self) -> f64 {
        self.bins_ns.sort_unstable();
        self.bins_ns.get(self.bins_ns.len() / 2).map_or(f64::NAN, |median| *median as f64 * 1e-3)
    }
}

/// ONNX Runtime as the Python environment of the tests brings it.
fn onnxruntime() -> Option<PathBuf> {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/lib");
    std::fs::read_dir(packages).ok()?.flatten().find_map(|python| {
        let capi = python.path().join("site-packages/onnxruntime/capi");
        let files = std::fs::read_dir(capi).ok()?.flatten().map(|entry| entry.path());
        files.into_iter().find(|path| path.to_string_lossy().contains("libonnxruntime.so"))
    })
}

fn rows(bundle: &Bundle, library: Option<&PathBuf>) -> Vec<Row> {
    let row = |name: String, contender| Row { name, contender, bins_ns: Vec::new() };
    let sets = || InstructionSet::ALL.into_iter().filter(|set| set.is_there());
    let kinds = Precision::ALL.into_iter().flat_map(|precision| sets().map(move |set| (set, precision)));
    let native = kinds.map(|(set, precision)| {
        let engine = Native::with(bundle, set, precision);
        row(format!("{} {}", precision.name(), set.name()), Contender::Step(Box::new(engine)))
    });
    let mut rows: Vec<Row> = native.collect();
    if let Some(library) = library {
        match (OnnxStep::new(bundle, Some(library)), OnnxWindow::new(bundle, Some(library))) {
            (Ok(step), Ok(window)) => {
                rows.push(row("onnx step".to_owned(), Contender::Step(Box::new(step))));
                rows.push(row("onnx window".to_owned(), Contender::Window(Box::new(window))));
            }
            (Err(error), _) | (_, Err(error)) => eprintln!("skipped: ONNX Runtime: {error}"),
        }
    }
    rows
}

/// Bytes that a step reads at least: every weight but the read-in of silent channels, and the keys and values in view.
fn bytes(bundle: &Bundle, counts: &[f32]) -> usize {
    let manifest = &bundle.manifest;
    let of = |name: &str| bundle.weights.get(name).map_or(0, |(_, values)| values.len());
    let all: usize = bundle.weights.values().map(|(_, values)| values.len()).sum();
    let active = counts.iter().filter(|count| **count != 0.0).count() as f64 / BINS as f64;
    let Architecture { width, layers, window_bins, .. } = manifest.architecture;
    let remembered = 2 * layers * window_bins * width;
    4 * (all - of("readin.weight") + (active * width as f64) as usize + remembered)
}

fn main() -> std::io::Result<()> {
    let library = onnxruntime();
    if library.is_none() {
        eprintln!("skipped: no ONNX Runtime under target/python; tests/python-environment gets it");
    }
    let machine = Machine::read();
    println!("{}, Linux {}, one thread; median of a bin, us\n", machine.cpu, machine.kernel);
    let mut results = Vec::new();
    let all = !std::env::args().any(|argument| argument == "reference");
    for model in models().into_iter().take(if all { usize::MAX } else { 1 }) {
        let bundle = bundle(model);
        let counts = counts(model.channels);
        let mut rows = rows(&bundle, library.as_ref());
        for _ in 0..ROUNDS {
            rows.iter_mut().for_each(|row| row.turn(&bundle, &counts, model.window));
        }
        let Model { channels, width, layers, window } = model;
        let bytes = bytes(&bundle, &counts);
        print!(
            "channels {channels:4} width {width:3} layers {layers} window {window:3}  {:5.2} MB",
            bytes as f64 * 1e-6
        );
        let medians: Vec<(String, f64)> =
            rows.iter_mut().map(|row| (row.name.clone(), row.median_us())).collect();
        medians.iter().for_each(|(name, median)| print!("  {name} {median:7.1}"));
        println!();
        results.push(json!({
            "channels": channels, "width": width, "layers": layers, "window": window, "bytes": bytes,
            "median-us": medians.into_iter().collect::<BTreeMap<String, f64>>(),
        }));
    }
    let report = json!({ "machine": machine, "rows": results });
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("engines.json"), format!("{report:#}\n"))
}
