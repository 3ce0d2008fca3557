//! `ndtd check --config` says all that would keep `ndtd run` from starting as configured; and the programs say who they are.

use ndt_tests::lsl::{Running, Session, bundle, usual_ids, written};
use ndt_tests::{free_address, linear, program};
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

/// Writes a configuration, and returns what `check --config` finds: whether it succeeds, and the problems.
fn checked(session: &Session, text: &str) -> (bool, Vec<String>) {
    let config = session.folder().join("ndtd.toml");
    std::fs::write(&config, text).unwrap();
    let mut command = session.command(program("ndtd"));
    let done = command.args(["check", "--json", "--config"]).arg(&config).output().unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    let report: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{stderr}"));
    let problems = report["problems"].as_array().unwrap();
    (done.status.success(), problems.iter().map(|problem| problem.as_str().unwrap().to_owned()).collect())
}

/// Expects these problems, each of which is known by a part of it, and no others.
fn expect(found: &[String], expected: &[&str]) {
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for part in expected {
        assert!(found.iter().any(|problem| problem.contains(part)), "{part} in {found:#?}");
    }
}

#[test]
fn a_configuration_that_run_can_start_with_has_no_problem_and_is_left_as_it_was() {
    let session = Session::new();
    let model = written(&session, &bundle(usual_ids()));
    let socket = session.folder().join("estimates");
    let text = format!(
        "bundle = {model:?}\ninput = \"{}\"\noutput = [\"{}\", \"ipc://{}\"]\n",
        free_address(),
        free_address(),
        socket.display()
    );
    assert_eq!(checked(&session, &text), (true, Vec::new()));
    assert!(socket.symlink_metadata().is_err(), "nothing is left of the socket that was tried");
    // It runs, and then holds its endpoints.
    let mut command = session.command(program("ndtd"));
    let mut daemon =
        Running::start(command.args(["run", "--config"]).arg(session.folder().join("ndtd.toml")));
    daemon.wait_for("estimates on");
    let (is_ready, problems) = checked(&session, &text);
    assert!(!is_ready);
    expect(&problems, &["expected to bind tcp://127.0.0.1:", "found a socket that another program uses"]);
    daemon.signal(15);
    assert!(daemon.end(), "{:#?}", daemon.heard());
}

#[test]
fn every_problem_of_a_configuration_is_told_at_once() {
    let session = Session::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", taken.local_addr().unwrap());
    let text = format!(
        "bundle = \"/nowhere/model\"\noutput = [\"{taken}\", \"lsl:arm\"]\nstale-after-bins = 0\nengine = \"onnx\"\n\
         onnxruntime-library = \"/nowhere/ort.so\"\n[realtime]\ncpus = [100000]\n[lsl]\nlibrary = \"/nowhere/lsl.so\"\n"
    );
    // The port is taken for as long as the listener lives.
    let (is_ready, problems) = checked(&session, &text);
    assert!(!is_ready);
    let libraries = ["expected ONNX Runtime in /nowhere/ort.so", "expected liblsl in /nowhere/lsl.so"];
    let others = ["bundle /nowhere/model", "stale-after-bins", "realtime.cpus", "expected to bind"];
    let expected: Vec<&str> = libraries.into_iter().chain(others).collect();
    expect(&problems, &expected);
}

#[test]
fn keys_that_cannot_be_read_are_told_together_with_the_problems_of_the_others() {
    let session = Session::new();
    let text = "engin = \"native\"\nstale-after-bins = 0\nbundle = \"/nowhere/model\"\n[realtime]\npriority = \"high\"\n\
                [ipc]\nmode = \"999\"\n";
    let (is_ready, problems) = checked(&session, text);
    assert!(!is_ready);
    let unread = ["unknown field `engin` in line 1", "expected i32 in line 5"];
    expect(&problems, &[unread[0], unread[1], "stale-after-bins", "mode in [ipc]", "bundle /nowhere/model"]);
}

#[test]
fn a_wrong_group_is_told_once_and_no_socket_is_left() {
    let session = Session::new();
    let model = written(&session, &bundle(usual_ids()));
    let socket = session.folder().join("estimates");
    let text = |group: &str| {
        format!(
            "bundle = {model:?}\noutput = \"ipc://{}\"\ninput = \"{}\"\n[ipc]\ngroup = \"{group}\"\n",
            socket.display(),
            free_address()
        )
    };
    let (_, problems) = checked(&session, &text("no-such-group"));
    expect(&problems, &["expected a group of this computer in [ipc], found \"no-such-group\""]);
    assert!(socket.symlink_metadata().is_err());
}

