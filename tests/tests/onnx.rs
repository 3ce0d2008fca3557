//! ONNX Runtime as an engine: the same stream as the native engine, whatever its settings, and steps for nothing that
//! leave no trace.

use ndt_daemon::engine::native::Native;
use ndt_daemon::engine::onnx::{OnnxSettings, OnnxStep, OnnxWindow, Provider};
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
fn a_graph_of_another_shape_is_refused_with_a_sentence() {
    let ours = bundle(Positions::LagBias, 2);
    let other = |channels: usize, units: usize, dims: usize, window_bins: usize| {
        let architecture = Architecture { window_bins, ..ours.manifest.architecture };
        let manifest = manifest(Shape { channels, units, dims, architecture });
        let weights = random_weights(&manifest, 7);
        ndt_trainer::export::from_weights(manifest, weights, &vec![0.3; channels]).unwrap()
    };
    for (graph, expected) in [
        (other(12, 14, 2, WINDOW), "the input counts of Tensor<f32>(1, 12) in place of f32 [1, 11]"),
        (
            other(CHANNELS, 15, 2, WINDOW),
            "the output log_rates of Tensor<f32>(1, 15) in place of f32 [1, 14]",
        ),
        (other(CHANNELS, 14, 3, WINDOW), "the output velocity of Tensor<f32>(1, 3) in place of f32 [1, 2]"),
        (other(CHANNELS, 14, 0, WINDOW), "no output velocity"),
        (other(CHANNELS, 14, 2, WINDOW + 1), "the input lags of Tensor<i64>(10) in place of i64 [9]"),
    ] {
        let mixed = Bundle { step_onnx: graph.step_onnx, window_onnx: graph.window_onnx, ..ours.clone() };
        let error = OnnxStep::new(&mixed, Some(&onnxruntime_library())).err().unwrap().to_string();
        assert_eq!(error, format!("expected ONNX Runtime to take step.onnx, found {expected}"));
        // The graph of a batch names its last dimension too; what it computes is compared where it runs.
        let mut window = OnnxWindow::new(&mixed, Some(&onnxruntime_library())).unwrap();
        let run = window.run(&[0.0; 3 * CHANNELS], &[0.0; 3], 1, 3);
        assert_eq!(run.is_err(), !expected.contains("lags"), "{expected}: {run:?}");
    }
}

/// A graph in the bytes of ONNX, as somebody else may have made it: each output is the input that is named before it.
struct Made {
    inputs: Vec<(&'static str, u64, Vec<i64>)>,
    outputs: Vec<(&'static str, &'static str)>,
}

impl Made {
    const FLOAT: u64 = 1;
    const INT64: u64 = 7;
    const BOOL: u64 = 9;

    /// One whose outputs are as long as its inputs: for a model of as many units as channels, without a velocity.
    fn right() -> Made {
        let channels = CHANNELS as i64;
        let inputs = vec![
            ("counts", Made::FLOAT, vec![1, channels]),
            ("missing", Made::BOOL, vec![1]),
            ("slot", Made::INT64, vec![1, 1]),
            ("lags", Made::INT64, vec![WINDOW as i64]),
            ("cache", Made::FLOAT, vec![1, WINDOW as i64, 24]),
        ];
        Made { inputs, outputs: vec![("counts", "log_rates"), ("cache", "cache_next")] }
    }

