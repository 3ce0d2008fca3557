//! The Neural Latents Benchmark's own tools beside ours, on a session of the shape of its small maze set: the
//! same tensors out of the same files, the same scores of the same submissions.

use ndt_protocol::Bundle;
use ndt_replay::h5::{self, Group, Kind};
use ndt_replay::session::{Interval, Session, Trial};
use ndt_replay::{nwb, simulate};
use ndt_tests::{SMALL, Shape, manifest, program, python, random_weights, workspace};
use ndt_trainer::export::from_weights;
use ndt_trainer::nlb::array::Tensor;
use ndt_trainer::nlb::resample::{convolve_same, gaussian};
use ndt_trainer::nlb::store::{self, Submission};
use ndt_trainer::nlb::submission::predict;
use ndt_trainer::nlb::tensors::{Phase, Tensors};
use ndt_trainer::nlb::variant::{self, Variant};
use ndt_trainer::ridge;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Built once.
static NDT_TRAIN: LazyLock<PathBuf> = LazyLock::new(|| program("ndt-train"));

const VARIANT: &str = "mc_maze_small";
const UNITS: usize = 142;
const HELDOUT: usize = 35;

/// What scores and resampled behaviour may differ by, as a part of their size.
const WITHIN: f64 = 1e-6;

#[test]
fn the_four_maze_sets_are_cut_where_the_benchmark_cuts_them() {
    let expected = benchmark(&[["windows"].as_slice(), &variant::NAMES].concat());
    for name in variant::NAMES {
        let variant = Variant::named(name);
        let found = json!({
            "align": variant.align, "window": [variant.from_ms, variant.to_ms], "forward": variant.forward_ms,
            "behavior": variant.behavior, "lag": variant.lag_ms, "conditions": variant.conditions,
            "psth_sd": variant.psth_sd_ms as i64,
        });
        assert_eq!(found, expected[name], "{name}");
    }
}

#[test]
fn at_5_ms_tensors_and_scores_are_the_benchmarks() {
    compare_val(5);
}

#[test]
fn at_20_ms_tensors_and_scores_are_the_benchmarks() {
    compare_val(20);
}

#[test]
fn the_test_phase_trains_on_both_splits_and_shows_the_test_files_neurons() {
    let folder = recordings();
    let [theirs, ours] = ["theirs.h5", "ours.h5"].map(|name| folder.path().join(name));
    let [nwb, out] = [folder.path(), &theirs].map(|path| path.to_str().unwrap());
    benchmark(&["tensors", nwb, VARIANT, "20", "test", out]);
    tensors_command(folder.path(), 20, &["--phase", "test"], &ours);
    same_file(&theirs, &ours);
    let shown = store::read(&h5::open(&ours).unwrap(), "eval_spikes_heldin").unwrap().unwrap();
    assert_eq!(shown.shape, [16, 35, UNITS - HELDOUT]);
}

#[test]
fn a_set_of_another_name_needs_its_windows_and_gets_them() {
    let folder = recordings();
    let [named, told] = ["named.h5", "told.h5"].map(|name| folder.path().join(name));
    tensors_command(folder.path(), 20, &[], &named);
    let refused = nlb(&["tensors", "--data", "x.nwb", "--variant", "mine", "--out", "x.h5"]);
    let expected = "ndt-train: expected one of mc_maze, mc_maze_large, mc_maze_medium, mc_maze_small, or --from-ms, \
                    --to-ms and --lag-ms for another set, found mine\n";
    assert_eq!(String::from_utf8_lossy(&refused.stderr), expected);
    let windows = ["--variant", "mine", "--from-ms", "-250", "--to-ms", "450", "--lag-ms", "120"];
    let mut arguments = vec!["tensors", "--data"];
    let paths = paths(folder.path());
    arguments.extend(paths.iter().map(|path| path.to_str().unwrap()));
    arguments.extend(windows);
    arguments.extend(["--bin-ms", "20", "--out", told.to_str().unwrap()]);
    assert!(nlb(&arguments).status.success());
    let [named, told] = [named, told].map(|path| h5::open(&path).unwrap());
    same_group(&named.group("mc_maze_small_20").unwrap(), &told.group("mine_20").unwrap());
}

