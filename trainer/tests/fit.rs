//! What a fit takes in and what it gives out: every key of the configuration changes the fit, and every score of an evaluation
//! stands in the bundle's manifest.
//!
//! Both tests go over lists that follow from the code, so that a new key or a new score is asked about here.

use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::{Manifest, Training};
use ndt_protocol::bundle::quantity::Quantity;
use ndt_protocol::bundle::tensors::Tensors;
use ndt_replay::session::{Interval, Series, Session, Value as Cell};
use ndt_replay::simulate::simulate;
use ndt_trainer::config::{Config, ConfigFile};
use ndt_trainer::evaluation::{Evaluation, ReadoutR2, evaluate};
use ndt_trainer::export;
use ndt_trainer::recipe::Recipe;
use ndt_trainer::training::{self, Progress};
use std::error::Error;
use std::ops::ControlFlow;
use toml::{Table, Value};

/// A small fit in which every part of the objective counts.
const EVERYTHING: &str = "
[model]
width = 8
layers = 2
heads = 2
feedforward = 8
window-ms = 1200.0
[data]
time = \"trials\"
[objective]
coordinated-dropout = 0.3
span-ratio = 0.2
span-bins-max = 3
span-ramp-epochs = [0, 1]
span-input = \"zeros\"
random-counts = 0.3
channel-dropout = 0.2
jitter-ms = 80.0
redrawn = 0.5
teacher-weight = 0.5
cold = 0.3
shuffled = 0.4
gaps = 0.5
random-start = 0.5
forward-bins = 2
forward-weight = 0.5
velocity-weight = 0.5
[velocity]
lags-ms = [1000.0, 100.0]
[teacher]
epochs = [1, 1]
[optimiser]
epochs = 4
warmup-epochs = 2
batch-trials = 8
gradient-norm-max = 0.1
";

