//! Every command that takes long says how much time is left, and a fit how long it will take.

use ndt_replay::nwb;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_tests::{SMALL_FIT, program};
use serde_json::Value;
use std::process::{Command, Output};

/// A folder with a session, a configuration without a teacher, one with two teachers, and a sweep.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let session = simulate(&Recipe { trials: 30, units: 10, heldout: 2, seed: 3 });
    nwb::write(&session, &folder.path().join("session.nwb")).unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("small.toml", format!("{SMALL_FIT}epochs = 4\n"));
    let taught = SMALL_FIT.replace("redrawn = 0.0\nteacher-weight = 0.0", "redrawn = 0.3");
    write("taught.toml", format!("{taught}epochs = 4\n[teacher]\nepochs = [3, 3]\n"));
    let base = "[base]\nmodel.width = 16\nmodel.layers = 1\nmodel.feedforward = 16\nobjective.redrawn = 0.0\n\
                objective.teacher-weight = 0.0\noptimiser.epochs = 4\n";
    write(
        "sweep.toml",
        format!("data = [\"session.nwb\"]\n{base}[space]\noptimiser.learning-rate = [1e-4, 1e-2, 3e-3]\n"),
    );
    folder
}

fn run(folder: &tempfile::TempDir, command: &str) -> Output {
    Command::new(program("ndt-train")).args(command.split(' ')).current_dir(folder).output().unwrap()
}

/// What a command that succeeds said on standard error.
fn said(folder: &tempfile::TempDir, command: &str) -> String {
    let ended = run(folder, command);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{command}: {said}");
    said
}

#[test]
fn a_fit_says_how_long_it_will_take_with_its_teachers_and_how_much_is_left() {
    let folder = folder();
    let told = said(&folder, "fit --data session.nwb --config taught.toml --out model");
    let whole: Vec<&str> = told.lines().filter(|line| line.starts_with("about ")).collect();
    assert_eq!(whole.len(), 1, "{told}");
    assert!(whole[0].contains(" for at most 10 epochs, teacher included: an epoch takes "), "{told}");
    let epochs: Vec<&str> =
        told.lines().filter(|line| line.contains("epoch ") && line.contains("co-bps")).collect();
    assert!(epochs.len() == 10 && epochs.iter().all(|line| line.ends_with(" s left")), "{told}");
    assert!(epochs[0].starts_with("teacher 1  epoch 1/3 ") && epochs[9].starts_with("epoch 4/4 "), "{told}");
    assert!(epochs[9].ends_with("  0 s left"), "{told}");

    let alone = said(&folder, "fit --data session.nwb --config small.toml --out alone");
    assert!(alone.contains(" for at most 4 epochs: an epoch takes "), "{alone}");
    let lines = said(&folder, "fit --data session.nwb --config small.toml --out again --progress json");
    let lines: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(lines.len() == 4 && lines.iter().all(|line| line["seconds-left"].is_f64()), "{lines:?}");
}

#[test]
fn a_fit_without_held_out_units_names_the_score_of_masked_counts() {
    let folder = folder();
    let told = said(&folder, "fit --data session.nwb --config small.toml --units all --out model");
    assert!(told.contains("  masked bits/spike ") && !told.contains("  bits/spike "), "{told}");
}

#[test]
fn a_finetuning_and_a_sweep_say_how_much_is_left() {
    let folder = folder();
    said(&folder, "fit --data session.nwb --config small.toml --out model");
    let tuned = |options: &str| {
        said(&folder, &format!("finetune --bundle model --data session.nwb --epochs 3 {options}"))
    };
    let told = tuned("--whole-step --out tomorrow");
    assert!(told.contains(" for at most 3 epochs: an epoch takes "), "{told}");
    assert_eq!(told.lines().filter(|line| line.ends_with(" s left")).count(), 3, "{told}");
    let told = tuned("--out folds");
    assert!(told.contains(" for at most 15 epochs: an epoch takes "), "{told}");
    let of_folds = |line: &&str| line.contains("  fold ") && line.ends_with(" s left");
    assert_eq!(told.lines().filter(of_folds).count(), 12, "{told}");
    let told = said(&folder, "sweep --config sweep.toml --jobs 1");
    let left = told.lines().filter(|line| line.starts_with("done ") && line.ends_with(" s left")).count();
    assert_eq!(left, 2, "the last run leaves nothing: {told}");
}

#[test]
fn a_sweep_is_ranked_by_the_score_that_is_asked_for_also_when_it_is_collected() {
    let folder = folder();
    let ranked = |arguments: &str| -> (String, Vec<f64>) {
        let ended = run(&folder, &format!("sweep --config sweep.toml --json {arguments}"));
        let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
        let scores =
            report["points"].as_array().unwrap().iter().map(|point| point["score"].as_f64().unwrap());
        (report["score"].as_str().unwrap().to_owned(), scores.collect())
    };
    let (name, bits) = ranked("--jobs 1");
    assert_eq!(name, "co-bps");
    for score in ["velocity-r2", "hand-vel-100-ms-r2"] {
        let (name, scores) = ranked(&format!("--collect --rank-by {score}"));
        assert!(name == score && scores.len() == 3 && scores != bits, "{scores:?}");
        assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]), "{scores:?}");
        let best = std::fs::read_to_string(folder.path().join("sweep/best.toml")).unwrap();
        assert!(best.starts_with(&format!("# The best of 3 points: {score} ")), "{best}");
    }
    let ended = run(&folder, "sweep --config sweep.toml --collect --rank-by accuracy");
    let error = String::from_utf8(ended.stderr).unwrap();
    let expected =
        "expected one of the scores co-bps, hand-vel-100-ms-r2, velocity-r2 for --rank-by, found accuracy\n";
    assert!(error.ends_with(expected), "{error}");
}
