//! A linear bundle beside the model: the velocity of bins whose result is late or a fault, and the bundles that are refused.

use ndt_daemon::config::Config;
use ndt_daemon::decoder::fallback::FallbackDecoder;
use ndt_daemon::engine::linear::LinearDecoder;
use ndt_daemon::engine::native::Native;
use ndt_daemon::engine::{Engine, Input, Output, StepFailed};
use ndt_daemon::input::{Received, Source};
use ndt_daemon::pipeline::{self, Pipeline};
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::{Bin, Bundle, CountRange, Estimate, Quality, Reasons};
use ndt_tests::{SMALL, Shape, linear, random_counts, weights_only};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tempfile::TempDir;

const CHANNELS: usize = 6;
const WINDOW: usize = 4;
/// One channel is masked by the configuration, and another has no count in some bins.
const MASKED: usize = 2;
const LOST: (usize, u64) = (4, 3);
const SOON: Duration = Duration::from_secs(30);

/// What the engine does at a bin: these are known by a count that no other bin has.
const HANGS: f32 = 11.0;
const NOT_FINITE: f32 = 12.0;
const FAILS: f32 = 13.0;

fn model() -> Bundle {
    weights_only(Shape { channels: CHANNELS, units: CHANNELS, dims: 2, architecture: SMALL }, 1)
}

/// The bins that the rig sends by number: those that it leaves out are the gaps, one that stands twice is a duplicate.
const SENT: [(u64, f32); 31] = {
    let mut sent = [(0, 0.0); 31];
    let mut at = 0;
    while at < 31 {
        // 11 and 12 never come; 20 comes twice.
        let seq = if at <= 10 { at } else { at + 2 } - if at > 18 { 1 } else { 0 };
        let what = match seq {
            2 | 9 => NOT_FINITE,
            14 | 21 => FAILS,
            16 | 25 => HANGS,
            _ => 0.0,
        };
        sent[at] = (seq as u64, what);
        at += 1;
    }
    sent
};

fn counts_of(seq: u64, what: f32) -> Vec<f32> {
    let mut counts = random_counts(1, CHANNELS, 100 + seq);
    counts[0] = if what > 0.0 { what } else { counts[0] };
    if seq.is_multiple_of(LOST.1) {
        counts[LOST.0] = f32::NAN;
    }
    counts
}

/// The same as a linear decoder takes them: a count that is not there counts for its mean.
fn filled(seq: u64, what: f32, means: &[f32]) -> Vec<f32> {
    let mut counts = counts_of(seq, what);
    counts[MASKED] = means[MASKED];
    counts[LOST.0] = if counts[LOST.0].is_nan() { means[LOST.0] } else { counts[LOST.0] };
    counts
}

struct Rig(Receiver<(u64, f32)>);

impl Source for Rig {
    fn receive(&mut self, bin: &mut Bin) -> Received {
        let Ok((seq, what)) = self.0.recv_timeout(Duration::from_millis(50)) else {
            return Received::Nothing;
        };
        bin.fill(counts_of(seq, what).into_iter(), CountRange::new(50, 20.0));
        (bin.seq, bin.stream, bin.arrival_ns) = (seq, 1, monotonic_ns());
        bin.source_ns = 20_000_000 * (seq as i64 + 1);
        Received::Bin
    }
}

/// Our kernel, but for the bins at which it hangs, fails or is not finite.
struct Broken {
    native: Native,
    go_on: Receiver<()>,
}

impl Engine for Broken {
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed> {
        self.native.step(input, output)?;
        match input.counts[0] {
            _ if input.missing => {}
            HANGS => self.go_on.recv_timeout(SOON).map_err(|_| StepFailed)?,
            FAILS => return Err(StepFailed),
            NOT_FINITE => output.velocity[1] = f32::NAN,
            _ => {}
        }
        Ok(())
    }

    fn observe(&mut self, input: Input) -> Result<(), StepFailed> {
        self.native.observe(input)
    }

