//! What the command line refuses about streams before it opens one. These tests need no library.

use std::process::Command;

/// Runs the program, which must fail, and returns what it prints on standard error.
fn errors(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ndt-replay")).args(arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The last line that the program prints when it fails.
fn refusal(arguments: &[&str]) -> String {
    errors(arguments).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn what_a_stream_cannot_do_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (session, nowhere) = (path("session.nwb"), path("liblsl.so"));
    std::fs::write(&nowhere, b"no library").unwrap();
    let simulated = Command::new(env!("CARGO_BIN_EXE_ndt-replay"))
        .args(["simulate", "--out", &session, "--trials", "5", "--units", "8"])
        .output();
    assert!(simulated.unwrap().status.success());
    let play = |more: &[&str]| refusal(&[&["play", &session, "--bin-ms", "20"], more].concat());
    let plain = "ndt-replay: expected lsl:NAME without --faults and --speed, as a stream's stamps are a clock's, found others";
    for more in [&["--speed", "2"][..], &["--faults", "drop=1%"]] {
        assert_eq!(play(&[&["--to", "lsl:rig"], more].concat()), plain);
    }
    let found = errors(&["play", &session, "--bin-ms", "20", "--to", "lsl:type=x"]);
    assert!(found.contains("expected lsl:NAME to play to, found lsl:type=x"), "{found}");
    assert_eq!(
        play(&["--to", "tcp://127.0.0.1:1", "--behavior"]),
        "ndt-replay: expected a stream for --behavior, such as --to lsl:rig, found tcp://127.0.0.1:1"
    );
    let found = play(&["--to", "lsl:rig", "--lsl-library", &nowhere]);
    assert!(
        found.starts_with("ndt-replay: expected liblsl in ") && found.contains("pip install pylsl"),
        "{found}"
    );
    assert_eq!(
        refusal(&["listen", "lsl:arm", "--truth", &session]),
        "ndt-replay: expected --truth lsl:NAME for estimates of a stream, whose times are a clock's, found a file"
    );
    assert_eq!(
        refusal(&["listen", "tcp://127.0.0.1:1", "--truth", "lsl:rig"]),
        "ndt-replay: expected a recording in --truth for estimates of a socket, found a stream"
    );
    assert_eq!(
        refusal(&["listen", "lsl:arm", "--truth", "lsl:rig", "--picture", &path("reaches.svg")]),
        "ndt-replay: expected a recording in --truth and a socket for --picture, found streams"
    );
}