/// Another value of a key for which [`another`] finds none, or none that counts.
const OTHERWISE: [(&str, &str); 19] = [
    ("data.behavior", r#"["hand_pos"]"#),
    ("objective.cold", "1.0"),
    ("data.units", "\"all\""),
    ("data.time", "\"observed\""),
    ("data.split-by", "\"blocks\""),
    ("data.split-column", "\"none of them\""),
    ("data.train", "\"val\""),
    ("data.val", "\"train\""),
    ("data.test", "\"none of them\""),
    ("data.blocks", "[0.5, 0.2, 0.3]"),
    ("data.condition-column", "\"condition\""),
    ("model.positions", "\"learned\""),
    ("objective.span-input", "\"missing\""),
    ("objective.span-ramp-epochs", "[0, 0]"),
    ("velocity.lags-ms", "[1000.0]"),
    ("velocity.publish", "\"best\""),
    ("teacher.epochs", "[1]"),
    ("optimiser.beta2", "0.9"),
    ("optimiser.patience-epochs", "0"),
];

/// Another choice without which a key has nothing to say.
const BESIDE: [(&str, &str); 2] = [("data.blocks", "blocks"), ("data.condition-column", "trials")];

/// Everything that a fit gives: what it reports after each epoch, and the bundle.
type Outcome = (Vec<Progress>, Manifest, Tensors);

/// A session with every series that a readout can be asked of.
fn session() -> Session {
    let mut session = simulate(&ndt_replay::simulate::Recipe { trials: 24, units: 10, heldout: 3, seed: 5 });
    // All time was observed, and each trial has a condition.
    session.observed = vec![Interval { start: 0.0, stop: session.duration() }];
    for (at, trial) in session.trials.iter_mut().enumerate() {
        trial.columns.insert("condition".to_owned(), Cell::Int((at * at % 5) as i64));
    }
    for quantity in Quantity::ALL {
        let is_there = |name: &&str| session.series(name).is_some();
        if !quantity.recorded_series().iter().any(is_there) {
            let velocity = session.series(Quantity::Velocity.series()).unwrap().clone();
            let (name, unit) = (quantity.series().to_owned(), quantity.unit().to_owned());
            session.behavior.push(Series { name, unit, ..velocity });
        }
    }
    session
}

/// The configuration of the tests as a table in which each key has a value.
fn configuration() -> Table {
    let config: Config = toml::from_str(EVERYTHING).unwrap();
    Table::try_from(&config).unwrap()
}

/// Fits with this configuration, as `ndt-train fit` does.
fn fit(session: &Session, table: &Table) -> Result<(Vec<Progress>, Bundle), Box<dyn Error>> {
    let recipe = Recipe { config: Some(ConfigFile::of(table.clone())), ..Recipe::default() };
    let prepared = recipe.prepare(std::slice::from_ref(session))?;
    let mut reports = Vec::new();
    let fit = training::fit(&prepared.data, &prepared.config, None, &mut |progress| {
        reports.push(progress.clone());
        ControlFlow::Continue(())
    })?;
    let bundle = export::bundle(&fit, &prepared.data, &prepared.config, Training::of_nothing("a test"))?;
    Ok((reports, bundle))
}

/// What comes of a configuration; a sentence where it is refused, which shows as well that the key is looked at.
fn outcome(session: &Session, table: &Table) -> Result<Outcome, String> {
    let (reports, bundle) = fit(session, table).map_err(|error| error.to_string())?;
    Ok((reports, bundle.manifest, bundle.weights))
}

/// The names of a table's keys, as the parser lists them when it finds another one.
fn keys(section: &str) -> Vec<String> {
    let error = toml::from_str::<Config>(&format!("{section}\nnone-of-them = 0\n")).unwrap_err();
    error.message().split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

/// Another value that the key can have: half of a number, something instead of nothing, the opposite.
fn another(key: &str, value: &Value) -> Value {
    if let Some((_, text)) = OTHERWISE.into_iter().find(|(other, _)| *other == key) {
        return toml::from_str::<Table>(&format!("x = {text}")).unwrap().remove("x").unwrap();
    }
    match value {
        Value::Float(0.0) => Value::Float(0.5),
        Value::Float(number) => Value::Float(number / 2.0),
        Value::Integer(0) => Value::Integer(1),
        Value::Integer(number) => Value::Integer(number / 2),
        Value::Boolean(on) => Value::Boolean(!on),
        _ => panic!("expected another value of {key} in OTHERWISE, found none"),
    }
}

#[test]
fn every_key_of_the_configuration_changes_the_fit() {
    let session = session();
    let table = configuration();
    let usual = outcome(&session, &table);
    usual.as_ref().unwrap();
    let mut ignored = Vec::new();
    for section in keys("") {
        for key in keys(&format!("[{section}]")) {
            let name = format!("{section}.{key}");
            let mut changed = table.clone();
            let mut usual = usual.clone();
            if let Some((_, split_by)) = BESIDE.iter().find(|(beside, _)| *beside == name) {
                changed["data"]["split-by"] = Value::String((*split_by).to_owned());
                usual = outcome(&session, &changed);
            }
            let value = changed[&section].as_table_mut().and_then(|section| section.get_mut(&key));
            let value =
                value.unwrap_or_else(|| panic!("expected a value of {name} in EVERYTHING, found none"));
            *value = another(&name, value);
            let value = value.clone();
            if outcome(&session, &changed) == usual {
                ignored.push(format!("{name} = {value}"));
            }
        }
    }
    assert!(ignored.is_empty(), "keys that change nothing:\n{}", ignored.join("\n"));
}

#[test]
fn every_score_of_an_evaluation_stands_in_the_manifest() {
    let session = session();
    let (_, bundle) = fit(&session, &configuration()).unwrap();
    // Taken apart, so that a new score does not compile before it is decided whether a manifest has it. What was scored is no
    // score.
    let Evaluation {
        split: _,
        history: _,
        trials: _,
        bins: _,
        co_bps,
        co_bps_interval: _,
        readouts,
        notes: _,
    } = evaluate(&bundle, &session, "val").unwrap();
    let stands = |name: &str, score: Option<f64>| {
        let found = bundle.manifest.scores.get(name).copied();
        let difference = score.zip(found).map(|(score, found)| (score - found).abs());
        assert!(
            difference.is_some_and(|difference| difference < 1e-4),
            "{name}: expected {score:?}, found {found:?}"
        );
    };
    stands("co-bps", co_bps);
    // The axes of a readout are not in the manifest: their mean is what bundles are compared by.
    for (at, ReadoutR2 { series, lag_ms, unit: _, r2: _, mean, interval: _ }) in
        readouts.into_iter().enumerate()
    {
        let name = format!("{}-{lag_ms}-ms-r2", series.replace('_', "-"));
        stands(if at == 0 { "velocity-r2" } else { &name }, mean);
    }
}
