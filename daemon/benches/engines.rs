//! Measures how long one bin takes in each engine, side by side in one run: in our kernel with every instruction set
//! of the machine, in ONNX Runtime's cached step, and in ONNX Runtime over a whole window, which is what a daemon
//! without a cache computes. With learned positions our kernel recomputes the window too.
//!
//! ```sh
//! tests/python-environment && cargo bench -p ndt-daemon --bench engines
//! ```
//!
//! Models and engines take turns of a few hundred bins each, so that a machine that slows down slows all of them. The
//! median bin is reported, in microseconds. One thread computes. The table is written to `target/bench/engines.json`,
//! a plot to `engines.svg`, and the reference model to `reference`, for `tests/python/bench_engines.py`. With an
//! argument, only the models whose title contains it are measured (`-- "4096 channels"`), and no file is written.

mod model;
mod plot;

use model::{LEARNED, Model, REFERENCE, bundle, counts, onnxruntime};
use ndt_daemon::engine::native::Native;
use ndt_daemon::engine::native::simd::InstructionSet;
use ndt_daemon::engine::onnx::{OnnxStep, OnnxWindow};
use ndt_daemon::engine::{Engine, Input, Output};
use ndt_daemon::host::machine::Machine;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::{Architecture, Positions};
use ndt_protocol::bundle::precision::Precision;
use ndt_protocol::clock::monotonic_ns;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Number of rounds, and bins in a turn.
const ROUNDS: usize = 5;
const BINS: usize = 300;
/// Windows in a turn; a window takes a hundred times as long as a bin.
const WINDOWS: usize = 20;

fn models() -> Vec<Model> {
    let channels = [32, 512, 1024, 4096].map(|channels| Model { channels, ..REFERENCE });
    let widths = [32, 64, 256, 512].map(|width| Model { width, ..REFERENCE });
    let layers = [2, 8].map(|layers| Model { layers, ..REFERENCE });
    let windows = [16, 50, 200, 400].map(|window| Model { window, ..REFERENCE });
    [REFERENCE, LEARNED].into_iter().chain(channels).chain(widths).chain(layers).chain(windows).collect()
}

/// The cost of one model.
pub struct Cost {
    model: Model,
    /// Fewest bytes that a bin reads, in each number format.
    bytes: [usize; 3],
    /// Median time of a bin in each engine, by name, us.
    median_us: Vec<(String, f64)>,
}

impl Cost {
    fn of(&self, engine: &str) -> Option<f64> {
        self.median_us.iter().find(|(name, _)| name == engine).map(|(_, median)| *median)
    }

    fn json(&self) -> serde_json::Value {
        let Model { channels, width, layers, window, positions } = self.model;
        let bytes = Precision::ALL.iter().map(|precision| precision.name()).zip(self.bytes);
        json!({
            "channels": channels, "width": width, "layers": layers, "window": window, "positions": positions,
            "bytes": bytes.collect::<BTreeMap<_, _>>(),
            "median-us": self.median_us.iter().cloned().collect::<BTreeMap<String, f64>>(),
        })
    }
}

