//! A cluster of one node: munge, Slurm's controller and its node daemon, on loopback and in a temporary folder.

use ndt_protocol::clock::monotonic_ns;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a condition is waited for before the test fails.
const SOON: Duration = Duration::from_secs(240);

const PROGRAMS: [&str; 7] = ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel"];

/// The cluster. It ends with the test, and its jobs with it.
pub struct Cluster {
    folder: tempfile::TempDir,
    daemons: Vec<Child>,
}

impl Cluster {
    /// Starts a cluster and waits until its node takes jobs; says that the test is skipped where there is no Slurm.
    pub fn start() -> Option<Cluster> {
        if let Some(missing) = PROGRAMS.into_iter().find(|name| program(name).is_none()) {
            println!("skipped: this machine has no {missing}; tests/need-packages says how to get it");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        // Munge wants its socket where everybody can reach it, and its key where nobody else can read it.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(at("key"), monotonic_ns().to_string().repeat(64)).unwrap();
        std::fs::set_permissions(at("key"), std::fs::Permissions::from_mode(0o400)).unwrap();
        for name in ["state", "spool"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::fs::write(at("slurm.conf"), configuration(folder.path())).unwrap();
        std::fs::write(at("cgroup.conf"), format!("CgroupPlugin={}\n", cgroup_plugin())).unwrap();
        let mut cluster = Cluster { folder, daemons: Vec::new() };
        cluster.daemon(
            "munged",
            &["--foreground", "--key-file=key", "--pid-file=munged.pid", "--seed-file=seed"],
        );
        let socket = cluster.folder.path().join("munge.socket");
        wait_until("munge to listen", || socket.exists().then_some(()).ok_or_else(|| cluster.log("munged")));
        cluster.daemon("slurmctld", &["-D", "-i"]);
        cluster.daemon("slurmd", &["-D", "-N", "node"]);
        wait_until("a node that takes jobs", || {
            let state = cluster.asks("sinfo", &["--noheader", "--format=%t"]);
            if state.trim() == "idle" {
                Ok(())
            } else {
                Err(state + &cluster.log("slurmctld") + &cluster.log("slurmd"))
            }
        });
        Some(cluster)
    }

    /// A program that meets this cluster.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("SLURM_CONF", self.folder.path().join("slurm.conf"));
        command
    }

    /// What a program of Slurm's prints.
    pub fn asks(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    fn daemon(&mut self, name: &str, arguments: &[&str]) {
        let folder = self.folder.path();
        let log = std::fs::File::create(folder.join(name).with_extension("log")).unwrap();
        let mut command = self.command(program(name).unwrap());
        command.args(arguments).current_dir(folder).stdin(Stdio::null());
        if name == "munged" {
            command.arg(format!("--socket={}", folder.join("munge.socket").display()));
        }
        command.stdout(log.try_clone().unwrap()).stderr(log);
        // SAFETY: between fork and exec only prctl is called, which is safe there and allocates nothing.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let child = command.spawn();
        self.daemons.push(child.unwrap());
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name).with_extension("log")).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A job's own daemon outlives slurmd: jobs are ended first. Nothing here may panic in a test that does.
        if self.daemons.len() == PROGRAMS[..3].len() {
            drop(self.command("scancel").arg("--me").output());
            for _ in 0..200 {
                let queue = self.command("squeue").args(["--me", "--noheader"]).output();
                if queue.is_ok_and(|queue| queue.stdout.is_empty()) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        for daemon in self.daemons.iter_mut().rev() {
            drop(daemon.kill());
            drop(daemon.wait());
        }
    }
}

/// Waits for a condition; what it says instead is what the test fails with.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> Result<(), String>) {
    let since = std::time::Instant::now();
    while let Err(found) = holds() {
        assert!(since.elapsed() < SOON, "expected {what}, waited {SOON:?}: {found}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// No control groups: the node is a machine that belongs to others, too.
fn cgroup_plugin() -> &'static str {
    let version = Command::new(program("slurmd").unwrap()).arg("-V").output().unwrap().stdout;
    let version = String::from_utf8_lossy(&version).into_owned();
    let year = version.rsplit(' ').next().and_then(|number| number.split('.').next()?.parse().ok());
    // Slurm 22 knows no `disabled`; its v1 does nothing that no other plugin asks for.
    if year.unwrap_or(0) < 24 { "cgroup/v1" } else { "disabled" }
}

fn configuration(folder: &Path) -> String {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [controller, node] = listeners.map(|listener| listener.local_addr().unwrap().port());
    let user = Command::new("id").arg("-un").output().unwrap().stdout;
    let user = String::from_utf8(user).unwrap();
    let (user, folder) = (user.trim(), folder.display());
    format!(
        "ClusterName=test\n\
         SlurmctldHost=localhost(127.0.0.1)\n\
         CommunicationParameters=NoCtldInAddrAny,NoInAddrAny\n\
         SlurmUser={user}\n\
         SlurmdUser={user}\n\
         AuthType=auth/munge\n\
         AuthInfo=socket={folder}/munge.socket,cred_expire=2\n\
         CredType=cred/munge\n\
         SlurmctldPort={controller}\n\
         SlurmdPort={node}\n\
         StateSaveLocation={folder}/state\n\
         SlurmdSpoolDir={folder}/spool\n\
         SlurmctldPidFile={folder}/slurmctld.pid\n\
         SlurmdPidFile={folder}/slurmd.pid\n\
         ProctrackType=proctrack/linuxproc\n\
         TaskPlugin=task/none\n\
         JobAcctGatherType=jobacct_gather/none\n\
         SelectType=select/cons_tres\n\
         SelectTypeParameters=CR_Core\n\
         SwitchType=switch/none\n\
         MpiDefault=none\n\
         ReturnToService=2\n\
         KillWait=2\n\
         NodeName=node NodeHostname=localhost NodeAddr=127.0.0.1 Port={node} CPUs=2\n\
         PartitionName=cpu Nodes=node Default=YES\n"
    )
}
