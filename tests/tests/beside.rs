//! What stands beside a fit: baselines on the same bins in the report and in the bundle, and the command that writes the better bundle.
//! One baseline that fails costs no other one.

use ndt_protocol::Bundle;
use ndt_replay::nwb;
use ndt_replay::session::Session;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_tests::{SMALL_FIT, program};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// A folder with a recording and a configuration of two epochs, which no transformer wins with.
fn folder(session: &Session) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    nwb::write(session, &folder.path().join("session.nwb")).unwrap();
    std::fs::write(folder.path().join("small.toml"), format!("{SMALL_FIT}epochs = 2\n")).unwrap();
    folder
}

fn session() -> Session {
    simulate(&Recipe { trials: 40, units: 40, heldout: 10, seed: 5 })
}

/// Runs a line of the shell in the folder, which must succeed; gives what it prints.
fn shell(folder: &Path, line: &str) -> (String, String) {
    let path =
        format!("{}:{}", program("ndt-train").parent().unwrap().display(), std::env::var("PATH").unwrap());
    program("ndtd");
    program("ndt-replay");
    let output =
        Command::new("sh").args(["-c", line]).current_dir(folder).env("PATH", path).output().unwrap();
    let Output { status, stdout, stderr } = output;
    let (printed, said) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success(), "{line}: {printed}{said}");
    (printed, said)
}

fn json(folder: &Path, line: &str) -> Value {
    serde_json::from_str(&shell(folder, line).0).unwrap()
}

const FIT: &str = "ndt-train fit --data session.nwb --config small.toml";

#[test]
fn a_transformer_that_does_not_win_is_told_beside_what_and_by_which_command_to_do_better() {
    let folder = folder(&session());
    let (text, _) = shell(folder.path(), &format!("{FIT} --out model"));
    for part in [
        "R2 of hand_vel, lag 0 ms, on the same bins, every trial from a cold start:\n",
        "\ntransformer ",
        ", the model's history",
        "\nclock: time in the trial alone",
        " (best baseline) ",
        "\nno GRU beside it: ",
    ] {
        assert!(text.contains(part), "expected {part:?} in:\n{text}");
    }
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("the transformer does not win: on test "), "{text}");
    let (_, command) = last.split_once(": ndt-train ").unwrap();
    let (command, bundle) = command.split_once(" (the bundle is ").unwrap();
    let bundle = bundle.trim_end_matches(')');
    shell(folder.path(), &format!("ndt-train {command}"));
    let (checked, _) = shell(folder.path(), &format!("ndtd check --bundle {bundle}"));
    assert!(checked.contains("linear in the counts of the last bins"), "{checked}");

    // The row of the bundle that was advised has the bundle's score.
    let report = json(folder.path(), &format!("{FIT} --out again --json"));
    let rows = report["beside"]["decoders"].as_array().unwrap();
    let advised = Bundle::read(&folder.path().join(bundle)).unwrap().manifest;
    let window = advised.linear.unwrap().window_bins as u64;
    let is_row = |row: &&Value| row["history-bins"] == window && row["decoder"] != "transformer";
    let row = rows.iter().find(is_row).unwrap_or_else(|| panic!("{report:#}"));
    let (found, told) = (row["validation-r2"].as_f64().unwrap(), advised.scores["velocity-r2"]);
    assert!((found - told).abs() < 1e-9, "beside {found}, bundle {told}");
    let evaluate = format!("ndt-train evaluate --bundle {bundle} --data session.nwb --split test --json");
    let test = json(folder.path(), &evaluate)["readouts"][0]["mean"].as_f64().unwrap();
    assert!((row["test-r2"].as_f64().unwrap() - test).abs() < 1e-5, "{row} {test}");

    // The rows are in the record, and the id does not depend on them.
    let read = |name: &str| Bundle::read(&folder.path().join(name)).unwrap();
    let kept = read("again").origin.record.unwrap().comparison;
    assert_eq!(serde_json::to_value(&kept).unwrap(), report["beside"]["decoders"]);
    assert_eq!(report["id"], read("model").manifest.id.as_str());
    let (text, _) = shell(folder.path(), "ndt-replay inspect --bundle again");
    for part in [
        "\ncurve      2 epochs",
        "\nbeside     transformer: R2 validation ",
        "\nbeside     Wiener 5 bins: R2 ",
    ] {
        assert!(text.contains(part), "expected {part:?} in:\n{text}");
    }
    let (text, _) = shell(folder.path(), &format!("{FIT} --out none --no-baselines"));
    assert!(text.ends_with("no baselines beside it: --no-baselines leaves them out\n"), "{text}");
    assert_eq!(read("none").manifest.id, read("model").manifest.id);
    assert!(read("none").origin.record.unwrap().comparison.is_empty());
}

