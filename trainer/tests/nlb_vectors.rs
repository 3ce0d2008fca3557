//! Small arrays and what the benchmark's own functions make of them: every value must agree to 1e-6.

use ndt_trainer::evaluation::metrics::mean;
use ndt_trainer::nlb::decoding::{Decoder, PENALTIES, Rows};
use ndt_trainer::nlb::metrics::{bits_per_spike, neg_log_likelihood, psth_r2};
use ndt_trainer::nlb::resample;
use serde_json::Value;
use std::path::Path;

const WITHIN: f64 = 1e-6;

/// The vectors of one file; `None`, with a message, on a machine that does not have the file.
fn vectors(name: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors").join(name);
    if !path.exists() {
        println!("skipped: the vectors {name} are not beside this checkout");
        return None;
    }
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

/// The numbers of a nested list in their order; null is NaN.
fn numbers(nested: &Value) -> Vec<f64> {
    match nested {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        Value::Null => vec![f64::NAN],
        number => vec![number.as_f64().unwrap()],
    }
}

/// Length of the innermost list of a nested list.
fn last_axis(nested: &Value) -> usize {
    match nested {
        Value::Array(values) if values[0].is_array() => last_axis(&values[0]),
        values => values.as_array().unwrap().len(),
    }
}

#[track_caller]
fn close(found: &[f64], expected: &Value) {
    let expected = numbers(expected);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        let near = (found - expected).abs() <= WITHIN * expected.abs().max(1.0);
        assert!(near, "expected {expected}, found {found}");
    }
}

#[test]
fn co_smoothing() {
    let Some(file) = vectors("co_bps.json") else { return };
    for case in ["tiny", "random", "edge", "silent"] {
        let case = &file[case];
        let (rates, spikes) = (numbers(&case["rates"]), numbers(&case["spikes"]));
        let score = bits_per_spike(&rates, &spikes, last_axis(&case["spikes"])).unwrap();
        close(&[score, score], &serde_json::json!([case["bits_per_spike"], case["reference"]]));
        if !case["nll_model"].is_null() {
            close(&[neg_log_likelihood(&rates, &spikes).unwrap()], &case["nll_model"]);
        }
    }
    let (tiny, identity) = (&file["tiny"], &file["identity"]);
    for case in [tiny, identity] {
        let spikes = numbers(&case["spikes"]);
        let means = numbers(&case["null_rates"]);
        let null: Vec<f64> = (0..spikes.len()).map(|at| means[at % means.len()]).collect();
        assert!(bits_per_spike(&null, &spikes, means.len()).unwrap().abs() < WITHIN);
        if !case["nll_null"].is_null() {
            close(&[neg_log_likelihood(&null, &spikes).unwrap()], &case["nll_null"]);
        }
    }
    close(&[numbers(&tiny["spikes"]).iter().sum()], &tiny["n_spikes"]);
}

#[test]
fn forward_prediction() {
    let Some(file) = vectors("fp_bps.json") else { return };
    let both = |what: &str| {
        let (heldin, heldout) =
            (&file[format!("{what}_heldin_forward")], &file[format!("{what}_heldout_forward")]);
        let columns = (last_axis(heldin), last_axis(heldout));
        let (heldin, heldout) = (numbers(heldin), numbers(heldout));
        let rows = heldin.chunks(columns.0).zip(heldout.chunks(columns.1));
        (rows.flat_map(|(a, b)| [a, b].concat()).collect::<Vec<f64>>(), columns.0 + columns.1)
    };
    let ((rates, neurons), (spikes, _)) = (both("rates"), both("spikes"));
    let score = bits_per_spike(&rates, &spikes, neurons).unwrap();
    close(&[score, score], &serde_json::json!([file["fp_bps"], file["reference"]]));
}

