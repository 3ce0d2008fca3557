//! A linear decoder from the fit to the answer: the daemon's numbers are the trainer's, and what is missing is no silence.

use ndt_daemon::decoder::Decoder;
use ndt_daemon::engine::linear::LinearDecoder;
use ndt_daemon::engine::{self, Choice, Engine, EngineKind, Input, Output};
use ndt_daemon::input::deadline::TimeLimits;
use ndt_daemon::offline;
use ndt_protocol::bundle::manifest::Training;
use ndt_protocol::bundle::precision::Precision;
use ndt_protocol::bundle::tensors::{self, Tensors};
use ndt_protocol::{Bin, Bundle, CountRange, Estimate, Quality};
use ndt_replay::session::Session;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_tests::{SMALL, Shape, on_loopback, rig, weights_only};
use ndt_trainer::baselines::linear::LinearFilter;
use ndt_trainer::baselines::runs::{Runs, Units};
use ndt_trainer::baselines::table::{Method, Row, rows};
use ndt_trainer::baselines::{gru, wiener::Wiener};
use std::num::NonZeroUsize;

fn session() -> Session {
    simulate(&Recipe { trials: 60, units: 30, heldout: 6, seed: 5 })
}

fn data(session: &Session) -> Runs {
    Runs::new(std::slice::from_ref(session), 20.0, "val", Units::Heldin).unwrap()
}

fn origin() -> Training {
    Training { seed: 1, ..Training::of_nothing("a test") }
}

fn fitted(data: &Runs) -> (LinearFilter, Bundle) {
    let filter = LinearFilter::wiener(&Wiener::fit(data, 0, 5).unwrap(), 0);
    let bundle = filter.bundle(data, origin()).unwrap();
    (filter, bundle)
}

fn choice(kind: EngineKind, precision: Option<Precision>) -> Choice {
    Choice {
        kind,
        instruction_set: None,
        precision,
        onnxruntime_library: None,
        onnx: engine::onnx::OnnxSettings::default(),
    }
}

fn check_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 1e-5, "value {at}: found {found}, expected {expected}");
    }
}

/// Wiener and smoothing, with missing bins and after a reset: what the trainer computes in 64 bits.
#[test]
fn the_engine_is_the_trainers_prediction() {
    let data = data(&session());
    let (wiener, _) = fitted(&data);
    let smoothing = rows(Method::Smoothing, &data, &gru::GruSettings::default(), 1, &mut |_, _, _| {});
    let smoothing = smoothing.into_iter().find_map(|row: Row| row.filter).unwrap();
    let run = data.val.iter().max_by_key(|run| run.bins).unwrap();
    let channels = data.channels();
    for filter in [wiener, smoothing] {
        let bundle = filter.bundle(&data, origin()).unwrap();
        let mut engine = engine::load(&choice(EngineKind::Native, None), &bundle).unwrap();
        assert_eq!(engine.name(), "linear f32");
        let mut output = Output::for_bundle(&bundle);
        for every in [0, 4, 1] {
            let missing: Vec<f32> =
                (0..run.bins).map(|bin| f32::from(every > 0 && bin % every == 0)).collect();
            engine.reset();
            let mut found = Vec::new();
            for (counts, missing) in run.counts.chunks_exact(channels).zip(&missing) {
                engine.step(Input { counts, missing: *missing != 0.0 }, &mut output).unwrap();
                found.extend_from_slice(&output.velocity);
            }
            check_close(&found, &filter.stream(&run.counts, &missing, &data.mean_counts()));
        }
    }
}

#[test]
fn observed_bins_leave_the_state_that_stepped_ones_do() {
    let data = data(&session());
    let (_, bundle) = fitted(&data);
    let (counts, channels) = (&data.val[0].counts, data.channels());
    let mut stepped = LinearDecoder::new(&bundle).unwrap();
    let mut observed = stepped.clone();
    let mut output = Output::for_bundle(&bundle);
    for (bin, counts) in counts.chunks_exact(channels).enumerate() {
        let input = Input { counts, missing: bin % 5 == 3 };
        stepped.step(input, &mut output).unwrap();
        observed.observe(input).unwrap();
        assert_eq!(output.velocity, observed.velocity());
    }
}

/// A channel without a count, in one bin or by the configuration, counts for its mean.
#[test]
fn a_channel_without_a_count_counts_for_its_mean() {
    let data = data(&session());
    let (filter, bundle) = fitted(&data);
    let means = data.mean_counts();
    let run = &data.val[0];
    let channels = data.channels();
    let decoded = |masked_ids: &[i64], lost: Option<usize>| {
        let engine = LinearDecoder::new(&bundle).unwrap();
        let mut decoder =
            Decoder::new(&bundle, Box::new(engine), masked_ids, TimeLimits::deadline(20_000_000));
        let mut velocity = Vec::new();
        for (seq, counts) in run.counts.chunks_exact(channels).enumerate() {
            let mut bin = Bin::empty();
            let count = |(at, count): (usize, &f32)| if lost == Some(at) { f32::NAN } else { *count };
            bin.fill(counts.iter().enumerate().map(count), CountRange::new(50, 20.0));
            (bin.seq, bin.source_ns) = (seq as u64, 20_000_000 * (seq as i64 + 1));
            decoder.decode(&bin, 0, 0, &mut |estimate: &mut Estimate| {
                assert!(estimate.rates().is_empty() && estimate.quality <= Quality::Warmup);
                velocity.extend_from_slice(estimate.velocity());
            });
        }
        velocity
    };
    let expected = |channel: Option<usize>| {
        let count = |(at, count): (usize, &f32)| match channel {
            Some(channel) if at % channels == channel => means[channel] as f32,
            _ => *count,
        };
        let counts: Vec<f32> = run.counts.iter().enumerate().map(count).collect();
        filter.stream(&counts, &vec![0.0; run.bins], &means)
    };
    check_close(&decoded(&[], None), &expected(None));
    check_close(&decoded(&[], Some(3)), &expected(Some(3)));
    check_close(&decoded(&[bundle.manifest.channel_ids[3]], None), &expected(Some(3)));
}

