//! The facts about this machine, without a judgement.

use super::libraries::Library;
use super::unit::Unit;
use crate::host::machine::{self, CAP_IPC_LOCK, CAP_SYS_NICE, Machine, cpu_list, text};
use std::io::Read;
use std::path::{Path, PathBuf};

/// All facts that the checks look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Facts about the computer, which benchmark reports contain too.
    pub machine: Machine,
    /// CPUs that are online.
    pub online: Vec<usize>,
    /// CPUs that the control group of this process grants. (Its affinity, which the process can change, is another
    /// matter.)
    pub granted: Vec<usize>,
    /// CPUs that the scheduler keeps free of other threads (`isolcpus`).
    pub isolated: Vec<usize>,
    /// CPUs without a timer tick while one thread runs (`nohz_full`).
    pub tickless: Vec<usize>,
    /// Highest real-time priority that this process may take; 0 for none.
    pub priority_max: u64,
    /// Memory that this process may lock, KB; `None` for no limit.
    pub lockable_kb: Option<u64>,
    /// The systemd unit of ndtd; `None` where none is installed.
    pub unit: Option<Unit>,
    /// Time in each period that real-time threads may use together, us; -1 for all of it, `None` when the kernel has
    /// no such limit.
    pub realtime_runtime_us: Option<i64>,
    /// Length of the period to which `realtime_runtime_us` applies, us.
    pub realtime_period_us: i64,
    /// Swap files and devices.
    pub swaps: Vec<String>,
    /// Swappiness, 0 to 200.
    pub swappiness: Option<u32>,
    /// Use of transparent huge pages: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
    /// Clock sources that the kernel could use.
    pub clocksources: Vec<String>,
    /// Sleep states that an idle CPU may enter.
    pub idle_states: Vec<IdleState>,
    /// Longest CPU wake-up latency that another program permits at present, us; `None` when it cannot be read.
    pub wake_us_held: Option<i32>,
    /// ONNX Runtime's shared library.
    pub onnxruntime: Library,
    /// Whether ONNX Runtime has a CUDA provider; `None` when the configuration asks for none.
    pub onnxruntime_cuda: Option<bool>,
    /// Shared library of Lab Streaming Layer.
    pub liblsl: Library,
}

/// A sleep state that an idle CPU may enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleState {
    /// Name of the state, such as `C6`.
    pub name: String,
    /// Time that the CPU takes to wake, us.
    pub latency_us: u64,
}

impl Facts {
    /// Reads the facts that are in files under `root`; the libraries are given.
    pub fn read(root: &Path, onnxruntime: Library, liblsl: Library) -> Facts {
        let list = |path| text(root, path).map_or_else(Vec::new, |list| cpu_list(&list));
        let number = |path| text(root, path)?.parse::<i64>().ok();
        let may = |capability: u32| machine::has_capability(root, capability);
        Facts {
            machine: Machine::read_under(root),
            online: machine::online_cpus(root),
            granted: granted(root),
            isolated: list("sys/devices/system/cpu/isolated"),
            tickless: list("sys/devices/system/cpu/nohz_full"),
            priority_max: if may(CAP_SYS_NICE) {
                99
            } else {
                limit(root, "Max realtime priority").unwrap_or(99)
            },
            lockable_kb: if may(CAP_IPC_LOCK) {
                None
            } else {
                limit(root, "Max locked memory").map(|bytes| bytes / 1024)
            },
            unit: Unit::installed(root),
            realtime_runtime_us: number("proc/sys/kernel/sched_rt_runtime_us"),
            realtime_period_us: number("proc/sys/kernel/sched_rt_period_us").unwrap_or(1_000_000),
            swaps: swaps(root),
            swappiness: number("proc/sys/vm/swappiness").and_then(|value| value.try_into().ok()),
            huge_pages: chosen(root, "sys/kernel/mm/transparent_hugepage/enabled"),
            clocksources: text(root, "sys/devices/system/clocksource/clocksource0/available_clocksource")
                .map_or_else(Vec::new, |names| names.split_whitespace().map(str::to_owned).collect()),
            idle_states: idle_states(root),
            wake_us_held: wake_us_held(root),
            onnxruntime,
            onnxruntime_cuda: None,
            liblsl,
        }
    }
}

/// Returns the CPUs that the innermost control group with a limit grants; all when none has a limit.
fn granted(root: &Path) -> Vec<usize> {
    let groups = text(root, "proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let mut folders =
        Path::new("sys/fs/cgroup").join(group).ancestors().map(Path::to_owned).collect::<Vec<_>>();
    folders.retain(|folder| folder.starts_with("sys/fs/cgroup"));
    let of = |folder: PathBuf| text(&root.join(folder), "cpuset.cpus.effective");
    folders.into_iter().find_map(of).map_or_else(|| machine::online_cpus(root), |list| cpu_list(&list))
}

/// Returns the soft limit in a line such as `Max locked memory  8388608  8388608  bytes`; `None` when it is
/// unlimited.
fn limit(root: &Path, name: &str) -> Option<u64> {
    let limits = text(root, "proc/self/limits")?;
    limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn swaps(root: &Path) -> Vec<String> {
    let table = text(root, "proc/swaps").unwrap_or_default();
    table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Returns the choice in brackets in `always [madvise] never`.
fn chosen(root: &Path, path: &str) -> Option<String> {
    let choices = text(root, path)?;
    let (choice, _) = choices.split_once('[')?.1.split_once(']')?;
    Some(choice.to_owned())
}

/// Returns the idle states of the first CPU that are not disabled: CPUs differ only where somebody has made them differ.
fn idle_states(root: &Path) -> Vec<IdleState> {
    let state = |index: usize| {
        let of = |key: &str| text(root, &format!("sys/devices/system/cpu/cpu0/cpuidle/state{index}/{key}"));
        let is_disabled = of("disable").is_some_and(|disable| disable != "0");
        let latency_us = of("latency")?.parse().ok()?;
        Some((is_disabled, IdleState { name: of("name")?, latency_us }))
    };
    let states = (0..).map_while(state);
    states.filter(|(is_disabled, _)| !is_disabled).map(|(_, state)| state).collect()
}

/// Reads the limit on CPU wake-up latency, us, from `/dev/cpu_dma_latency`, which only root can read. Opening the file changes
/// nothing as long as nothing is written.
fn wake_us_held(root: &Path) -> Option<i32> {
    let mut bytes = [0; 4];
    std::fs::File::open(root.join("dev/cpu_dma_latency")).ok()?.read_exact(&mut bytes).ok()?;
    Some(i32::from_ne_bytes(bytes))
}