#[test]
fn velocity() {
    let Some(file) = vectors("vel_r2.json") else { return };
    let rows = |part: &str| {
        let (rates, velocity) = (&file[format!("{part}_rates")], &file[format!("{part}_velocity")]);
        Rows::new(&numbers(rates), last_axis(rates), &numbers(velocity), last_axis(velocity)).unwrap()
    };
    let (train, eval, expected) = (rows("train"), rows("eval"), &file["expected"]);
    let decoder = Decoder::fit(&train).unwrap();
    assert_eq!(numbers(&file["alphas"]).len(), PENALTIES);
    close(&decoder.cross_validated, &expected["cv_mean_r2"]);
    close(&[decoder.penalty], &expected["alpha"]);
    close(decoder.ridge.weights(), &expected["weights"]);
    close(decoder.ridge.intercept(), &expected["intercept"]);
    let r2 = decoder.r2(&eval).unwrap();
    close(&[r2, r2], &serde_json::json!([expected["r2"], file["reference_r2"]]));
    let fixed = Decoder::with_penalty(&train, 1e-2).unwrap();
    close(&[fixed.r2(&eval).unwrap()], &file["fixed_alpha_0p01_r2"]);
}

#[test]
fn psths() {
    let Some(file) = vectors("psth_r2.json") else { return };
    let trials: Vec<Vec<usize>> = serde_json::from_value(file["cond_idx"].clone()).unwrap();
    for case in [&file, &file["with_nan_tail"]] {
        let (psth, rates) = (&case["psth"], &file["eval_rates"]);
        let bins = rates[0].as_array().unwrap().len();
        let found = psth_r2(&numbers(psth), &numbers(rates), &trials, bins, last_axis(rates)).unwrap();
        close(&found, &case["per_neuron_r2"]);
        let score = mean(&found);
        close(&[score, score], &serde_json::json!([case["psth_r2"], case["reference"]]));
    }
}

#[test]
fn decimation() {
    for name in ["decimate_5.json", "decimate_20.json"] {
        let Some(file) = vectors(name) else { return };
        let factor = file["q"].as_u64().unwrap() as usize;
        let taps = resample::low_pass(factor);
        close(&taps[..5], &file["taps_first5"]);
        close(&[taps[250], taps.iter().sum()], &serde_json::json!([file["tap_centre"], file["taps_sum"]]));
        let wave = |ms: u32| {
            let turns = std::f64::consts::TAU * f64::from(ms) / 1e3;
            (2.0 * turns).sin() + 0.3 * (7.0 * turns + 1.0).sin() + 0.1 * (180.0 * turns).sin()
        };
        let wave: Vec<f64> = (0..1200).map(wave).collect();
        close(&resample::decimate(&wave, factor), &file["y"]);
    }
}

#[test]
fn binning() {
    let Some(file) = vectors("binning.json") else { return };
    let found: Vec<i64> = numbers(&file["spike_times_s"]).into_iter().map(resample::millisecond).collect();
    assert_eq!(serde_json::json!(found), file["ms_index"]);
    for (counts, width) in [("counts_1ms", 1), ("counts_5ms", 5)] {
        let mut bins = vec![0u64; file[counts].as_array().unwrap().len()];
        found.iter().for_each(|ms| bins[*ms as usize / width] += 1);
        assert_eq!(serde_json::json!(bins), file[counts]);
    }
}

#[test]
fn kernels() {
    if let Some(file) = vectors("gauss_kernel.json") {
        for (name, sd_bins) in [("sd50_bin1", 50.0), ("sd70_bin1", 70.0), ("sd50_bin5", 10.0)] {
            let (kernel, expected) = (resample::gaussian(sd_bins), &file["kernels"][name]);
            let half = kernel.len() / 2;
            assert_eq!(kernel.len() as u64, expected["length"]);
            let found = [kernel[0], kernel[half], kernel[..half].iter().sum()];
            close(
                &found,
                &serde_json::json!([expected["first"], expected["centre"], expected["sum_first_half"]]),
            );
        }
    }
    if let Some(file) = vectors("convolve_same.json") {
        close(&resample::convolve_same(&numbers(&file["x"]), &numbers(&file["w"])), &file["y"]);
    }
}