    fn reset(&mut self) {
        self.native.reset();
    }
}

struct Bench {
    pipeline: Pipeline,
    rig: Sender<(u64, f32)>,
    go_on: Sender<()>,
    estimates: Receiver<Estimate>,
}

fn config(fallback: Option<&Path>) -> Config {
    Config {
        // Long enough that a busy machine misses none but those of an engine that hangs.
        deadline_ms: Some(1_000.0),
        stale_after_bins: 256,
        mask_channels: vec![MASKED as i64],
        fallback_bundle: fallback.map(Path::to_owned),
        ..Config::default()
    }
}

fn start(fallback: Option<&Path>) -> Bench {
    let bundle = model();
    let (rig, orders) = channel();
    let (go_on, gone_on) = channel();
    let (published, estimates) = channel();
    let publish = move |estimate: &Estimate| {
        // Nobody receives it after the test has ended.
        drop(published.send(estimate.clone()));
    };
    let engine = Box::new(Broken { native: Native::new(&bundle), go_on: gone_on });
    let pipeline = pipeline::start_with(&config(fallback), &bundle, engine, Rig(orders), publish).unwrap();
    Bench { pipeline, rig, go_on, estimates }
}

/// What is published of all bins: each is sent once the one before it is answered.
fn published(fallback: Option<&Path>) -> Vec<Estimate> {
    let bench = start(fallback);
    let mut estimates: Vec<Estimate> = Vec::new();
    for (seq, what) in SENT {
        bench.rig.send((seq, what)).unwrap();
        while estimates.last().is_none_or(|last| last.seq < seq) {
            estimates.push(bench.estimates.recv_timeout(SOON).unwrap());
        }
        if what == HANGS {
            bench.go_on.send(()).unwrap();
        }
    }
    let stats = bench.pipeline.stats();
    assert!(stats.decoder.duplicates == 1 && stats.overflowed == 0, "{stats:?}");
    bench.pipeline.stop();
    let numbers = estimates.iter().map(|estimate| estimate.seq);
    assert!(numbers.eq(0..=SENT[SENT.len() - 1].0));
    estimates
}

/// What the linear decoder says of each bin that came, alone.
fn said_alone(bundle: &Bundle) -> BTreeMap<u64, Vec<f32>> {
    let means = &bundle.weights["missing"].1;
    let mut decoder = LinearDecoder::new(bundle).unwrap();
    let sent: BTreeMap<u64, f32> = SENT.into_iter().collect();
    let mut said = BTreeMap::new();
    for seq in 0..=SENT[SENT.len() - 1].0 {
        let Some(what) = sent.get(&seq) else {
            decoder.push_missing();
            continue;
        };
        decoder.push(&filled(seq, *what, means));
        said.insert(seq, decoder.velocity().to_vec());
    }
    said
}

/// A linear bundle of the model's bins, and where it lies, as long as its folder is kept.
fn written() -> (TempDir, PathBuf, Bundle) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linear.ndt");
    let bundle = linear(CHANNELS, 2, WINDOW, 7);
    bundle.write(&path).unwrap();
    (folder, path, bundle)
}

