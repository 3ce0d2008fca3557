//! `ipc://` sockets of the daemon: what a killed daemon leaves is removed, what others use is not, and mode and group are as
//! configured.

use ndt_protocol::wire;
use ndt_replay::transport::zeromq::Receiver;
use ndt_tests::lsl::{Running, Session, bundle, usual_ids, written};
use ndt_tests::program;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A folder with a model and a configuration, in which daemons bind their input and their output.
struct Bench {
    session: Session,
    model: PathBuf,
}

impl Bench {
    fn new() -> Bench {
        let session = Session::new();
        let model = written(&session, &bundle(usual_ids()));
        Bench { session, model }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.session.folder().join(name)
    }

    fn start(&self, ipc: &str) -> Running {
        let config = self.path("ndtd.toml");
        let address = |name: &str| format!("ipc://{}", self.path(name).display());
        let text = format!(
            "bundle = {:?}\ninput = \"bind:{}\"\noutput = \"{}\"\n[ipc]\n{ipc}\n",
            self.model,
            address("bins"),
            address("estimates")
        );
        std::fs::write(&config, text).unwrap();
        let mut command = self.session.command(program("ndtd"));
        Running::start(command.args(["run", "--config"]).arg(config))
    }

    /// Expects that a daemon describes its estimates on the output.
    fn expect_answers(&self) {
        let address = format!("ipc://{}", self.path("estimates").display());
        let mut receiver = Receiver::open(&address.parse().unwrap()).unwrap();
        let message = receiver.receive(SOON).expect("a description within a minute");
        assert_eq!(message.frames[0], wire::TOPIC_DESCRIPTION);
    }

    /// Expects that a daemon does not start, and returns what it says.
    fn refusal(&self, ipc: &str) -> String {
        let mut daemon = self.start(ipc);
        assert!(!daemon.end(), "{:#?}", daemon.heard());
        daemon.heard().last().unwrap().clone()
    }
}

fn is_socket(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket())
}

#[test]
fn a_daemon_starts_again_however_the_one_before_it_ended() {
    let bench = Bench::new();
    for signal in [SIGKILL, SIGTERM, SIGKILL, SIGTERM, SIGTERM] {
        let mut daemon = bench.start("");
        daemon.wait_for("estimates on");
        bench.expect_answers();
        daemon.signal(signal);
        daemon.end();
        if signal == SIGKILL {
            assert!(is_socket(&bench.path("bins")) && is_socket(&bench.path("estimates")));
        }
    }
}

#[test]
fn a_socket_in_use_and_a_file_that_is_none_are_left_alone() {
    let bench = Bench::new();
    let mut daemon = bench.start("");
    daemon.wait_for("estimates on");
    let refusal = bench.refusal("");
    assert!(refusal.ends_with("found a socket that another program uses"), "{refusal}");
    bench.expect_answers();
    daemon.signal(SIGKILL);
    daemon.end();
    let notes = bench.path("estimates");
    std::fs::remove_file(&notes).unwrap();
    std::fs::write(&notes, "notes").unwrap();
    let refusal = bench.refusal("");
    assert!(refusal.ends_with("found something that is no socket, which was not touched"), "{refusal}");
    assert_eq!(std::fs::read(&notes).unwrap(), b"notes");
}

#[test]
fn mode_and_group_are_those_of_the_configuration() {
    let bench = Bench::new();
    let own = bench.session.folder().metadata().unwrap();
    // Root may give a file to any group, and others to their own.
    let group = if own.uid() == 0 { 1 } else { own.gid() };
    let with_group = format!("mode = \"666\"\ngroup = \"{group}\"");
    for (ipc, mode, group) in [("", 0o660, own.gid()), (with_group.as_str(), 0o666, group)] {
        let mut daemon = bench.start(ipc);
        daemon.wait_for("estimates on");
        for name in ["bins", "estimates"] {
            let found = bench.path(name).symlink_metadata().unwrap();
            assert_eq!((found.mode() & 0o777, found.gid()), (mode, group), "{name}");
        }
        daemon.signal(SIGTERM);
        assert!(daemon.end(), "{:#?}", daemon.heard());
    }
    let refusal = bench.refusal("mode = \"888\"\ngroup = \"no such group\"");
    assert!(refusal.contains("expected mode in [ipc]"), "{refusal}");
    assert!(refusal.contains("found \"no such group\""), "{refusal}");
}
