//! What is odd about a recording is said by every command that takes it, and what cannot be used sensibly is refused.

use ndt_protocol::Bundle;
use ndt_replay::nwb;
use ndt_replay::session::{Series, Session, Value};
use ndt_replay::simulate::{Recipe, simulate};
use ndt_tests::{SMALL_FIT, program};
use serde_json::Value as Json;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

/// Built once.
static PROGRAMS: LazyLock<[PathBuf; 3]> = LazyLock::new(|| ["ndt-train", "ndt-replay", "ndtd"].map(program));

fn session(seed: u64) -> Session {
    simulate(&Recipe { trials: 40, units: 24, heldout: 6, seed })
}

fn velocity(session: &mut Session) -> &mut Series {
    session.behavior.iter_mut().find(|series| series.name == "hand_vel").unwrap()
}

/// A folder with recordings by their names, in which commands are run.
struct Desk(tempfile::TempDir);

/// What a command printed, and whether it succeeded.
struct Ended {
    is_success: bool,
    report: String,
    said: String,
}

impl Desk {
    fn new(sessions: &[(&str, &Session)]) -> Desk {
        let folder = tempfile::tempdir().unwrap();
        for (name, session) in sessions {
            nwb::write(session, &folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("small.toml"), format!("{SMALL_FIT}epochs = 2\n")).unwrap();
        Desk(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, command: &str) -> Ended {
        let (name, arguments) = command.split_once(' ').unwrap();
        let program = PROGRAMS.iter().find(|path| path.ends_with(name)).unwrap();
        let ended = Command::new(program).args(arguments.split(' ')).current_dir(&self.0).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { is_success: ended.status.success(), report: text(ended.stdout), said: text(ended.stderr) }
    }

    /// Runs a command that must succeed.
    fn succeed(&self, command: &str) -> Ended {
        let ended = self.run(command);
        assert!(ended.is_success, "{command}: {}", ended.said);
        ended
    }

    /// The last line of a command that must fail.
    fn refused(&self, command: &str) -> String {
        let ended = self.run(command);
        assert!(!ended.is_success, "{command}: {}", ended.report);
        ended.said.lines().last().unwrap_or_default().to_owned()
    }
}

const FIT: &str = "ndt-train fit --data session.nwb --config small.toml --out model";
const EVALUATE: &str = "ndt-train evaluate --bundle model --data session.nwb";
const NLB: &str = "ndt-train nlb tensors --data session.nwb --variant mc_maze_small --align start_time --from-ms 0 --to-ms 400 \
                   --forward-ms 0 --conditions target --bin-ms 20 --out tensors.h5";

#[test]
fn every_command_that_takes_a_recording_says_what_is_odd_about_it() {
    let check = |change: &dyn Fn(&mut Session), expected: &str| {
        let mut session = session(1);
        change(&mut session);
        let desk = Desk::new(&[("session.nwb", &session)]);
        let inspected = desk.succeed("ndt-replay inspect session.nwb").report;
        assert!(inspected.contains(&format!("\nnote       {expected}")), "{inspected}");
        let baselines = "ndt-train baselines --data session.nwb --only wiener --units heldin";
        let finetune = "ndt-train finetune --bundle model --data session.nwb --epochs 0 --out tomorrow";
        for command in [FIT, EVALUATE, finetune, NLB, baselines] {
            let said = desk.run(command).said;
            assert!(said.contains(&format!("note: {expected}")), "{command}: {said}");
        }
    };
    check(
        &|session| velocity(session).timestamps.iter_mut().for_each(|time| *time += 50.0),
        "hand_vel has samples from 5",
    );
    check(
        &|session| session.trials[7].interval.start = session.trials[6].interval.stop - 0.5,
        "1 of 40 trials begin before an earlier one has ended, the first of them trial 7, 0.500 s before the end of trial 6",
    );
    check(
        &|session| {
            for (at, trial) in session.trials.iter_mut().enumerate() {
                let time = if at == 5 { f64::NAN } else { trial.interval.start + 0.5 };
                trial.columns.insert("go_cue_time".to_owned(), Value::Float(time));
            }
        },
        "trials without the instant of an event (go_cue_time in 1 of 40)",
    );
    check(
        &|session| velocity(session).data.iter_mut().skip(1).step_by(2).for_each(|y| *y = 0.25),
        "component 2 of 2 of hand_vel never changes: the component has no R2, and means are over the others",
    );
}

#[test]
fn inspect_lists_the_columns_and_what_will_be_decoded() {
    let desk = Desk::new(&[("session.nwb", &session(1))]);
    let text = desk.succeed("ndt-replay inspect session.nwb").report;
    for expected in [
        "columns    of units: ",
        "heldout (boolean)",
        "spike_times (ragged number)",
        "columns    of trials: ",
        "start_time (number)",
        "split (text)",
        "decoded    rates, and hand_vel, 2 components in m/s\n",
    ] {
        assert!(text.contains(expected), "expected {expected} in\n{text}");
    }
    let json: Json =
        serde_json::from_str(&desk.succeed("ndt-replay inspect session.nwb --json").report).unwrap();
    assert!(json["columns"]["trials"].as_array().unwrap().iter().any(|column| column["name"] == "split"));
    assert_eq!((&json["notes"], &json["behavior"][1]["unit"]), (&Json::Array(Vec::new()), &"m/s".into()));
}

#[test]
fn a_velocity_outside_of_all_trials_is_not_exported() {
    let mut session = session(1);
    velocity(&mut session).timestamps.iter_mut().for_each(|time| *time += 1e4);
    let desk = Desk::new(&[("session.nwb", &session)]);
    let fitted = desk.succeed(FIT);
    let expected = "note: hand_vel is known in no bin of a training trial: the model estimates rates only\n";
    assert!(fitted.said.contains(expected), "{}", fitted.said);
    assert!(Bundle::read(&desk.path("model")).unwrap().manifest.readouts.is_empty());
    let inspected = desk.succeed("ndt-replay inspect session.nwb").report;
    assert!(
        inspected.contains("decoded    rates alone: hand_vel has no value in the trials\n"),
        "{inspected}"
    );
    assert!(desk.succeed(EVALUATE).report.contains("velocity R2  none: no velocity head"));
    let refused = desk.refused("ndt-train baselines --data session.nwb --only wiener");
    assert!(refused.contains("hand_vel is known in no bin of a training trial"), "{refused}");
}

#[test]
fn a_component_that_never_changes_leaves_the_others_their_score() {
    let mut session = session(1);
    velocity(&mut session).data.iter_mut().skip(1).step_by(2).for_each(|y| *y = 0.25);
    let desk = Desk::new(&[("session.nwb", &session)]);
    desk.succeed(FIT);
    let text = desk.succeed(EVALUATE).report;
    assert!(text.contains(", y none (it never changes), mean "), "{text}");
    let json: Json = serde_json::from_str(&desk.succeed(&format!("{EVALUATE} --json")).report).unwrap();
    let readout = &json["readouts"][0];
    assert_eq!((&readout["r2"][1], &readout["r2"][0]), (&Json::Null, &readout["mean"]));
    let scores = Bundle::read(&desk.path("model")).unwrap().manifest.scores;
    assert!(scores.contains_key("velocity-r2"), "{scores:?}");
    let table = desk.succeed("ndt-train baselines --data session.nwb --only wiener --units heldin").report;
    assert!(table.contains("R2 lag 0 (x / y / mean)") && table.contains(" / none / "), "{table}");
}

#[test]
fn the_same_recording_given_twice_is_refused_whatever_it_is_called() {
    let desk = Desk::new(&[("session.nwb", &session(1)), ("copy.nwb", &session(1))]);
    desk.succeed(FIT);
    let expected = "expected different recordings, found the spikes of recording 1 again in recording 2";
    for command in [
        "ndt-train fit --data session.nwb copy.nwb --config small.toml --out again",
        "ndt-train fit --data session.nwb copy.nwb --sessions separate --config small.toml --out again",
        "ndt-train finetune --bundle model --data session.nwb session.nwb --out tomorrow",
        "ndt-train baselines --data session.nwb session.nwb --only wiener",
        &NLB.replace("session.nwb", "session.nwb copy.nwb"),
    ] {
        let error = desk.refused(command);
        assert!(error.ends_with(expected), "{command}: {error}");
    }
    assert!(!desk.path("again").exists() && !desk.path("tomorrow").exists());
}

#[test]
fn a_recording_under_the_name_of_a_benchmark_is_noticed() {
    let desk = Desk::new(&[("session.nwb", &session(1))]);
    let said = desk.succeed(NLB).said;
    let expected = "note: mc_maze_small has 107 held-in and 35 held-out units and 100 trials of train and val, and this recording \
                    has 18 held-in and 6 held-out units and 32 trials of train and val: the group has the data set's name all \
                    the same";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn other_units_under_the_same_ids_are_noticed_and_the_same_units_are_not() {
    let (first, same) = (session(1), session(1));
    let mut other = session(2);
    for (unit, like) in other.units.iter_mut().zip(&first.units) {
        unit.id = like.id;
    }
    let desk = Desk::new(&[("session.nwb", &first), ("other.nwb", &other)]);
    assert_eq!(first, same);
    desk.succeed(FIT);
    desk.succeed("ndt-train baselines --data session.nwb --only wiener --units all --out linear");
    let expected = "units fire less than half or more than twice as often as the bundle expects";
    for bundle in ["model", "linear/wiener"] {
        let evaluate = EVALUATE.replace("model", bundle);
        let said = desk.succeed(&evaluate).said;
        assert!(!said.contains(expected), "{bundle} on its own recording: {said}");
        let said = desk.succeed(&evaluate.replace("session.nwb", "other.nwb")).said;
        assert!(said.contains(expected), "{bundle} on another recording: {said}");
    }
    let finetune = "ndt-train finetune --bundle model --data other.nwb --epochs 1 --out tomorrow";
    let said = desk.succeed(finetune).said;
    assert!(
        said.contains(expected) && said.contains("their weights are kept by id and fitted further"),
        "{said}"
    );
    let again = finetune.replace("other.nwb", "session.nwb").replace("tomorrow", "today");
    assert!(!desk.succeed(&again).said.contains(expected));
}

#[test]
fn a_unit_that_is_not_understood_goes_with_the_velocity_from_the_recording_to_the_daemon() {
    let mut session = session(1);
    let velocity = velocity(&mut session);
    velocity.unit = "pixels/s".to_owned();
    velocity.data.iter_mut().for_each(|value| *value *= 4000.0);
    let desk = Desk::new(&[("session.nwb", &session)]);
    let fitted = desk.succeed(FIT);
    let expected = "note: hand_vel is recorded in \"pixels/s\": no conversion into m/s is known, and values and unit are kept";
    assert!(fitted.said.contains(expected), "{}", fitted.said);
    let readouts = Bundle::read(&desk.path("model")).unwrap().manifest.readouts;
    assert!(
        readouts.iter().all(|readout| readout.unit == "pixels/s") && !readouts.is_empty(),
        "{readouts:?}"
    );
    let evaluated = desk.succeed(EVALUATE).report;
    assert!(evaluated.contains("lag 0 ms, in pixels/s") && !evaluated.contains("m/s"), "{evaluated}");
    let inspected = desk.succeed("ndt-replay inspect session.nwb").report;
    assert!(inspected.contains("hand_vel [") && inspected.contains("] in pixels/s at"), "{inspected}");
    desk.succeed("ndt-train baselines --data session.nwb --only wiener --units heldin --out linear");
    for bundle in ["model", "linear/wiener-heldin"] {
        let checked = desk.succeed(&format!("ndtd check --bundle {bundle}")).report;
        assert!(checked.contains("velocity components in pixels/s") && !checked.contains("m/s"), "{checked}");
    }
    std::fs::write(
        desk.path("ndtd.toml"),
        "bundle = \"model\"\ninput = \"tcp://127.0.0.1:1\"\noutput = \"tcp://127.0.0.1:2\"\nspeed-max-m-per-s = 1.0\n",
    )
    .unwrap();
    let refused = desk.refused("ndtd run --config ndtd.toml");
    let expected = "expected a bundle whose velocity is in m/s for speed-max-m-per-s, found pixels/s";
    assert!(refused.contains(expected), "{refused}");
}

#[test]
fn a_linear_bundle_has_the_score_that_its_table_has() {
    let desk = Desk::new(&[("session.nwb", &session(1))]);
    let command =
        "ndt-train baselines --data session.nwb --only smoothing,wiener --split test --out linear --json";
    let rows: Json = serde_json::from_str(&desk.succeed(command).report).unwrap();
    for (bundle, method) in
        [("smoothing", "smoothing"), ("smoothing-heldin", "smoothing"), ("wiener", "Wiener")]
    {
        let evaluate =
            format!("ndt-train evaluate --bundle linear/{bundle} --data session.nwb --split test --json");
        let report: Json = serde_json::from_str(&desk.succeed(&evaluate).report).unwrap();
        let found = report["readouts"][0]["mean"].as_f64().unwrap();
        let units = if bundle.ends_with("heldin") { 18 } else { 24 };
        let of_method = rows
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["method"].as_str().unwrap().starts_with(method) && row["units"] == units);
        let scores: Vec<f64> = of_method.map(|row| row["velocity"][0]["mean"].as_f64().unwrap()).collect();
        assert!(scores.iter().any(|score| (score - found).abs() < 1e-6), "{bundle}: {found} of {scores:?}");
        assert_eq!(report["co-bps"], Json::Null);
    }
    let text =
        desk.succeed("ndt-train evaluate --bundle linear/wiener --data session.nwb --split test").report;
    assert!(
        text.contains("co-bps       none: a linear decoder estimates no rates\nhand_vel R2  x "),
        "{text}"
    );
}
