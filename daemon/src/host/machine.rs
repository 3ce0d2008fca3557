//! The facts about the computer on which its timing depends, for `ndtd doctor` and for the report of a benchmark.
//!
//! Everything is read from `/proc`, `/sys` and `/boot` under a root that the caller names, so that a test can
//! describe a machine by a folder of files. What cannot be read is left out.

use serde::Serialize;
use std::fmt;
use std::path::Path;

/// Number of the capability that allows locked memory whatever the limit (`capabilities(7)`).
pub(crate) const CAP_IPC_LOCK: u32 = 14;
/// Number of the capability that allows real-time scheduling whatever the limit.
pub(crate) const CAP_SYS_NICE: u32 = 23;

/// The facts that must be reported with a latency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Machine {
    /// Name of the processor.
    pub cpu: String,
    /// Number of CPUs that are online.
    pub cpus: usize,
    /// Whether a hypervisor runs between the kernel and the processor.
    pub virtual_machine: bool,
    /// Release of the kernel.
    pub kernel: String,
    /// The kernel's preemption model.
    pub preemption: Preemption,
    /// Governor that chooses the clock rate of the CPUs; several names where CPUs differ, `None` when nothing
    /// chooses.
    pub governor: Option<String>,
    /// Clock source of the kernel.
    pub clocksource: Option<String>,
}

/// The preemption model of a kernel: where it lets a waking thread take a CPU. The quickest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preemption {
    /// `PREEMPT_RT`: a waking thread can take the CPU nearly everywhere in the kernel, interrupt handlers included.
    Realtime,
    /// A waking thread can take the CPU everywhere except in kernel sections that hold a spinlock.
    Full,
    /// A waking real-time thread takes the CPU as with `full`, other threads at the next timer tick.
    Lazy,
    /// Only at places in the kernel that are marked for preemption.
    Voluntary,
    /// A waking thread can take the CPU only when the kernel returns to user space.
    None,
    /// The preemption model was chosen at boot, and cannot be read.
    Dynamic,
    /// Voluntary or none: the kernel does not show which of the two.
    VoluntaryOrNone,
}

impl fmt::Display for Preemption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Preemption::Realtime => "PREEMPT_RT",
            Preemption::Full => "full",
            Preemption::Lazy => "lazy",
            Preemption::Voluntary => "voluntary",
            Preemption::None => "none",
            Preemption::Dynamic => "dynamic, its mode not readable",
            Preemption::VoluntaryOrNone => "voluntary or none",
        })
    }
}

impl Machine {
    /// Reads the facts of this machine.
    pub fn read() -> Machine {
        Machine::read_under(Path::new("/"))
    }

