//! The programs of "From your own recording" that take a decoded session and a recording in bins elsewhere.

use crate::pages::saved_from;
use ndt_replay::nwb;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_tests::{SMALL_FIT, program, python};
use std::path::Path;
use std::process::Command;

const PAGE: &str = "trainer/docs/your-own-recording.md";

/// What a command prints, which must succeed.
fn printed(command: &mut Command, folder: &Path) -> String {
    let output = command.current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn train(folder: &Path, arguments: &str) -> String {
    printed(Command::new(program("ndt-train")).args(arguments.split(' ')), folder)
}

#[test]
fn a_decoded_session_and_a_recording_in_bins_are_read_as_the_page_says() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let session = simulate(&Recipe { trials: 24, units: 12, heldout: 4, seed: 5 });
    nwb::write(&session, &folder.join("session.nwb")).unwrap();
    std::fs::write(folder.join("small.toml"), format!("{SMALL_FIT}epochs = 1\n")).unwrap();
    train(folder, "fit --data session.nwb --config small.toml --out model");
    train(folder, "decode --bundle model --data session.nwb --out decoded.nwb");
    train(folder, "tensors --data session.nwb --out session.npz");
    let read = |name: &str| {
        let program = saved_from(PAGE, name, folder);
        printed(Command::new(python()).arg(program), folder)
    };
    let said = read("read_decoded.py");
    assert!(said.contains(" good bins of test, 12 units, R2 "), "{said}");
    let said = read("read_tensors.py");
    assert!(said.contains(" bins to fit, ") && said.contains(" units shown, behavior in m/s"), "{said}");
}
