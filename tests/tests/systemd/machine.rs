//! A machine of its own: Debian under a real systemd, as process 1 of its own namespaces. It needs root, and ends with the test.

use ndt_protocol::clock::monotonic_ns;
use ndt_tests::workspace;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a condition is waited for before the test fails.
const SOON: Duration = Duration::from_secs(120);

const PROGRAMS: [&str; 4] = ["debootstrap", "unshare", "nsenter", "chroot"];

/// What ndtd and its unit need of Debian: libzmq, and `/bin/kill` of procps.
const PACKAGES: &str = "--include=systemd,systemd-sysv,dbus,libzmq5,procps";

/// Lays a layer of files in memory over the Debian root in `$1`, so that each machine finds it as it was made, and becomes its systemd.
const BOOT: &str = r#"
set -eu
layer=$2
mount --make-rprivate /
mount -t tmpfs tmpfs "$layer"
mkdir "$layer/upper" "$layer/work" "$layer/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$layer/upper,workdir=$layer/work" "$layer/root"
root=$layer/root
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    IFS=: read -r name major minor <<<"$node"
    mknod -m 666 "$root/dev/$name" c "$major" "$minor"
done
mkdir -p "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs tmpfs "$root/dev/shm"
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" /lib/systemd/systemd --system --log-target=journal --show-status=0
"#;

/// A running machine. Only one runs at a time: each has real-time threads, and two of them would disturb each other.
pub struct Machine {
    unshare: Child,
    /// Number of its systemd among the processes of the test.
    systemd: u32,
    _layer: tempfile::TempDir,
    _one_at_a_time: MutexGuard<'static, ()>,
}

impl Machine {
    /// Starts a machine; says that the test is skipped where this cannot be done.
    pub fn start() -> Option<Machine> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let one_at_a_time = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let debian = debian().map_err(|reason| println!("skipped: {reason}")).ok()?;
        let layer = tempfile::tempdir().unwrap();
        let mut unshare = Command::new("unshare")
            .args(["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--net", "--fork", "--kill-child"])
            .args(["bash", "-c", BOOT, "boot"])
            .args([&debian, layer.path()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let systemd = wait_for("systemd to start", || {
            if let Some(status) = unshare.try_wait().unwrap() {
                return Some(Err(status));
            }
            let child = children(unshare.id()).into_iter().next()?;
            let name = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
            (name.trim() == "systemd").then_some(Ok(child))
        });
        let Ok(systemd) = systemd else {
            println!(
                "skipped: expected namespaces and mounts to be allowed, found unshare to end with {systemd:?}"
            );
            return None;
        };
        let machine = Machine { unshare, systemd, _layer: layer, _one_at_a_time: one_at_a_time };
        wait_for("systemd to have booted", || {
            let state = text(&machine.run(&["systemctl", "is-system-running"]));
            ["running", "degraded"].contains(&state.trim()).then_some(())
        });
        Some(machine)
    }

    /// A path of the machine, as this process reaches it.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.systemd))
    }

    /// Writes a file of the machine beside its path and moves it there, as an installer does.
    pub fn install(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let beside = path.with_extension("new");
        std::fs::write(&beside, content).unwrap();
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::rename(&beside, &path).unwrap();
    }

    /// Runs a command in the machine, as root.
    pub fn run(&self, command: &[&str]) -> Output {
        Command::new("nsenter")
            .args(["-t", &self.systemd.to_string(), "-m", "-p", "-n", "-u", "-i", "-C", "-r", "-w"])
            .args(command)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub fn did(&self, command: &[&str]) -> String {
        let output = self.run(command);
        assert!(output.status.success(), "{command:?}: {output:?}\n{}", self.journal("ndtd"));
        text(&output)
    }

    /// A property of a unit, as `systemctl show` prints it.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.did(&["systemctl", "show", "--property", name, "--value", unit]).trim().to_owned()
    }

    /// What the journal has of a unit: its own lines and those of systemd about it.
    pub fn journal(&self, unit: &str) -> String {
        text(&self.run(&["journalctl", "--no-pager", "--output=short-precise", "--unit", unit]))
    }

    /// Number of a unit's main process, among the processes of the test.
    pub fn main_process(&self, unit: &str) -> u32 {
        let inside = self.property(unit, "MainPID");
        wait_for("the main process", || {
            children(self.systemd).into_iter().find(|process| {
                let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
                let numbers = status.lines().find(|line| line.starts_with("NSpid:"));
                numbers.and_then(|line| line.split_whitespace().last()) == Some(&inside)
            })
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With it ends process 1, and with that every process of the machine.
        drop(self.unshare.kill());
        drop(self.unshare.wait());
        let process = format!("/proc/{}", self.systemd);
        wait_for("the machine to end", || (!Path::new(&process).exists()).then_some(()));
    }
}

/// The Debian root that all machines share, made once; or why there is none.
fn debian() -> Result<PathBuf, String> {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        return Err("a machine of its own needs root".to_owned());
    }
    let is_there = |program: &&str| {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
        found.is_ok_and(|output| output.status.success())
    };
    if let Some(missing) = PROGRAMS.iter().find(|program| !is_there(program)) {
        return Err(format!("this machine has no {missing}; tests/need-packages says how to get it"));
    }
    let folder = workspace().canonicalize().unwrap().join("target/systemd");
    let root = folder.join("bookworm");
    if root.exists() {
        return Ok(root);
    }
    std::fs::create_dir_all(&folder).unwrap();
    let making = folder.join(format!("making-{}", std::process::id()));
    let made = Command::new("timeout")
        .args(["600", "debootstrap", "--variant=minbase", PACKAGES, "bookworm"])
        .arg(&making)
        .output()
        .unwrap();
    if !made.status.success() {
        drop(std::fs::remove_dir_all(&making));
        let said = text(&made);
        return Err(format!("expected debootstrap to find its packages, found {:?}", said.lines().last()));
    }
    std::fs::rename(&making, &root).unwrap();
    Ok(root)
}

/// Direct children of a process.
fn children(process: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    list.unwrap_or_default().split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Waits until there is a value.
pub fn wait_for<T>(what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let start_ns = monotonic_ns();
    loop {
        if let Some(value) = value() {
            return value;
        }
        let waited = Duration::from_nanos(monotonic_ns() - start_ns);
        assert!(waited < SOON, "expected {what} within {SOON:?}, found nothing");
        std::thread::sleep(Duration::from_millis(20));
    }
}
