//! A decoded session: what `ndt-train decode` writes is, bin by bin, what is heard of a daemon to which the recording is played, and
//! other people's programs read it.

use ndt_daemon::config::Config;
use ndt_daemon::engine::Engine;
use ndt_daemon::engine::linear::LinearDecoder;
use ndt_daemon::engine::native::Native;
use ndt_daemon::pipeline;
use ndt_protocol::binner::Binner;
use ndt_protocol::bundle::manifest::Readout;
use ndt_protocol::{Bundle, Quality, Reasons};
use ndt_replay::decoded::DecodedSession;
use ndt_replay::listen::{Tally, Until};
use ndt_replay::nwb;
use ndt_replay::play::{Channels, Plan, Speed};
use ndt_replay::session::{Interval, Session};
use ndt_replay::simulate::{Recipe, simulate};
use ndt_replay::transport;
use ndt_tests::{
    SMALL, Shape, holes, linear, manifest, on_loopback, program, python, random_weights, workspace,
};
use ndt_trainer::evaluation::History;
use ndt_trainer::evaluation::decoding::{Decoding, decode};
use ndt_trainer::export;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A session in which some trials were not observed throughout: one hole is bridged, one resets the decoder, and in one no unit fires.
fn session() -> Session {
    let mut session = simulate(&Recipe { trials: 12, units: 24, heldout: 6, seed: 2 });
    let trials: Vec<Interval> = session.trials.iter().map(|trial| trial.interval).collect();
    for hole in [holes::hole(&trials[1], 3.0), holes::hole(&trials[2], 20.0)] {
        holes::cut(&mut session, &hole);
    }
    let silent = Interval { start: trials[4].start, stop: trials[5].stop };
    for unit in &mut session.units {
        unit.spike_times.retain(|time| !(silent.start..silent.stop).contains(time));
    }
    session
}

/// Ids of the units that a model sees, and of all.
fn ids(session: &Session) -> (Vec<i64>, Vec<i64>) {
    let seen = session.units.iter().filter(|unit| !unit.heldout);
    (seen.map(|unit| unit.id).collect(), session.units.iter().map(|unit| unit.id).collect())
}

/// A transformer of random weights with velocities at two lags, of which the second is published.
fn transformer(session: &Session) -> Bundle {
    let (channels, units) = ids(session);
    let shape = Shape { channels: channels.len(), units: units.len(), dims: 2, architecture: SMALL };
    let mut manifest = manifest(shape);
    (manifest.channel_ids, manifest.unit_ids) = (channels, units);
    let first = manifest.readouts[0].clone();
    manifest.readouts.push(Readout { lag_ms: 100.0, ..first });
    (manifest.published, manifest.count_max) = (1, 3);
    let weights = random_weights(&manifest, 7);
    export::from_weights(manifest, weights, &[0.8; 18]).unwrap()
}

fn linear_decoder(session: &Session) -> Bundle {
    let channels = ids(session).0;
    let mut bundle = linear(channels.len(), 2, 6, 3);
    bundle.manifest.channel_ids = channels;
    bundle
}

/// What is compared of one estimate.
struct Heard {
    seq: u64,
    source_ns: i64,
    quality: Quality,
    reasons: Reasons,
    is_computed: bool,
    rates: Vec<f32>,
    outputs: Vec<f32>,
}

/// All estimates of a play in which no deadline was missed: a machine that is too busy is given another try.
fn heard(bundle: &Bundle, plan: &Plan, answers: usize) -> Vec<Heard> {
    for _ in 0..5 {
        let found = played(bundle, plan, answers);
        let is_late = |heard: &&Heard| [Quality::Late, Quality::Stale].contains(&heard.quality);
        match found.iter().filter(is_late).count() {
            0 => return found,
            late => println!("{late} of {} answers are late", found.len()),
        }
    }
    panic!("expected a play without late answers, found none in five");
}

