//! A test of one crate uses the dependencies that a test of the whole workspace has built: feature by feature the same.

use super::CRATES;
use ndt_tests::workspace;
use std::collections::BTreeSet;
use std::process::Command;

/// The dependencies of tests, one line each: name, version and features.
fn dependencies(selection: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--offline", "--edges", "normal,build,dev", "--prefix", "none"]);
    let output = cargo.args(["--format", "{p} with {f}"]).args(selection).current_dir(workspace()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    // Cargo marks a dependency whose own dependencies it has listed already.
    text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

#[test]
fn one_package_has_the_features_of_the_workspace() {
    let whole = dependencies(&["--workspace"]);
    assert!(whole.len() > 200, "expected all dependencies, found {whole:?}");
    for folder in CRATES {
        let package = format!("ndt-{folder}");
        let alone = dependencies(&["--package", &package]);
        let others: Vec<&String> = alone.difference(&whole).collect();
        assert!(
            others.is_empty(),
            "{package} alone: expected features as in the workspace (tests/same-features/Cargo.toml), found {others:#?}"
        );
    }
}
