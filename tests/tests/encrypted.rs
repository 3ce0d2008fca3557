//! Encrypted connections with other people's programs: a rig and a viewer in pyzmq with keys that `ndtd keygen` made, and a stranger.

use ndt_protocol::zeromq::Library;
use ndt_tests::lsl::{Running, Session, bundle, script};
use ndt_tests::{free_address, program};
use std::process::Command;

const CHANNELS: usize = 12;
const BINS: u64 = 200;

#[test]
fn pyzmq_speaks_to_the_daemon_with_permitted_keys_and_a_stranger_gets_nothing() {
    if !Library::load(None).unwrap().has_curve() {
        println!("skipped: this libzmq has no encryption");
        return;
    }
    let session = Session::new();
    let at = |name: &str| session.folder().join(name);
    for name in ["ndtd", "rig", "viewer", "stranger"] {
        let made = Command::new(program("ndtd")).arg("keygen").arg(at(name)).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let again = Command::new(program("ndtd")).arg("keygen").arg(at(name)).output().unwrap();
        let said = String::from_utf8(again.stderr).unwrap();
        assert!(!again.status.success() && said.contains("keys are not overwritten"), "{said}");
    }
    std::fs::create_dir(at("permitted")).unwrap();
    std::fs::copy(at("viewer.key"), at("permitted/viewer.key")).unwrap();
    bundle((0..CHANNELS as i64).collect()).write(&at("model")).unwrap();
    let (input, output) = (free_address(), free_address());
    let text = format!(
        "bundle = {:?}\ninput = \"{input}\"\noutput = \"{output}\"\ndeadline-ms = 5000.0\nstale-after-bins = 200\n\
         [zeromq]\nsecret-key = {:?}\npermitted-keys = {:?}\nserver-key = {:?}\n",
        at("model"),
        at("ndtd.key_secret"),
        at("permitted"),
        at("rig.key"),
    );
    std::fs::write(at("ndtd.toml"), text).unwrap();
    let mut command = session.command(program("ndtd"));
    let mut daemon = Running::start(command.args(["run", "--config"]).arg(at("ndtd.toml")));
    daemon.wait_for("estimates on");
    let folder = session.folder().display().to_string();
    let arguments = [&folder, &input, &output, &CHANNELS.to_string(), &BINS.to_string()];
    let mut peers = script(&session, "encrypted.py", &arguments.map(String::as_str));
    let heard = ndt_tests::lsl::json(&mut peers);
    assert_eq!(heard, serde_json::json!({"estimates": BINS, "read": BINS, "to the stranger": 0}));
    let warning = daemon.wait_for("peers turned away");
    let stranger = std::fs::read_to_string(at("stranger.key")).unwrap();
    let key = stranger.split('"').nth(1).unwrap();
    assert!(
        warning.contains(&format!("with the key {key}: a key that is not in permitted-keys")),
        "{warning}"
    );
}
