//! Whole trials at once are the stream: the same numbers as Burn's and as our kernels' bin by bin, the same bits whatever
//! threads compute them, for both position schemes.

use ndt_daemon::engine::native::Native;
use ndt_daemon::engine::native::batch::{Answers, Batch, BatchError, Trials};
use ndt_daemon::engine::{Engine, EngineError, Input, Output};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::precision::Precision;
use ndt_tests::{Positions, Shape, manifest, random_counts, random_weights, weights_only};
use ndt_trainer::evaluation::Reference;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Shapes, and how long their trials are: shorter than the window and longer, shorter than what goes through a layer
/// together (128 rows) and longer, so long that rows give way to later ones, and a single bin.
fn cases() -> Vec<(Shape, usize)> {
    vec![
        (Shape::new(7, 9, 2, (16, 2, 2, 24, 6), Positions::LagBias), 40),
        (Shape::new(7, 9, 2, (16, 2, 2, 24, 6), Positions::LagBias), 777),
        (Shape::new(1, 1, 0, (6, 1, 1, 5, 2), Positions::LagBias), 350),
        (Shape::new(13, 17, 2, (30, 3, 3, 31, 64), Positions::LagBias), 40),
        (Shape::new(13, 17, 2, (30, 3, 3, 31, 150), Positions::LagBias), 640),
        (Shape::new(71, 95, 2, (64, 4, 2, 128, 20), Positions::LagBias), 1),
        (Shape::new(71, 95, 2, (140, 2, 2, 132, 33), Positions::LagBias), 200),
        (Shape::new(7, 9, 2, (16, 2, 2, 24, 6), Positions::Learned), 40),
        (Shape::new(5, 5, 3, (21, 1, 7, 9, 2), Positions::Learned), 30),
        (Shape::new(13, 17, 0, (30, 3, 3, 31, 64), Positions::Learned), 40),
        (Shape::new(13, 17, 2, (34, 2, 2, 40, 200), Positions::Learned), 230),
    ]
}

/// Trials of which some bins are missing: some alone, some in a row, and the first of the second trial.
fn inputs(shape: Shape, trials: usize, bins: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let is_missing = |at: usize| at % 31 == 4 || (17..19).contains(&(at % 40)) || at == bins;
    let missing = (0..trials * bins).map(|at| f32::from(is_missing(at))).collect();
    (random_counts(trials * bins, shape.channels, seed), missing)
}

fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

fn evaluate(batch: &Batch, counts: &[f32], missing: &[f32], trials: usize) -> Answers {
    let done = AtomicUsize::new(0);
    let bins = missing.len() / trials;
    let inputs = Trials { counts, missing: Some(missing), trials, bins };
    let answers = batch.evaluate(inputs, &|| _ = done.fetch_add(1, Relaxed)).unwrap();
    assert_eq!(done.into_inner(), trials, "each trial is told");
    answers
}

fn bin_by_bin(engine: &mut Native, bundle: &Bundle, counts: &[f32], missing: &[f32]) -> Answers {
    let mut output = Output::for_bundle(bundle);
    let mut answers = Answers { log_rates: Vec::new(), velocity: Vec::new() };
    engine.reset();
    for (counts, missing) in counts.chunks(bundle.manifest.channels()).zip(missing) {
        engine.step(Input { counts, missing: *missing != 0.0 }, &mut output).unwrap();
        answers.log_rates.extend_from_slice(&output.log_rates);
        answers.velocity.extend_from_slice(&output.velocity);
    }
    answers
}

fn worst(a: &Answers, b: &Answers) -> f32 {
    let pairs = [(&a.log_rates, &b.log_rates), (&a.velocity, &b.velocity)];
    assert!(pairs.iter().all(|(a, b)| a.len() == b.len()));
    let differences = pairs.iter().flat_map(|(a, b)| a.iter().zip(b.iter())).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |worst, found| if found > worst || found.is_nan() { found } else { worst })
}

/// The bits, so that a zero is not its negative.
fn bits(answers: &Answers) -> Vec<u32> {
    answers.log_rates.iter().chain(&answers.velocity).map(|value| value.to_bits()).collect()
}

#[test]
fn trials_are_the_stream_of_burn_and_of_the_live_kernels() {
    const TRIALS: usize = 3;
    for (seed, (shape, bins)) in cases().into_iter().enumerate() {
        let bundle = weights_only(shape, seed as u64);
        let (counts, missing) = inputs(shape, TRIALS, bins, 700 + seed as u64);
        let reference = Reference::new(&bundle.manifest, &bundle.weights);
        let mut burn = Answers { log_rates: Vec::new(), velocity: Vec::new() };
        for (counts, missing) in counts.chunks(bins * shape.channels).zip(missing.chunks(bins)) {
            let (log_rates, velocity) = reference.stream(counts, missing);
            burn.log_rates.extend(log_rates);
            burn.velocity.extend(velocity);
        }
        for set in ndt_tests::instruction_sets() {
            let batch = Batch::with(&bundle, threads(2), set);
            assert_eq!(batch.name(), format!("native batch {}", set.name()));
            let found = evaluate(&batch, &counts, &missing, TRIALS);
            let difference = worst(&found, &burn);
            println!("{} {difference:e}: {shape:?}, {bins} bins", set.name());
            assert!(difference <= 1e-4, "{} differs by {difference:e}: {shape:?}", set.name());
            let mut live = Native::with(&bundle, set, Precision::F32);
            let mut streams = counts.chunks(bins * shape.channels).zip(missing.chunks(bins));
            let streamed: Vec<Answers> = streams
                .by_ref()
                .map(|(counts, missing)| bin_by_bin(&mut live, &bundle, counts, missing))
                .collect();
            let streamed = Answers {
                log_rates: streamed.iter().flat_map(|trial| trial.log_rates.clone()).collect(),
                velocity: streamed.iter().flat_map(|trial| trial.velocity.clone()).collect(),
            };
            assert!(worst(&found, &streamed) <= 1e-4, "{}: {shape:?}", set.name());
            if shape.architecture.positions == Positions::Learned {
                assert_eq!(live.name(), format!("native window f32 {}", set.name()));
            }
        }
    }
}

