//! Fewer bits: our kernels compute what the trainer says that they compute, with every instruction set, and what runs is
//! what the bundle has been measured to stand.

use ndt_daemon::engine::native::Native;
use ndt_daemon::engine::native::simd::InstructionSet;
use ndt_daemon::engine::{self, Choice, Engine, EngineKind, Input, Output};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::precision::{Precision, ValidationLoss};
use ndt_tests::{Positions, Shape, instruction_sets, manifest, random_counts, random_weights};
use ndt_trainer::evaluation::Reference;
use ndt_trainer::export::from_weights;

const BINS: usize = 60;
const FEWER: [Precision; 2] = [Precision::Bf16, Precision::Int8];

fn shapes() -> Vec<Shape> {
    let shape = |channels, units, dims, sizes| Shape::new(channels, units, dims, sizes, Positions::LagBias);
    vec![
        shape(7, 9, 2, (16, 2, 2, 24, 6)),
        shape(1, 1, 0, (6, 1, 1, 5, 2)),
        shape(13, 17, 2, (30, 3, 6, 31, 21)),
        shape(71, 95, 2, (64, 4, 2, 128, 25)),
        shape(33, 40, 2, (72, 2, 8, 50, 19)),
    ]
}

fn bundle(shape: Shape, seed: u64) -> Bundle {
    let manifest = manifest(shape);
    let weights = random_weights(&manifest, seed);
    from_weights(manifest, weights, &vec![0.3; shape.channels]).unwrap()
}

/// Log rates and velocities of a stream with a hole in it.
fn run(engine: &mut dyn Engine, bundle: &Bundle, counts: &[f32]) -> Vec<f32> {
    let mut output = Output::for_bundle(bundle);
    let mut answers = Vec::new();
    engine.reset();
    for (bin, counts) in counts.chunks(bundle.manifest.channels()).enumerate() {
        engine.step(Input { counts, missing: is_missing(bin) }, &mut output).unwrap();
        answers.extend(output.log_rates.iter().chain(&output.velocity));
    }
    answers
}

fn is_missing(bin: usize) -> bool {
    bin == 4 || (17..19).contains(&bin)
}

/// The same by the trainer.
fn computed(reference: &Reference, bundle: &Bundle, counts: &[f32]) -> Vec<f32> {
    let bins = counts.len() / bundle.manifest.channels();
    let missing: Vec<f32> = (0..bins).map(|bin| f32::from(is_missing(bin))).collect();
    let (log_rates, velocity) = reference.stream(counts, &missing);
    let (units, dims) = (bundle.manifest.units(), bundle.manifest.velocity_dims());
    let row = |bin: usize| log_rates[bin * units..][..units].iter().chain(&velocity[bin * dims..][..dims]);
    (0..bins).flat_map(row).copied().collect()
}

fn rms(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2));
    (squares.sum::<f64>() / a.len() as f64).sqrt()
}

#[test]
fn kernels_of_fewer_bits_compute_what_the_trainer_computes() {
    for (seed, shape) in shapes().into_iter().enumerate() {
        let bundle = bundle(shape, seed as u64);
        let counts = random_counts(BINS, shape.channels, 700 + seed as u64);
        let whole = computed(&Reference::new(&bundle.manifest, &bundle.weights), &bundle, &counts);
        for precision in FEWER {
            let reference = Reference::rounded(&bundle.manifest, &bundle.weights, precision);
            let expected = computed(&reference, &bundle, &counts);
            let lost = rms(&expected, &whole);
            for set in instruction_sets() {
                let mut engine = Native::with(&bundle, set, precision);
                let found = run(&mut engine, &bundle, &counts);
                let apart = rms(&found, &expected);
                println!(
                    "seed {seed}, {} {}: {apart:.1e} from the trainer's, which is {lost:.1e} from 32 bits",
                    precision.name(),
                    set.name()
                );
                // A number near the middle between two levels may fall on either side of it: few do in so few bins.
                assert!(apart < 0.2 * lost + 1e-5, "seed {seed}, {shape:?}, {precision:?}, {set:?}");
                // Again on the used kernel, and on a new one.
                let anew = run(&mut Native::with(&bundle, set, precision), &bundle, &counts);
                assert!(
                    run(&mut engine, &bundle, &counts) == found && anew == found,
                    "{precision:?} {set:?}"
                );
            }
        }
    }
}