#[test]
fn a_bundle_for_other_bins_or_units_is_refused() {
    let folder = recordings();
    let session = nwb::read(&paths(folder.path())[1]).unwrap();
    let bundle = Bundle::read(Path::new(&write_bundle(folder.path(), 20))).unwrap();
    let refused = |session: &Session, bin_ms: usize| {
        let variant = Variant::named(VARIANT);
        let tensors = Tensors::new(std::slice::from_ref(session), &variant, bin_ms, Phase::Val).unwrap();
        predict(&bundle, &tensors, &mut |_, _| {}).unwrap_err().to_string()
    };
    assert_eq!(refused(&session, 5), "expected tensors in the bundle's 20 ms bins, found 5 ms");
    let mut fewer = session.clone();
    let gone = fewer.units.remove(session.units.iter().position(|unit| unit.heldout).unwrap()).id;
    let one_only = |what: &str, id: i64| {
        format!(
            "expected the bundle's {what} to be those of the recording, found unit {id} in one of them only"
        )
    };
    assert_eq!(refused(&fewer, 20), one_only("units", gone));
    let mut hidden = session;
    let shown = hidden.units.iter_mut().find(|unit| !unit.heldout).unwrap();
    shown.heldout = true;
    let id = shown.id;
    assert_eq!(refused(&hidden, 20), one_only("channels", id));
}

