//! The programs of `daemon/docs/connect-your-rig.md`, written to files and run as they stand in the page.

use crate::pages::saved_from;
use crate::{model_of, output};
use ndt_daemon::engine::native::Native;
use ndt_daemon::engine::{Engine, Input, Output};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::precision::Precision;
use ndt_tests::lsl::{Running, Session, daemon};
use ndt_tests::{free_address, python};
use std::path::PathBuf;

/// Channels of the page's rigs: their ids are 1 to 96.
const CHANNELS: u64 = 96;

/// Bins that one estimate of the test's model depends on: 2 layers with a window of 8.
const REACH: usize = 2 * (8 - 1) + 1;

/// Bin periods without a bin after which the daemon calls the source stale: more than a busy machine leaves between two bins.
const STALE_AFTER_BINS: u64 = 25;

/// Estimates in a row whose velocities are compared.
const COMPARED: usize = 15;

/// Largest difference of a velocity that was computed by another kernel and printed as text, m/s.
const TOLERANCE: f32 = 1e-4;

/// One line of a reader: number of the bin, quality and velocity.
#[derive(Debug)]
struct Line {
    seq: u64,
    quality: String,
    velocity: Vec<f32>,
}

/// Writes a program of the page to a file in the session's folder.
fn saved(session: &Session, name: &str) -> PathBuf {
    let path = saved_from("daemon/docs/connect-your-rig.md", name, session.folder());
    let lines = std::fs::read_to_string(&path).unwrap().lines().count();
    assert!(lines <= 30, "{name} has {lines} lines");
    path
}

fn started(session: &Session, program: &PathBuf, arguments: &[&str]) -> Running {
    Running::start(session.command(python()).arg(program).args(arguments))
}

fn next(reader: &mut Running) -> Line {
    let line = reader.wait_for(" ");
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("expected an estimate, found {line}"));
    let (seq, quality) = (word().parse().unwrap_or_else(|_| panic!("{line}")), word().to_owned());
    Line { seq, quality, velocity: words.map(|word| word.parse().unwrap()).collect() }
}

/// Reads until so many estimates in a row are good, and returns these.
fn good_in_a_row(reader: &mut Running, count: usize) -> Vec<Line> {
    let mut row: Vec<Line> = Vec::new();
    while row.len() < count {
        let line = next(reader);
        let goes_on = row.last().is_none_or(|last| line.seq == last.seq + 1);
        if line.quality != "good" || !goes_on {
            row.clear();
        }
        if line.quality == "good" {
            row.push(line);
        }
    }
    row
}

/// Velocity that the model computes for bin `seq` of the page's rigs, of which one channel after another spikes once.
fn velocity(bundle: &Bundle, seq: u64) -> Vec<f32> {
    let mut engine = Native::with(bundle, ndt_tests::instruction_sets().next().unwrap(), Precision::F32);
    let mut output = Output::for_bundle(bundle);
    for bin in seq + 1 - REACH as u64..=seq {
        let counts: Vec<f32> =
            (0..CHANNELS).map(|channel| f32::from(u8::from(channel == bin % CHANNELS))).collect();
        engine.step(Input { counts: &counts, missing: false }, &mut output).unwrap();
    }
    output.velocity
}

fn agrees(bundle: &Bundle, line: &Line, seq: u64) -> bool {
    let expected = velocity(bundle, seq);
    let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE;
    expected.len() == line.velocity.len() && expected.iter().zip(&line.velocity).all(is_near)
}

/// Bins between the rig's numbers and the daemon's: over ZeroMQ the rig sends its numbers, over Lab Streaming Layer the daemon
/// counts from the first sample that it receives.
fn offset(bundle: &Bundle, lines: &[Line]) -> Option<u64> {
    // Estimates whose whole reach was good are known to have had every bin.
    let lines = &lines[REACH..];
    let are_of = |ahead: u64| lines.iter().all(|line| agrees(bundle, line, line.seq + ahead));
    assert!(!(are_of(0) && are_of(1)), "expected another velocity for another bin");
    // Whoever is further ahead has received nothing for a second and a half.
    (0..CHANNELS - 10).find(|ahead| are_of(*ahead))
}

/// Runs a rig, stops it without a farewell, and starts it again; the reader sees good estimates of its bins before and after.
fn stopped_and_started_again(
    mut reader: Running,
    bundle: &Bundle,
    rig: impl Fn() -> Running,
) -> [Option<u64>; 2] {
    let first = rig();
    let before = good_in_a_row(&mut reader, REACH + COMPARED);
    drop(first);
    let stale = std::iter::repeat_with(|| next(&mut reader)).take_while(|line| line.quality != "stale");
    let after_its_end = stale.count();
    println!("{after_its_end} estimates between the end of the rig and the first stale one");
    let _second = rig();
    let after = std::iter::repeat_with(|| next(&mut reader)).find(|line| line.quality == "warmup").unwrap();
    println!("bin {} is the first of the second run", after.seq);
    let after = good_in_a_row(&mut reader, REACH + COMPARED);
    [offset(bundle, &before), offset(bundle, &after)]
}

#[test]
fn the_pages_rig_and_reader_over_zeromq_work_as_they_stand_and_after_a_restart() {
    let session = Session::new();
    let (path, bundle) = model_of(&session, (1..=CHANNELS as i64).collect());
    let input = free_address();
    let endpoints = ["--input", &input, "--output", "tcp://127.0.0.1:0", "--precision", "f32"];
    let daemon = daemon(&session, &path, STALE_AFTER_BINS, &endpoints);
    let reader = started(&session, &saved(&session, "zmq_reader.py"), &[&output(&daemon)]);
    let rig = saved(&session, "zmq_rig.py");
    let offsets = stopped_and_started_again(reader, &bundle, || started(&session, &rig, &[&input]));
    assert_eq!(offsets, [Some(0), Some(0)], "the rig's numbers are the daemon's");
}

#[test]
fn the_pages_rig_and_reader_over_lab_streaming_layer_work_as_they_stand_and_after_a_restart() {
    over_lab_streaming_layer(|program| program);
}

#[test]
fn the_pages_rig_over_lab_streaming_layer_is_taken_back_without_a_source_id() {
    over_lab_streaming_layer(|program| {
        let without = program.replace(", \"rig-of-room-3\")", ")");
        assert_ne!(without, program, "expected the page's source id");
        without
    });
}

fn over_lab_streaming_layer(changed: impl Fn(String) -> String) {
    let session = Session::new();
    let (path, bundle) = model_of(&session, (1..=CHANNELS as i64).collect());
    let endpoints = ["--input", "lsl:rig", "--output", "lsl:arm", "--precision", "f32"];
    let daemon = daemon(&session, &path, STALE_AFTER_BINS, &endpoints);
    let reader = started(&session, &saved(&session, "lsl_reader.py"), &[]);
    let rig = saved(&session, "lsl_rig.py");
    std::fs::write(&rig, changed(std::fs::read_to_string(&rig).unwrap())).unwrap();
    let offsets = stopped_and_started_again(reader, &bundle, || started(&session, &rig, &[]));
    assert!(offsets.iter().all(Option::is_some), "expected the velocities of the rig's bins, found others");
    drop(daemon);
}