#[test]
fn any_number_of_threads_and_any_company_give_the_same_bits() {
    const TRIALS: usize = 11;
    for (seed, (shape, bins)) in cases().into_iter().enumerate() {
        let bins = bins.min(150);
        let bundle = weights_only(shape, seed as u64);
        let (counts, missing) = inputs(shape, TRIALS, bins, 800 + seed as u64);
        for set in ndt_tests::instruction_sets() {
            let one = Batch::with(&bundle, threads(1), set);
            let expected = evaluate(&one, &counts, &missing, TRIALS);
            for count in [1, 2, 3, 40] {
                let batch = Batch::with(&bundle, threads(count), set);
                for _ in 0..2 {
                    let found = evaluate(&batch, &counts, &missing, TRIALS);
                    assert!(bits(&found) == bits(&expected), "{} {count} threads: {shape:?}", set.name());
                }
            }
            // The last trial alone, after nothing else.
            let from = (TRIALS - 1) * bins;
            let alone = evaluate(&one, &counts[from * shape.channels..], &missing[from..], 1);
            assert!(alone.log_rates == expected.log_rates[from * shape.units..], "{}: {shape:?}", set.name());
        }
    }
}

#[test]
fn the_live_window_gives_the_bits_of_the_batch() {
    for (seed, (shape, bins)) in cases().into_iter().enumerate() {
        if shape.architecture.positions != Positions::Learned {
            continue;
        }
        let bundle = weights_only(shape, seed as u64);
        let (counts, missing) = inputs(shape, 1, bins, 900 + seed as u64);
        let mut live = Native::new(&bundle);
        let expected = bits(&evaluate(&Batch::new(&bundle, threads(1)), &counts, &missing, 1));
        for _ in 0..2 {
            let found = bits(&bin_by_bin(&mut live, &bundle, &counts, &missing));
            assert!(found == expected, "{shape:?}");
        }
    }
}

#[test]
fn a_bin_that_never_came_is_not_looked_at_and_nothing_later_is_seen() {
    for (seed, (shape, bins)) in cases().into_iter().enumerate().filter(|(_, (_, bins))| *bins > 20) {
        let bundle = weights_only(shape, seed as u64);
        let batch = Batch::new(&bundle, threads(1));
        let (mut counts, missing) = inputs(shape, 1, bins, 1000 + seed as u64);
        let expected = evaluate(&batch, &counts, &missing, 1);
        counts[4 * shape.channels..5 * shape.channels].fill(f32::NAN);
        assert_eq!(missing[4], 1.0);
        assert!(evaluate(&batch, &counts, &missing, 1) == expected, "{shape:?}");
        counts[10 * shape.channels..].fill(3.0);
        let found = evaluate(&batch, &counts, &missing, 1);
        assert!(found.log_rates[..10 * shape.units] == expected.log_rates[..10 * shape.units], "{shape:?}");
        assert!(found.log_rates[10 * shape.units..] != expected.log_rates[10 * shape.units..], "{shape:?}");
    }
}

#[test]
fn arrays_of_wrong_lengths_are_refused_and_no_trials_are_no_answers() {
    let (shape, _) = cases()[0];
    let batch = Batch::new(&weights_only(shape, 1), threads(2));
    let evaluate = |counts: &[f32], missing: Option<&[f32]>, trials, bins| {
        batch.evaluate(Trials { counts, missing, trials, bins }, &|| {})
    };
    let error = evaluate(&[0.0; 69], None, 2, 5).unwrap_err();
    assert_eq!(error, BatchError::Counts { trials: 2, bins: 5, channels: 7, expected: 70, found: 69 });
    assert_eq!(error.to_string(), "expected 70 counts for 2 trials of 5 bins and 7 channels, found 69");
    let error = evaluate(&[0.0; 70], Some(&[0.0; 11]), 2, 5).unwrap_err();
    assert_eq!(error.to_string(), "expected 10 flags of missing bins for 2 trials of 5 bins, found 11");
    assert!(evaluate(&[], None, usize::MAX, 2).is_err());
    let nothing = Answers { log_rates: Vec::new(), velocity: Vec::new() };
    assert_eq!(evaluate(&[], None, 0, 5).unwrap(), nothing);
    assert_eq!(evaluate(&[], Some(&[]), 3, 0).unwrap(), nothing);
}

#[test]
fn golden_vectors_are_reproduced_and_a_changed_weight_is_noticed() {
    for shape in [cases()[0].0, cases()[7].0] {
        let manifest = manifest(shape);
        let weights = random_weights(&manifest, 5);
        let mut bundle =
            ndt_trainer::export::from_weights(manifest, weights, &vec![0.3; shape.channels]).unwrap();
        let (log_rates, velocity) = Batch::new(&bundle, threads(1)).reproduce_golden(&bundle).unwrap();
        assert!(log_rates > 0.0 && log_rates <= 1e-4 && velocity <= 1e-4, "{log_rates} {velocity}");
        bundle.weights.get_mut("layer.0.attention.key.weight").unwrap().1[3] += 0.5;
        let error = Batch::new(&bundle, threads(1)).reproduce_golden(&bundle).unwrap_err();
        assert!(matches!(error, EngineError::Golden { what: "log rates", .. }), "{error}");
    }
}
