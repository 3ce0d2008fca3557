//! How many instructions one bin costs, against the number that was committed: the only measure of speed that is
//! the same on a busy machine. Callgrind counts two runs of `ndtd bench --steps`, one twice as long; their difference
//! has neither the start-up nor the bins before the window is full.
//!
//! The bundle stays at `target/bench/model.ndt`, for `ndtd bench` in `.ci/run` and by hand.

use ndt_protocol::bundle::manifest::Architecture;
use ndt_tests::{Positions, Shape, manifest, random_weights, workspace};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A motor cortex model of the field's size.
const SHAPE: Shape = Shape {
    channels: 137,
    units: 182,
    dims: 2,
    architecture: Architecture {
        width: 128,
        layers: 4,
        heads: 2,
        feedforward: 256,
        window_bins: 100,
        positions: Positions::LagBias,
    },
};

const BIN_MS: f64 = 5.0;

/// Whole rounds of the golden counts, so that both halves of the longer run have the same bins, and more than a window.
const STEPS: u64 = 240;

const TOLERANCE_PERCENT: f64 = 5.0;

const BASELINE: &str = "tests/baseline/instructions.json";

fn write_bundle(path: &Path) {
    let mut manifest = manifest(SHAPE);
    manifest.bin_width_ms = BIN_MS;
    let weights = random_weights(&manifest, 1);
    let mean_counts = vec![0.1; SHAPE.channels];
    let bundle = ndt_trainer::export::from_weights(manifest, weights, &mean_counts).unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    bundle.write(path).unwrap();
}

/// Builds `ndtd` as it is deployed, and says where it is.
fn release_build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "-p", "ndt-daemon", "--bin", "ndtd"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let messages = String::from_utf8(built.stdout).unwrap();
    let executable = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    };
    messages.lines().find_map(executable).unwrap()
}

/// Instructions of a whole run of `steps`, and what computed: valgrind has not all instructions of every machine.
fn count(ndtd: &Path, bundle: &Path, steps: u64) -> (u64, String) {
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(ndtd)
        .args(["bench", "--steps", &steps.to_string(), "--bundle"])
        .arg(bundle)
        .output()
        .unwrap();
    let (out, told) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{told}");
    assert!(out.starts_with(&format!("{steps} steps, {steps} estimates, ")), "{out}");
    let collected = told.lines().find_map(|line| line.split_once("Collected :"));
    let count = collected.unwrap_or_else(|| panic!("no count in\n{told}")).1.trim().parse().unwrap();
    (count, out.trim().rsplit_once(", ").unwrap().1.to_owned())
}

/// The first line that a program prints.
fn says(program: &str, argument: &[&str]) -> Option<String> {
    let output = Command::new(program).args(argument).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
}

#[test]
fn a_bin_costs_the_instructions_that_were_committed() {
    let bundle = workspace().join("target/bench/model.ndt");
    write_bundle(&bundle);
    if says("valgrind", &["--version"]).is_none() {
        println!(
            "skipped: instructions are counted with valgrind, and there is none (apt-get install valgrind)"
        );
        return;
    }
    let ndtd = release_build();
    let ((longer, engine), (shorter, _)) = (count(&ndtd, &bundle, 2 * STEPS), count(&ndtd, &bundle, STEPS));
    let found = (longer - shorter) / STEPS;
    let rustc = says(&std::env::var("RUSTC").unwrap_or("rustc".to_owned()), &["--version"]).unwrap();
    let path = workspace().join(BASELINE);
    if std::env::var_os("UPDATE_BASELINE").is_some() {
        let baseline = json!({
            "instructions-per-bin": found,
            "tolerance-percent": TOLERANCE_PERCENT,
            "engine": engine,
            "rustc": rustc,
            "date": says("date", &["-u", "+%F"]).unwrap(),
        });
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("{baseline:#}\n")).unwrap();
    }
    let baseline: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    if baseline["engine"] != engine.as_str() {
        println!(
            "skipped: {BASELINE} is of {}, this machine under valgrind has {engine}",
            baseline["engine"]
        );
        return;
    }
    let expected = baseline["instructions-per-bin"].as_u64().unwrap();
    let percent = (found as f64 / expected as f64 - 1.0) * 100.0;
    let told = format!("expected {expected} instructions for a bin, found {found} ({percent:+.2} %)");
    println!("{told}");
    let made = format!("the baseline was made with {}, this is {rustc}", baseline["rustc"]);
    let tolerance = baseline["tolerance-percent"].as_f64().unwrap();
    assert!(percent <= tolerance, "{told}: slower by more than {tolerance} %; {made}");
    assert!(
        percent >= -tolerance,
        "{told}: faster, so that the baseline no longer guards it; commit a new one, which UPDATE_BASELINE=1 \
         writes; {made}"
    );
}
