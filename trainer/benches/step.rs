//! The duration of one step of a fit: masking a batch of 64 trials, forward pass with dropout, loss, backward pass,
//! clipping and AdamW.
//!
//! ```sh
//! cargo bench -p ndt-trainer --bench step
//! ```
//!
//! It times [`training::fit`] itself on random counts, in epochs of a few steps. Validation uses one short trial, so
//! that it costs next to nothing. The results are written to `target/bench/step.json`; `tests/python/bench_training.py`
//! runs this benchmark alternately with the same work in PyTorch. An argument selects the shapes whose titles contain
//! it.

use ndt_protocol::bundle::manifest::Readout;
use ndt_trainer::config::{Config, Model, Objective, Optimiser};
use ndt_trainer::data::{Dataset, Trial};
use ndt_trainer::training;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

const STEPS_AN_EPOCH: usize = 4;
const BATCH: usize = 64;
const BIN_MS: f64 = 20.0;

/// The shape of a model and of its batches.
struct Shape {
    title: &'static str,
    bins: usize,
    channels: usize,
    units: usize,
    width: usize,
    feedforward: usize,
    window_bins: usize,
    /// Number of epochs to time, after one epoch of warm-up.
    epochs: usize,
}

const SHAPES: [Shape; 2] = [
    // The reference model on trials as long as those of MC_Maze.
    Shape {
        title: "reference",
        bins: 140,
        channels: 137,
        units: 182,
        width: 128,
        feedforward: 256,
        window_bins: 100,
        epochs: 3,
    },
    // The defaults of `ndt-train fit` on a reaching session in 20 ms bins.
    Shape {
        title: "default",
        bins: 24,
        channels: 71,
        units: 95,
        width: 64,
        feedforward: 128,
        window_bins: 20,
        epochs: 12,
    },
];

impl Shape {
    fn data(&self) -> Dataset {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut trial = |bins: usize| Trial {
            bins,
            counts: (0..bins * self.units).map(|_| (random.random_range(0..8u32) / 6) as f32).collect(),
            targets: (0..bins * 2).map(|_| random.random_range(-0.5..0.5)).collect(),
            ..Trial::default()
        };
        Dataset {
            unit_ids: (0..self.units as i64).collect(),
            heldout: (0..self.units).map(|unit| unit >= self.channels).collect(),
            bin_width_ms: BIN_MS,
            readouts: vec![Readout { dims: 2, unit: "m/s".into(), lag_ms: 0.0, series: "hand_vel".into() }],
            train: (0..BATCH * STEPS_AN_EPOCH).map(|_| trial(self.bins)).collect(),
            val: vec![trial(2)],
            test: Vec::new(),
            splits: Vec::new(),
            train_runs: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn config(&self) -> Config {
        let window_ms = self.window_bins as f64 * BIN_MS;
        let epochs = self.epochs + 1;
        Config {
            model: Model { width: self.width, feedforward: self.feedforward, window_ms, ..Model::default() },
            optimiser: Optimiser {
                epochs,
                patience_epochs: epochs,
                batch_trials: BATCH,
                ..Optimiser::default()
            },
            // The plain objective, with which the steps of other programs are timed.
            objective: Objective { redrawn: 0.0, teacher_weight: 0.0, ..Objective::default() },
            ..Config::default()
        }
    }

    /// Duration of a step, ms, one number for each epoch.
    fn measure(&self) -> Vec<f64> {
        let (data, config) = (self.data(), self.config());
        let mut ends = Vec::new();
        training::fit(&data, &config, None, &mut |_| {
            ends.push(Instant::now());
            ControlFlow::Continue(())
        })
        .expect("the fit ends");
        let steps_ms = |pair: &[Instant]| (pair[1] - pair[0]).as_secs_f64() * 1e3 / STEPS_AN_EPOCH as f64;
        ends.windows(2).map(steps_ms).collect()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let mut rows = Vec::new();
    println!("{:<12} {:>12} {:>12}", "shape", "median ms", "fastest ms");
    for shape in SHAPES.iter().filter(|shape| shape.title.contains(&part)) {
        let steps_ms = shape.measure();
        let fastest = steps_ms.iter().copied().fold(f64::INFINITY, f64::min);
        println!("{:<12} {:>12.1} {:>12.1}", shape.title, median(steps_ms.clone()), fastest);
        rows.push(json!({
            "title": shape.title, "trials": BATCH, "bins": shape.bins, "channels": shape.channels,
            "units": shape.units, "width": shape.width, "feedforward": shape.feedforward,
            "window": shape.window_bins, "layers": Model::default().layers, "heads": Model::default().heads,
            "dropout": Optimiser::default().dropout, "steps-ms": steps_ms,
        }));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&folder).expect("target/bench can be made");
    std::fs::write(folder.join("step.json"), format!("{:#}\n", json!(rows)))
        .expect("step.json can be written");
}
