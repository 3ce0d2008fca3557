//! Variants in which laboratories store recordings in NWB, each written by pynwb: read, fitted, evaluated in both ways and streamed through
//! a daemon.

mod table;

use ndt_daemon::engine::{self, EngineKind};
use ndt_protocol::bundle::quantity::Quantity;
use ndt_replay::nwb::{self, UnitOptions};
use ndt_replay::session::{Identity, Session};
use ndt_tests::{python, rig, workspace};
use ndt_trainer::config::{Config, Time};
use ndt_trainer::data::{Dataset, Selection};
use ndt_trainer::evaluation::{self, History};
use ndt_trainer::recipe::Recipe;
use ndt_trainer::{export, training};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use table::{VARIANTS, Variant};

/// Writes a variant; returns its path.
fn written(folder: &Path, variant: &str, seed: u64) -> PathBuf {
    let path = folder.join(format!("{}-{seed}.nwb", variant.replace(' ', "-")));
    let script = workspace().join("tests/python/make_variant.py");
    let output =
        Command::new(python()).arg(script).arg(variant).arg(&path).arg(seed.to_string()).output().unwrap();
    assert!(output.status.success(), "{variant}: {}", String::from_utf8_lossy(&output.stderr));
    path
}

fn read(path: &Path, options: &[&str]) -> Session {
    nwb::read_units(path, &selected(options)).unwrap()
}

/// Conditions of `--where`.
fn selected(conditions: &[&str]) -> UnitOptions {
    let conditions = conditions.iter().map(|condition| condition.parse().unwrap()).collect();
    UnitOptions { conditions, ..UnitOptions::default() }
}

/// A small model and one epoch: the test is about recordings.
fn config(variant: &Variant) -> Config {
    let mut config = Config::default();
    (config.model.width, config.model.layers, config.model.feedforward) = (16, 1, 16);
    (config.model.window_ms, config.optimiser.epochs) = (200.0, 1);
    (config.objective.redrawn, config.objective.teacher_weight) = (0.0, 0.0);
    if let Some([column, train, val, test]) = variant.splits {
        config.data.split_column = column.to_owned();
        (config.data.train, config.data.val) = (train.to_owned(), val.to_owned());
        config.data.test = test.to_owned();
    }
    if variant.observed {
        config.data.time = Time::Observed;
    }
    config
}

fn goes_all_the_way(variant: &Variant) {
    let began = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let session = read(&written(folder.path(), variant.name, 0), variant.conditions);
    let notes = session.source.notes.join("\n");
    assert_eq!(session.units.len(), variant.units, "{}: {notes}", variant.name);
    assert!(notes.contains(variant.note), "{}: {notes}", variant.name);
    let config = config(variant);
    let selection = Selection::of(&config);
    let sessions = std::slice::from_ref(&session);
    let data = Dataset::selected(sessions, 20.0, &[(Quantity::Velocity, 0.0)], &selection)
        .unwrap_or_else(|error| panic!("{}: {error}", variant.name));
    let fit = training::fit(&data, &config, None, &mut training::unwatched).unwrap();
    let origin = ndt_protocol::bundle::manifest::Training::of_nothing("a test");
    let bundle = export::bundle(&fit, &data, &config, origin).unwrap();
    let session = session.with_splits(&data.splits[0]);
    for history in [History::Cold, History::Stream] {
        let evaluation = evaluation::evaluate_after(&bundle, &session, "val", history).unwrap();
        assert!(evaluation.bins > 0, "{}: {evaluation:?}", variant.name);
    }
    let choice = engine::Choice {
        kind: EngineKind::Native,
        instruction_set: None,
        precision: None,
        onnxruntime_library: None,
        onnx: engine::onnx::OnnxSettings::default(),
    };
    let (plan, summary) = rig::heard(&bundle, &session, engine::load(&choice, &bundle).unwrap()).unwrap();
    assert_eq!(summary.estimates, plan.bins() as u64, "{}", variant.name);
    println!("{}: {} bins heard, {:.1} s in all", variant.name, plan.bins(), began.elapsed().as_secs_f64());
}

#[test]
fn every_variant_is_fitted_evaluated_and_streamed() {
    let wants_heavy = std::env::var_os("NDT_HEAVY_VARIANTS").is_some();
    for variant in VARIANTS {
        if variant.is_heavy && !wants_heavy {
            println!(
                "skipped: \"{}\" takes more than a minute; NDT_HEAVY_VARIANTS=1 asks for it",
                variant.name
            );
            continue;
        }
        goes_all_the_way(variant);
    }
}

#[test]
fn two_files_whose_ids_number_the_rows_are_not_taken_for_one_population() {
    let folder = tempfile::tempdir().unwrap();
    let paths = [1, 2].map(|seed| written(folder.path(), "row numbers", seed));
    let sessions = paths.each_ref().map(|path| read(path, &[]));
    assert_eq!(sessions[0].source.identity, Identity::Rows);
    assert!(Recipe::default().tells_apart(&sessions).unwrap());
    let refused = Dataset::new(&sessions, 20.0, 0.0).unwrap_err().to_string();
    assert!(
        refused.starts_with("expected ids that say which units of recording 1 are in recording 2"),
        "{refused}"
    );
    let stated = UnitOptions { same_units: true, ..UnitOptions::default() };
    let sessions = paths.each_ref().map(|path| nwb::read_units(path, &stated).unwrap());
    assert!(!Recipe::default().tells_apart(&sessions).unwrap());
    assert_eq!(Dataset::new(&sessions, 20.0, 0.0).unwrap().units(), 16);
}

#[test]
fn units_are_selected_by_their_electrodes_and_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), "several electrode groups", 0);
    assert_eq!(
        read(&path, &["location=M1"]).units.iter().map(|unit| unit.id).collect::<Vec<_>>(),
        [101, 103, 105, 107, 109, 111, 113, 115]
    );
    assert_eq!(read(&path, &["group_name=PMd", "quality=good"]).units.len(), 8);
    let refused =
        |condition: &str| nwb::read_units(&path, &selected(&[condition])).unwrap_err().problem.to_string();
    assert_eq!(refused("location=S1"), "expected units with location=S1 in /units, found \"M1\", \"PMd\"");
    let column = refused("area=M1");
    assert!(column.contains("found the columns") && column.contains("\"location\""), "{column}");
    let held_out = UnitOptions { held_out: Some("0.25".parse().unwrap()), ..UnitOptions::default() };
    let session = nwb::read_units(&path, &held_out).unwrap();
    assert_eq!(session.units.iter().filter(|unit| unit.heldout).count(), 4);
}

#[test]
fn counts_are_the_same_in_wider_bins_and_other_widths_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let counted = read(&written(folder.path(), "binned counts", 0), &[]);
    let timed = read(&written(folder.path(), "no held-out units", 0), &[]);
    // Counts say when they were observed and spike times do not, so that the usual rule fits the time between trials of one alone.
    let mut config = Config::default();
    config.data.time = Time::Trials;
    let selection = Selection::of(&config);
    let counts = |session: &Session| -> Vec<Vec<f32>> {
        let sessions = std::slice::from_ref(session);
        let data = Dataset::selected(sessions, 20.0, &[(Quantity::Velocity, 0.0)], &selection).unwrap();
        data.train.iter().map(|trial| trial.counts.clone()).collect()
    };
    assert_eq!(counts(&counted), counts(&timed));
    let refused = Dataset::new(&[counted], 25.0, 0.0).unwrap_err().to_string();
    assert_eq!(
        refused,
        "expected bins of a whole multiple of the 10 ms in which spikes were counted, found 25 ms"
    );
}
