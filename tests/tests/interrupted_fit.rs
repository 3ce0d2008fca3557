//! A fit whose disk is full, whose terminal is closed, or whose user has pressed Ctrl-C: the result or a checkpoint is there, and
//! the message says where.

use ndt_protocol::Bundle;
use ndt_replay::nwb;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_tests::{SMALL_FIT, program};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::FromRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A folder with a recording and a configuration.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let session = simulate(&Recipe { trials: 24, units: 12, heldout: 4, seed: 5 });
    nwb::write(&session, &folder.path().join("session.nwb")).unwrap();
    std::fs::write(folder.path().join("small.toml"), format!("{SMALL_FIT}patience-epochs = 100000\n"))
        .unwrap();
    folder
}

/// A fit of so many epochs to `out`, in the folder.
fn fit(folder: &Path, out: &str, epochs: usize) -> Command {
    let mut command = Command::new(program("ndt-train"));
    command.args(["fit", "--data", "session.nwb", "--config", "small.toml", "--out", out]);
    command.args(["--epochs", &epochs.to_string(), "--no-baselines"]).current_dir(folder);
    command
}

/// Starts a fit and waits for its first epoch. Its further lines are read to the end by the returned reader.
fn started(mut command: Command) -> (Child, impl Read) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    wait_for_epoch(&mut said);
    (child, said)
}

fn wait_for_epoch(said: &mut impl BufRead) {
    let mut line = String::new();
    while !line.contains("epoch 1/") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the fit ended before its first epoch");
    }
}

fn signal(child: &Child, signal: libc::c_int) {
    // SAFETY: the process is a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
}

fn id(folder: &Path, bundle: &str) -> String {
    Bundle::read(&folder.join(bundle)).unwrap().manifest.id
}

#[test]
fn the_first_interrupt_leaves_a_checkpoint_and_the_second_ends_at_once() {
    let folder = folder();
    let mut command = fit(folder.path(), "model", 4000);
    // No checkpoint is due: the one that is there comes from the interrupt.
    command.args(["--checkpoint-epochs", "100000"]);
    let (mut child, mut rest) = started(command);
    signal(&child, libc::SIGINT);
    let mut said = String::new();
    rest.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    let last = said.lines().last().unwrap();
    let told = "; model.checkpoint holds the fit after epoch ";
    assert!(
        last.starts_with("ndt-train: expected to fit to the end, found it stopped after epoch "),
        "{said}"
    );
    assert!(
        last.contains(told) && last.ends_with(", and the same command with --resume goes on from it"),
        "{said}"
    );

    // The checkpoint is refused to a fit that would begin anew, and kept.
    let anew = fit(folder.path(), "model", 4000).output().unwrap();
    let error = String::from_utf8_lossy(&anew.stderr).into_owned();
    assert!(
        error.contains("found a checkpoint; --overwrite replaces it, --resume goes on from it"),
        "{error}"
    );
    let mut resumed = fit(folder.path(), "model", 4000);
    resumed.arg("--resume");
    let (child, _rest) = started_at_any(resumed);
    signal(&child, libc::SIGTERM);
    signal(&child, libc::SIGTERM);
    let status = child.wait_with_output().unwrap().status;
    // The second signal may come before the first one has been handled: then they are one.
    assert!(status.signal() == Some(libc::SIGTERM) || status.code() == Some(1), "{status}");
    assert!(folder.path().join("model.checkpoint/progress.toml").exists());
}

/// Starts a fit that does not begin with its first epoch, and waits for its first line about any.
fn started_at_any(mut command: Command) -> (Child, impl Read) {
    command.args(["--progress", "json"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"epoch\"") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the fit ended before its first epoch");
    }
    (child, said)
}

#[test]
fn separate_sessions_go_on_from_their_checkpoint_as_if_they_had_never_stopped() {
    let folder = folder();
    let other = simulate(&Recipe { trials: 20, units: 9, heldout: 3, seed: 8 });
    nwb::write(&other, &folder.path().join("other.nwb")).unwrap();
    let separate = |out: &str| {
        let mut command = fit(folder.path(), out, 40);
        command.args(["--data", "other.nwb"]);
        command
    };
    let ids = |out: &str| ["session", "other"].map(|name| id(folder.path(), &format!("{out}/{name}")));
    assert!(separate("whole").output().unwrap().status.success());
    let (mut child, mut rest) = started(separate("model"));
    signal(&child, libc::SIGINT);
    let mut said = String::new();
    rest.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("; model.checkpoint holds the fit after epoch "), "{said}");
    let anew = separate("model").output().unwrap();
    assert!(String::from_utf8_lossy(&anew.stderr).contains("--resume goes on from it"));
    let resumed = separate("model").arg("--resume").output().unwrap();
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    assert_eq!(ids("model"), ids("whole"));
    assert!(!folder.path().join("model.checkpoint").exists());
    let curve = Bundle::read(&folder.path().join("model/other")).unwrap().origin.record.unwrap().curve;
    assert!(curve.iter().map(|point| point.epoch).eq(1..=40), "the curve has every epoch once: {curve:?}");
}