/// Tensors, a bundle's submission and a smoothing baseline's, with bins of `bin_ms`.
fn compare_val(bin_ms: usize) {
    let folder = recordings();
    let path = |name: &str| folder.path().join(name);
    let (theirs, ours) = (path("theirs.h5"), path("ours.h5"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let width = bin_ms.to_string();
    benchmark(&["tensors", &text(folder.path()), VARIANT, &width, "val", &text(&theirs)]);
    tensors_command(folder.path(), bin_ms, &[], &ours);
    same_file(&theirs, &ours);

    let (model, smoothing) = (path("model.h5"), path("smoothing.h5"));
    let bundle = write_bundle(folder.path(), bin_ms);
    let paths = paths(folder.path()).map(|path| text(&path));
    let mut arguments = vec!["submit", "--bundle", &bundle, "--variant", VARIANT];
    let out = text(&model);
    arguments.extend(["--out", &out, "--data", &paths[0], &paths[1]]);
    let said = nlb(&arguments);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(String::from_utf8_lossy(&said.stdout).contains("no forward rates"));
    let sessions = paths.each_ref().map(|path| nwb::read(Path::new(path)).unwrap());
    let tensors = Tensors::new(&sessions, &Variant::named(VARIANT), bin_ms, Phase::Val).unwrap();
    store::write_submission(&baseline(&tensors), &smoothing).unwrap();

    let expected = benchmark(&["score", &text(&theirs), &text(&model), &text(&smoothing)]);
    for (submission, expected) in [&model, &smoothing].into_iter().zip(expected.as_array().unwrap()) {
        for targets in [&theirs, &ours] {
            let said =
                nlb(&["score", "--targets", &text(targets), "--submission", &text(submission), "--json"]);
            assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
            let found: Value = serde_json::from_slice(&said.stdout).unwrap();
            same_scores(&found[&tensors.group], expected);
        }
    }
    // The baseline knows the neurons: a score of noise would be equal without meaning anything.
    let scores = &expected[1];
    assert!(scores["co-bps"].as_f64().unwrap() > 0.0 && scores["vel R2"].as_f64().unwrap() > 0.3, "{scores}");
    assert!(scores["fp-bps"].is_f64() && expected[0]["fp-bps"].is_null());
}

/// The files of a maze set: one with all units and the splits train and val, one with the held-in units alone
/// and test trials of 0.7 s every 0.8 s. Units are in no order, and some samples of the hand are missing, as
/// in the published ones.
fn recordings() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let recipe = simulate::Recipe { trials: 80, units: UNITS, heldout: HELDOUT, seed: 11 };
    let mut train = simulate::simulate(&recipe);
    let test = test_session(&train);
    train.units.reverse();
    train.trials.retain(|trial| trial.split.as_deref() != Some("test"));
    train.trials.iter_mut().enumerate().for_each(|(id, trial)| trial.id = id as i64);
    for series in &mut train.behavior {
        let missing = |sample: usize| sample % 997 == 3 && !sample.is_multiple_of(5);
        let kept: Vec<usize> = (0..series.timestamps.len())
            .filter(|sample| !missing((series.timestamps[*sample] * 1e3).round() as usize))
            .collect();
        series.data = kept.iter().flat_map(|at| series.data[at * 2..at * 2 + 2].to_vec()).collect();
        series.timestamps = kept.iter().map(|at| series.timestamps[*at]).collect();
    }
    let [test_path, train_path] = paths(folder.path());
    nwb::write(&train, &train_path).unwrap();
    nwb::write(&test, &test_path).unwrap();
    folder
}

fn test_session(all: &Session) -> Session {
    let tested: Vec<&Trial> =
        all.trials.iter().filter(|trial| trial.split.as_deref() == Some("test")).collect();
    let onset = |trial: &Trial| match trial.columns["move_onset_time"] {
        ndt_replay::session::Value::Float(time) => time,
        ref other => panic!("{other:?}"),
    };
    let start = |at: usize| (at * 8) as f64 / 10.0;
    let mut units = all.units.clone();
    units.retain(|unit| !unit.heldout);
    for unit in &mut units {
        let times = std::mem::take(&mut unit.spike_times);
        for (at, trial) in tested.iter().enumerate() {
            let from = onset(trial) - 0.25;
            let inside = times.iter().filter(|time| (from..from + 0.6999).contains(*time));
            unit.spike_times.extend(inside.map(|time| time - from + start(at)));
        }
    }
    let trials = (0..tested.len()).map(|at| Trial {
        id: at as i64,
        interval: Interval { start: start(at), stop: start(at) + 0.7 },
        split: Some("test".to_owned()),
        columns: [("move_onset_time".to_owned(), ndt_replay::session::Value::Float(start(at) + 0.25))].into(),
    });
    let trials: Vec<Trial> = trials.collect();
    let observed = trials.iter().map(|trial| trial.interval).collect();
    Session {
        identifier: "test".to_owned(),
        units,
        observed,
        trials,
        behavior: Vec::new(),
        source: Default::default(),
    }
}

/// By name, the test file comes first.
fn paths(folder: &Path) -> [PathBuf; 2] {
    ["test_ecephys", "train_behavior+ecephys"]
        .map(|what| folder.join(format!("sub-Jenkins_ses-small_desc-{what}.nwb")))
}

/// A model of random weights for the units of the recordings: what it predicts is bad and all its own.
fn write_bundle(folder: &Path, bin_ms: usize) -> String {
    let session = nwb::read(&paths(folder)[1]).unwrap();
    let shape = Shape { channels: UNITS - HELDOUT, units: UNITS, dims: 2, architecture: SMALL };
    let mut manifest = manifest(shape);
    manifest.bin_width_ms = bin_ms as f64;
    manifest.unit_ids = session.units.iter().map(|unit| unit.id).collect();
    manifest.channel_ids = session.units.iter().filter(|unit| !unit.heldout).map(|unit| unit.id).collect();
    let weights = random_weights(&manifest, 7);
    let path = folder.join("model.ndt");
    let bundle = from_weights(manifest, weights, &[0.1; UNITS - HELDOUT]).unwrap();
    bundle.write(&path).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The benchmark's smoothing baseline, nearly: counts under a Gaussian of 50 ms, held-out neurons from
/// held-in ones by ridge regression, and nearly the mean after the window.
fn baseline(tensors: &Tensors) -> Submission {
    let smoothed = |counts: &Tensor| {
        let [_, bins, neurons] = counts.shape;
        let mut rates = counts.to_f64();
        let kernel = gaussian(50.0 / tensors.bin_ms as f64);
        for trial in rates.chunks_exact_mut(bins * neurons) {
            for neuron in 0..neurons {
                let counts: Vec<f64> = trial[neuron..].iter().step_by(neurons).copied().collect();
                for (bin, rate) in convolve_same(&counts, &kernel).into_iter().enumerate() {
                    trial[bin * neurons + neuron] = rate;
                }
            }
        }
        rates
    };
    let (shown, hidden) = (tensors.heldin_ids.len(), tensors.heldout_ids.len());
    let train = smoothed(&tensors.train.heldin);
    let targets = smoothed(tensors.train.heldout.as_ref().unwrap());
    let ridge = ridge::fit(&train, shown, &targets, hidden, 30.0).unwrap();
    let mean = |values: &[f64], neurons: usize, neuron: usize| {
        values[neuron..].iter().step_by(neurons).sum::<f64>() / (values.len() / neurons) as f64
    };
    let means: Vec<f64> = (0..hidden).map(|neuron| mean(&targets, hidden, neuron)).collect();
    let rates = |like: &Tensor, neurons: usize, values: &mut dyn Iterator<Item = f64>| Tensor {
        shape: [like.shape[0], like.shape[1], neurons],
        values: values.map(|rate| rate as f32).collect(),
    };
    let both = |counts: &Tensor| {
        let heldin = smoothed(counts);
        let predicted = ridge.predict(&heldin);
        let mut above_0 = predicted.iter().zip(means.iter().cycle()).map(|(rate, mean)| rate.max(0.1 * mean));
        let heldout = rates(counts, hidden, &mut above_0);
        (rates(counts, shown, &mut heldin.into_iter()), heldout)
    };
    let (train, mut eval) = (both(&tensors.train.heldin), both(&tensors.eval.heldin));
    // The benchmark takes a rate of 0 as 1e-9.
    let silent = tensors.eval.heldout.as_ref().unwrap().values.iter().position(|count| *count == 0.0);
    eval.1.values[silent.unwrap()] = 0.0;
    let forward_bins = tensors.eval.forward.as_ref().unwrap().0.shape[1];
    let ahead = |train: &Tensor, eval: &Tensor| {
        let [trials, bins, neurons] = eval.shape;
        let train = train.to_f64();
        let means: Vec<f32> = (0..neurons).map(|neuron| mean(&train, neurons, neuron) as f32).collect();
        let last = |trial: usize| &eval.values[(trial * bins + bins - 1) * neurons..][..neurons];
        let row =
            |trial| last(trial).iter().zip(&means).map(|(last, mean)| 0.1 * last + 0.9 * mean).collect();
        let values = (0..trials).flat_map(|trial| {
            let row: Vec<f32> = row(trial);
            row.repeat(forward_bins)
        });
        Tensor { shape: [trials, forward_bins, neurons], values: values.collect() }
    };
    let forward = Some((ahead(&train.0, &eval.0), ahead(&train.1, &eval.1)));
    Submission { group: tensors.group.clone(), train, eval, forward }
}

/// What the benchmark's tools say.
fn benchmark(arguments: &[&str]) -> Value {
    let script = workspace().join("tests/python/nlb_benchmark.py");
    let said = Command::new(python()).arg(script).args(arguments).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    serde_json::from_slice(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

fn nlb(arguments: &[&str]) -> std::process::Output {
    Command::new(&*NDT_TRAIN).arg("nlb").args(arguments).output().unwrap()
}

fn tensors_command(folder: &Path, bin_ms: usize, more: &[&str], out: &Path) {
    // In the wrong order: it is the names that count.
    let [test, train] = paths(folder);
    let width = bin_ms.to_string();
    let [test, train, out] = [&test, &train, out].map(|path| path.to_str().unwrap());
    let arguments =
        ["tensors", "--data", train, test, "--variant", VARIANT, "--bin-ms", &width, "--out", out];
    let said = nlb(&[&arguments, more].concat());
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

fn same_file(theirs: &Path, ours: &Path) {
    same_group(&h5::open(theirs).unwrap(), &h5::open(ours).unwrap());
}

/// The same arrays of the same names: counts and lists exactly, the rest to 1e-6 of its size.
fn same_group(theirs: &Group, ours: &Group) {
    assert_eq!(theirs.members().unwrap(), ours.members().unwrap(), "in {}", theirs.name());
    for name in theirs.members().unwrap() {
        if theirs.is_group(&name).unwrap() {
            same_group(&theirs.group(&name).unwrap(), &ours.group(&name).unwrap());
            continue;
        }
        let arrays = [theirs, ours].map(|group| group.dataset(&name).unwrap());
        if arrays[0].kind() != Kind::Float {
            assert_eq!(arrays[0].lists().unwrap(), arrays[1].lists().unwrap(), "{name}");
            continue;
        }
        assert_eq!(arrays[0].shape(), arrays[1].shape(), "{name}");
        let [theirs, ours] = arrays.map(|array| array.numbers::<f64>().unwrap());
        let within = if name.contains("spikes") { 0.0 } else { WITHIN };
        for (at, (expected, found)) in theirs.iter().zip(&ours).enumerate() {
            let same =
                expected.is_nan() && found.is_nan() || (expected - found).abs() <= within * expected.abs();
            assert!(same, "expected {expected} at {at} of {name}, found {found}");
        }
    }
}

fn same_scores(found: &Value, expected: &Value) {
    let names = |scores: &Value| json!(scores.as_object().unwrap().keys().collect::<Vec<_>>());
    assert_eq!(names(found), names(expected));
    for (name, expected) in expected.as_object().unwrap() {
        let (found, expected) = (found[name].as_f64().unwrap(), expected.as_f64().unwrap());
        println!("{name}: {found} for {expected}");
        assert!((found - expected).abs() <= WITHIN, "expected {expected} as {name}, found {found}");
    }
}
