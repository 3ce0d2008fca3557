//! One function, five ways to compute it: Burn on the whole stream, our kernel bin by bin, ONNX Runtime's
//! cached step, ONNX Runtime's window graph, and Python's onnxruntime beside a plain numpy reference.
//! All agree to 1e-4 on log rates, for both position schemes and shapes that are no multiple of anything.

use ndt_daemon::engine::native::Native;
use ndt_daemon::engine::onnx::{OnnxSettings, OnnxWindow};
use ndt_daemon::engine::{
    self, Choice, Engine, EngineKind, GOLDEN_TOLERANCE, Input, Output, reproduce_golden,
};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::precision::Precision;
use ndt_tests::{
    Positions, Shape, instruction_sets, manifest, onnxruntime_library, python, random_counts, random_weights,
    workspace,
};
use std::process::Command;

const BINS: usize = 40;

fn shapes() -> Vec<Shape> {
    vec![
        Shape::new(7, 9, 2, (16, 2, 2, 24, 6), Positions::LagBias),
        Shape::new(1, 1, 0, (6, 1, 1, 5, 2), Positions::LagBias),
        Shape::new(13, 17, 2, (30, 3, 3, 31, 20), Positions::LagBias),
        Shape::new(71, 95, 2, (64, 4, 2, 128, 20), Positions::LagBias),
        Shape::new(7, 9, 2, (16, 2, 2, 24, 6), Positions::Learned),
        Shape::new(5, 5, 3, (21, 1, 7, 9, 2), Positions::Learned),
        Shape::new(13, 17, 0, (30, 3, 3, 31, 64), Positions::Learned),
    ]
}

/// A bundle whose golden vectors are Burn's answers.
fn bundle(shape: Shape, seed: u64) -> Bundle {
    let manifest = manifest(shape);
    let weights = random_weights(&manifest, seed);
    ndt_trainer::export::from_weights(manifest, weights, &vec![0.3; shape.channels]).unwrap()
}

/// Counts, and which bins are missing: some alone, some in a row.
fn stream(shape: Shape, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let missing = (0..BINS).map(|bin| f32::from(bin == 4 || (17..19).contains(&bin))).collect();
    (random_counts(BINS, shape.channels, seed), missing)
}