#[test]
fn a_resumed_fit_has_the_id_of_an_uninterrupted_one() {
    let folder = folder();
    assert!(fit(folder.path(), "whole", 60).output().unwrap().status.success());
    let (mut child, mut rest) = started(fit(folder.path(), "model", 60));
    signal(&child, libc::SIGINT);
    let mut said = String::new();
    rest.read_to_string(&mut said).unwrap();
    // The fit may be over before the signal comes; then there is nothing to resume.
    if !child.wait().unwrap().success() {
        assert!(said.contains("--resume"), "{said}");
        let resumed = fit(folder.path(), "model", 60).arg("--resume").output().unwrap();
        assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    }
    assert_eq!(id(folder.path(), "model"), id(folder.path(), "whole"));
    assert!(!folder.path().join("model.checkpoint").exists());
}

/// A teacher's second generation learns from the first one's rates, which a checkpoint keeps.
#[test]
fn a_cut_in_the_second_generation_of_the_teacher_goes_on_to_the_same_model_and_the_whole_curve() {
    let folder = folder();
    let settings = "[model]\nwidth = 16\nlayers = 1\nfeedforward = 16\n[teacher]\nepochs = [4, 200]\n\
                    [optimiser]\npatience-epochs = 100000\n";
    std::fs::write(folder.path().join("small.toml"), settings).unwrap();
    let taught = |out: &str| fit(folder.path(), out, 500);
    assert!(taught("whole").output().unwrap().status.success());
    let mut command = taught("model");
    // No checkpoint is due: the one that is there comes from the interrupt.
    command.args(["--progress", "json", "--checkpoint-epochs", "100000"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"generation\":2") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the fit ended before the second generation");
    }
    signal(&child, libc::SIGINT);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{rest}");
    let last = rest.lines().last().unwrap();
    assert!(last.contains(" holds the fit after epoch ") && last.contains(" of teacher 2, and"), "{last}");
    let resumed = taught("model").args(["--resume", "--progress", "json"]).output().unwrap();
    let said = String::from_utf8_lossy(&resumed.stderr).into_owned();
    assert!(resumed.status.success() && !said.contains("\"generation\":1"), "{said}");
    assert_eq!(id(folder.path(), "model"), id(folder.path(), "whole"));

    let curve = Bundle::read(&folder.path().join("model")).unwrap().origin.record.unwrap().curve;
    let of = |generation| (1..).map(move |epoch| (generation, epoch));
    let expected = of(1).take(4).chain(of(2).take(200)).chain(of(0).take(500));
    assert!(curve.iter().map(|point| (point.generation, point.epoch)).eq(expected), "every epoch once");
    let table = |name: &str| std::fs::read_to_string(folder.path().join(name).join("curve.csv")).unwrap();
    assert_eq!(table("model").lines().count(), 1 + 4 + 200 + 500);
    assert_eq!(table("model"), table("whole"));
}

/// A terminal: the end that a person sees, and the end that a program writes to. No program that another test starts at the same
/// time inherits them: a terminal is closed when nobody holds the person's end.
fn terminal() -> (File, Stdio) {
    let mut name = [0; 64];
    // SAFETY: `ptsname_r` writes at most as many bytes as it is told, and the descriptor belongs to nobody else.
    let person = unsafe {
        let person = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        assert!(person >= 0 && libc::grantpt(person) == 0 && libc::unlockpt(person) == 0);
        assert_eq!(libc::ptsname_r(person, name.as_mut_ptr(), name.len()), 0);
        File::from_raw_fd(person)
    };
    // SAFETY: `ptsname_r` has ended the name with a zero.
    let name = unsafe { std::ffi::CStr::from_ptr(name.as_ptr()) }.to_str().unwrap().to_owned();
    let program = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(name).unwrap();
    (person, program.into())
}

