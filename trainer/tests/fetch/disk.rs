//! Full disks: by a limit on the length of a file, which needs no privileges, and by a file system of 1 MiB where a
//! user may mount one.

use super::{Asset, Server, check_finals, errors, fetched, one_file, part, program};
use std::path::Path;
use std::process::{Command, Output};

/// The command of `program`, run by a shell after `prelude`, and by `unshare` if it is given arguments.
fn in_shell(server: &Server, folder: &Path, unshare: &[&str], prelude: &str) -> Command {
    let program = program(server, folder);
    let mut command = Command::new(if unshare.is_empty() { "sh" } else { "unshare" });
    command.args(unshare.iter().copied().chain((!unshare.is_empty()).then_some("sh")));
    command.args(["-c", &format!("{prelude}\n\"$@\""), "sh"]);
    command.arg(program.get_program()).args(program.get_args());
    super::without_proxies(&mut command);
    command
}

fn last_line(output: &Output) -> String {
    errors(output).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_disk_that_takes_no_more_keeps_the_part() {
    let (server, folder) = one_file();
    // 200 blocks of 512 or 1,024 bytes, depending on the shell. The signal is ignored, so that the write fails.
    let output = in_shell(&server, folder.path(), &[], "trap '' XFSZ; ulimit -f 200").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    check_finals(&server, folder.path());
    let (_, kept) = part(&server, folder.path()).unwrap();
    assert!((1..300_000).contains(&kept), "{kept}");
    let error = last_line(&output);
    let expected = format!("; its first {kept} bytes are kept, and the next fetch goes on from there");
    assert!(error.starts_with("ndt-train: write ") && error.ends_with(&expected), "{error}");
    assert_eq!(fetched(&server, folder.path(), &[])[0]["resumed_from_bytes"], kept);
}

#[test]
fn a_small_file_system_is_refused_first_and_survived_later() {
    let mounted = ["--map-root-user", "--mount"];
    let possible =
        Command::new("unshare").args(mounted).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    if !possible.as_ref().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: mounting a small file system takes unshare and user namespaces: {possible:?}");
        return;
    }
    let (server, folder) = one_file();
    let path = server.state().assets[0].path.clone();
    server.state().assets[0] = Asset::new(&path, 3 << 20, 4);
    let mount = format!("mount -t tmpfs -o size=1m tmpfs {0:?} && cd {0:?}", folder.path());
    let output = in_shell(&server, folder.path(), &mounted, &mount).output().unwrap();
    let error = last_line(&output);
    assert!(error.contains(": expected 3145728 bytes of free space, found "), "{error}");
    assert!(server.ranges().is_empty(), "nothing is asked for that does not fit");

    // There is space at the start. Another program takes it while the download stalls.
    server.state().assets[0] = Asset::new(&path, 900_000, 4);
    server.state().stall = Some(100_000);
    let gate = tempfile::tempdir().unwrap();
    let full = gate.path().join("full");
    // Afterwards the shell prints what is left of the part, which disappears with the mount.
    let script = format!(
        "{mount}
        (until [ $(cat *.part 2>/dev/null | wc -c) -ge 100000 ]; do :; done
        cat /dev/zero > filler 2>/dev/null; : > {full:?}) &
        run() {{ \"$@\"; code=$?; kill $! 2>/dev/null; cp *.part {:?}; : > {full:?}; exit $code; }}
        run",
        gate.path()
    );
    let script = format!("{} \"$@\"", script.trim_end());
    let mut command = in_shell(&server, folder.path(), &mounted, &script);
    let child =
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while !full.exists() {
        std::thread::yield_now();
    }
    server.open_gate();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    let error = last_line(&output);
    assert!(error.contains(": No space left on device (os error 28); its first "), "{error}");
    let (_, kept) = part(&server, gate.path()).unwrap();
    assert!((100_000..900_000).contains(&kept), "{kept}");
    assert!(error.contains(&format!("its first {kept} bytes are kept")), "{error}");
}