fn played(bundle: &Bundle, plan: &Plan, answers: usize) -> Vec<Heard> {
    let config = Config { deadline_ms: Some(5_000.0), stale_after_bins: 250, ..on_loopback() };
    let engine: Box<dyn Engine> = match LinearDecoder::new(bundle) {
        Some(linear) => Box::new(linear),
        None => Box::new(Native::new(bundle)),
    };
    let pipeline = pipeline::start(&config, bundle, engine).unwrap();
    let rig = format!("connect:{}", pipeline.input()).parse().unwrap();
    let output = pipeline.output().parse().unwrap();
    let mut tally = Tally::new(None);
    let until = Until { count: Some(answers as u64), idle: None, first: PATIENCE };
    let (go, gone) = mpsc::channel();
    let mut found = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            gone.recv().unwrap();
            transport::zeromq::play(plan, None, &rig, Speed::Times(10.0), PATIENCE, &mut |_| {}).unwrap();
        });
        let mut ready = || go.send(()).unwrap();
        let stop = AtomicBool::new(false);
        let mut each = |_: &Tally, estimate: &ndt_protocol::Estimate| {
            found.push(Heard {
                seq: estimate.seq,
                source_ns: estimate.source_ns,
                quality: estimate.quality,
                reasons: estimate.reasons,
                is_computed: estimate.decoded_ns > 0,
                rates: estimate.rates().to_vec(),
                outputs: estimate.outputs().to_vec(),
            });
            true
        };
        transport::zeromq::listen(&output, &mut tally, until, &stop, &mut ready, &mut each).unwrap();
    });
    pipeline.stop();
    found
}

/// Compares every bin of a decoded session with what is heard of its play.
fn check_equal(bundle: &Bundle, decoded: &DecodedSession, heard: &[Heard]) {
    assert_eq!(decoded.bins.len(), heard.len());
    let (units, outputs) = (decoded.units.len(), bundle.manifest.readout_dims());
    let published = bundle.manifest.velocity_columns();
    for (at, (bin, heard)) in decoded.bins.iter().zip(heard).enumerate() {
        let found = (bin.seq, bin.end_ns, bin.quality, bin.reasons_in_words());
        let reasons: Vec<&str> = heard.reasons.names().collect();
        assert_eq!(found, (heard.seq, heard.source_ns, heard.quality, reasons.join(" ")), "bin {at}");
        let rates = &decoded.rates[at * units..][..units];
        let values = &decoded.outputs[at * outputs..][..outputs];
        if !heard.is_computed {
            assert!(rates.iter().chain(values).all(|value| value.is_nan()), "bin {at}: {rates:?} {values:?}");
            continue;
        }
        let pairs =
            rates.iter().zip(&heard.rates).chain(values[published.clone()].iter().zip(&heard.outputs));
        for (found, heard) in pairs {
            assert!((found - heard).abs() <= 1e-4 * heard.abs().max(1.0), "bin {at}: {found} for {heard}");
        }
    }
}

#[test]
fn every_bin_of_a_decoded_session_is_what_is_heard_of_its_play() {
    let session = session();
    let flagged = Plan::new(&session, None, 20.0, Channels::HeldIn).unwrap();
    for bundle in [transformer(&session), linear_decoder(&session)] {
        for (history, plan, gaps) in
            [(History::Stream, flagged.clone().unflagged(), 23), (History::Cold, flagged.clone(), 0)]
        {
            let wanted = Decoding { history, ..Decoding::default() };
            let (decoded, notes) = decode(&bundle, &session, wanted, &mut |_, _| {}).unwrap();
            assert!(notes.is_empty(), "{notes:?}");
            check_equal(&bundle, &decoded, &heard(&bundle, &plan, plan.bins() + gaps));
            let said: std::collections::BTreeSet<&str> =
                decoded.bins.iter().flat_map(|bin| bin.reasons.names()).collect();
            let expected: &[&str] = match history {
                History::Stream => &["clock-jump", "long-gap", "missing-bin", "no-spikes", "short-history"],
                History::Cold => &["no-spikes", "segment-start", "short-history"],
            };
            assert!(expected.iter().all(|reason| said.contains(reason)), "{said:?}");
        }
    }
}

#[test]
fn all_observed_time_is_decoded_when_asked_for_and_the_trials_in_it_are_named() {
    let mut session = session();
    let end = session.duration();
    session.observed = vec![Interval { start: 0.0, stop: end }];
    let bundle = transformer(&session);
    let wanted = Decoding { all_time: true, history: History::Stream, ..Decoding::default() };
    let mut done = Vec::new();
    let (decoded, _) = decode(&bundle, &session, wanted, &mut |bins, of| done.push((bins, of))).unwrap();
    assert_eq!(decoded.bins.len(), Binner::new(20.0).unwrap().bins(0.0, end));
    assert_eq!(done.last(), Some(&(decoded.bins.len(), decoded.bins.len())));
    for bin in &decoded.bins {
        let centre = bin.end_s() - 0.01;
        let held = |interval: &Interval| interval.start <= centre && centre < interval.stop;
        let trial = session.trials.iter().find(|trial| held(&trial.interval));
        assert_eq!(bin.trial, trial.map(|trial| trial.id), "{centre} s");
        assert_eq!(bin.split, trial.and_then(|trial| trial.split.clone()).unwrap_or_default());
    }
    assert!(
        decoded.bins.iter().any(|bin| bin.trial.is_none())
            && decoded.bins.iter().any(|bin| bin.trial.is_some())
    );
}

