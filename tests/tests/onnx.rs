//! ONNX Runtime as an engine: the same stream as the native engine, whatever its settings, and steps for nothing that
//! leave no trace.

use ndt_daemon::engine::native::Native;
use ndt_daemon::engine::onnx::{OnnxSettings, OnnxStep, Provider};
use ndt_daemon::engine::{self, Choice, Engine, EngineKind, Input, Output};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Architecture;
use ndt_tests::{Positions, Shape, manifest, onnxruntime_library, random_counts, random_weights};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what each thread allocates through Rust; ONNX Runtime's own memory is not among it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: all calls go to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Lists of names and of pointers that the binding makes for each run; none of them grows with the model's width.
const ALLOCATIONS_MAX: u64 = 12;

const CHANNELS: usize = 11;
const WINDOW: usize = 9;

fn bundle(positions: Positions, dims: usize) -> Bundle {
    let architecture =
        Architecture { width: 24, layers: 2, heads: 3, feedforward: 40, window_bins: WINDOW, positions };
    let manifest = manifest(Shape { channels: CHANNELS, units: 14, dims, architecture });
    let weights = random_weights(&manifest, 7);
    ndt_trainer::export::from_weights(manifest, weights, &[0.3; CHANNELS]).unwrap()
}

fn with(bundle: &Bundle, settings: &OnnxSettings) -> OnnxStep {
    OnnxStep::with(bundle, Some(&onnxruntime_library()), settings).unwrap()
}

fn settings() -> OnnxSettings {
    OnnxSettings { warm_up_bins: 0, ..OnnxSettings::default() }
}

/// What happens to an engine at one bin.
#[derive(Clone, Copy)]
struct Event {
    missing: bool,
    observed: bool,
    reset_before: bool,
}

/// More than three windows, with missing bins alone and in a row, bins that are only observed, and resets: one before
/// the ring is full, and one after it has turned.
fn events() -> Vec<Event> {
    let event = |bin: usize| Event {
        missing: bin % 7 == 3 || (20..23).contains(&bin),
        observed: bin % 5 == 2,
        reset_before: [4, 31].contains(&bin),
    };
    (0..31 + 3 * WINDOW + 5).map(event).collect()
}

/// The log rates and velocities of the bins that are read out; `between` is called before each bin.
fn stream(engine: &mut dyn Engine, bundle: &Bundle, between: impl Fn(&mut dyn Engine)) -> Vec<Output> {
    let events = events();
    let counts = random_counts(events.len(), CHANNELS, 3);
    let mut output = Output::for_bundle(bundle);
    let mut outputs = Vec::new();
    for (event, counts) in events.into_iter().zip(counts.chunks(CHANNELS)) {
        if event.reset_before {
            engine.reset();
        }
        between(engine);
        // Counts of a missing bin are not looked at, whatever they are.
        let nonsense = [f32::NAN; CHANNELS];
        let input = Input { counts: if event.missing { &nonsense } else { counts }, missing: event.missing };
        if event.observed {
            engine.observe(input).unwrap();
        } else {
            engine.step(input, &mut output).unwrap();
            outputs.push(output.clone());
        }
    }
    outputs
}

fn worst(a: &[Output], b: &[Output]) -> f32 {
    assert_eq!(a.len(), b.len());
    let values = |outputs: &[Output]| -> Vec<f32> {
        outputs.iter().flat_map(|o| o.log_rates.iter().chain(&o.velocity).copied()).collect()
    };
    let difference =
        |(a, b): (f32, f32)| if a.is_nan() || b.is_nan() { f32::INFINITY } else { (a - b).abs() };
    values(a).into_iter().zip(values(b)).map(difference).fold(0.0, f32::max)
}

#[test]
fn a_long_stream_with_gaps_and_resets_is_the_native_engines() {
    for (positions, dims) in [(Positions::LagBias, 2), (Positions::LagBias, 0), (Positions::Learned, 2)] {
        let bundle = bundle(positions, dims);
        let native = stream(&mut Native::new(&bundle), &bundle, |_| ());
        for (threads, name) in [(1, "onnx cpu"), (2, "onnx cpu x2")] {
            let mut onnx = with(&bundle, &OnnxSettings { intra_op_threads: threads, ..settings() });
            assert_eq!(onnx.name(), name);
            let worst = worst(&stream(&mut onnx, &bundle, |_| ()), &native);
            println!("{positions:?}, {threads} threads: {worst:e}");
            assert!(worst <= 1e-4, "{positions:?}, {threads} threads: {worst:e}");
        }
    }
}