fn run(engine: &mut dyn Engine, bundle: &Bundle, counts: &[f32], missing: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut output = Output::for_bundle(bundle);
    let (mut log_rates, mut velocity) = (Vec::new(), Vec::new());
    engine.reset();
    for (counts, missing) in counts.chunks(bundle.manifest.channels()).zip(missing) {
        engine.step(Input { counts, missing: *missing != 0.0 }, &mut output).unwrap();
        log_rates.extend_from_slice(&output.log_rates);
        velocity.extend_from_slice(&output.velocity);
    }
    (log_rates, velocity)
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_kind_of_engine_agrees_with_burn_on_random_models() {
    let choice = |kind: EngineKind| Choice {
        kind,
        instruction_set: None,
        precision: Some(Precision::F32),
        onnxruntime_library: Some(onnxruntime_library()),
        onnx: OnnxSettings::default(),
    };
    for (seed, shape) in shapes().into_iter().enumerate() {
        let bundle = bundle(shape, seed as u64);
        let (counts, missing) = stream(shape, 100 + seed as u64);
        let (burn, burn_velocity) =
            ndt_trainer::evaluation::reference_stream(&bundle, &counts, &missing).unwrap();
        for kind in EngineKind::ALL {
            let mut engine = engine::load(&choice(kind), &bundle).unwrap();
            let (log_rates, velocity) = run(engine.as_mut(), &bundle, &counts, &missing);
            let (rates, velocity) = (worst(&log_rates, &burn), worst(&velocity, &burn_velocity));
            println!("seed {seed}, {shape:?}, {}: {rates:e} {velocity:e}", kind.name());
            assert!(rates <= 1e-4 && velocity <= 1e-4, "{kind:?} differs from Burn: seed {seed}, {shape:?}");
        }
    }
}

#[test]
fn every_instruction_set_agrees_with_burn_and_repeats_to_the_bit() {
    for (seed, shape) in shapes().into_iter().enumerate() {
        let bundle = bundle(shape, seed as u64);
        let (counts, missing) = stream(shape, 400 + seed as u64);
        let (burn, burn_velocity) =
            ndt_trainer::evaluation::reference_stream(&bundle, &counts, &missing).unwrap();
        for set in instruction_sets() {
            let mut engine = Native::with(&bundle, set, Precision::F32);
            let (log_rates, velocity) = run(&mut engine, &bundle, &counts, &missing);
            let (rates, velocity) = (worst(&log_rates, &burn), worst(&velocity, &burn_velocity));
            println!("seed {seed}, {shape:?}, {}: {rates:e} {velocity:e}", set.name());
            assert!(rates <= 1e-4 && velocity <= 1e-4, "{} differs: seed {seed}, {shape:?}", set.name());
            // Again on the used kernel, and on a new one: whatever was in it before is gone.
            let again = run(&mut engine, &bundle, &counts, &missing).0;
            let anew = run(&mut Native::with(&bundle, set, Precision::F32), &bundle, &counts, &missing).0;
            assert!(again == log_rates && anew == log_rates, "{}: seed {seed}, {shape:?}", set.name());
        }
    }
}

#[test]
fn observing_leaves_the_state_of_a_step() {
    for (seed, shape) in shapes().into_iter().enumerate() {
        let bundle = bundle(shape, seed as u64);
        let (counts, missing) = stream(shape, 500 + seed as u64);
        let (whole, _) = run(&mut Native::new(&bundle), &bundle, &counts, &missing);
        let mut engine = Native::new(&bundle);
        let mut output = Output::for_bundle(&bundle);
        for (bin, (counts, missing)) in counts.chunks(shape.channels).zip(&missing).enumerate() {
            let input = Input { counts, missing: *missing != 0.0 };
            // Every third bin is read out, and the last.
            if bin % 3 == 0 || bin + 1 == BINS {
                engine.step(input, &mut output).unwrap();
                assert_eq!(
                    output.log_rates,
                    whole[bin * shape.units..][..shape.units],
                    "bin {bin}, {shape:?}"
                );
            } else {
                engine.observe(input).unwrap();
            }
        }
    }
}

#[test]
fn the_window_graph_is_the_stream() {
    let library = onnxruntime_library();
    for (seed, shape) in shapes().into_iter().enumerate() {
        let bundle = bundle(shape, seed as u64);
        // A learned table ends with its window; beyond it the graph has no positions.
        let bins = if shape.architecture.positions == Positions::Learned {
            BINS.min(shape.architecture.window_bins)
        } else {
            BINS
        };
        let (counts, missing) = stream(shape, 200 + seed as u64);
        let (counts, missing) = (&counts[..bins * shape.channels], &missing[..bins]);
        let (native, native_velocity) = run(&mut Native::new(&bundle), &bundle, counts, missing);
        let mut window = OnnxWindow::new(&bundle, Some(&library)).unwrap();
        // Two trials in one batch: the second must not see the first.
        let (log_rates, velocity) = window.run(&counts.repeat(2), &missing.repeat(2), 2, bins).unwrap();
        let rates = worst(&log_rates, &native.repeat(2));
        let velocity = worst(&velocity, &native_velocity.repeat(2));
        println!("seed {seed}, {shape:?}: window.onnx {rates:e} {velocity:e}");
        assert!(rates <= 1e-4 && velocity <= 1e-4, "seed {seed}, {shape:?}");
    }
}

#[test]
fn a_restart_from_the_models_reach_is_the_uninterrupted_stream() {
    for (seed, shape) in shapes().into_iter().enumerate() {
        let bundle = bundle(shape, seed as u64);
        let (channels, units) = (shape.channels, shape.units);
        let bins = 3 * bundle.manifest.reach_bins() + 5;
        let counts = random_counts(bins, channels, 300 + seed as u64);
        let missing: Vec<f32> = (0..bins).map(|bin| f32::from(bin % 9 == 5)).collect();
        let (whole, _) = run(&mut Native::new(&bundle), &bundle, &counts, &missing);
        let from = bins - bundle.manifest.reach_bins();
        let (tail, _) = run(&mut Native::new(&bundle), &bundle, &counts[from * channels..], &missing[from..]);
        let difference = worst(&whole[(bins - 1) * units..], &tail[tail.len() - units..]);
        assert!(difference <= 1e-4, "{difference:e} at seed {seed}, {shape:?}");
        // One bin less is a different function, or the reach is not what the manifest says.
        if bundle.manifest.architecture.layers > 1 {
            let from = from + 1;
            let (short, _) =
                run(&mut Native::new(&bundle), &bundle, &counts[from * channels..], &missing[from..]);
            assert!(worst(&whole[(bins - 1) * units..], &short[short.len() - units..]) > 0.0);
        }
    }
}

#[test]
fn engines_reproduce_golden_vectors_and_notice_a_changed_weight() {
    let shape = shapes()[0];
    let mut bundle = bundle(shape, 5);
    let tolerance = engine::tolerance(Precision::F32, &bundle).unwrap();
    let worst = reproduce_golden(&mut Native::new(&bundle), &bundle, tolerance).unwrap();
    assert!(worst.log_rates <= GOLDEN_TOLERANCE && worst.velocity <= GOLDEN_TOLERANCE);
    bundle.weights.get_mut("layer.0.attention.key.weight").unwrap().1[3] += 0.5;
    let error = reproduce_golden(&mut Native::new(&bundle), &bundle, tolerance).unwrap_err().to_string();
    assert!(
        error.starts_with("expected the bundle's golden log rates within 1e-4, found a difference of "),
        "{error}"
    );
}

#[test]
fn pythons_onnxruntime_and_a_numpy_reference_agree() {
    let folder = tempfile::tempdir().unwrap();
    for (seed, shape) in shapes().into_iter().enumerate() {
        let path = folder.path().join(format!("model-{seed}"));
        bundle(shape, seed as u64).write(&path).unwrap();
        let script = workspace().join("tests/python/check_onnx.py");
        let checked = Command::new(python()).arg(script).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        println!("{shape:?}: {said}");
        assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stderr));
    }
}
