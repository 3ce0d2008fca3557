//! `ndtd.service` under a real systemd: ready, reload, watchdog, crash, refusal, upgrade, several instances. The machine is Debian in
//! namespaces of its own ([`machine`]); tests/need-packages installs what makes it, and without root these tests are skipped.

mod machine;
mod rig;
mod thread;

use machine::{Machine, wait_for};
use ndt_protocol::Quality;
use ndt_protocol::bundle::manifest::Architecture;
use ndt_tests::{Positions, Shape, manifest, program, random_weights, workspace};
use rig::{Rig, Subscriber};
use thread::{Thread, status_kb};

const CHANNELS: usize = 96;

/// The section of a configuration that asks for all that the unit grants.
const REALTIME: &str = "[realtime]\npriority = 60\nlock-memory = true\n";

/// A model of the default size.
fn install_model(machine: &Machine, folder: &str) {
    let architecture = Architecture {
        width: 64,
        layers: 4,
        heads: 2,
        feedforward: 128,
        window_bins: 20,
        positions: Positions::LagBias,
    };
    let manifest = manifest(Shape { channels: CHANNELS, units: CHANNELS, dims: 2, architecture });
    let weights = random_weights(&manifest, 3);
    let bundle = ndt_trainer::export::from_weights(manifest, weights, &[0.3; CHANNELS]).unwrap();
    std::fs::create_dir_all(machine.path(folder)).unwrap();
    bundle.write(&machine.path(folder).join("model.ndt")).unwrap();
}

fn configuration(name: &str, more: &str) -> String {
    // A deadline that a busy machine does not miss.
    format!(
        "bundle = \"/var/lib/{name}/model.ndt\"\ninput = \"bind:ipc:///run/{name}/bins\"\n\
         output = \"ipc:///run/{name}/estimates\"\ndeadline-ms = 500.0\nmax-age-ms = 1000.0\n{more}\n{REALTIME}"
    )
}

/// The lines of a unit that systemd reads.
fn settings(unit: &str) -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join("daemon").join(unit)).unwrap();
    let is_read = |line: &&str| !line.is_empty() && !line.starts_with('#');
    text.lines().filter(is_read).map(str::to_owned).collect()
}

#[test]
fn an_instance_has_every_setting_of_the_one_daemon() {
    let of_instance = |line: String| {
        let (key, value) = line.split_once('=').unwrap_or((&line, ""));
        match key {
            "Description" => format!("{line} %i"),
            "ExecStart" => line.replace("ndtd.toml", "%i.toml"),
            "StateDirectory" | "RuntimeDirectory" | "LogsDirectory" => format!("{key}={value}-%i"),
            _ => line,
        }
    };
    let expected: Vec<String> = settings("ndtd.service").into_iter().map(of_instance).collect();
    assert!(expected.len() > 20, "{expected:?}");
    assert_eq!(settings("ndtd@.service"), expected);
}

/// A machine on which ndtd is installed as the pages say; `None` where there can be no machine.
fn installed() -> Option<Machine> {
    let machine = Machine::start()?;
    machine.install("/usr/bin/ndtd", std::fs::read(program("ndtd")).unwrap(), 0o755);
    for unit in ["ndtd.service", "ndtd@.service"] {
        let text = std::fs::read(workspace().join("daemon").join(unit)).unwrap();
        machine.install(&format!("/etc/systemd/system/{unit}"), text, 0o644);
    }
    install_model(&machine, "/var/lib/ndtd");
    machine.install("/etc/ndtd/ndtd.toml", configuration("ndtd", ""), 0o644);
    machine.did(&["systemctl", "daemon-reload"]);
    Some(machine)
}

/// The same with a running daemon, a rig that sends and a subscriber that has heard it decode.
fn decoding() -> Option<(Machine, Rig, Subscriber)> {
    let machine = installed()?;
    machine.did(&["systemctl", "start", "ndtd"]);
    let subscriber = Subscriber::open(&machine.path("/run/ndtd/estimates"));
    let rig = Rig::start(&machine.path("/run/ndtd/bins"), (0..CHANNELS as i64).collect());
    let mut running = (machine, rig, subscriber);
    running.2.wait_for(Quality::Good, 25);
    running.2.longest_silence_ms();
    Some(running)
}