#[test]
fn late_and_faulty_bins_carry_what_the_linear_decoder_says_of_them() {
    let (_folder, path, bundle) = written();
    let alone = said_alone(&bundle);
    let estimates = published(Some(&path));
    let mut degraded = Vec::new();
    for estimate in &estimates {
        let instead = matches!(estimate.quality, Quality::Late | Quality::Fault);
        // Its warm-up of 5 bins is the fixture's.
        let knows = alone.get(&estimate.seq).filter(|_| instead && estimate.seq >= 4);
        assert_eq!(estimate.reasons.contains(Reasons::DEGRADED), knows.is_some(), "{estimate:?}");
        for (found, expected) in estimate.velocity().iter().zip(knows.into_iter().flatten()) {
            assert!((found - expected).abs() < 1e-6, "{estimate:?}, expected {knows:?}");
        }
        if knows.is_some() {
            degraded.push((estimate.seq, estimate.quality));
        }
    }
    use Quality::{Fault, Late};
    for expected in [(9, Fault), (14, Fault), (21, Fault), (16, Late), (25, Late)] {
        assert!(degraded.contains(&expected), "{degraded:?}");
    }
    // The same bins in another hour.
    let again = published(Some(&path));
    let is_degraded = |estimate: &Estimate| estimate.reasons.contains(Reasons::DEGRADED);
    let both = |pair: &(&Estimate, &Estimate)| is_degraded(pair.0) && is_degraded(pair.1);
    for (estimate, again) in estimates.iter().zip(&again).filter(both) {
        assert_eq!(estimate.velocity(), again.velocity(), "{estimate:?}");
    }
    // Without it nothing is degraded, and all else is as it was.
    for (estimate, without) in estimates.iter().zip(published(None)) {
        assert!(!is_degraded(&without), "{without:?}");
        let is_computed = estimate.decoded_ns > 0 && estimate.quality != Quality::Fault;
        if is_computed && without.quality == estimate.quality {
            assert_eq!(estimate.velocity(), without.velocity(), "{estimate:?}");
        }
    }
}

/// Order, gaps, segments and streams: what it says is the sum over the bins that it should know, or nothing.
#[test]
fn the_decoder_says_the_velocity_of_a_new_bin_with_history_enough_and_of_no_other() {
    let (_folder, path, bundle) = written();
    let means = &bundle.weights["missing"].1;
    let mut degraded = FallbackDecoder::load(&path, &model(), &[MASKED as i64], 0.5).unwrap();
    let mut alone = LinearDecoder::new(&bundle).unwrap();
    let mut history = 0;
    let mut check = |stream: u64, seq: u64, segment_start: bool, missing: Option<u64>| {
        let mut bin = Bin::empty();
        bin.fill(counts_of(seq, 0.0).into_iter(), CountRange::new(50, 20.0));
        (bin.seq, bin.stream, bin.segment_start) = (seq, stream, segment_start);
        let said = degraded.velocity(&bin);
        // None of a number that has passed, and it is in no sum.
        let Some(missing) = missing else {
            assert_eq!(said, None, "{stream} {seq}");
            return;
        };
        if missing > 10 || segment_start {
            history = 0;
            alone.forget();
        } else {
            history += missing;
            (0..missing).for_each(|_| alone.push_missing());
        }
        alone.push(&filled(seq, 0.0, means));
        history += 1;
        let [x, y] = [0, 1].map(|at| alone.velocity()[at]);
        let said = said.map(|velocity| [velocity[0], velocity[1], velocity[2]]);
        assert_eq!(said, (history >= 5).then_some([x, y, 0.0]), "{stream} {seq}");
    };
    (0..8).for_each(|seq| check(1, seq, false, Some(0)));
    // Again, and one of before.
    check(1, 7, false, None);
    check(1, 3, false, None);
    check(1, 8, false, Some(0));
    // Two are missing, one of which comes after all; then eleven, which are too many.
    check(1, 11, false, Some(2));
    check(1, 10, false, None);
    (12..15).for_each(|seq| check(1, seq, false, Some(0)));
    check(1, 26, false, Some(11));
    (27..35).for_each(|seq| check(1, seq, false, Some(0)));
    check(1, 35, true, Some(0));
    (36..44).for_each(|seq| check(1, seq, false, Some(0)));
    // Another stream knows nothing of this one.
    check(2, 0, false, Some(u64::MAX));
    (1..9).for_each(|seq| check(2, seq, false, Some(0)));
    // Of values that are no counts it says nothing, unless only the masked channel has one.
    let mut says = |seq: u64, channel: usize| {
        let (mut bin, mut counts) = (Bin::empty(), counts_of(seq, 0.0));
        counts[channel] = -1.0;
        bin.fill(counts.into_iter(), CountRange::new(50, 20.0));
        (bin.seq, bin.stream) = (seq, 2);
        degraded.velocity(&bin).is_some()
    };
    assert_eq!([says(9, 0), says(10, MASKED)], [false, true]);
    // Nor of a bin in which, with the masked channel, four of six lack a count: three may.
    let mut of_channels = |seq: u64, lost: usize| {
        let (mut bin, mut counts) = (Bin::empty(), vec![1.0; CHANNELS]);
        counts[..lost].fill(f32::NAN);
        bin.fill(counts.into_iter(), CountRange::new(50, 20.0));
        (bin.seq, bin.stream) = (seq, 2);
        degraded.velocity(&bin).is_some()
    };
    assert_eq!([of_channels(11, 3), of_channels(12, 4)], [true, false]);
}