    /// Reads the facts of the machine whose `/proc`, `/sys` and `/boot` are under `root`.
    pub fn read_under(root: &Path) -> Machine {
        let cpuinfo = text(root, "proc/cpuinfo").unwrap_or_default();
        let kernel = text(root, "proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned());
        Machine {
            cpu: processor(&cpuinfo),
            cpus: online_cpus(root).len(),
            virtual_machine: cpuinfo.lines().any(|line| {
                line.starts_with("flags") && line.split_whitespace().any(|flag| flag == "hypervisor")
            }),
            preemption: preemption(root, &kernel),
            governor: governor(root),
            clocksource: text(root, "sys/devices/system/clocksource/clocksource0/current_clocksource"),
            kernel,
        }
    }
}

/// Returns a file's text without the white space around it; `None` when there is no text.
pub(crate) fn text(root: &Path, path: &str) -> Option<String> {
    let text = std::fs::read_to_string(root.join(path)).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Returns the CPUs that are online; empty when the system does not say.
pub(crate) fn online_cpus(root: &Path) -> Vec<usize> {
    text(root, "sys/devices/system/cpu/online").map_or_else(Vec::new, |list| cpu_list(&list))
}

/// Reads CPU numbers as Linux lists them: `0-3,8`. Some kernels write `(null)` for an empty list.
pub(crate) fn cpu_list(list: &str) -> Vec<usize> {
    let ends = |part: &str| {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    };
    list.split(',').filter_map(ends).flatten().collect()
}

/// Writes CPU numbers as the kernel's command line takes them: `2-3,6`.
pub(crate) fn cpu_ranges(cpus: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let range = |(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    ranges.into_iter().map(range).collect::<Vec<_>>().join(",")
}

/// Returns whether this process has the effective capability number `capability`.
pub(crate) fn has_capability(root: &Path, capability: u32) -> bool {
    let status = text(root, "proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    bits >> capability & 1 == 1
}

fn processor(cpuinfo: &str) -> String {
    // Most ARM kernels name no processor, but some name the board.
    let value = |key: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(key))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    value("model name").or_else(|| value("Model")).unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn governor(root: &Path) -> Option<String> {
    let of = |cpu| text(root, &format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"));
    let mut governors: Vec<String> = online_cpus(root).into_iter().filter_map(of).collect();
    governors.sort();
    governors.dedup();
    Some(governors.join(", ")).filter(|governors| !governors.is_empty())
}

/// Reads the kernel's preemption model from the most reliable source available: the model in force, else the one selected at
/// boot, else the one built in.
fn preemption(root: &Path, kernel: &str) -> Preemption {
    let version = text(root, "proc/version").unwrap_or_default();
    if text(root, "sys/kernel/realtime").as_deref() == Some("1")
        || version.contains("PREEMPT_RT")
        || version.contains("PREEMPT RT")
    {
        return Preemption::Realtime;
    }
    let in_force = text(root, "sys/kernel/debug/sched/preempt");
    let in_force = in_force.as_deref().and_then(|modes| modes.split_once('(')?.1.split_once(')'));
    if let Some(mode) = in_force.and_then(|(mode, _)| preemption_named(mode)) {
        return mode;
    }
    let is_dynamic = version.contains("PREEMPT_DYNAMIC");
    let asked = text(root, "proc/cmdline").unwrap_or_default();
    let asked = asked.split_whitespace().filter_map(|word| word.strip_prefix("preempt=")).next_back();
    if let Some(mode) = asked.filter(|_| is_dynamic).and_then(preemption_named) {
        return mode;
    }
    let built = [format!("boot/config-{kernel}"), format!("lib/modules/{kernel}/config")];
    if let Some(mode) = built.iter().find_map(|path| preemption_built(&text(root, path)?)) {
        return mode;
    }
    match version {
        _ if is_dynamic => Preemption::Dynamic,
        version if version.split_whitespace().any(|word| word == "PREEMPT") => Preemption::Full,
        _ => Preemption::VoluntaryOrNone,
    }
}

fn preemption_named(mode: &str) -> Option<Preemption> {
    match mode {
        "full" => Some(Preemption::Full),
        "lazy" => Some(Preemption::Lazy),
        "voluntary" => Some(Preemption::Voluntary),
        "none" => Some(Preemption::None),
        _ => None,
    }
}

fn preemption_built(config: &str) -> Option<Preemption> {
    let modes = [
        ("CONFIG_PREEMPT_RT=y", Preemption::Realtime),
        ("CONFIG_PREEMPT_NONE=y", Preemption::None),
        ("CONFIG_PREEMPT_VOLUNTARY=y", Preemption::Voluntary),
        ("CONFIG_PREEMPT_LAZY=y", Preemption::Lazy),
        ("CONFIG_PREEMPT=y", Preemption::Full),
    ];
    modes.into_iter().find(|(line, _)| config.lines().any(|l| l.trim() == *line)).map(|(_, mode)| mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preemption_of(files: &[(&str, &str)]) -> Preemption {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        preemption(root.path(), "6.1.0")
    }

    #[test]
    fn cpu_lists_are_read_as_the_kernel_writes_them() {
        let cases: [(&str, &[usize]); 6] = [
            ("0", &[0]),
            ("0-3", &[0, 1, 2, 3]),
            ("1,4-5,9", &[1, 4, 5, 9]),
            ("", &[]),
            ("(null)", &[]),
            ("3-1", &[]),
        ];
        for (list, cpus) in cases {
            assert_eq!(cpu_list(list), cpus, "{list}");
        }
    }

    #[test]
    fn the_preemption_model_is_what_is_in_force() {
        const DYNAMIC: (&str, &str) = ("proc/version", "Linux version 6.1.0 #1 SMP PREEMPT_DYNAMIC Debian");
        const BUILT: (&str, &str) =
            ("boot/config-6.1.0", "CONFIG_PREEMPT_VOLUNTARY=y\nCONFIG_PREEMPT_DYNAMIC=y");
        const ASKED: (&str, &str) = ("proc/cmdline", "quiet preempt=none ro preempt=full");
        const IN_FORCE: (&str, &str) = ("sys/kernel/debug/sched/preempt", "none voluntary full (lazy)");
        let cases: [(&[(&str, &str)], Preemption); 9] = [
            (&[("sys/kernel/realtime", "1\n"), DYNAMIC], Preemption::Realtime),
            (&[("proc/version", "Linux version 6.1.0-rt #1 SMP PREEMPT_RT")], Preemption::Realtime),
            (&[DYNAMIC], Preemption::Dynamic),
            (&[DYNAMIC, BUILT], Preemption::Voluntary),
            (&[DYNAMIC, BUILT, ASKED], Preemption::Full),
            (&[DYNAMIC, BUILT, ASKED, IN_FORCE], Preemption::Lazy),
            (&[("proc/version", "Linux version 6.1.0 #1 SMP PREEMPT Debian")], Preemption::Full),
            // A kernel whose model is fixed ignores the command line.
            (&[("proc/version", "Linux version 6.1.0 #1 SMP Debian"), ASKED], Preemption::VoluntaryOrNone),
            (&[], Preemption::VoluntaryOrNone),
        ];
        for (files, expected) in cases {
            assert_eq!(preemption_of(files), expected, "{files:?}");
        }
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read();
        assert!(machine.cpus >= 1 && !machine.cpu.is_empty() && machine.kernel != "unknown", "{machine:?}");
    }
}
