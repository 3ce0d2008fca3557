//! Measures how long whole trials take in our batch mode, in our engine bin by bin, in the trainer's own forward
//! pass, and in ONNX Runtime's window graph.
//!
//! ```sh
//! tests/python-environment && cargo bench -p ndt-daemon --bench batch
//! ```
//!
//! All compute the same 2,000 trials of 100 bins with the reference model, once with each position scheme. They take
//! turns of 400 trials each, so that a machine that slows down slows all of them. The median turn is reported for one
//! trial, and so is the median CPU time, which a busy machine changes less; both are written to
//! `target/bench/batch.json`. Unless a row says otherwise, each uses all CPUs: our batch and ONNX Runtime a thread
//! for each CPU, which take trials in turn; the trainer's pass the threads of its library. The answers are compared
//! with each other.

mod model;

use model::{LEARNED, Model, REFERENCE, bundle, counts, onnxruntime};
use ndt_daemon::engine::native::Native;
use ndt_daemon::engine::native::batch::{Batch, Trials};
use ndt_daemon::engine::onnx::OnnxWindow;
use ndt_daemon::engine::{Engine, Input, Output};
use ndt_daemon::host::machine::Machine;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Positions;
use ndt_protocol::clock::monotonic_ns;
use ndt_trainer::evaluation::Reference;
use serde_json::json;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// Number of turns, trials in a turn, and bins in a trial.
const ROUNDS: usize = 5;
const TRIALS: usize = 400;
const BINS: usize = 100;
/// Trials in each call of a library: of 1, 10, 50 and 100, the number with which both were fastest.
const CALL_TRIALS: usize = 10;

/// A program that takes turns with the others.
enum Contender {
    Native(Box<Batch>),
    /// The daemon's engine, one bin after another.
    Stream(Box<dyn Engine>),
    /// ONNX Runtime's window graph, with one session for each thread.
    Onnx(Vec<Mutex<OnnxWindow>>),
    Burn(Box<Reference>),
}

struct Row {
    name: String,
    contender: Contender,
    turns_ns: Vec<u64>,
    turns_cpu_ns: Vec<u64>,
}

impl Row {
    /// Computes all trials once, records the time, and returns the log rates of all trials.
    fn turn(&mut self, bundle: &Bundle, counts: &[f32]) -> Vec<f32> {
        let (from_ns, from_cpu_ns) = (monotonic_ns(), cpu_ns());
        let log_rates = match &mut self.contender {
            Contender::Native(batch) => {
                let trials = Trials { counts, missing: None, trials: TRIALS, bins: BINS };
                batch.evaluate(trials, &|| {}).map_or_else(|_| Vec::new(), |answers| answers.log_rates)
            }
            Contender::Stream(engine) => stream(engine.as_mut(), bundle, counts),
            Contender::Burn(reference) => {
                let calls = counts.chunks(counts.len() * CALL_TRIALS / TRIALS);
                let missing = [0.0; CALL_TRIALS * BINS];
                calls.flat_map(|counts| reference.batch(counts, &missing, CALL_TRIALS).0).collect()
            }
            Contender::Onnx(sessions) => onnx(sessions, counts),
        };
        self.turns_ns.push(monotonic_ns() - from_ns);
        self.turns_cpu_ns.push(cpu_ns() - from_cpu_ns);
        log_rates
    }
}

/// Returns the median turn, divided by its trials, us.
fn median_trial_us(turns_ns: &mut [u64]) -> f64 {
    turns_ns.sort_unstable();
    let median = turns_ns.get(turns_ns.len() / 2);
    median.map_or(f64::NAN, |median| *median as f64 * 1e-3 / TRIALS as f64)
}

/// Returns the CPU time of all threads of this process so far, ns.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn stream(engine: &mut dyn Engine, bundle: &Bundle, counts: &[f32]) -> Vec<f32> {
    let mut output = Output::for_bundle(bundle);
    let mut log_rates = Vec::new();
    for (bin, counts) in counts.chunks_exact(bundle.manifest.channels()).enumerate() {
        if bin % BINS == 0 {
            engine.reset();
        }
        if engine.step(Input { counts, missing: false }, &mut output).is_ok() {
            log_rates.extend_from_slice(&output.log_rates);
        }
    }
    log_rates
}