    fn bytes(&self) -> Vec<u8> {
        let value = |name: &str, element: u64, dims: &[i64]| {
            // A negative length stands for a name: a dimension that is known only when the graph runs.
            let dim = |dim: &i64| match u64::try_from(*dim) {
                Ok(fixed) => field(1, &number(1, fixed)),
                Err(_) => field(1, &field(2, b"any")),
            };
            let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
            let tensor = [number(1, element), field(2, &shape)].concat();
            [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
        };
        let node = |(from, to): &(&str, &str)| {
            let node = [field(1, from.as_bytes()), field(2, to.as_bytes()), field(4, b"Identity")].concat();
            field(1, &node)
        };
        let inputs = self.inputs.iter().flat_map(|(name, of, dims)| field(11, &value(name, *of, dims)));
        let output = |(from, to): &(&str, &'static str)| {
            let (_, of, dims) = self.inputs.iter().find(|(name, ..)| name == from).unwrap();
            field(12, &value(to, *of, dims))
        };
        let nodes = self.outputs.iter().flat_map(node);
        let graph: Vec<u8> = nodes
            .chain(field(2, b"made"))
            .chain(inputs)
            .chain(self.outputs.iter().flat_map(output))
            .collect();
        [number(1, 10), field(8, &number(2, 17)), field(7, &graph)].concat()
    }
}

/// A field of a protocol buffer that holds bytes.
fn field(tag: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(tag << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

/// A field of a protocol buffer that holds a number.
fn number(tag: u64, number: u64) -> Vec<u8> {
    [varint(tag << 3), varint(number)].concat()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 128 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[test]
fn a_graph_that_somebody_made_up_is_refused_with_a_sentence() {
    let architecture = bundle(Positions::LagBias, 0).manifest.architecture;
    let manifest = manifest(Shape { channels: CHANNELS, units: CHANNELS, dims: 0, architecture });
    let weights = random_weights(&manifest, 7);
    let ours = ndt_trainer::export::from_weights(manifest, weights, &[0.3; CHANNELS]).unwrap();
    let load = |made: &Made| {
        let bundle = Bundle { step_onnx: made.bytes(), ..ours.clone() };
        OnnxStep::new(&bundle, Some(&onnxruntime_library())).map_err(|error| error.to_string())
    };
    // It is what it should be, and computes nonsense: the golden vectors find that.
    let mut engine = load(&Made::right()).ok().unwrap();
    let mut output = Output::for_bundle(&ours);
    engine.step(Input { counts: &[2.0; CHANNELS], missing: false }, &mut output).unwrap();
    assert_eq!(output.log_rates, [2.0; CHANNELS]);

    let with = |change: &dyn Fn(&mut Made)| {
        let mut made = Made::right();
        change(&mut made);
        load(&made).err().unwrap()
    };
    type Change = dyn Fn(&mut Made);
    let cases: [(&Change, &str); 9] = [
        (
            &|made| made.inputs[0].2 = vec![1, -1],
            "the input counts of Tensor<f32>(1, any) in place of f32 [1, 11]",
        ),
        (
            &|made| made.inputs[0].2 = vec![CHANNELS as i64],
            "the input counts of Tensor<f32>(11) in place of f32 [1, 11]",
        ),
        (&|made| made.inputs[1].1 = Made::FLOAT, "the input missing of Tensor<f32>(1) in place of bool [1]"),
        (&|made| made.outputs[0].1 = "rates", "no output log_rates"),
        (
            &|made| made.outputs[0].0 = "cache",
            "the output log_rates of Tensor<f32>(1, 9, 24) in place of f32 [1, 11]",
        ),
        (&|made| made.outputs[1].1 = "other", "no output cache_next"),
        (&|made| made.inputs[4].2 = vec![-1, 9], "the input cache of Tensor<f32>(any, 9)"),
        (
            &|made| made.inputs[4].2 = vec![1 << 40, 1 << 40],
            "the input cache of Tensor<f32>(1099511627776, 1099511627776)",
        ),
        (&|made| made.inputs[4].1 = Made::INT64, "the input cache of Tensor<i64>(1, 9, 24)"),
    ];
    for (change, expected) in cases {
        let found = with(change);
        assert_eq!(found, format!("expected ONNX Runtime to take step.onnx, found {expected}"));
    }
    let found = with(&|made| drop(made.inputs.remove(3)));
    assert_eq!(
        found,
        "expected ONNX Runtime to take step.onnx, found the inputs counts, missing, slot, cache"
    );
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
