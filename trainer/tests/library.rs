//! The library's example is run as it stands.

#[path = "../examples/fit_and_evaluate.rs"]
#[expect(dead_code, reason = "the example's main takes arguments; the test calls what it calls")]
mod example;

#[test]
fn the_example_fits_exports_and_evaluates() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, recipe) = example::small_session(folder.path()).unwrap();
    let out = folder.path().join("model");
    let evaluation = example::fit_and_evaluate(&recording, &recipe, &out).unwrap();
    assert!(out.join("manifest.toml").exists());
    assert_eq!((evaluation.split.as_str(), evaluation.trials), ("val", 12));
    assert!(evaluation.co_bps.is_some_and(f64::is_finite));
    let velocities: Vec<f64> = evaluation.readouts.iter().filter_map(|readout| readout.mean).collect();
    assert!(velocities.len() == 2 && velocities[0] > 0.0, "{velocities:?}");
}
