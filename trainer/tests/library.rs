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

#[path = "../examples/your_own_loss_and_readout.rs"]
#[expect(dead_code, reason = "the example's main prints what the test checks")]
mod own;

#[test]
fn a_term_of_ones_own_is_the_hand_computed_mean_of_squared_changes() {
    use burn::tensor::{Device, Tensor};
    // Two units in three bins: changes 1, -2 and 3, 0.
    let log_rates = Tensor::<2>::from_data([[0.0, 5.0], [1.0, 3.0], [4.0, 3.0]], &Device::flex());
    let found: f32 = own::roughness(log_rates.unsqueeze()).into_scalar();
    assert!((found - (1.0 + 4.0 + 9.0 + 0.0) / 4.0).abs() < 1e-6, "{found}");
}

#[test]
fn a_loss_and_a_readout_of_ones_own_do_what_they_are_for() {
    let (data, config) = own::small().unwrap();
    let [usual, smooth] = [0.0, 1.0].map(|weight| own::fit(&data, &config, weight));
    let [before, after] = [&usual, &smooth].map(|model| own::moving(model, &data, &data.val).roughness);
    assert!(after < 0.5 * before, "roughness with the term {after}, without {before}");
    let cosine = own::read_out(&usual, &data).unwrap();
    assert!(cosine > 0.3, "cosine to the true direction {cosine}");
}
