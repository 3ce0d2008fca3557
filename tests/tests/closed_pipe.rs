//! Reports whose reader has closed the pipe, as `| head` does: the program ends as if all had been read.

use ndt_replay::nwb;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_tests::lsl::{bundle, usual_ids};
use ndt_tests::program;
use std::process::{Command, Stdio};

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    bundle(usual_ids()).write(path("model").as_ref()).unwrap();
    nwb::write(&simulate(&Recipe { trials: 5, units: 8, heldout: 0, seed: 2 }), path("session.nwb").as_ref())
        .unwrap();
    let commands: [(&str, Vec<String>); 5] = [
        ("ndtd", vec!["check".into(), "--bundle".into(), path("model")]),
        ("ndtd", vec!["doctor".into()]),
        (
            "ndtd",
            ["bench", "--steps", "3", "--bundle"]
                .map(str::to_owned)
                .into_iter()
                .chain([path("model")])
                .collect(),
        ),
        ("ndt-replay", vec!["inspect".into(), path("session.nwb")]),
        (
            "ndt-train",
            ["baselines", "--only", "wiener", "--bin-ms", "20", "--data"]
                .map(str::to_owned)
                .into_iter()
                .chain([path("session.nwb")])
                .collect(),
        ),
    ];
    for (name, words) in commands {
        let ended = |stdout: Stdio| {
            let done = Command::new(program(name)).args(&words).stdout(stdout).output().unwrap();
            (done.status.code(), String::from_utf8(done.stderr).unwrap())
        };
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(ended(writer.into()), ended(Stdio::piped()), "{name} {words:?}");
    }
}