#[test]
fn a_terminal_that_is_closed_ends_no_fit() {
    let folder = folder();
    // Lines on standard error, and the report on the terminal.
    let (person, program) = terminal();
    let mut command = fit(folder.path(), "model", 100);
    let mut child = command.stdout(program).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    let mut said = BufReader::new(child.stderr.take().unwrap());
    wait_for_epoch(&mut said);
    drop(person);
    drop(said);
    signal(&child, libc::SIGHUP);
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), None, "{status}");
    assert_eq!(id(folder.path(), "model").len(), 64);

    // The progress bar on the terminal.
    let (mut person, program) = terminal();
    let mut command = fit(folder.path(), "other", 100);
    let mut child = command.stdout(Stdio::null()).stderr(program).spawn().unwrap();
    drop(command);
    let mut some = [0; 64];
    while !String::from_utf8_lossy(&some).contains("epoch") {
        assert!(person.read(&mut some).unwrap() > 0);
    }
    drop(person);
    signal(&child, libc::SIGHUP);
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(id(folder.path(), "other"), id(folder.path(), "model"));
}

#[test]
fn a_standard_error_that_takes_nothing_ends_no_fit() {
    let folder = folder();
    for (at, redirected) in
        ["2>&-", "2>/dev/full", "2>&1 >/dev/null | head -1", ">/dev/full 2>&1"].iter().enumerate()
    {
        let out = format!("model{at}");
        let command = fit(folder.path(), &out, 20);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("\"$@\" {redirected}"), "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        let output = shell.current_dir(folder.path()).output().unwrap();
        assert_eq!(id(folder.path(), &out), id(folder.path(), "model0"), "{redirected}: {output:?}");
    }
}

/// A shell script with a small file system at `disk`, and the fit as its arguments; `None` where none may be mounted.
fn on_small_disk(folder: &Path, script: &str, fit: &Command) -> Option<(String, String)> {
    let mounted = ["--map-root-user", "--mount"];
    let tried =
        Command::new("unshare").args(mounted).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    if !tried.as_ref().is_ok_and(|output| output.status.success()) {
        println!("skipped: mounting a small file system takes unshare and user namespaces: {tried:?}");
        return None;
    }
    let script = format!("mkdir -p disk && mount -t tmpfs -o size=4m tmpfs disk || exit 99\n{script}");
    let mut command = Command::new("unshare");
    command.args(mounted).args(["sh", "-c", &script, "sh"]).arg(fit.get_program()).args(fit.get_args());
    let output = command.current_dir(folder).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some((text(&output.stdout), text(&output.stderr)))
}

#[test]
fn a_bundle_that_finds_no_room_is_written_elsewhere() {
    let folder = folder();
    let script = "cat /dev/zero >disk/filler 2>/dev/null\nmkdir elsewhere; TMPDIR=$PWD/elsewhere \"$@\"; echo \"status $?\"; ls disk";
    let fit = fit(folder.path(), "disk/model", 30);
    let Some((printed, said)) = on_small_disk(folder.path(), script, &fit) else { return };
    assert_eq!(printed, "status 1\nfiller\n", "{said}");
    let unkept = said.lines().filter(|line| line.starts_with("note: expected to write a checkpoint, found "));
    assert_eq!(unkept.count(), 1, "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.contains("No space left on device") && !last.contains("--resume"), "{said}");
    let path = last.split(" it is in ").nth(1).unwrap().split(" instead").next().unwrap();
    assert_eq!(Bundle::read(Path::new(path)).unwrap().manifest.training.data, ["session.nwb"], "{said}");
}

#[test]
fn a_disk_that_becomes_full_leaves_the_last_checkpoint_to_go_on_from() {
    let folder = folder();
    let script = "(until [ -e disk/model.checkpoint/progress.toml ]; do :; done; cat /dev/zero >disk/filler 2>/dev/null) &
        TMPDIR=$PWD/disk \"$@\"; echo \"status $?\"; wait; rm disk/filler
        echo again >&2; \"$@\" --resume >/dev/null; echo \"status $?\"; ls disk; cp -r disk/model .";
    let mut command = fit(folder.path(), "disk/model", 400);
    command.args(["--checkpoint-epochs", "1"]);
    let Some((printed, said)) = on_small_disk(folder.path(), script, &command) else { return };
    assert_eq!(printed, "status 1\nstatus 0\nmodel\n", "{said}");
    let told = said.lines().find(|line| line.starts_with("ndt-train: ")).unwrap();
    assert!(told.contains("disk/model.checkpoint holds the fit after epoch "), "{said}");
    assert!(told.contains("the same command with --resume goes on from it"), "{said}");
    assert!(!said.split("again\n").nth(1).unwrap().contains("epoch 1/"), "{said}");
    assert!(fit(folder.path(), "whole", 400).output().unwrap().status.success());
    assert_eq!(id(folder.path(), "model"), id(folder.path(), "whole"));
}
