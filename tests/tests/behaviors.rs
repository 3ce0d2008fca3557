//! Behaviour of any name, place and unit, from the recording to the estimate on the wire: fitted, scored by the trainer, played to a daemon, and
//! heard with the names and units of the recording.
//!
//! The recordings are simulated; pynwb then moves their behaviour to where other laboratories have it.

use ndt_daemon::engine::native::Native;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Training;
use ndt_protocol::wire::Description;
use ndt_replay::nwb;
use ndt_replay::session::{Series, Session};
use ndt_replay::simulate::{Recipe, simulate};
use ndt_tests::{SMALL_FIT, program, python, rig};
use ndt_trainer::config::Config;
use ndt_trainer::data::{Dataset, Selection};
use ndt_trainer::evaluation::evaluate;
use ndt_trainer::{export, training};
use std::path::Path;
use std::process::Command;

/// Adds a series with pynwb: file, place (`acquisition`, `Position`, or a module's name), name, unit, conversion and columns; the columns
/// are those of `hand_vel`, each next one with half the weight of the one before.
const ADD: &str = "
import sys
import numpy as np
from pynwb import NWBHDF5IO, TimeSeries
from pynwb.behavior import Position, SpatialSeries
path, place, name, unit, conversion, columns = sys.argv[1:]
with NWBHDF5IO(path, 'a') as io:
    file = io.read()
    source = file.processing['behavior']['hand_vel' if place != 'Position' else 'hand_pos']
    values, times = np.array(source.data[:]) * source.conversion, np.array(source.timestamps[:])
    columns = int(columns)
    data = np.stack([values[:, at % 2] * 0.5 ** at for at in range(columns)], 1) / float(conversion)
    about = dict(name=name, data=data, timestamps=times, unit=unit, conversion=float(conversion))
    if place == 'Position':
        series = SpatialSeries(reference_frame='the screen', **about)
        file.create_processing_module('hand', 'where the hand was').add(Position(spatial_series=series))
    elif place == 'acquisition':
        file.add_acquisition(TimeSeries(**about))
    else:
        file.create_processing_module(place, 'a module of its own').add(TimeSeries(**about))
    io.write(file)
";

/// A simulated recording with one more series, and without those of the simulation.
fn recorded(folder: &Path, added: [&str; 5]) -> Session {
    let path = folder.join("session.nwb");
    let session = simulate(&Recipe { trials: 30, units: 24, heldout: 6, seed: 2 });
    nwb::write(&session, &path).unwrap();
    let ended = Command::new(python()).args(["-c", ADD]).arg(&path).args(added).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let mut read = nwb::read(&path).unwrap();
    read.behavior.retain(|series| !["hand_vel", "hand_pos"].contains(&series.name.as_str()));
    read
}

fn fitted(session: &Session, behavior: &[&str]) -> (Bundle, Vec<String>) {
    let mut config = Config::default();
    config.data.behavior = behavior.iter().map(|text| (*text).to_owned()).collect();
    (config.model.width, config.model.layers, config.model.feedforward) = (16, 1, 16);
    (config.objective.redrawn, config.objective.teacher_weight) = (0.0, 0.0);
    (config.optimiser.epochs, config.optimiser.batch_trials) = (2, 8);
    let sessions = std::slice::from_ref(session);
    let data = Dataset::selected(sessions, 20.0, &config.readouts.wanted(), &Selection::of(&config)).unwrap();
    let fit = training::fit(&data, &config, None, &mut training::unwatched).unwrap();
    (export::bundle(&fit, &data, &config, Training::of_nothing("a test")).unwrap(), data.notes)
}

/// Fits the behaviour, and checks that the trainer's score is the one that is heard from a daemon; returns the names and units of what was
/// heard.
fn heard(session: &Session, behavior: &[&str]) -> (Bundle, Vec<String>, Vec<String>) {
    let (bundle, notes) = fitted(session, behavior);
    let scored = evaluate(&bundle, session, "val").unwrap().readouts[0].mean.unwrap();
    let (_, summary) = rig::heard(&bundle, session, Box::new(Native::new(&bundle))).unwrap();
    let heard = summary.velocity_r2_mean.unwrap();
    assert!((heard - scored).abs() < 1e-4, "heard {heard}, evaluated {scored}: {summary}");
    let named = summary.outputs.iter().map(|(name, unit)| format!("{name} {unit}")).collect();
    println!("{summary}");
    // The description on the wire says the same.
    let Description::Estimates { outputs, .. } = Description::of_estimates(&bundle, "native") else {
        panic!()
    };
    let described: Vec<String> = outputs.into_iter().map(|it| format!("{} {}", it.name, it.unit)).collect();
    assert_eq!(named, described);
    (bundle, named, notes)
}

#[test]
fn positions_alone_give_a_velocity_and_a_note_says_how() {
    let folder = tempfile::tempdir().unwrap();
    let session = recorded(folder.path(), ["Position", "cursor", "cm", "1", "2"]);
    let (bundle, named, notes) = heard(&session, &[]);
    assert_eq!(bundle.manifest.readouts[0].series, "velocity(cursor)");
    assert_eq!(named, ["vx m/s", "vy m/s"]);
    assert!(
        notes.iter().any(|note| note.contains("Gaussian of 20 ms") && note.contains("not causal")),
        "{notes:?}"
    );
}