/// Waits until the journal has a line with `text` in it.
fn wait_for_line(machine: &Machine, text: &str) {
    wait_for(text, || machine.journal("ndtd").contains(text).then_some(()));
}

fn print_journal(machine: &Machine) {
    println!("{}", machine.journal("ndtd"));
}

#[test]
fn it_is_ready_when_it_decodes_with_real_time_threads_and_little_locked_memory() {
    let Some((machine, _rig, mut subscriber)) = decoding() else { return };
    assert_eq!(machine.property("ndtd", "ActiveState"), "active");
    wait_for("the line of counters", || {
        machine.property("ndtd", "StatusText").starts_with("bins ").then_some(())
    });
    let process = machine.main_process("ndtd");
    let threads = ["ndt-publish", "ndt-source", "ndt-decode"].map(|name| Thread::of(process, name));
    assert_eq!(threads.each_ref().map(Thread::priority), [60, 59, 58]);
    let before = threads.each_ref().map(Thread::page_faults);
    subscriber.wait_for(Quality::Good, 250);
    let after = threads.each_ref().map(Thread::page_faults);
    let locked_mb = status_kb(process, "VmLck") as f64 / 1024.0;
    println!("{}", machine.did(&["systemctl", "status", "--no-pager", "ndtd"]));
    println!("locked {locked_mb:.1} MB; page faults of the threads {before:?}, {after:?} 250 bins later");
    assert!((1.0..64.0).contains(&locked_mb), "{locked_mb} MB of memory locked");
    assert_eq!(before, after, "a page fault in a loop");
    machine.did(&["systemctl", "stop", "ndtd"]);
    assert_eq!(machine.property("ndtd", "Result"), "success");
    wait_for_line(&machine, "stopped; bins ");
    print_journal(&machine);
}

#[test]
fn little_of_the_system_is_exposed_to_it() {
    let Some(machine) = installed() else { return };
    for unit in ["ndtd.service", "ndtd@left.service"] {
        let said = machine.did(&["systemd-analyze", "security", "--no-pager", unit]);
        println!("{said}");
        let exposure =
            said.lines().find_map(|line| line.split_once("exposure level for")?.1.split_once(": "));
        let exposure: f64 = exposure.unwrap().1.split_whitespace().next().unwrap().parse().unwrap();
        assert!(exposure <= 2.5, "{unit}: {exposure}");
    }
}

#[test]
fn a_reload_applies_the_level_of_the_log_and_says_what_takes_a_restart() {
    let Some((machine, _rig, mut subscriber)) = decoding() else { return };
    let process = machine.property("ndtd", "MainPID");
    let reload = |text: &str| {
        machine.install("/etc/ndtd/ndtd.toml", text, 0o644);
        machine.did(&["systemctl", "reload", "ndtd"]);
    };
    reload(&configuration("ndtd", "keep-warm-ms = 3\nlog = \"debug\""));
    wait_for_line(&machine, "SIGHUP: log = \"debug\" from now on");
    wait_for_line(&machine, "SIGHUP: keep-warm-ms has changed, which takes a restart");
    reload("keep-warm-ms = -3\n");
    wait_for_line(&machine, "SIGHUP: the configuration is refused, nothing is changed: ");
    subscriber.wait_for(Quality::Good, 25);
    wait_for("the reload to be over", || (machine.property("ndtd", "ActiveState") == "active").then_some(()));
    assert_eq!(machine.property("ndtd", "MainPID"), process);
    print_journal(&machine);
}

#[test]
fn what_is_refused_is_not_started_again() {
    let Some(machine) = installed() else { return };
    let refused = configuration("ndtd", "").replace("model.ndt", "none.ndt");
    machine.install("/etc/ndtd/ndtd.toml", refused, 0o644);
    assert!(!machine.run(&["systemctl", "start", "ndtd"]).status.success());
    print_journal(&machine);
    let of = |name| machine.property("ndtd", name);
    let found = ["ActiveState", "ExecMainStatus", "NRestarts"].map(of);
    assert_eq!(found, ["failed", "78", "0"]);
}

