//! The exit status of `ndtd run` says whether it is worth starting again: `ndtd.service` goes by it.

use ndt_tests::lsl::{Session, bundle, usual_ids, written};
use ndt_tests::{free_address, program};
use std::net::TcpListener;

/// The exit status of `ndtd run` with these options, and what it said.
fn run(options: &[&str]) -> (Option<i32>, String) {
    let session = Session::new();
    let model = written(&session, &bundle(usual_ids()));
    let mut command = session.command(program("ndtd"));
    command.arg("run").args(["--bundle", model.to_str().unwrap()]).args(options);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_configuration_or_a_bundle_that_is_refused_is_told_from_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let unreadable = file("unreadable.toml", "deadline-ms = soon");
    let unfit = file("unfit.toml", "mask-channels = [-1]");
    let no_model = file("no.ndt", "no model");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", taken.local_addr().unwrap());
    let free = free_address();
    let cases: [(&[&str], i32, &str); 7] = [
        (&["--no-such-option"], 2, "unexpected argument"),
        (&["--config", &unreadable], 78, "in line 1"),
        (&["--config", "/no/such/file.toml"], 78, "/no/such/file.toml"),
        (&["--config", &unfit, "--output", &free], 78, "mask-channels"),
        (&["--fallback-bundle", &no_model, "--output", &free], 78, "no.ndt"),
        (&["--log", "loud"], 78, "loud"),
        (&["--output", &taken], 1, "expected to bind"),
    ];
    for (options, expected, said) in cases {
        let (status, text) = run(options);
        assert_eq!(status, Some(expected), "{options:?}: {text}");
        assert!(text.contains(said), "{options:?}: {text}");
    }
}