#[test]
fn fingers_in_a_module_of_their_own_are_four_outputs_in_their_unit() {
    let folder = tempfile::tempdir().unwrap();
    let session = recorded(folder.path(), ["fingers", "finger_vel", "rad/s", "1", "4"]);
    let (bundle, named, _) = heard(&session, &[]);
    assert_eq!(bundle.manifest.readouts[0].series, "finger_vel");
    assert_eq!(named[3], "finger_vel[3] rad/s");
    let (_, two, _) = heard(&session, &["finger_vel[x,3]"]);
    assert_eq!(two, ["finger_vel[0] rad/s", "finger_vel[3] rad/s"]);
}

#[test]
fn twelve_muscles_of_an_acquisition_are_twelve_outputs_in_millivolts() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = recorded(folder.path(), ["acquisition", "EMG", "mV", "0.001", "12"]);
    // One electrode is broken.
    session.behavior[0].data.iter_mut().skip(11).step_by(12).for_each(|value| *value = 3.0);
    let (bundle, named, notes) = heard(&session, &[]);
    assert_eq!((bundle.manifest.readouts[0].dims, named.len()), (12, 12));
    assert_eq!((named[0].as_str(), named[11].as_str()), ("EMG[0] mV", "EMG[11] mV"));
    assert!(
        notes.iter().any(|note| note.starts_with("component 12 of 12 of EMG never changes")),
        "{notes:?}"
    );
    let r2 = evaluate(&bundle, &session, "val").unwrap().readouts[0].r2.clone().unwrap();
    assert!(r2[11].is_nan() && r2[..11].iter().all(|r2| r2.is_finite()), "{r2:?}");
}

#[test]
fn a_velocity_in_centimetres_is_decoded_in_metres_with_a_force_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = recorded(folder.path(), ["kinematics", "velocity", "cm/s", "1", "2"]);
    assert_eq!((session.behavior[0].unit.as_str(), session.behavior[0].dims), ("m/s", 2));
    let velocity = session.behavior[0].clone();
    let force = Series { name: "grip".to_owned(), unit: "N".to_owned(), ..velocity };
    session.behavior.push(force);
    assert_eq!(heard(&session, &[]).1, ["vx m/s", "vy m/s"]);
    let (bundle, named, _) = heard(&session, &["velocity", "grip[1]"]);
    assert_eq!(named, ["velocity[0] m/s", "velocity[1] m/s", "grip[1] N"]);
    assert_eq!(bundle.manifest.readouts[0].unit, "m/s, m/s, N");
}

#[test]
fn what_is_not_there_is_answered_with_what_is_and_the_commands_agree() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.nwb");
    recorded(folder.path(), ["fingers", "finger_vel", "rad/s", "1", "4"]);
    std::fs::write(folder.path().join("small.toml"), format!("{SMALL_FIT}epochs = 2\n")).unwrap();
    let run = |line: &str| {
        let (name, arguments) = line.split_once(' ').unwrap();
        let ended =
            Command::new(program(name)).args(arguments.split(' ')).current_dir(&folder).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (ended.status.success(), text(&ended.stdout), text(&ended.stderr))
    };
    assert!(path.exists());
    let fit = "ndt-train fit --data session.nwb --config small.toml";
    let (is_done, _, said) = run(&format!("{fit} --behavior fingers --out model"));
    let expected = "expected a behaviour series fingers, found hand_pos (columns 0 to 1), hand_vel (columns 0 to 1), \
                    finger_vel (columns 0 to 3)";
    assert!(!is_done && said.contains(expected), "{said}");
    let (is_done, _, said) = run(&format!("{fit} --behavior finger_vel[0,2] --out model"));
    assert!(is_done, "{said}");
    let (is_done, report, said) = run("ndt-train evaluate --bundle model --data session.nwb");
    assert!(
        is_done && report.contains("finger_vel[0,2] R2") && report.contains("in rad/s"),
        "{report} {said}"
    );
    let finetune = "ndt-train finetune --bundle model --data session.nwb --epochs 0 --out tomorrow";
    let (is_done, _, said) = run(finetune);
    assert!(is_done, "{said}");
    let readouts = Bundle::read(&folder.path().join("tomorrow")).unwrap().manifest.readouts;
    assert!(readouts.iter().all(|readout| readout.series == "finger_vel[0,2]"), "{readouts:?}");
    let baselines = "ndt-train baselines --data session.nwb --only wiener --units held-in --behavior finger_vel --out linear";
    let (is_done, report, said) = run(baselines);
    assert!(is_done && report.contains("each column / mean"), "{report} {said}");
    let readouts = Bundle::read(&folder.path().join("linear/wiener-heldin")).unwrap().manifest.readouts;
    assert_eq!((readouts[0].series.as_str(), readouts[0].unit.as_str()), ("finger_vel", "rad/s"));
}