#[test]
fn steps_for_nothing_leave_no_trace() {
    for positions in [Positions::LagBias, Positions::Learned] {
        let bundle = bundle(positions, 2);
        let plain = stream(&mut with(&bundle, &settings()), &bundle, |_| ());
        let warmed_up = OnnxSettings { warm_up_bins: 2 * WINDOW + 1, ..settings() };
        assert!(stream(&mut with(&bundle, &warmed_up), &bundle, |_| ()) == plain, "warm-up, {positions:?}");
        let kept_warm = stream(&mut with(&bundle, &settings()), &bundle, |engine| {
            assert!(engine.keep_warm() && engine.keep_warm());
        });
        assert!(kept_warm == plain, "keep-warm, {positions:?}");
        // The engine that has been used, and whatever it held.
        let mut used = with(&bundle, &settings());
        stream(&mut used, &bundle, |_| ());
        used.reset();
        assert!(stream(&mut used, &bundle, |_| ()) == plain, "reset, {positions:?}");
    }
}

#[test]
fn a_reset_clears_what_is_not_finite() {
    for positions in [Positions::LagBias, Positions::Learned] {
        let bundle = bundle(positions, 2);
        let plain = stream(&mut with(&bundle, &settings()), &bundle, |_| ());
        let mut spoilt = with(&bundle, &settings());
        let mut output = Output::for_bundle(&bundle);
        for _ in 0..WINDOW {
            spoilt.step(Input { counts: &[f32::INFINITY; CHANNELS], missing: false }, &mut output).unwrap();
        }
        assert!(output.log_rates.iter().any(|value| !value.is_finite()));
        spoilt.reset();
        assert!(stream(&mut spoilt, &bundle, |_| ()) == plain, "{positions:?}");
    }
}

#[test]
fn a_library_without_cuda_says_so() {
    let bundle = bundle(Positions::LagBias, 2);
    let choice = Choice {
        kind: EngineKind::Onnx,
        instruction_set: None,
        precision: None,
        onnxruntime_library: Some(onnxruntime_library()),
        onnx: OnnxSettings { provider: Provider::Cuda, cuda_device: 1, ..OnnxSettings::default() },
    };
    let error = engine::load(&choice, &bundle).err().unwrap().to_string();
    assert!(
        error.starts_with(
            "expected ONNX Runtime to compute on CUDA device 1, found a library that was built without it; get it \
             with `pip install onnxruntime-gpu`"
        ),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1);
}

#[test]
fn a_graph_of_another_contract_is_refused_by_its_inputs() {
    let mut bundle = bundle(Positions::LagBias, 2);
    bundle.step_onnx = bundle.window_onnx.clone();
    let error = OnnxStep::new(&bundle, Some(&onnxruntime_library())).err().unwrap().to_string();
    assert_eq!(error, "expected ONNX Runtime to take step.onnx, found the inputs counts, missing");
}

#[test]
fn a_step_allocates_what_the_binding_does_and_no_more() {
    for positions in [Positions::LagBias, Positions::Learned] {
        let bundle = bundle(positions, 2);
        let mut engine = with(&bundle, &settings());
        let mut output = Output::for_bundle(&bundle);
        let mut step = |bin: usize| {
            let input = Input { counts: &[1.0; CHANNELS], missing: bin % 4 == 1 };
            let before = ALLOCATIONS.get();
            engine.step(input, &mut output).unwrap();
            ALLOCATIONS.get() - before
        };
        let each: Vec<u64> = (0..3 * WINDOW).map(&mut step).collect();
        println!("{positions:?}: a step allocates {} times", each[0]);
        assert!(each.iter().all(|count| *count == each[0] && *count <= ALLOCATIONS_MAX), "{each:?}");
    }
}