/// Where both factors are rounded, sums that differ in their last bit make another bfloat16 somewhere, and its own sums
/// differ by far more: over many bins the sets drift apart. What they lose is the same.
#[test]
fn a_long_stream_of_the_reference_model_loses_what_the_trainer_says() {
    const LONG: usize = 600;
    let shape = Shape::new(33, 40, 2, (128, 4, 2, 256, 100), Positions::LagBias);
    let bundle = bundle(shape, 5);
    let counts = random_counts(LONG, shape.channels, 705);
    let whole = computed(&Reference::new(&bundle.manifest, &bundle.weights), &bundle, &counts);
    for precision in FEWER {
        let reference = Reference::rounded(&bundle.manifest, &bundle.weights, precision);
        let expected = computed(&reference, &bundle, &counts);
        let lost = rms(&expected, &whole);
        for set in instruction_sets() {
            let found = run(&mut Native::with(&bundle, set, precision), &bundle, &counts);
            let (own, apart) = (rms(&found, &whole), rms(&found, &expected));
            let told = format!(
                "{} {}: {own:.2e} from 32 bits, the trainer's {lost:.2e}; {apart:.2e} apart",
                precision.name(),
                set.name()
            );
            println!("{told}");
            assert!((own / lost - 1.0).abs() < 0.05 && apart < 0.8 * lost, "{told}");
        }
    }
}

#[test]
fn observing_and_keeping_warm_leave_the_state_of_a_step() {
    for (seed, shape) in shapes().into_iter().enumerate() {
        let bundle = bundle(shape, seed as u64);
        let counts = random_counts(BINS, shape.channels, 800 + seed as u64);
        for precision in Precision::ALL {
            let mut engine = Native::with(&bundle, InstructionSet::best(), precision);
            let whole = run(&mut engine, &bundle, &counts);
            let mut output = Output::for_bundle(&bundle);
            engine.reset();
            for (bin, counts) in counts.chunks(shape.channels).enumerate() {
                let input = Input { counts, missing: is_missing(bin) };
                if bin % 5 < 2 {
                    assert!(engine.keep_warm());
                }
                if bin % 3 == 0 {
                    engine.step(input, &mut output).unwrap();
                    let answers = bundle.manifest.units() + bundle.manifest.velocity_dims();
                    let expected = &whole[bin * answers..][..shape.units];
                    assert_eq!(output.log_rates, expected, "bin {bin}, {precision:?}, {shape:?}");
                } else {
                    engine.observe(input).unwrap();
                }
            }
        }
    }
}

#[test]
fn what_runs_is_the_fewest_bits_that_the_bundle_stands() {
    let mut bundle = bundle(shapes()[0], 1);
    let choice = |kind, instruction_set, precision| Choice {
        kind,
        instruction_set,
        precision,
        onnxruntime_library: Some(ndt_tests::onnxruntime_library()),
        onnx: engine::onnx::OnnxSettings::default(),
    };
    let wide = Some(InstructionSet::Avx2);
    let native = |set, precision| choice(EngineKind::Native, set, precision);
    // Nothing was measured on validation trials: 32 bits.
    assert_eq!(engine::precision(&native(wide, None), &bundle), Precision::F32);
    let mut lose = |precision, bits_per_spike, velocity_r2| {
        let loss = ValidationLoss { log_rates_rms: 0.01, log_rates_max: 0.1, bits_per_spike, velocity_r2 };
        bundle.manifest.precisions.get_mut(&precision).unwrap().validation = Some(loss);
        engine::precision(&native(wide, None), &bundle)
    };
    assert_eq!(lose(Precision::Bf16, 0.0001, Some(-0.001)), Precision::Bf16);
    assert_eq!(lose(Precision::Int8, 0.0001, Some(0.0006)), Precision::Bf16);
    assert_eq!(lose(Precision::Int8, 0.0006, Some(0.0001)), Precision::Bf16);
    assert_eq!(lose(Precision::Int8, 0.0004, Some(0.0004)), Precision::Int8);
    // Where fewer bits are not faster, and where there is a choice.
    assert_eq!(engine::precision(&native(Some(InstructionSet::Portable), None), &bundle), Precision::F32);
    assert_eq!(engine::precision(&native(wide, Some(Precision::Bf16)), &bundle), Precision::Bf16);
    assert_eq!(engine::precision(&choice(EngineKind::Onnx, wide, None), &bundle), Precision::F32);
    for precision in Precision::ALL {
        let engine = engine::load(&native(None, Some(precision)), &bundle).unwrap();
        assert!(engine.name().starts_with(&format!("native {} ", precision.name())), "{}", engine.name());
    }
    // A changed weight is noticed in fewer bits too, and so is a bundle that nobody measured.
    let good = bundle.weights.clone();
    bundle.weights.get_mut("layer.0.attention.value.weight").unwrap().1[3] += 1.0;
    let error = engine::load(&native(None, Some(Precision::Int8)), &bundle).err().unwrap().to_string();
    assert!(error.starts_with("expected the bundle's golden log rates within "), "{error}");
    bundle.weights = good;
    bundle.manifest.precisions.clear();
    let error = engine::load(&native(None, Some(Precision::Int8)), &bundle).err().unwrap().to_string();
    assert_eq!(
        error,
        "expected a bundle that was measured in int8 when it was exported, found one that was not"
    );
}
