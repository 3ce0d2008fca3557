//! Full disks: whatever was there is still there, and nothing lies beside it.

use crate::table::{CASES, Form};
use crate::world::World;
use ndt_tests::program;
use std::process::Command;

/// Whether this user may mount a small file system in a name space of his own; says that the test is skipped otherwise.
pub fn can_mount() -> bool {
    let tried = in_own_mounts("mount -t tmpfs tmpfs /mnt").output();
    let can = tried.as_ref().is_ok_and(|output| output.status.success());
    if !can {
        println!("skipped: mounting a small file system takes unshare and user namespaces: {tried:?}");
    }
    can
}

/// A shell script in which file systems can be mounted that nobody else sees.
pub fn in_own_mounts(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    if !can_mount() {
        return;
    }
    for case in CASES.iter().filter(|case| case.form != Form::Workspace && case.ends_with.is_none()) {
        let world = World::new();
        let run = world.run(case, case.out, &[]);
        assert!(run.succeeded, "{}: {}", case.title(), run.said);
        let script =
            "mkdir disk && mount -t tmpfs -o size=16m tmpfs disk && cp -r \"$1\" disk && cd disk || exit 99
            cat /dev/zero > filler 2>/dev/null; cd ..
            shift; TMPDIR=$PWD/disk \"$@\" >&2; echo \"status $?\"
            diff -r \"$OUT\" \"disk/$OUT\" && ls -A disk";
        let out = format!("disk/{}", case.out);
        let mut command = in_own_mounts(script);
        command
            .env("OUT", case.out)
            .arg(case.out)
            .arg(program(case.program))
            .args(case.command)
            .arg("--overwrite");
        let arguments = case.arguments.split_whitespace().map(|word| if word == "OUT" { &out } else { word });
        let output = command.args(arguments).current_dir(world.path("")).output().unwrap();
        let (printed, said) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let expected = format!("status 1\nfiller\n{}\n", case.out);
        assert_eq!(printed, expected, "{}: {said}", case.title());
        let last = said.lines().last().unwrap_or_default();
        assert!(
            last.starts_with(&format!("{}: ", case.program)),
            "{}: expected a sentence, found {said}",
            case.title()
        );
    }
}
