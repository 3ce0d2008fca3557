//! Every key of the configuration matters: a fit with another value of it gives other weights or another manifest. A key that
//! was added and then used nowhere fails here.

use ndt_protocol::bundle::manifest::{Manifest, Training};
use ndt_protocol::bundle::tensors::Tensors;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_trainer::config::Config;
use ndt_trainer::data::Dataset;
use ndt_trainer::export;
use ndt_trainer::training::{self, unwatched};
use toml::{Table, Value};

/// Small and quick, with every part of the objective and every readout switched on.
const BASE: &str = r#"
[model]
width = 8
layers = 1
heads = 2
feedforward = 16
window-ms = 80.0

[objective]
span-ratio = 0.2
span-input = "zeros"
random-counts = 0.3
channel-dropout = 0.1
jitter-ms = 15.0
redrawn = 0.3
teacher-weight = 0.2
random-start = 0.5
forward-bins = 2
span-ramp-epochs = [1, 3]

[velocity]
speed = true
position = true

[teacher]
epochs = [1, 1]

[optimiser]
epochs = 4
warmup-epochs = 1
batch-trials = 4
gradient-norm-max = 0.1
"#;

/// Keys that need not change a fit this small, and why.
const EXCEPTIONS: [(&str, &str); 2] = [
    ("velocity.publish", "the first velocity may be the best one"),
    ("optimiser.patience-epochs", "the fit ends before its patience does"),
];

/// The fitted weights, and the manifest without what follows from the weights or names the fit.
fn fitted(table: &Table, data: &Dataset) -> (Tensors, Manifest) {
    let config: Config = table.clone().try_into().unwrap();
    config.check().unwrap();
    let fit = training::fit(data, &config, None, &mut unwatched).unwrap();
    let bundle = export::bundle(&fit, data, &config, Training::of_nothing("a test")).unwrap();
    let mut manifest = bundle.manifest;
    (manifest.scores, manifest.precisions, manifest.files) = Default::default();
    manifest.id.clear();
    (bundle.weights, manifest)
}

fn changed(value: &Value) -> Value {
    match value {
        Value::Float(value) => Value::Float(0.5 * value + 0.05),
        Value::Integer(value) => Value::Integer(2 * value.max(&1)),
        Value::Boolean(value) => Value::Boolean(!value),
        Value::Array(values) => {
            let (last, first) = values.split_last().unwrap();
            Value::Array(first.iter().cloned().chain([changed(last)]).collect())
        }
        Value::String(value) => match value.as_str() {
            "lag-bias" => "learned".into(),
            "zeros" => "missing".into(),
            "first" => "best".into(),
            other => panic!("expected a value whose alternative this test knows, found {other}"),
        },
        other => panic!("expected a number, a truth value, a text or a list, found {other}"),
    }
}

#[test]
fn a_fit_with_another_value_of_any_key_is_another_fit() {
    let session = simulate(&Recipe { trials: 20, units: 10, heldout: 2, seed: 3 });
    let base: Config = toml::from_str(BASE).unwrap();
    let base = Table::try_from(&base).unwrap();
    let data = |table: &Table| {
        let config: Config = table.clone().try_into().unwrap();
        Dataset::reading(std::slice::from_ref(&session), 20.0, &config.velocity.wanted()).unwrap()
    };
    let expected = fitted(&base, &data(&base));
    let mut without_effect = Vec::new();
    for (section, keys) in &base {
        for (key, value) in keys.as_table().unwrap() {
            let name = format!("{section}.{key}");
            if EXCEPTIONS.iter().any(|(exception, _)| *exception == name) {
                continue;
            }
            let mut table = base.clone();
            table[section.as_str()][key.as_str()] = changed(value);
            if fitted(&table, &data(&table)) == expected {
                without_effect.push(name);
            }
        }
    }
    assert!(without_effect.is_empty(), "keys that change nothing: {}", without_effect.join(", "));
}
