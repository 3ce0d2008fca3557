//! No command fits to a trial of `test`, or chooses by one, whatever other splits a recording has and however they are written.
//!
//! Each command runs on two recordings that differ in their test trials alone: what it fits must be the same to the last bit.

use ndt_protocol::Bundle;
use ndt_replay::h5;
use ndt_replay::nwb;
use ndt_replay::session::Session;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_tests::{SMALL_FIT, program};
use ndt_trainer::nlb::store;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Built once.
static NDT_TRAIN: LazyLock<PathBuf> = LazyLock::new(|| program("ndt-train"));

const TRIALS: usize = 40;

/// A session whose trials have these splits in turn; without any, they have none.
fn session(splits: &[&str]) -> Session {
    let mut session = simulate(&Recipe { trials: TRIALS, units: 12, heldout: 3, seed: 3 });
    for (at, trial) in session.trials.iter_mut().enumerate() {
        trial.split = (!splits.is_empty()).then(|| splits[at % splits.len()].to_owned());
    }
    session
}

/// The session with other spikes and other behaviour in the trials of this split.
fn changed(session: &Session, split: &str) -> Session {
    let mut changed = session.clone();
    let within = |time: f64| {
        session
            .trials
            .iter()
            .any(|trial| trial.is_in(split) && trial.interval.start <= time && time < trial.interval.stop)
    };
    for (at, unit) in changed.units.iter_mut().enumerate() {
        unit.spike_times.retain(|time| !within(*time));
        for trial in session.trials.iter().filter(|trial| trial.is_in(split)) {
            let length_s = trial.interval.stop - trial.interval.start;
            let spikes = (0..60 + at).map(|spike| trial.interval.start + length_s * spike as f64 / 80.0);
            unit.spike_times.extend(spikes.filter(|time| *time < trial.interval.stop));
        }
        unit.spike_times.sort_unstable_by(f64::total_cmp);
    }
    for series in &mut changed.behavior {
        let rows = series.timestamps.iter().zip(series.data.chunks_exact_mut(series.dims));
        rows.filter(|(time, _)| within(**time)).flat_map(|(_, row)| row).for_each(|value| *value *= -7.0);
    }
    changed
}

/// A folder with a recording, and what every command leaves in it.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn of(session: &Session) -> Desk {
        let desk = Desk { folder: tempfile::tempdir().unwrap() };
        nwb::write(session, &desk.path("session.nwb")).unwrap();
        std::fs::write(desk.path("small.toml"), format!("{SMALL_FIT}epochs = 3\nbatch-trials = 8\n"))
            .unwrap();
        let sweep = format!(
            "data = [\"session.nwb\"]\n[base]\n{}optimiser.epochs = 2\n[space]\noptimiser.learning-rate = [1e-3, 1e-2]\n",
            "model.width = 16\nmodel.layers = 1\nmodel.feedforward = 16\nobjective.redrawn = 0.0\n\
             objective.teacher-weight = 0.0\n"
        );
        std::fs::write(desk.path("sweep.toml"), sweep).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command in the folder; gives its report, or its last line on standard error, and its notes.
    fn run(&self, command: &str) -> (Result<String, String>, Vec<String>) {
        let arguments = command.split_whitespace();
        let ended = Command::new(&*NDT_TRAIN).args(arguments).current_dir(&self.folder).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        let notes = said.lines().filter_map(|line| line.strip_prefix("note: ")).map(str::to_owned).collect();
        let last = said.lines().last().unwrap_or_default().to_owned();
        let report = String::from_utf8(ended.stdout).unwrap();
        (if ended.status.success() { Ok(report) } else { Err(last) }, notes)
    }

    /// The notes of a command that succeeds.
    fn succeed(&self, command: &str) -> Vec<String> {
        let (report, notes) = self.run(command);
        report.unwrap_or_else(|error| panic!("{command}: {error}"));
        notes
    }
}

const FIT: &str = "fit --data session.nwb --config small.toml --out model";
const BASELINES: &str =
    "baselines --data session.nwb --only smoothing,wiener --units heldin --out linear --json";
const SWEEP: &str = "sweep --config sweep.toml --jobs 1 --json";
const FINETUNE: &str = "finetune --bundle model --data session.nwb --epochs 2 --out tomorrow";
const NLB: &str = "nlb tensors --data session.nwb --variant mine --align start_time --from-ms 0 --to-ms 400 --lag-ms 0 \
                   --forward-ms 0 --bin-ms 20 --phase test --out tensors.h5";

/// Bit by bit what a fit left in a bundle.
fn weights(path: &Path) -> Vec<(String, Vec<u32>)> {
    let bundle = Bundle::read(path).unwrap();
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    bundle.weights.into_iter().map(|(name, (_, values))| (name, bits(values))).collect()
}