#[test]
fn a_bundle_that_cannot_stand_in_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.ndt");
    let refusal = |bundle: Option<&Bundle>, model: &Bundle| {
        bundle.map(|bundle| bundle.write(&path).unwrap());
        let (_rig, orders) = channel();
        let engine = Box::new(Native::new(model));
        let started =
            pipeline::start_with(&config(Some(&path)), model, engine, Rig(orders), |_: &Estimate| {});
        let refused = started.err().expect("a refusal");
        assert!(refused.source().is_none(), "the command line would say it twice");
        let refused = refused.to_string();
        let sentence = refused.strip_prefix(&format!("fallback bundle {}: ", path.display()));
        sentence.unwrap_or_else(|| panic!("{refused}")).to_owned()
    };
    let model = model();
    assert!(refusal(None, &model).contains("No such file"));
    let good = linear(CHANNELS, 2, WINDOW, 7);
    let changed = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = good.clone();
        change(&mut bundle);
        refusal(Some(&bundle), &model)
    };
    assert_eq!(
        changed(&|bundle| bundle.manifest.channel_ids.swap(0, 5)),
        "expected the model's 6 channel ids in the model's order, found 6 that differ"
    );
    assert_eq!(
        refusal(Some(&linear(CHANNELS - 1, 2, WINDOW, 7)), &model),
        "expected the model's 6 channel ids in the model's order, found 5 that differ"
    );
    assert_eq!(
        changed(&|bundle| bundle.manifest.bin_width_ms = 10.0),
        "expected bins of 20 ms as of the model, found bins of 10 ms"
    );
    let centre = "ms after the bin's centre";
    assert_eq!(
        changed(&|bundle| bundle.manifest.readouts[0].lag_ms = 100.0),
        format!(
            "expected the velocity that is published, 2 components in m/s for 0 {centre}, found 2 components in \
             m/s for 100 {centre}"
        )
    );
    let three = refusal(Some(&linear(CHANNELS, 3, WINDOW, 7)), &model);
    assert!(three.ends_with(&format!("found 3 components in m/s for 0 {centre}")), "{three}");
    let wrong = changed(&|bundle| bundle.golden.get_mut("readouts").unwrap().1[9] += 0.01);
    assert!(wrong.starts_with("expected the bundle's golden velocity within "), "{wrong}");
    let mut rates_alone = model.clone();
    rates_alone.manifest.readouts.clear();
    rates_alone.weights.retain(|name, _| !name.starts_with("readouts"));
    assert!(refusal(Some(&good), &rates_alone).starts_with("expected the velocity that is published, none"));
    // A transformer, written as such.
    let mut transformer = model.clone();
    let (bins, rows) = (2, |columns: usize| (vec![2, columns], vec![0.0; 2 * columns]));
    transformer.golden.insert("counts".to_owned(), rows(CHANNELS));
    transformer.golden.insert("missing".to_owned(), (vec![bins], vec![0.0; bins]));
    transformer.golden.insert("log_rates".to_owned(), rows(CHANNELS));
    transformer.golden.insert("readouts".to_owned(), rows(2));
    let refused = refusal(Some(&transformer), &model);
    assert_eq!(refused, "expected a linear decoder, found a transformer");
}