fn onnx(sessions: &[Mutex<OnnxWindow>], counts: &[f32]) -> Vec<f32> {
    let calls = counts.chunks(counts.len() * CALL_TRIALS / TRIALS);
    let missing = [0.0; CALL_TRIALS * BINS];
    let answers = Mutex::new(vec![Vec::new(); calls.len()]);
    let queue = Mutex::new(calls.enumerate());
    let work = |session: &Mutex<OnnxWindow>| {
        let Ok(mut session) = session.lock() else { return };
        while let Some((call, counts)) = queue.lock().ok().and_then(|mut queue| queue.next()) {
            let answer = session.run(counts, &missing, CALL_TRIALS, BINS);
            if let (Ok(mut answers), Ok((log_rates, _))) = (answers.lock(), answer) {
                answers[call] = log_rates;
            }
        }
    };
    std::thread::scope(|scope| {
        for session in sessions {
            scope.spawn(|| work(session));
        }
    });
    answers.into_inner().unwrap_or_default().concat()
}

fn rows(bundle: &Bundle, library: Option<&PathBuf>, cpus: NonZeroUsize) -> Vec<Row> {
    let row = |name: &str, contender| Row {
        name: name.to_owned(),
        contender,
        turns_ns: Vec::new(),
        turns_cpu_ns: Vec::new(),
    };
    let native = |threads| Contender::Native(Box::new(Batch::new(bundle, threads)));
    let mut rows = vec![row("native", native(cpus)), row("native, one thread", native(NonZeroUsize::MIN))];
    // With learned positions each bin recomputes a window, and a turn would take minutes.
    if bundle.manifest.architecture.positions == Positions::LagBias {
        rows.push(row("native, bin by bin", Contender::Stream(Box::new(Native::new(bundle)))));
    }
    if let Some(library) = library {
        for (name, sessions) in [("onnx window", cpus.get()), ("onnx window, one thread", 1)] {
            let sessions = (0..sessions).map(|_| OnnxWindow::new(bundle, Some(library)).map(Mutex::new));
            match sessions.collect() {
                Ok(sessions) => rows.push(row(name, Contender::Onnx(sessions))),
                Err(error) => eprintln!("skipped: ONNX Runtime: {error}"),
            }
        }
    }
    let reference = Reference::new(&bundle.manifest, &bundle.weights);
    rows.push(row("trainer", Contender::Burn(Box::new(reference))));
    rows
}

/// Returns the largest difference of two answers; NaN when there are none.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() || a.is_empty() {
        return f32::NAN;
    }
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn main() -> std::io::Result<()> {
    let library = onnxruntime();
    if library.is_none() {
        eprintln!("skipped: no ONNX Runtime under target/python; tests/python-environment gets it");
    }
    let machine = Machine::read();
    let cpus = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    println!(
        "{}, Linux {}, {cpus} CPUs; median of a trial of {BINS} bins, us\n",
        machine.cpu, machine.kernel
    );
    let mut results = Vec::new();
    for model in [REFERENCE, LEARNED] {
        let Model { channels, width, layers, window, positions } = model;
        let bundle = bundle(model);
        let counts = counts(ROUNDS * TRIALS * BINS, channels);
        let mut rows = rows(&bundle, library.as_ref(), cpus);
        let mut worst = 0.0f32;
        for counts in counts.chunks_exact(TRIALS * BINS * channels) {
            let answers: Vec<Vec<f32>> = rows.iter_mut().map(|row| row.turn(&bundle, counts)).collect();
            for answer in &answers {
                let found = difference(&answers[0], answer);
                worst = if found > worst || found.is_nan() { found } else { worst };
            }
        }
        let scheme = if positions == Positions::Learned { "learned" } else { "lag-bias" };
        println!("channels {channels} width {width} layers {layers} window {window} {scheme}");
        let (mut medians, mut cpu) = (BTreeMap::new(), BTreeMap::new());
        let mut ours = f64::NAN;
        for row in &mut rows {
            let times = [&mut row.turns_ns, &mut row.turns_cpu_ns].map(|turns| median_trial_us(turns));
            ours = if row.name == "native" { times[0] } else { ours };
            let ratio = times[0] / ours;
            println!("  {:24} {:8.1}  {ratio:5.2} times native's  CPU {:8.1}", row.name, times[0], times[1]);
            medians.insert(row.name.clone(), times[0]);
            cpu.insert(row.name.clone(), times[1]);
        }
        println!("  log rates differ by at most {worst:.1e}");
        results.push(json!({
            "channels": channels, "width": width, "layers": layers, "window": window, "positions": positions,
            "median-trial-us": medians, "median-trial-cpu-us": cpu, "log-rates-differ": worst,
        }));
    }
    let date = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let report = json!({
        "date-unix-s": date, "machine": machine, "trials": ROUNDS * TRIALS, "bins": BINS, "rows": results,
    });
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("batch.json"), format!("{report:#}\n"))
}
