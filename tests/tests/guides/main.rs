//! The guides of `daemon/docs` and `trainer/docs`: the programs that they show are run against a daemon, and what the
//! [`pages`] say can be followed. What a reader can choose is [`named`] where he looks for it.

mod connect;
mod elsewhere;
mod graphs;
mod model;
mod named;
mod pages;

use ndt_protocol::Bundle;
use ndt_tests::lsl::{Running, Session, bundle, daemon, script, usual_ids};
use ndt_tests::{free_address, workspace};
use std::path::PathBuf;
use std::process::Command;

/// Silent bins that the daemon waits for: more than any rig of these tests is late on a busy machine.
const NEVER_STALE: u64 = 200;

/// A bundle folder of random weights in the session's folder.
fn model(session: &Session) -> PathBuf {
    model_of(session, usual_ids()).0
}

/// The same with these channels, and the bundle itself.
fn model_of(session: &Session, channel_ids: Vec<i64>) -> (PathBuf, Bundle) {
    let folder = session.folder().join("model");
    let bundle = bundle(channel_ids);
    bundle.write(&folder).unwrap();
    (folder, bundle)
}

/// The daemon's last output: the address as bound.
fn output(daemon: &Running) -> String {
    daemon
        .heard()
        .last()
        .unwrap()
        .rsplit_once("estimates on ")
        .unwrap()
        .1
        .rsplit(" and ")
        .next()
        .unwrap()
        .to_owned()
}

/// The line with the number of estimates of each quality.
fn qualities(reader: &mut Running) -> String {
    let line = reader.wait_for("good ");
    assert!(reader.end(), "{:#?}", reader.heard());
    line
}

#[test]
fn the_rig_and_the_reader_of_the_first_session_meet_a_daemon() {
    let session = Session::new();
    let model = model(&session);
    let input = free_address();
    let daemon = daemon(&session, &model, NEVER_STALE, &["--input", &input, "--output", "tcp://127.0.0.1:0"]);
    let output = output(&daemon);
    let mut reader = script(&session, "read_estimates.py", &[&output, "--count", "100"]);
    let c = c_reader(&session).map(|reader| Running::start(Command::new(reader).args([&output, "100"])));
    let mut rig =
        script(&session, "first_rig.py", &[&input, "--bundle", model.to_str().unwrap(), "--seconds", "10"]);
    // Whoever comes later than the first bins misses their warm-up.
    assert!(qualities(&mut reader).ends_with("gap 0 late 0 stale 0 fault 0"));
    if let Some(mut c) = c {
        assert!(qualities(&mut c).ends_with("gap 0 late 0 stale 0 fault 0"));
    }
    assert!(rig.end(), "{:#?}", rig.heard());
}

#[test]
fn no_bin_of_the_first_rig_is_decoded_in_another_order_of_channels() {
    let session = Session::new();
    let model = model(&session);
    let other = session.folder().join("other");
    bundle(usual_ids().into_iter().rev().collect()).write(&other).unwrap();
    let input = free_address();
    let mut daemon =
        daemon(&session, &model, NEVER_STALE, &["--input", &input, "--output", "tcp://127.0.0.1:0"]);
    let mut rig =
        script(&session, "first_rig.py", &[&input, "--bundle", other.to_str().unwrap(), "--seconds", "2"]);
    assert!(rig.end(), "{:#?}", rig.heard());
    daemon.wait_for("expected the bundle's channel ids in the bundle's order, found");
    daemon.signal(15);
    assert!(daemon.end());
    let summary = daemon.heard().last().unwrap();
    assert!(summary.contains("bins 0, estimates 0, refused"), "{summary}");
}

#[test]
fn the_rig_of_the_first_session_over_lab_streaming_layer_meets_a_daemon() {
    let session = Session::new();
    let model = model(&session);
    let endpoints = ["--input", "lsl:rig", "--output", "lsl:arm", "--output", "tcp://127.0.0.1:0"];
    let daemon = daemon(&session, &model, NEVER_STALE, &endpoints);
    let mut reader = script(&session, "read_estimates.py", &[&output(&daemon), "--count", "100"]);
    let mut rig =
        script(&session, "first_lsl_rig.py", &["rig", "--bundle", model.to_str().unwrap(), "--seconds", "4"]);
    assert!(qualities(&mut reader).ends_with("gap 0 late 0 stale 0 fault 0"));
    assert!(rig.end(), "{:#?}", rig.heard());
}

/// The reader in C, compiled; `None`, with a line that says so, where libzmq's header is missing.
fn c_reader(session: &Session) -> Option<PathBuf> {
    let is_there = Command::new("pkg-config").args(["--exists", "libzmq"]).status();
    if !is_there.is_ok_and(|status| status.success()) {
        println!("skipped: this machine has no header of libzmq; tests/need-packages says how to get it");
        return None;
    }
    let program = session.folder().join("read_estimates");
    let source = workspace().join("tests/c/read_estimates.c");
    let compiled = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror"])
        .arg(source)
        .args(["-lzmq", "-o"])
        .arg(&program)
        .status();
    assert!(compiled.unwrap().success());
    Some(program)
}
