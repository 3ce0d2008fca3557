//! How long one bin takes in each engine, side by side in one run: our kernel with every instruction set that the machine
//! has, ONNX Runtime's cached step, and ONNX Runtime over a whole window, which is what a daemon without a cache does;
//! with learned positions our kernel does that too.
//!
//! ```sh
//! tests/python-environment && cargo bench -p ndt-daemon --bench engines
//! ```
//!
//! Engines take turns, a few hundred bins each, so that a machine that slows down slows all of them; the median of a
//! bin is told, in microseconds, and written to `target/bench/engines.json`. One thread computes.

mod model;

use model::{LEARNED, Model, REFERENCE, bundle, counts, onnxruntime};
use ndt_daemon::engine::native::Native;
use ndt_daemon::engine::native::simd::InstructionSet;
use ndt_daemon::engine::onnx::{OnnxStep, OnnxWindow};
use ndt_daemon::engine::{Engine, Input, Output};
use ndt_daemon::machine::Machine;
use ndt_protocol::Bundle;
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::manifest::{Architecture, Positions};
use ndt_protocol::precision::Precision;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Rounds of turns, and bins in a turn.
const ROUNDS: usize = 5;
const BINS: usize = 300;
/// A window is a hundred times as long.
const WINDOWS: usize = 20;

fn models() -> Vec<Model> {
    let channels = [32, 512, 4096].map(|channels| Model { channels, ..REFERENCE });
    let widths = [32, 64, 256, 512].map(|width| Model { width, ..REFERENCE });
    let layers = [2, 8].map(|layers| Model { layers, ..REFERENCE });
    let windows = [16, 400].map(|window| Model { window, ..REFERENCE });
    [REFERENCE, LEARNED].into_iter().chain(channels).chain(widths).chain(layers).chain(windows).collect()
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

fn rows(bundle: &Bundle, library: Option<&PathBuf>) -> Vec<Row> {
    let row = |name: String, contender| Row { name, contender, bins_ns: Vec::new() };
    let sets = || InstructionSet::ALL.into_iter().filter(|set| set.is_there());
    let is_window = bundle.manifest.architecture.positions == Positions::Learned;
    let precisions = if is_window { &[Precision::F32][..] } else { &Precision::ALL };
    let kinds = precisions.iter().flat_map(|precision| sets().map(move |set| (set, *precision)));
    let native = kinds.map(|(set, precision)| {
        let native = Native::with(bundle, set, precision);
        row(native.name(), Contender::Step(Box::new(native)))
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
        let counts = counts(BINS, model.channels);
        let mut rows = rows(&bundle, library.as_ref());
        for _ in 0..ROUNDS {
            rows.iter_mut().for_each(|row| row.turn(&bundle, &counts, model.window));
        }
        let Model { channels, width, layers, window, positions } = model;
        let learned = if positions == Positions::Learned { " learned" } else { "" };
        let bytes = bytes(&bundle, &counts);
        print!(
            "channels {channels:4} width {width:3} layers {layers} window {window:3}{learned}  {:5.2} MB",
            bytes as f64 * 1e-6
        );
        let medians: Vec<(String, f64)> =
            rows.iter_mut().map(|row| (row.name.clone(), row.median_us())).collect();
        medians.iter().for_each(|(name, median)| print!("  {name} {median:7.1}"));
        println!();
        results.push(json!({
            "channels": channels, "width": width, "layers": layers, "window": window, "positions": positions,
            "bytes": bytes,
            "median-us": medians.into_iter().collect::<BTreeMap<String, f64>>(),
        }));
    }
    let report = json!({ "machine": machine, "rows": results });
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("engines.json"), format!("{report:#}\n"))
}
