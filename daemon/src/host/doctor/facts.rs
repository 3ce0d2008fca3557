//! What is so on this machine, without a judgement.

use super::libraries::Library;
use crate::host::machine::{self, CAP_IPC_LOCK, CAP_SYS_NICE, Machine, cpu_list, text};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What the checks look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The computer.
    pub machine: Machine,
    /// The CPUs that are online.
    pub online: Vec<usize>,
    /// Those that this process's control group grants; its affinity, which it can change, is another matter.
    pub granted: Vec<usize>,
    /// Those that the scheduler keeps other threads away from.
    pub isolated: Vec<usize>,
    /// Those without a timer tick while one thread runs.
    pub tickless: Vec<usize>,
    /// The highest real-time priority that this process may take; 0 is none.
    pub priority_max: u64,
    /// How much memory this process may lock; none is no limit.
    pub lockable_kb: Option<u64>,
    /// How much of each period real-time threads may take together, in microseconds; -1 is all of it.
    pub realtime_runtime_us: Option<i64>,
    /// That period.
    pub realtime_period_us: i64,
    /// Files and devices that memory is swapped to.
    pub swaps: Vec<String>,
    /// How gladly, 0 to 200.
    pub swappiness: Option<u32>,
    /// `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
    /// What the time could be told by.
    pub clocksources: Vec<String>,
    /// How deep an idle CPU may sleep.
    pub idle_states: Vec<IdleState>,
    /// How long a wake-up may take that some program has asked for; none where that cannot be read.
    pub wake_us_held: Option<i32>,
    /// ONNX Runtime.
    pub onnxruntime: Library,
    /// Whether it has a CUDA provider; none where the configuration asks for none.
    pub onnxruntime_cuda: Option<bool>,
    /// Lab Streaming Layer.
    pub liblsl: Library,
}

/// A sleep that the kernel may send an idle CPU into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleState {
    /// Its name, e.g. `C6`.
    pub name: String,
    /// How long the CPU takes to wake.
    pub latency_us: u64,
}

impl Facts {
    /// Reads what is in files from those under `root`.
    pub fn read(root: &Path, onnxruntime: Library, liblsl: Library) -> Facts {
        let list = |path| text(root, path).map_or_else(Vec::new, |list| cpu_list(&list));
        let number = |path| text(root, path)?.parse::<i64>().ok();
        let may = |capability: u32| machine::capabilities(root) >> capability & 1 == 1;
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

/// From the innermost control group that says; all where none does.
fn granted(root: &Path) -> Vec<usize> {
    let groups = text(root, "proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let mut folders =
        Path::new("sys/fs/cgroup").join(group).ancestors().map(Path::to_owned).collect::<Vec<_>>();
    folders.retain(|folder| folder.starts_with("sys/fs/cgroup"));
    let of = |folder: PathBuf| text(&root.join(folder), "cpuset.cpus.effective");
    folders.into_iter().find_map(of).map_or_else(|| machine::online_cpus(root), |list| cpu_list(&list))
}

/// The soft limit in a line such as `Max locked memory  8388608  8388608  bytes`; none where it is unlimited.
fn limit(root: &Path, name: &str) -> Option<u64> {
    let limits = text(root, "proc/self/limits")?;
    limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn swaps(root: &Path) -> Vec<String> {
    let table = text(root, "proc/swaps").unwrap_or_default();
    table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The choice in brackets of `always [madvise] never`.
fn chosen(root: &Path, path: &str) -> Option<String> {
    let choices = text(root, path)?;
    let (choice, _) = choices.split_once('[')?.1.split_once(']')?;
    Some(choice.to_owned())
}

/// Those of the first CPU that are not disabled: CPUs differ only where somebody took care that they do.
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

/// Four bytes, readable as root alone. To open the file asks for nothing as long as nothing is written.
fn wake_us_held(root: &Path) -> Option<i32> {
    let mut bytes = [0; 4];
    std::fs::File::open(root.join("dev/cpu_dma_latency")).ok()?.read_exact(&mut bytes).ok()?;
    Some(i32::from_ne_bytes(bytes))
}
