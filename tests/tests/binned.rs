//! A recording in bins for models of other people: what `ndt-train tensors` writes is what a fit takes in, and other people's programs
//! read it.

use ndt_protocol::bundle::quantity::Quantity;
use ndt_replay::nwb;
use ndt_replay::session::Session;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_tests::{holes, program, python, workspace};
use ndt_trainer::data::{BinnedSession, Dataset, Selection, Trial};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

const BIN_MS: f64 = 20.0;

/// A session in which a trial has a hole.
fn session() -> Session {
    let mut session = simulate(&Recipe { trials: 20, units: 12, heldout: 3, seed: 4 });
    let trial = session.trials[3].interval;
    holes::cut(&mut session, &holes::hole(&trial, 5.0));
    session
}

fn binned(session: &Session) -> BinnedSession {
    BinnedSession::of(session, BIN_MS, &Selection::default()).unwrap()
}

#[test]
fn the_bins_are_those_of_a_fit_with_their_times_trials_and_splits() {
    let session = session();
    let binned = binned(&session);
    let readouts = [(Quantity::Velocity, 0.0)];
    let data = Dataset::reading(std::slice::from_ref(&session), BIN_MS, &readouts).unwrap();
    for (split, expected) in [("train", &data.train), ("val", &data.val), ("test", &data.test)] {
        let found: Vec<&Trial> =
            binned.runs.iter().filter(|run| run.split == split).map(|run| &run.bins).collect();
        assert!(!found.is_empty() && found.len() == expected.len(), "{split}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!((found.bins, &found.counts), (expected.bins, &expected.counts));
            let same = |(a, b): (&f32, &f32)| a == b || (a.is_nan() && b.is_nan());
            assert!(found.targets.iter().zip(&expected.targets).all(same), "{split}");
        }
    }
    assert_eq!(binned.runs.len(), 21, "the trial with a hole makes two runs");
    for run in &binned.runs {
        let trial = session.trials.iter().find(|trial| trial.id == run.trial[0]).unwrap();
        assert!(run.trial.iter().all(|id| *id == trial.id));
        assert_eq!(trial.split.as_deref(), Some(run.split));
        let (first, last) = (run.time_s[0] - 0.02, *run.time_s.last().unwrap());
        assert!(trial.interval.start < first + 1e-6 && last < trial.interval.stop + 1e-6);
        assert_eq!(run.time_s.len(), run.bins.bins);
    }
}

#[test]
fn trials_of_other_lengths_are_cut_when_asked_for_and_refused_otherwise() {
    let binned = binned(&session());
    let lengths = || binned.runs.iter().map(|run| run.bins.bins);
    let (shortest, longest) = (lengths().min().unwrap(), lengths().max().unwrap());
    let error = binned.clone().by_trial(None).unwrap_err().to_string();
    assert!(error.starts_with(&format!("expected trials of equal length, found {shortest} to {longest}")));
    let error = binned.clone().by_trial(Some(longest + 1)).unwrap_err().to_string();
    assert!(error.contains(&format!("found none longer than {longest}")), "{error}");
    let wanted = shortest + 1;
    let cut = binned.clone().by_trial(Some(wanted)).unwrap();
    assert!(cut.runs.len() < binned.runs.len() && cut.runs.iter().all(|run| run.bins.bins == wanted));
    assert!(cut.notes.last().unwrap().ends_with("are left out"));
    let spikes = &cut.arrays(true)[0];
    assert_eq!(spikes.shape, [cut.runs.len(), wanted, 12]);
    assert_eq!(cut.by_trial(None).unwrap().runs[0].bins.bins, wanted);
}

fn tensors(folder: &Path, out: &str, more: &[&str]) -> Output {
    let mut command = Command::new(program("ndt-train"));
    command.args(["tensors", "--data", "session.nwb", "--out", out]).args(more);
    command.current_dir(folder).output().unwrap()
}

#[test]
fn numpy_reads_both_formats_and_finds_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let session = session();
    nwb::write(&session, &folder.path().join("session.nwb")).unwrap();
    let session = nwb::read(&folder.path().join("session.nwb")).unwrap();
    let script = workspace().join("tests/python/check_tensors.py");
    let binned = binned(&session);
    for by_trial in [&[][..], &["--by-trial", "40"]] {
        for out in ["session.npz", "session.safetensors"] {
            let done = tensors(folder.path(), out, &[by_trial, &["--json", "--overwrite"]].concat());
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            let report: Value = serde_json::from_slice(&done.stdout).unwrap();
            assert_eq!(report["units"], 12);
            let is_flat = by_trial.is_empty();
            assert!(!is_flat || report["bins"] == binned.bins());
        }
        let mut command = Command::new(python());
        command.arg(&script).args(["session.npz", "session.safetensors"]).current_dir(folder.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["axes"], if by_trial.is_empty() { 2 } else { 3 });
        assert_eq!(found["behavior_units"], serde_json::json!(["m/s", "m/s"]));
        if by_trial.is_empty() {
            let spikes: f32 = binned.runs.iter().flat_map(|run| &run.bins.counts).sum();
            assert_eq!(found["spikes"], f64::from(spikes));
            let splits: std::collections::BTreeMap<&str, usize> =
                binned.bins_of_splits().into_iter().collect();
            assert_eq!(found["splits"], serde_json::json!(splits));
        }
    }
    let done = tensors(folder.path(), "session.csv", &[]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("expected an output whose name ends in .npz or .safetensors"), "{said}");
}
