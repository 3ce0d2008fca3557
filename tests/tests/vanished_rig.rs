//! A rig that vanishes without a word, as when its cable is pulled and its computer started again: the daemon notices, and finds the rig
//! when it is back. The rig and the daemon run in network namespaces of their own, with a cable between them.

use ndt_tests::lsl::{Running, Session, bundle, usual_ids};
use ndt_tests::{program, python, workspace};
use std::path::Path;
use std::process::{Command, Stdio};

const RIG: &str = "10.231.7.1";
const DAEMON: &str = "10.231.7.2";
const SIGKILL: i32 = 9;

/// A network namespace, held by a process that does nothing.
struct Namespace {
    holder: Running,
    pid: String,
}

impl Namespace {
    /// `None` where the system makes none.
    fn new() -> Option<Namespace> {
        // Whether it can be made is tried first, because a holder that failed could only be waited for.
        let tried = Command::new("unshare").args(["--net", "true"]).stderr(Stdio::null()).status();
        if !tried.is_ok_and(|status| status.success()) {
            return None;
        }
        let mut holder = Running::start(Command::new("unshare").args([
            "--net",
            "sh",
            "-c",
            "echo \"held by $$\"; exec sleep infinity",
        ]));
        let pid = holder.wait_for("held by ").replace("held by ", "");
        Some(Namespace { holder, pid })
    }

    /// A program in this namespace.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.pid, "--"]).arg(program);
        command
    }

    /// `ip` in this namespace; whether it succeeded.
    fn ip(&self, arguments: &str) -> bool {
        let done = self.command("ip").args(arguments.split(' ')).stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success())
    }
}

/// Connects two namespaces by a cable; `false` where the system lets nobody.
fn connect(rig: &Namespace, daemon: &Namespace) -> bool {
    let cable = format!("link add cable netns {} type veth peer name cable netns {}", rig.pid, daemon.pid);
    let made = Command::new("ip").args(cable.split(' ')).stderr(Stdio::null()).status();
    made.is_ok_and(|status| status.success())
        && [(rig, RIG), (daemon, DAEMON)].into_iter().all(|(namespace, address)| {
            namespace.ip(&format!("address add {address}/24 dev cable"))
                && namespace.ip("link set cable up")
                && namespace.ip("link set lo up")
        })
}

fn start_rig(namespace: &Namespace, model: &Path) -> Running {
    let mut command = namespace.command(python());
    command.arg(workspace().join("tests/python/first_rig.py"));
    command.args([&format!("tcp://{RIG}:5570"), "--seconds", "600", "--bundle"]).arg(model);
    Running::start(&mut command)
}

#[test]
fn a_rig_whose_cable_is_pulled_is_missed_and_found_again() {
    let namespaces = (Namespace::new(), Namespace::new());
    let (Some(rig), Some(daemon)) = &namespaces else {
        println!("skipped: this system makes no network namespaces for this user");
        return;
    };
    if !connect(rig, daemon) {
        println!("skipped: this system has no ip, or makes no cable between network namespaces");
        return;
    }
    let session = Session::new();
    let model = session.folder().join("model");
    bundle(usual_ids()).write(&model).unwrap();
    let config = session.folder().join("ndtd.toml");
    let text = format!(
        "bundle = {model:?}\ninput = \"tcp://{RIG}:5570\"\noutput = \"tcp://127.0.0.1:0\"\n[zeromq]\nallow-unencrypted = true\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut run = daemon.command(program("ndtd"));
    let mut ndtd = Running::start(run.args(["run", "--config"]).arg(config));
    ndtd.wait_for("estimates on");
    let first = start_rig(rig, &model);
    ndtd.wait_for("channels, stream");
    // No word of the end of the first rig reaches the daemon.
    assert!(rig.ip("link set cable down"));
    first.signal(SIGKILL);
    drop(first);
    ndtd.wait_for("each bin period is answered as stale");
    assert!(rig.ip("link set cable up"));
    let _second = start_rig(rig, &model);
    ndtd.wait_for("the source is back");
    drop(ndtd);
    for namespace in [rig, daemon] {
        namespace.holder.signal(SIGKILL);
    }
}
