//! Checks of the CPUs: how many there are, which programs use them, how fast they run, how deep they sleep, and which
//! clock they read.

use super::{Check, Facts, Finding, RealtimeSettings, Severity};
use crate::host::machine::cpu_ranges;

/// Longest wake-up latency of an idle CPU, us, that is not flagged: bins take tens of microseconds themselves.
const WAKE_US_MAX: u64 = 50;

/// Fewest CPUs of which one can be spared for the decoder alone.
const CPUS_TO_ISOLATE_MIN: usize = 4;

pub(super) fn cpus(facts: &Facts, settings: &RealtimeSettings) -> Finding {
    let check = Check {
        name: "cpus",
        why: "other programs run beside the decoder on other CPUs; its own threads wake each other for every bin, and a thread is woken \
              later on another CPU than on the same one",
    };
    let online = facts.online.len();
    let denied: Vec<_> = settings.cpus.iter().filter(|cpu| !facts.granted.contains(cpu)).collect();
    if !denied.is_empty() && !facts.granted.is_empty() {
        let found =
            format!("cpus = {:?} asked for, only {} granted here", settings.cpus, cpu_ranges(&facts.granted));
        let mend =
            "AllowedCPUs= in the unit, --cpuset-cpus for a container, or others for cpus in [realtime]";
        return check.finds(Severity::Problem, found, mend);
    }
    if online == 1 {
        return check.finds(
            Severity::Warning,
            "1 online",
            "give the virtual machine a second, or turn one on",
        );
    }
    // Without a real-time priority, one CPU would be shared with other programs.
    if settings.priority > 0 && settings.cpus.len() != 1 {
        let asked = match settings.cpus.len() {
            0 => "the threads on any of them".to_owned(),
            _ => format!("cpus = {:?} asked for", settings.cpus),
        };
        let last = settings.cpus.iter().chain(&facts.isolated).next_back().or(facts.online.last());
        let mend = format!("cpus = {:?} in [realtime]: one CPU for all threads", last.as_slice());
        return check.finds(Severity::Note, format!("{online} online, {asked}"), mend);
    }
    check.ok(format!("{online} online"))
}

pub(super) fn isolated_cpus(facts: &Facts, settings: &RealtimeSettings) -> Finding {
    let check = Check {
        name: "isolated cpus",
        why: "on a CPU of its own the decoder finds its caches warm and waits for no other program",
    };
    let (asked, isolated, online) = (&settings.cpus, &facts.isolated, &facts.online);
    let boot = |cpus: &[usize]| {
        let cpus = cpu_ranges(cpus);
        format!(
            "isolcpus=domain,managed_irq,{cpus} nohz_full={cpus} rcu_nocbs={cpus} on the kernel's command \
             line"
        )
    };
    match (asked.is_empty(), isolated.is_empty()) {
        (_, true) if online.len() < CPUS_TO_ISOLATE_MIN && !asked.contains(&0) => {
            check.ok(format!("none, and with {} none can be spared", online.len()))
        }
        (true, true) => {
            let last = &online[online.len() - 1..];
            let mend = format!("{}, and cpus = {last:?} in [realtime] of ndtd.toml", boot(last));
            check.finds(Severity::Note, "none", mend)
        }
        (true, false) => {
            let mend = format!("cpus = {:?} in [realtime] of ndtd.toml", &isolated[isolated.len() - 1..]);
            check.finds(Severity::Warning, format!("{}, not used", cpu_ranges(isolated)), mend)
        }
        (false, _) if !asked.iter().all(|cpu| isolated.contains(cpu)) => {
            let isolated = if isolated.is_empty() { "none".to_owned() } else { cpu_ranges(isolated) };
            // A real-time thread takes its CPU from other threads; a thread of normal priority cannot even move to
            // another CPU.
            let severity = if settings.priority > 0 { Severity::Note } else { Severity::Warning };
            let found = format!("{isolated}, cpus = {asked:?} asked for");
            if asked.contains(&0) {
                let mend = "others for cpus in [realtime]: CPU 0 keeps the system's time and its interrupts";
                return check.finds(severity, found, mend);
            }
            check.finds(severity, found, boot(asked))
        }
        (false, _) if !asked.iter().all(|cpu| facts.tickless.contains(cpu)) => {
            check.finds(Severity::Note, format!("{}, with a timer tick", cpu_ranges(isolated)), boot(asked))
        }
        (false, _) => check.ok(format!("{}, cpus = {asked:?} asked for", cpu_ranges(isolated))),
    }
}

pub(super) fn governor(facts: &Facts) -> Finding {
    let check = Check {
        name: "cpu governor",
        why: "between bins the CPU is idle and slows down, and the next bin comes before it is fast again",
    };
    match facts.machine.governor.as_deref() {
        Some("performance") => check.ok("performance"),
        Some(governors) => check.finds(
            Severity::Warning,
            governors,
            "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor, after each \
             boot",
        ),
        None if facts.machine.virtual_machine => check.ok("none: the host sets the clock rate"),
        None => check.ok("none: this kernel does not change the clock rate"),
    }
}

pub(super) fn idle_states(facts: &Facts) -> Finding {
    let check = Check {
        name: "idle states",
        why: "between bins the CPU sleeps; the deeper the sleep, the longer the wake-up for the next bin",
    };
    let deepest = facts.idle_states.iter().max_by_key(|state| state.latency_us);
    let held = facts.wake_us_held.map(i64::from);
    match (deepest, held) {
        (None, _) => check.ok("none that the kernel chooses"),
        (Some(state), _) if state.latency_us <= WAKE_US_MAX => {
            check.ok(format!("{} at the deepest, {} us to wake", state.name, state.latency_us))
        }
        (Some(_), Some(held)) if held <= WAKE_US_MAX as i64 => {
            check.ok(format!("held to {held} us through /dev/cpu_dma_latency"))
        }
        (Some(state), _) => check.finds(
            Severity::Note,
            format!("{} at the deepest, {} us to wake", state.name, state.latency_us),
            format!(
                "sudo cpupower idle-set --disable-by-latency {WAKE_US_MAX}, after each boot; or a program \
                 that holds /dev/cpu_dma_latency open with a 0 in it, such as tuned-adm profile \
                 latency-performance"
            ),
        ),
    }
}

pub(super) fn clock_source(facts: &Facts) -> Finding {
    let check = Check {
        name: "clock source",
        why: "each bin's four stamps read the clock: nanoseconds with tsc, a slow read of a device each with \
              hpet or acpi_pm",
    };
    let Some(name) = facts.machine.clocksource.as_deref() else {
        return check.finds(Severity::Note, "not known", "");
    };
    if ["tsc", "kvm-clock", "hyperv", "arch_sys_counter"].iter().any(|quick| name.starts_with(quick)) {
        return check.ok(name);
    }
    if !["hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies"].contains(&name) {
        return check.finds(Severity::Note, format!("{name}, of unknown cost"), "");
    }
    let mend = if facts.clocksources.iter().any(|source| source == "tsc") {
        "echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource; for good with \
         clocksource=tsc on the kernel's command line"
    } else {
        "sudo dmesg | grep -i tsc says why the kernel left it; if the firmware is known to be sound, \
         tsc=reliable on the kernel's command line"
    };
    check.finds(Severity::Warning, name, mend)
}
