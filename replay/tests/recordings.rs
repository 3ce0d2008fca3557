//! Reading files of other writers: the real recordings beside the project, and what pynwb writes today.

use ndt_replay::inspect::summarize;
use ndt_replay::session::{Interval, Session, Value};
use ndt_replay::{h5, nwb, simulate};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Reads a real recording; prints that the test is skipped and returns `None` if this machine has none.
fn recording(name: &str) -> Option<Session> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if !path.exists() {
        println!("skipped: the recording {name} is not beside this checkout");
        return None;
    }
    Some(nwb::read(&path).unwrap())
}

/// Runs one of the Python scripts of the tests and returns its output. It panics without Python: a test that cannot compare
/// must not pass.
fn python(script: &str, arguments: &[&str]) -> serde_json::Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join("target/python/bin/python");
    assert!(python.exists(), "expected {}, found none: start the tests with tests/run", python.display());
    let output =
        Command::new(python).arg(root.join("tests/python").join(script)).args(arguments).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} failed:\n{stdout}\n{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.nwb");
    (folder, path)
}

#[test]
fn reads_the_benchmark_test_file() {
    let Some(session) = recording("sub-Jenkins_ses-small_desc-test_ecephys.nwb") else { return };
    let summary = summarize(&session);
    assert_eq!((summary.units, summary.spikes, summary.trials), (107, 32_897, 100));
    assert_eq!((summary.heldout, summary.behavior.len()), (0, 0));
    // A trial of 0.7 s starts every 0.8 s; movement begins after 0.25 s.
    for (k, trial) in session.trials.iter().enumerate() {
        assert!((trial.interval.start - 0.8 * k as f64).abs() < 1e-9);
        assert!((trial.interval.stop - trial.interval.start - 0.7).abs() < 1e-9);
        let Some(Value::Float(onset)) = trial.columns.get("move_onset_time") else { panic!("no onset") };
        assert!((onset - trial.interval.start - 0.25).abs() < 1e-9);
        assert_eq!(trial.split.as_deref(), Some("test"));
    }
    assert_eq!(session.observed.len(), 100);
    assert!((summary.observed_s - 70.0).abs() < 1e-6);
}

#[test]
fn reads_the_benchmark_trial_with_the_hand_in_metres() {
    let Some(session) = recording("mc_maze_trial.nwb") else { return };
    let summary = summarize(&session);
    assert_eq!((summary.units, summary.trials), (182, 1));
    assert!((summary.trial_duration_s.unwrap().max - 3.236).abs() < 1e-9);
    let hand = session.series("hand_pos").unwrap();
    assert_eq!((hand.unit.as_str(), hand.dims, hand.timestamps.len()), ("m", 2, 3236));
    let farthest = hand.data.iter().fold(0.0f64, |far, value| far.max(value.abs()));
    assert!((0.02..0.5).contains(&farthest), "a monkey's reach of {farthest} m");
    let velocity = session.series("hand_vel").unwrap();
    let fastest = velocity.data.iter().fold(0.0f64, |far, value| far.max(value.abs()));
    assert_eq!(velocity.unit, "m/s");
    assert!((0.1..2.0).contains(&fastest), "a monkey's reach at {fastest} m/s");
    assert_eq!(session.behavior.len(), 4);
}

#[test]
fn reads_the_reaching_set() {
    let Some(session) = recording("reach.nwb") else { return };
    let summary = summarize(&session);
    assert_eq!((summary.units, summary.heldout, summary.trials), (95, 24, 640));
    assert_eq!(summary.splits.iter().map(|split| split.trials).sum::<usize>(), 640);
    assert!(summary.behavior.iter().all(|series| (series.rate_hz.unwrap() - 50.0).abs() < 1e-6));
    assert!(matches!(session.trials[0].columns["target_direction"], Value::Int(1..=8)));
}

#[test]
fn reads_what_pynwb_writes_today() {
    check_made(&[]);
}

#[test]
fn reads_the_same_recording_in_the_forms_of_other_writers() {
    check_made(&["--foreign"]);
}