#[test]
fn more_masked_channels_than_the_share_allows_are_refused() {
    let session = Session::new();
    let model = written(&session, &bundle(usual_ids()));
    let text = |masked: usize, more: &str| {
        format!(
            "bundle = {model:?}\ninput = \"{}\"\noutput = \"{}\"\nmask-channels = {:?}\n{more}",
            free_address(),
            free_address(),
            &usual_ids()[..masked],
        )
    };
    assert_eq!(checked(&session, &text(6, "")), (true, Vec::new()));
    let (is_ready, problems) = checked(&session, &text(7, ""));
    assert!(!is_ready);
    expect(
        &problems,
        &[
            "expected at most 6 of the bundle's 12 channels in mask-channels, because max-masked-share is 0.5, found 7",
        ],
    );
    assert_eq!(checked(&session, &text(7, "max-masked-share = 0.75\n")), (true, Vec::new()));
    let (_, problems) = checked(&session, &text(0, "max-masked-share = 50\n"));
    expect(&problems, &["expected max-masked-share from 0 to 1, found 50"]);
    // The doctor says what to change, which is not the bundle.
    std::fs::write(session.folder().join("ndtd.toml"), text(7, "")).unwrap();
    let mut doctor = session.command(program("ndtd"));
    let done = doctor.args(["doctor", "--json", "--config"]).arg(session.folder().join("ndtd.toml")).output();
    let report: Value = serde_json::from_slice(&done.unwrap().stdout).unwrap();
    let bundle = report["findings"].as_array().unwrap().iter().find(|finding| finding["name"] == "bundle");
    let mend = bundle.unwrap()["mend"].as_str().unwrap();
    assert!(mend.starts_with("change the key in ndtd.toml"), "{mend}");
}

#[test]
fn what_depends_on_the_bundle_is_checked_with_it() {
    let session = Session::new();
    let model = written(&session, &bundle(usual_ids()));
    let other = session.folder().join("linear.ndt");
    linear(3, 2, 4, 7).write(&other).unwrap();
    let occupied = session.folder().join("notes");
    std::fs::write(&occupied, "notes").unwrap();
    let text = format!(
        "bundle = {model:?}\nfallback-bundle = {other:?}\noutput = \"ipc://{}\"\nmask-channels = [7000]\n\
         engine = \"onnx\"\nonnxruntime-library = {model:?}\n",
        occupied.display()
    );
    let (is_ready, problems) = checked(&session, &text);
    assert!(!is_ready);
    expect(&problems, &["no socket, which was not touched", "channel 7000", "fallback bundle", "bundle "]);
    assert_eq!(std::fs::read(&occupied).unwrap(), b"notes");
    // Without the bundle, it is still seen that the fallback bundle is none.
    let (_, problems) = checked(&session, &format!("bundle = \"nowhere\"\nfallback-bundle = {occupied:?}\n"));
    expect(&problems, &["bundle nowhere", "fallback bundle"]);
}

#[test]
fn each_program_says_its_own_name_with_its_version() {
    for name in ["ndtd", "ndt-replay", "ndt-train"] {
        let done = Command::new(program(name)).arg("--version").output().unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        assert_eq!(said.trim(), format!("{name} {}", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn the_log_says_what_the_real_time_threads_were_granted() {
    let session = Session::new();
    let model = written(&session, &bundle(usual_ids()));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    let first = allowed.split([',', '-']).next().unwrap();
    let config = session.folder().join("ndtd.toml");
    let text = format!(
        "bundle = {model:?}\ninput = \"{}\"\noutput = \"{}\"\n[realtime]\npriority = 10\ncpus = [{first}]\n",
        free_address(),
        free_address()
    );
    std::fs::write(&config, text).unwrap();
    let mut daemon = Running::start(start(&session, &config).args(["--log", "info"]));
    let line = daemon.wait_for("memory not locked");
    // Whether this machine grants a priority is its affair; the log says which it is.
    let is_granted = !daemon.heard().iter().any(|line| line.contains("expected SCHED_FIFO priority"));
    let granted = match is_granted {
        true => format!(
            "ndt-publish: SCHED_FIFO priority 10 on CPUs {first}; ndt-decode: SCHED_FIFO priority 8 on CPUs {first}; ndt-source: SCHED_FIFO priority 9 on CPUs {first}"
        ),
        false => format!("ndt-publish, ndt-decode, ndt-source: normal scheduling on CPUs {first}"),
    };
    assert!(line.ends_with(&format!("{granted}; memory not locked")), "{:#?}", daemon.heard());
    daemon.wait_for("estimates on");
}

fn start(session: &Session, config: &Path) -> Command {
    let mut command = session.command(program("ndtd"));
    command.args(["run", "--config"]).arg(config);
    command
}