#[test]
fn separate_sessions_have_baselines_of_their_own() {
    let folder = folder(&session());
    let other = simulate(&Recipe { trials: 30, units: 9, heldout: 3, seed: 8 });
    nwb::write(&other, &folder.path().join("other.nwb")).unwrap();
    let fit = FIT.replace("session.nwb", "session.nwb other.nwb");
    let report = json(folder.path(), &format!("{fit} --out both --json"));
    for (at, (name, channels)) in [("session", 30), ("other", 6)].into_iter().enumerate() {
        let session = &report["sessions"][at];
        let bundle = Bundle::read(&folder.path().join("both").join(name)).unwrap();
        assert_eq!(session["bundle"], format!("both/{name}"));
        let kept = bundle.origin.record.unwrap().comparison;
        assert_eq!(serde_json::to_value(&kept).unwrap(), session["beside"]["decoders"]);
        assert_eq!((kept[0].decoder.as_str(), bundle.manifest.channels()), ("transformer", channels));
        let advice = session["beside"]["advice"].as_str().unwrap();
        assert!(advice.contains(&format!(" --data {name}.nwb ")), "{advice}");
    }
    let (text, _) = shell(folder.path(), &format!("{fit} --out again"));
    assert_eq!(text.matches("\ntransformer ").count(), 2, "{text}");
}

#[test]
fn a_recording_without_behaviour_has_a_sentence_in_place_of_rows() {
    let mut session = session();
    session.behavior.clear();
    let folder = folder(&session);
    let (text, _) = shell(folder.path(), &format!("{FIT} --out model"));
    let last = "no baselines beside it: expected a behaviour to decode, found a model of rates alone\n";
    assert!(text.ends_with(last), "{text}");
    let report = json(folder.path(), &format!("{FIT} --out again --json"));
    assert_eq!(report["beside"]["decoders"], serde_json::json!([]), "{report:#}");
}

#[test]
fn one_baseline_that_fails_is_a_row_of_the_table_with_its_reason() {
    let mut session = session();
    for series in &mut session.behavior {
        let rows = series.data.chunks_exact(2).flat_map(|row| [row[0], row[1], 0.5 * row[0] - row[1]]);
        (series.data, series.dims) = (rows.collect(), 3);
    }
    let folder = folder(&session);
    let baselines = "ndt-train baselines --data session.nwb --units held-in --only smoothing,wiener";
    let why = "expected a velocity of 2 components for smoothing and ridge, found 3";
    let (table, _) = shell(folder.path(), baselines);
    assert!(
        table.contains(&format!("| smoothing + ridge | 30 | failed | - | - | - | - | {why} |\n")),
        "{table}"
    );
    assert_eq!(table.matches("| Wiener ").count(), 3, "{table}");
    let rows = json(folder.path(), &format!("{baselines} --json --out linear"));
    let rows = rows.as_array().unwrap();
    assert_eq!(
        (rows.len(), &rows[0]["method"], &rows[0]["failed"]),
        (4, &"smoothing + ridge".into(), &why.into())
    );
    assert!(
        rows[1..].iter().all(|row| row.get("failed").is_none() && row["velocity"][0]["mean"].is_number())
    );
    assert!(
        folder.path().join("linear/wiener-heldin").exists()
            && !folder.path().join("linear/smoothing-heldin").exists()
    );
    // A table without one score is an error.
    let only = format!("{baselines} --only smoothing").replace("smoothing,wiener --only ", "");
    let output =
        Command::new(program("ndt-train")).args(only.split(' ').skip(1)).current_dir(&folder).output();
    let output = output.unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
}
