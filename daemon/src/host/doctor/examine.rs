//! What the facts mean for latency: permissions, the kernel and memory here, the CPUs in `processors`.
//!
//! A pure function of the facts and of `[realtime]`. What is asked for and will not happen is a problem, what makes
//! estimates late is a warning, what could be better is a note.

mod processors;

use super::facts::Facts;
use super::libraries::{Library, Loaded};
use super::{Finding, Severity};
use crate::host::machine::Preemption;
use crate::host::realtime::RealtimeSettings;

/// Oldest version of ONNX Runtime whose interface the engine uses.
const ONNXRUNTIME_MIN: (u32, u32) = (1, 23);

/// Judges the facts, in the order in which one sets up a rig.
pub fn examine(facts: &Facts, settings: &RealtimeSettings) -> Vec<Finding> {
    vec![
        priority(facts, settings),
        locked_memory(facts, settings),
        throttling(facts, settings),
        preemption(facts, settings),
        processors::cpus(facts, settings),
        processors::isolated_cpus(facts, settings),
        processors::governor(facts),
        processors::idle_states(facts),
        processors::clock_source(facts),
        swap(facts, settings),
        huge_pages(facts),
        onnxruntime(facts),
        liblsl(&facts.liblsl),
    ]
}

/// Name and reason of a check, which each finding of this check repeats.
struct Check {
    name: &'static str,
    why: &'static str,
}

impl Check {
    fn ok(self, found: impl Into<String>) -> Finding {
        Finding { name: self.name, severity: Severity::Ok, found: found.into(), why: self.why, mend: None }
    }

    fn finds(self, severity: Severity, found: impl Into<String>, mend: impl Into<String>) -> Finding {
        let mend = Some(mend.into()).filter(|mend: &String| !mend.is_empty());
        Finding { severity, mend, ..self.ok(found) }
    }
}

/// Says how to raise a limit for the user who is logged in, and for a service.
fn lift(limit: &str, value: &str, unit: &str) -> String {
    format!(
        "echo \"$USER - {limit} {value}\" | sudo tee -a /etc/security/limits.d/ndtd.conf, and log in again; \
         for a service {unit} in its unit"
    )
}

fn priority(facts: &Facts, settings: &RealtimeSettings) -> Finding {
    let check = Check {
        name: "real-time priority",
        why: "with a SCHED_FIFO priority no other program delays a bin; a systemd unit has its own limit, \
              LimitRTPRIO=",
    };
    let asked = settings.priority;
    // Where a unit is installed, ndtd runs with the limits of the unit, and not with those of whoever asks.
    let (max, place) = match &facts.unit {
        Some(unit) => (unit.priority_max, format!("by {}", unit.path)),
        None => (facts.priority_max, "here".to_owned()),
    };
    let limit = asked.max(80);
    let lift = lift("rtprio", &limit.to_string(), &format!("LimitRTPRIO={limit}"));
    let allowed =
        if max == 0 { format!("none allowed {place}") } else { format!("up to {max} allowed {place}") };
    match asked {
        0 if max == 0 => check.finds(Severity::Note, format!("{allowed}, none asked for"), lift),
        0 => {
            let mend = "priority = 60 in [realtime] of ndtd.toml";
            check.finds(Severity::Note, format!("{allowed}, none asked for"), mend)
        }
        _ if u64::try_from(asked).is_ok_and(|asked| asked <= max) => {
            check.ok(format!("{asked} asked for, {allowed}"))
        }
        _ => check.finds(Severity::Problem, format!("{asked} asked for, {allowed}"), lift),
    }
}

fn locked_memory(facts: &Facts, settings: &RealtimeSettings) -> Finding {
    let check = Check {
        name: "locked memory",
        why: "a page that was swapped out costs a bin the time of a disk read; a systemd unit has its own \
              limit, LimitMEMLOCK=",
    };
    let lift = lift("memlock", "unlimited", "LimitMEMLOCK=infinity");
    let (lockable_kb, place) = match &facts.unit {
        Some(unit) => (unit.lockable_kb, format!(" by {}", unit.path)),
        None => (facts.lockable_kb, String::new()),
    };
    let limit =
        lockable_kb.map_or(format!("no limit{place}"), |kilobytes| format!("limit {kilobytes} KB{place}"));
    match (settings.lock_memory, lockable_kb) {
        (true, None) => check.ok(format!("asked for, {limit}")),
        (true, Some(_)) => check.finds(Severity::Problem, format!("asked for, {limit}"), lift),
        (false, None) => {
            let mend = "lock-memory = true in [realtime] of ndtd.toml";
            check.finds(Severity::Note, format!("{limit}, not asked for"), mend)
        }
        (false, Some(_)) => check.finds(Severity::Note, format!("{limit}, not asked for"), lift),
    }
}