/// Reads the file that `make_nwb.py` writes with these options, and compares it with the contents that the script prints.
fn check_made(options: &[&str]) {
    let (_folder, path) = folder();
    let expected = python("make_nwb.py", &[&[path.to_str().unwrap()], options].concat());
    let session = nwb::read(&path).unwrap();
    let summary = summarize(&session);
    assert_eq!(summary.identifier, "pynwb-1");
    assert_eq!(summary.units, expected["units"].as_u64().unwrap() as usize);
    assert_eq!(summary.spikes, expected["spikes"].as_u64().unwrap() as usize);
    assert_eq!(summary.heldout, expected["heldout"].as_u64().unwrap() as usize);
    assert_eq!(summary.trials, expected["trials"].as_u64().unwrap() as usize);
    for (spike, first) in session.units[0].spike_times.iter().zip(expected["first"].as_array().unwrap()) {
        // The JSON parser may be wrong in the last bit.
        assert!((spike - first.as_f64().unwrap()).abs() < 1e-12, "spike times in another order");
    }
    assert!(session.units.iter().all(|unit| unit.spike_times.is_sorted()));
    let observed = [Interval { start: 0.0, stop: 29.5 }, Interval { start: 30.0, stop: 60.0 }];
    assert_eq!(session.observed, observed);

    for (name, wanted) in expected["behavior"].as_object().unwrap() {
        let series = session.series(name).unwrap();
        assert_eq!(series.unit, wanted["unit"].as_str().unwrap(), "{name}");
        let at = if name == "eye_pos" { 123 } else { 1234.min(series.timestamps.len() - 1) };
        let row = &series.data[at * series.dims..(at + 1) * series.dims];
        for (value, wanted) in row.iter().zip(wanted["row"].as_array().unwrap()) {
            assert!((value - wanted.as_f64().unwrap()).abs() < 1e-9, "{name}: {value} for {wanted}");
        }
    }
    assert_eq!(
        session.series("hand_vel").unwrap().timestamps,
        session.series("hand_pos").unwrap().timestamps
    );
    assert!((session.series("eye_pos").unwrap().timestamps[123] - 1.73).abs() < 1e-12);

    let columns = &session.trials[5].columns;
    assert_eq!(
        columns.keys().map(String::as_str).collect::<Vec<_>>(),
        ["go_cue_time", "note", "num_targets", "success"]
    );
    assert_eq!(columns["note"], Value::Text("essai №5".to_owned()));
    assert_eq!(columns["num_targets"], Value::Int(3));
    // A boolean that was written as a byte is read as a number, because nothing in the file marks it as a boolean.
    let success = if options.is_empty() { Value::Bool(true) } else { Value::Int(1) };
    assert_eq!(columns["success"], success);
    assert!(matches!(columns["go_cue_time"], Value::Float(time) if time.is_nan()));
    assert_eq!(session.trials[5].split.as_deref(), Some("test"));
}

#[test]
fn reads_units_and_nothing_else() {
    let (_folder, path) = folder();
    let expected = python("make_nwb.py", &[path.to_str().unwrap(), "--bare"]);
    let session = nwb::read(&path).unwrap();
    assert_eq!(session.spikes(), expected["spikes"].as_u64().unwrap() as usize);
    assert!(session.units.iter().all(|unit| !unit.heldout));
    assert!(session.observed.is_empty() && session.trials.is_empty() && session.behavior.is_empty());
}

/// libhdf5 leaves its files open in every program that is started meanwhile, so a lock would outlive the writing.
#[test]
fn a_program_started_while_a_file_is_written_does_not_keep_it_locked() {
    let (_folder, path) = folder();
    let written = h5::create(&path).unwrap();
    let mut bystander = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    drop(written);
    let opened = h5::open(&path).map(|root| root.name());
    drop(bystander.stdin.take());
    bystander.wait().unwrap();
    assert_eq!(opened.as_deref(), Ok("/"));
}

#[test]
fn pynwb_opens_and_validates_a_simulated_session() {
    let (_folder, path) = folder();
    let recipe = simulate::Recipe { trials: 10, units: 20, heldout: 5, seed: 3 };
    let session = simulate::simulate(&recipe);
    nwb::write(&session, &path).unwrap();
    let found = python("check_nwb.py", &[path.to_str().unwrap()]);
    assert_eq!(found["problems"].as_array().unwrap().len(), 0, "{found}");
    assert_eq!(found["units"], 20);
    assert_eq!(found["heldout"], 5);
    assert_eq!(found["trials"], 10);
    assert_eq!(found["spikes"].as_u64().unwrap() as usize, session.spikes());
    assert_eq!(found["first_unit"]["intervals"], 10);
    assert_eq!(found["first_unit"]["electrodes"], 1);
    assert_eq!(found["splits"], serde_json::json!({"train": 6, "val": 2, "test": 2}));
    let velocity = &found["behavior"]["hand_vel"];
    assert_eq!(velocity["shape"][0].as_u64().unwrap() as usize, session.behavior[1].timestamps.len());
    assert_eq!((velocity["conversion"].as_f64(), velocity["unit"].as_str()), (Some(1e-3), Some("m/s")));
    let columns = found["columns"].as_array().unwrap();
    for column in
        ["move_onset_time", "go_cue_time", "target_on_time", "trial_type", "trial_version", "maze_id"]
    {
        assert!(columns.iter().any(|found| found == column), "no {column}");
    }
}