/// An engine or graph that takes turns with the others.
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
                // In the daemon, the decoder has looked at a bin's counts just before the engine does.
                let mut decoded = vec![0.0; channels];
                for counts in counts.chunks_exact(channels) {
                    decoded.copy_from_slice(counts);
                    let from_ns = monotonic_ns();
                    if engine.step(Input { counts: &decoded, missing: false }, &mut output).is_ok() {
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

/// Makes the rows of a model: our kernel in every number format with the best instructions of the machine and with
/// AVX2, which most machines have; in `f32` with all other instruction sets; and ONNX Runtime.
fn rows(bundle: &Bundle, library: Option<&PathBuf>) -> Vec<Row> {
    let row = |name: String, contender| Row { name, contender, bins_ns: Vec::new() };
    let is_window = bundle.manifest.architecture.positions == Positions::Learned;
    let mut rows = Vec::new();
    for set in InstructionSet::ALL.into_iter().filter(|set| set.is_available()) {
        let all = !is_window && [InstructionSet::best(), InstructionSet::Avx2].contains(&set);
        for precision in if all { &Precision::ALL[..] } else { &[Precision::F32] } {
            let native = Native::with(bundle, set, *precision);
            rows.push(row(native.name(), Contender::Step(Box::new(native))));
        }
    }
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

/// Fewest bytes that a step reads: the counts, every weight except the read-in of silent channels, the keys and
/// values in view, and in `int8` the scales of both. Norms are folded into the weights that follow them, and no bin
/// is missing.
fn bytes(bundle: &Bundle, counts: &[f32], precision: Precision) -> usize {
    let Architecture { width, layers, heads, window_bins, .. } = bundle.manifest.architecture;
    let active = counts.iter().filter(|count| **count != 0.0).count() as f64 / BINS as f64;
    let mut exact = bundle.manifest.channels() + (active * width as f64) as usize;
    let mut rounded = 2 * layers * window_bins * width;
    let mut scales = 2 * layers * window_bins * heads;
    let is_read = |name: &str| name != "readin.weight" && name != "missing" && !name.contains("norm");
    for (name, (shape, values)) in bundle.weights.iter().filter(|(name, _)| is_read(name)) {
        match shape[..] {
            [_, outputs] if !name.ends_with("lag_bias") => {
                rounded += values.len();
                scales += outputs;
            }
            _ => exact += values.len(),
        }
    }
    match precision {
        Precision::F32 => 4 * (exact + rounded),
        Precision::Bf16 => 4 * exact + 2 * rounded,
        Precision::Int8 => 4 * (exact + scales) + rounded,
    }
}

/// A model with all engines that compute it.
struct Candidate {
    model: Model,
    bundle: Bundle,
    counts: Vec<f32>,
    rows: Vec<Row>,
}

impl Candidate {
    fn new(model: Model, library: Option<&PathBuf>) -> Candidate {
        let bundle = bundle(model);
        Candidate { rows: rows(&bundle, library), counts: counts(BINS, model.channels), bundle, model }
    }

    fn turn(&mut self) {
        self.rows.iter_mut().for_each(|row| row.turn(&self.bundle, &self.counts, self.model.window));
    }

    fn cost(&mut self) -> Cost {
        Cost {
            model: self.model,
            bytes: Precision::ALL.map(|precision| bytes(&self.bundle, &self.counts, precision)),
            median_us: self.rows.iter_mut().map(|row| (row.name.clone(), row.median_us())).collect(),
        }
    }
}

fn title(model: &Model) -> String {
    let Model { channels, width, layers, window, positions } = model;
    let learned = if *positions == Positions::Learned { ", learned positions" } else { "" };
    format!("{channels} channels, width {width}, {layers} layers, window {window}{learned}")
}

fn show(cost: &Cost) {
    let [f32, bf16, int8] = cost.bytes.map(|bytes| bytes as f64 * 1e-6);
    println!("{}", title(&cost.model));
    println!("  must read {f32:.2} MB in f32, {bf16:.2} in bf16, {int8:.2} in int8");
    for (name, median) in &cost.median_us {
        println!("  {name:28}{median:9.1}");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let library = onnxruntime();
    if library.is_none() {
        eprintln!("skipped: no ONNX Runtime under target/python; tests/python-environment gets it");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&folder)?;
    let machine = Machine::read();
    println!("{}, Linux {}, one thread; median of a bin, us\n", machine.cpu, machine.kernel);
    // Cargo adds an option of its own, which is skipped.
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let is_wanted = |model: &Model| wanted.as_ref().is_none_or(|wanted| title(model).contains(wanted));
    let wanted = models().into_iter().filter(is_wanted);
    let mut candidates: Vec<Candidate> =
        wanted.map(|model| Candidate::new(model, library.as_ref())).collect();
    for _ in 0..ROUNDS {
        candidates.iter_mut().for_each(Candidate::turn);
    }
    let costs: Vec<Cost> = candidates.iter_mut().map(Candidate::cost).collect();
    costs.iter().for_each(show);
    if costs.len() < models().len() {
        return Ok(());
    }
    bundle(REFERENCE).write(&folder.join("reference"))?;
    let rows: Vec<serde_json::Value> = costs.iter().map(Cost::json).collect();
    let date_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let report = json!({ "machine": machine, "date-unix-s": date_unix_s, "rows": rows });
    std::fs::write(folder.join("engines.json"), format!("{report:#}\n"))?;
    plot::draw(&folder.join("engines.svg"), &costs, InstructionSet::best())
}