fn throttling(facts: &Facts, settings: &RealtimeSettings) -> Finding {
    let check = Check {
        name: "real-time throttling",
        why: "the kernel stops real-time threads that take more than this share: a safety net, far above \
              what decoding takes",
    };
    let mend =
        "sudo sysctl -w kernel.sched_rt_runtime_us=950000, and the same line in /etc/sysctl.d/ndtd.conf";
    let period = facts.realtime_period_us.max(1);
    match facts.realtime_runtime_us {
        None => check.ok("not in this kernel"),
        Some(-1) => check.finds(Severity::Note, "off: a real-time thread that spins keeps its CPU", mend),
        Some(0) if settings.priority > 0 => {
            check.finds(Severity::Problem, "no time at all for real-time threads", mend)
        }
        Some(runtime) => {
            let percent = runtime * 100 / period;
            let severity = if percent < 50 { Severity::Warning } else { Severity::Ok };
            let found = format!("at {percent} % of every {} ms", period / 1000);
            if severity == Severity::Ok { check.ok(found) } else { check.finds(severity, found, mend) }
        }
    }
}

fn preemption(facts: &Facts, settings: &RealtimeSettings) -> Finding {
    let check = Check {
        name: "preemption",
        why: "a bin waits until the kernel gives up the CPU: microseconds with PREEMPT_RT or full, \
              milliseconds with none",
    };
    let model = facts.machine.preemption;
    let full = "preempt=full on the kernel's command line";
    match model {
        Preemption::Realtime | Preemption::Full => check.ok(model.to_string()),
        Preemption::Lazy if settings.priority > 0 => check.ok("lazy, which is full for real-time threads"),
        Preemption::Lazy => check.finds(Severity::Note, model.to_string(), full),
        Preemption::Dynamic => {
            let mend = format!("sudo cat /sys/kernel/debug/sched/preempt shows it, {full} settles it");
            check.finds(Severity::Note, model.to_string(), mend)
        }
        Preemption::Voluntary | Preemption::None | Preemption::VoluntaryOrNone => {
            let mend = format!(
                "{full} where uname -v says PREEMPT_DYNAMIC, else a real-time kernel: sudo apt install \
                 linux-image-rt-amd64 (Debian), sudo pro enable realtime-kernel (Ubuntu)"
            );
            check.finds(Severity::Warning, model.to_string(), mend)
        }
    }
}

fn swap(facts: &Facts, settings: &RealtimeSettings) -> Finding {
    let check = Check {
        name: "swap",
        why: "a page that was swapped out is read back from disk within a bin; locked memory stays, other \
              programs of the rig still stall",
    };
    if facts.swaps.is_empty() {
        return check.ok("none");
    }
    let swappiness = facts.swappiness.map_or_else(String::new, |value| format!(", swappiness {value}"));
    let found = format!("{}{swappiness}", facts.swaps.join(", "));
    let severity = if settings.lock_memory { Severity::Note } else { Severity::Warning };
    check.finds(severity, found, "sudo swapoff -a, and a # before its line in /etc/fstab")
}

fn huge_pages(facts: &Facts) -> Finding {
    let check = Check {
        name: "huge pages",
        why: "the kernel gathers memory into huge pages for every program, and stops threads while it moves \
              theirs",
    };
    match facts.huge_pages.as_deref() {
        Some("always") => check.finds(
            Severity::Warning,
            "always",
            "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled; for good with \
             transparent_hugepage=madvise on the kernel's command line",
        ),
        Some(choice) => check.ok(choice),
        None => check.ok("not in this kernel"),
    }
}

fn onnxruntime(facts: &Facts) -> Finding {
    let library = &facts.onnxruntime;
    let check = Check {
        name: "ONNX Runtime",
        why: "only engine = \"onnx\" uses it; the native engine needs nothing",
    };
    let severity = if library.is_needed { Severity::Problem } else { Severity::Note };
    match &library.found {
        Ok(Loaded { path, version }) if *version >= ONNXRUNTIME_MIN => {
            let found = format!("{}.{} in {path}", version.0, version.1);
            match facts.onnxruntime_cuda {
                None => check.ok(found),
                Some(true) => check.ok(format!("{found}, with its CUDA provider")),
                Some(false) => check.finds(
                    Severity::Problem,
                    format!("{found}, without the CUDA provider that provider = \"cuda\" asks for"),
                    "pip install 'onnxruntime-gpu[cuda,cudnn]', and onnxruntime-library = its \
                     onnxruntime/capi/libonnxruntime.so.* in ndtd.toml, beside which \
                     libonnxruntime_providers_cuda.so lies",
                ),
            }
        }
        Ok(Loaded { path, version }) => {
            let (major, minor) = ONNXRUNTIME_MIN;
            let found = format!("{}.{} in {path}, older than {major}.{minor}", version.0, version.1);
            check.finds(severity, found, "pip install --upgrade onnxruntime")
        }
        Err(says) => check.finds(
            severity,
            says.clone(),
            "pip install onnxruntime, and onnxruntime-library = its onnxruntime/capi/libonnxruntime.so.* in \
             ndtd.toml",
        ),
    }
}

fn liblsl(library: &Library) -> Finding {
    let check =
        Check { name: "liblsl", why: "only streams of the Lab Streaming Layer need it; ZeroMQ does not" };
    let severity = if library.is_needed { Severity::Problem } else { Severity::Note };
    match &library.found {
        Ok(Loaded { path, version }) => check.ok(format!("{}.{} in {path}", version.0, version.1)),
        Err(says) => check.finds(
            severity,
            says.clone(),
            "pip install pylsl, and library = its pylsl/lib/liblsl.so in [lsl] of ndtd.toml",
        ),
    }
}