/// A recording, a bundle, and a folder for what is written.
struct World {
    folder: tempfile::TempDir,
    session: Session,
    bundle: Bundle,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let session = session();
        let mut bundle = transformer(&session);
        nwb::write(&session, &folder.path().join("session.nwb")).unwrap();
        bundle.write(&folder.path().join("model.ndt")).unwrap();
        bundle = Bundle::read(&folder.path().join("model.ndt")).unwrap();
        let session = nwb::read(&folder.path().join("session.nwb")).unwrap();
        World { folder, session, bundle }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn decode(&self, out: &str, more: &[&str]) -> Output {
        let mut command = Command::new(program("ndt-train"));
        command.args(["decode", "--bundle", "model.ndt", "--data", "session.nwb", "--out", out]).args(more);
        command.current_dir(self.folder.path()).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a script of `tests/python` prints as JSON.
fn printed(script: &str, arguments: &[&Path]) -> Value {
    let script = workspace().join("tests/python").join(script);
    let output = Command::new(python()).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn pynwb_validates_the_file_and_numpy_reads_the_same_numbers() {
    let world = World::new();
    for out in ["decoded.nwb", "decoded.npz"] {
        let done = world.decode(out, &["--json"]);
        assert!(done.status.success(), "{}", text(&done.stderr));
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        let names = ["hand_vel vx", "hand_vel vy", "hand_vel_100_ms vx", "hand_vel_100_ms vy"];
        assert_eq!(report["outputs"], serde_json::json!(names));
        assert_eq!(report["bundle"], world.bundle.manifest.id);
    }
    let found = printed("check_decoded.py", &[&world.path("decoded.nwb"), &world.path("decoded.npz")]);
    assert_eq!(found["problems"], serde_json::json!([]));
    let wanted = Decoding { history: History::Stream, ..Decoding::default() };
    let (decoded, _) = decode(&world.bundle, &world.session, wanted, &mut |_, _| {}).unwrap();
    assert_eq!(found["bins"], decoded.bins.len());
    let last = decoded.bins.len() - 1;
    // The JSON parser may be wrong in the last bit of a double, which no float has.
    let row = |name: &str| -> Vec<f32> {
        found[name].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
    };
    assert_eq!(row("last_rates"), decoded.rates[last * 24..]);
    assert_eq!(row("last_outputs"), decoded.outputs[last * 4..]);
    let counts = Quality::ALL.iter().zip(decoded.qualities()).filter(|(_, bins)| *bins > 0);
    let counts: std::collections::BTreeMap<&str, usize> =
        counts.map(|(quality, bins)| (quality.name(), bins)).collect();
    assert_eq!(found["quality"], serde_json::json!(counts));
    assert_eq!(found["series"]["rates"]["unit"], "spikes/s");
    assert_eq!(found["series"]["hand_vel_100_ms"]["unit"], "m/s");
    // The published velocity is for 100 ms after the bin's centre, which is 10 ms before its end.
    let end_s = decoded.bins[0].end_s();
    let first_s = found["series"]["hand_vel_100_ms"]["first_s"].as_f64().unwrap();
    assert!((first_s - (end_s - 0.01 + 0.1)).abs() < 1e-9, "{first_s} for the bin that ends at {end_s}");
    assert_eq!(found["provenance"]["bundle"], world.bundle.manifest.id);
    assert!(found["provenance"]["command"].as_str().unwrap().contains("--out decoded.nwb"));
    assert_eq!(found["session_start"], "2000-01-01T00:00:00+00:00");
}

#[test]
fn a_split_is_decoded_alone_and_what_cannot_be_decoded_is_one_sentence() {
    let world = World::new();
    let done = world.decode("val.npz", &["--split", "val", "--history", "cold"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stdout).ends_with("decoded session in val.npz\n"), "{}", text(&done.stdout));
    let refused = |out: &str, more: &[&str], expected: &str| {
        let done = world.decode(out, more);
        let said = text(&done.stderr);
        assert!(!done.status.success() && said.contains(expected), "{said}");
        assert!(said.lines().count() == 1 && !world.path(out).exists(), "{said}");
    };
    refused("decoded.csv", &[], "expected an output whose name ends in .nwb or .npz, found decoded.csv");
    refused("no.npz", &["--split", "morning"], "expected one of the splits \"train\", \"val\"");
    refused("no.npz", &["--where", "heldout=true"], "expected unit 10001 of the bundle in the recording");
}