/// What all commands fit to a recording, as text that can be compared.
fn fitted(session: &Session) -> Vec<(&'static str, String)> {
    let desk = Desk::of(session);
    desk.succeed(FIT);
    let rows: Value = serde_json::from_str(&desk.run(BASELINES).0.unwrap()).unwrap();
    let rows = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!("{} {} {}", row["method"], row["chosen"], row["velocity"]));
    let swept: Value = serde_json::from_str(&desk.run(SWEEP).0.unwrap()).unwrap();
    let swept = swept["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| format!("{} {}", point["values"], point["score"]));
    desk.succeed(FINETUNE);
    desk.succeed(NLB);
    let tensors = h5::open(&desk.path("tensors.h5")).unwrap();
    let tensor =
        |name: &str| format!("{:?}", store::read(&tensors, name).unwrap().map(|tensor| tensor.values));
    vec![
        ("fit", format!("{:?}", weights(&desk.path("model")))),
        ("baselines, settings", rows.collect::<Vec<_>>().join("\n")),
        ("baselines, bundle", format!("{:?}", weights(&desk.path("linear/wiener-heldin")))),
        ("sweep", swept.collect::<Vec<_>>().join("\n")),
        ("finetune", format!("{:?}", weights(&desk.path("tomorrow")))),
        ("nlb tensors", tensor("train_spikes_heldin")),
    ]
}

#[test]
fn what_is_fitted_and_chosen_does_not_depend_on_a_test_trial_however_the_splits_are_written() {
    for splits in [["train", "train", "train", "test"], ["Train", "TRAIN", "train", "Test"]] {
        let session = session(&splits);
        let first = fitted(&session);
        for ((command, first), (_, second)) in first.iter().zip(fitted(&changed(&session, "test"))) {
            assert!(*first == second, "{command} depends on the trials of {splits:?} that are test trials");
        }
        let other = fitted(&changed(&session, "train"));
        for ((command, first), (_, other)) in first.iter().zip(other) {
            assert!(*first != other, "{command} does not depend on its own training trials");
        }
    }
}

#[test]
fn validation_that_comes_out_of_train_is_said_by_every_command_that_validates() {
    let desk = Desk::of(&session(&["Train", "train", "train", "Test"]));
    for command in [FIT, BASELINES, SWEEP, FINETUNE] {
        let notes = desk.succeed(command);
        for expected in [
            "the recording has no split val: one trial in 5 of train is used for validation",
            "10 trials of the splits test and none are left out",
        ] {
            assert!(notes.iter().any(|note| note == expected), "{command}: {notes:#?}");
        }
    }
    let (refused, _) = desk.run(&NLB.replace("--phase test", "--phase val"));
    assert!(refused.unwrap_err().ends_with("found none; the recording's splits are Test, Train, train"));
}

#[test]
fn a_recording_of_test_trials_alone_is_fitted_by_nothing() {
    for split in ["test", "Test", "none"] {
        let desk = Desk::of(&session(&[split]));
        nwb::write(&session(&[]), &desk.path("other.nwb")).unwrap();
        desk.succeed(&FIT.replace("session.nwb", "other.nwb"));
        let expected =
            "expected trials to fit, found all 40 in the splits test and none, which no model is fitted to";
        for command in [&FIT.replace("--out model", "--out again"), BASELINES, SWEEP, FINETUNE] {
            let (refused, _) = desk.run(command);
            let error = refused.unwrap_err();
            assert!(error.ends_with(expected), "{command}: {error}");
        }
        let (refused, _) = desk.run(NLB);
        assert!(refused.unwrap_err().contains("expected trials of the split train or val"));
        assert!(
            !desk.path("again").exists() && !desk.path("linear").exists() && !desk.path("tomorrow").exists()
        );
    }
}

#[test]
fn a_recording_without_splits_validates_and_tests_on_blocks_of_trials_and_one_of_all_too() {
    for splits in [&[][..], &["all"]] {
        let desk = Desk::of(&session(splits));
        for command in [FIT, BASELINES, SWEEP, FINETUNE] {
            let notes = desk.succeed(command);
            let expected = "the recording has no splits train and val: blocks of 70, 15 and 15 % of its trials are for training";
            assert!(notes.iter().any(|note| note.starts_with(expected)), "{command}: {notes:#?}");
        }
        let (refused, _) = desk.run(NLB);
        assert!(refused.unwrap_err().contains("expected trials of the split train or val"));
        let (report, _) = desk.run("evaluate --bundle model --data session.nwb --split all");
        assert!(report.unwrap().starts_with("40 trials, "));
        let (report, _) =
            desk.run("evaluate --bundle model --data session.nwb --split test --history stream");
        let report = report.unwrap();
        assert!(report.starts_with("5 trials, "), "the bundle knows its test: {report}");
    }
}