#[test]
fn what_a_linear_decoder_does_not_have_is_refused() {
    let (_, bundle) = fitted(&data(&session()));
    let refusal = |choice: &Choice| {
        engine::load(choice, &bundle).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let sentence = "expected the native engine in f32 for a linear decoder, found";
    assert_eq!(refusal(&choice(EngineKind::Onnx, None)), format!("{sentence} onnx"));
    let bits = Some(Precision::Int8);
    assert_eq!(refusal(&choice(EngineKind::Native, bits)), format!("{sentence} int8"));
    let mut wrong = bundle.clone();
    wrong.golden.get_mut("readouts").unwrap().1[40] += 0.01;
    let refused = engine::load(&choice(EngineKind::Native, None), &wrong).err().unwrap().to_string();
    assert!(refused.starts_with("expected the bundle's golden velocity within "), "{refused}");
    let report = ndt_daemon::engine::check::examine(&choice(EngineKind::Native, None), &bundle).unwrap();
    assert!(report.to_string().contains("linear in the counts of the last bins"), "{report}");
}

#[test]
fn whole_trials_are_decoded_offline() {
    let data = data(&session());
    let (filter, bundle) = fitted(&data);
    let folder = tempfile::tempdir().unwrap();
    let (counts, out) = (folder.path().join("counts"), folder.path().join("out"));
    let bins = data.val[0].bins.min(data.val[1].bins);
    let cut = |run: usize| data.val[run].counts[..bins * data.channels()].to_vec();
    let missing: Vec<f32> = (0..2 * bins).map(|bin| f32::from(bin % 6 == 5)).collect();
    let arrays = Tensors::from([
        ("counts".to_owned(), (vec![2, bins, data.channels()], [cut(0), cut(1)].concat())),
        ("missing".to_owned(), (vec![2, bins], missing.clone())),
    ]);
    std::fs::write(&counts, tensors::to_bytes(&arrays)).unwrap();
    let settings = offline::DecodeSettings { counts, out: out.clone(), threads: NonZeroUsize::MIN };
    let report = offline::decode_file(&bundle, &settings, &|_| {}, &|| {}).unwrap();
    assert_eq!((report.trials, report.bins, report.engine.as_str()), (2, bins, "linear f32"));
    let written = tensors::from_bytes(&std::fs::read(&out).unwrap()).unwrap();
    assert_eq!(written.keys().collect::<Vec<_>>(), ["velocity"]);
    let stream = |run: usize| filter.stream(&cut(run), &missing[run * bins..][..bins], &data.mean_counts());
    check_close(&written["velocity"].1, &[stream(0), stream(1)].concat());
}

/// Fitted, written, read, run by the daemon and heard again: the velocity scores as the table says.
#[test]
fn what_is_heard_scores_as_the_table_says() {
    let session = session();
    let data = data(&session);
    let row = rows(Method::Wiener, &data, &gru::GruSettings::default(), 1, &mut |_, _, _| {});
    let row = row.into_iter().next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wiener.ndt");
    row.filter.unwrap().bundle(&data, origin()).unwrap().write(&path).unwrap();
    let bundle = Bundle::read(&path).unwrap();
    let engine = engine::load(&on_loopback().engine(), &bundle).unwrap();
    let (plan, summary) = rig::heard(&bundle, &session, engine).unwrap();
    let (heard, scored) = (summary.velocity_r2_mean.unwrap(), row.velocity[0].mean);
    println!("heard {heard}, scored {scored}");
    assert!(scored > 0.2, "{scored}");
    assert!((heard - scored).abs() < 1e-4, "heard {heard}, scored {scored}");
    assert_eq!((summary.estimates, summary.missing), (plan.bins() as u64, 0));
}

#[test]
fn a_bundle_without_golden_bins_is_refused_whatever_it_holds() {
    let (_, linear) = fitted(&data(&session()));
    let shape = Shape { channels: 7, units: 9, dims: 2, architecture: SMALL };
    for bundle in [linear, weights_only(shape, 3)] {
        let empty = |(name, (mut dims, _)): (String, (Vec<usize>, Vec<f32>))| {
            dims[0] = 0;
            (name, (dims, Vec::new()))
        };
        // Without the arrays, and with arrays of no bins, which agree with the manifest.
        let golden = [Tensors::new(), bundle.golden.clone().into_iter().map(empty).collect()];
        for golden in golden {
            let bundle = Bundle { golden, ..bundle.clone() };
            let refused = engine::load(&choice(EngineKind::Native, None), &bundle).err().unwrap();
            assert_eq!(
                refused.to_string(),
                "expected golden vectors of at least one bin in the bundle, found none"
            );
        }
    }
}