#[test]
fn a_daemon_that_is_killed_comes_back_to_its_rig_and_its_subscriber() {
    let Some((machine, _rig, mut subscriber)) = decoding() else { return };
    machine.did(&["systemctl", "kill", "--signal=KILL", "ndtd"]);
    subscriber.wait_through_silence();
    wait_for("a restart", || (machine.property("ndtd", "NRestarts") == "1").then_some(()));
    subscriber.wait_for(Quality::Good, 25);
    // The subscriber sees by its own clock that what it has is stale: nobody else can tell it.
    println!("{} ms without an estimate, by the subscriber's clock", subscriber.longest_silence_ms());
    print_journal(&machine);
}

#[test]
fn a_daemon_that_hangs_is_ended_by_the_watchdog_and_started_again() {
    let Some((machine, rig, mut subscriber)) = decoding() else { return };
    for (restarts, thread) in [("1", "ndt-decode"), ("2", "ndt-publish")] {
        Thread::of(machine.main_process("ndtd"), thread).hang();
        println!("{thread} hangs");
        if thread == "ndt-decode" {
            // Each bin is answered all the same.
            subscriber.wait_for(Quality::Late, 25);
        }
        subscriber.wait_through_silence();
        wait_for("a restart", || (machine.property("ndtd", "NRestarts") == restarts).then_some(()));
        subscriber.wait_for(Quality::Good, 25);
        println!("decodes again, after at most {} ms without an estimate", subscriber.longest_silence_ms());
    }
    machine.did(&["systemctl", "kill", "--signal=STOP", "ndtd"]);
    subscriber.wait_through_silence();
    wait_for("a restart", || (machine.property("ndtd", "NRestarts") == "3").then_some(()));
    subscriber.wait_for(Quality::Good, 25);
    let journal = machine.journal("ndtd");
    println!("{journal}");
    assert_eq!(journal.matches("Watchdog timeout").count(), 3);
    assert!(journal.contains("expected the decode thread to finish a step"), "{journal}");
    assert!(journal.contains("expected the publish thread to turn"), "{journal}");
    // A rig that is silent for longer than any patience of the watchdog ends nothing.
    drop(rig);
    subscriber.wait_for(Quality::Stale, 400);
    assert_eq!(machine.property("ndtd", "NRestarts"), "3");
}

#[test]
fn an_upgrade_takes_over_a_running_session() {
    let Some((machine, _rig, mut subscriber)) = decoding() else { return };
    let running = |what: &str| {
        let process = machine.main_process("ndtd");
        let file = std::fs::metadata(format!("/proc/{process}/exe")).unwrap();
        println!("{what}: process {}, {} bytes", machine.property("ndtd", "MainPID"), file.len());
        file.len()
    };
    let before = running("before");
    let mut next = std::fs::read(program("ndtd")).unwrap();
    next.extend_from_slice(b"another version");
    machine.install("/usr/bin/ndtd", next, 0o755);
    subscriber.wait_for(Quality::Good, 25);
    assert_eq!(running("installed"), before, "the running program is the one that was started");
    machine.did(&["systemctl", "restart", "ndtd"]);
    subscriber.wait_for(Quality::Good, 25);
    assert_eq!(running("restarted"), before + 15);
    println!("{} ms without an estimate", subscriber.longest_silence_ms());
    assert_eq!(machine.property("ndtd", "NRestarts"), "0");
}

#[test]
fn several_instances_run_side_by_side() {
    let Some(machine) = installed() else { return };
    for name in ["left", "right"] {
        install_model(&machine, &format!("/var/lib/ndtd-{name}"));
        let text = configuration(&format!("ndtd-{name}"), "");
        machine.install(&format!("/etc/ndtd/{name}.toml"), text, 0o644);
    }
    machine.did(&["systemctl", "start", "ndtd@left", "ndtd@right"]);
    let meet = |name: &str| {
        let at = |socket: &str| machine.path(&format!("/run/ndtd-{name}/{socket}"));
        let rig = Rig::start(&at("bins"), (0..CHANNELS as i64).collect());
        (rig, Subscriber::open(&at("estimates")))
    };
    let mut both = ["left", "right"].map(meet);
    both.iter_mut().for_each(|(_, subscriber)| subscriber.wait_for(Quality::Good, 25));
    // One that ends takes nothing from the other.
    machine.did(&["systemctl", "stop", "ndtd@left"]);
    both[1].1.wait_for(Quality::Good, 25);
    assert_eq!(machine.property("ndtd@right", "ActiveState"), "active");
}
