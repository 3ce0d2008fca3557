use super::examine::examine;
use super::facts::{Facts, IdleState};
use super::libraries::{self, Library, Loaded};
use super::*;
use crate::host::machine::Preemption;
use crate::host::realtime::RealtimeSettings;

/// Limits of an ordinary user's program, as `/proc/self/limits` shows them.
const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max locked memory         8388608              8388608              bytes     \n\
                      Max realtime priority     0                    0                              \n";

const LIMITS_LIFTED: &str = "Max locked memory         unlimited            unlimited            bytes     \n\
                             Max realtime priority     95                   95\n";

const RIG: &[(&str, &str)] = &[
    ("proc/cpuinfo", "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) W-2245\nflags\t\t: fpu tsc sse2\n"),
    ("proc/sys/kernel/osrelease", "6.1.0-18-rt-amd64\n"),
    ("proc/version", "Linux version 6.1.0-18-rt-amd64 #1 SMP PREEMPT_RT Debian 6.1.76-1\n"),
    ("proc/self/limits", LIMITS_LIFTED),
    ("proc/self/status", "CapEff:\t0000000000000000\nCpus_allowed_list:\t0-5\n"),
    ("proc/self/cgroup", "0::/user.slice/user-1000.slice/session-2.scope\n"),
    ("proc/sys/kernel/sched_rt_runtime_us", "950000\n"),
    ("proc/sys/kernel/sched_rt_period_us", "1000000\n"),
    ("proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"),
    ("proc/sys/vm/swappiness", "60\n"),
    ("sys/kernel/realtime", "1\n"),
    ("sys/fs/cgroup/user.slice/cpuset.cpus.effective", "0-7\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ("sys/devices/system/cpu/online", "0-7\n"),
    ("sys/devices/system/cpu/isolated", "6-7\n"),
    ("sys/devices/system/cpu/nohz_full", "6-7\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/cpu/cpu7/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state0/name", "POLL\n"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state0/latency", "0\n"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state0/disable", "0\n"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state1/name", "C1\n"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state1/latency", "2\n"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state1/disable", "0\n"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state2/name", "C6\n"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state2/latency", "133\n"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state2/disable", "1\n"),
];

/// Files of a laptop, which override those of the rig.
const LAPTOP: &[(&str, &str)] = &[
    ("proc/sys/kernel/osrelease", "6.8.0-45-generic\n"),
    ("proc/version", "Linux version 6.8.0-45-generic #45-Ubuntu SMP PREEMPT_DYNAMIC\n"),
    ("boot/config-6.8.0-45-generic", "CONFIG_PREEMPT_VOLUNTARY=y\n# CONFIG_PREEMPT is not set\n"),
    ("proc/self/limits", LIMITS),
    ("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/swap.img          file\t\t4194300\t0\t-2\n"),
    ("sys/kernel/realtime", ""),
    ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n"),
    ("sys/devices/system/clocksource/clocksource0/available_clocksource", "hpet acpi_pm \n"),
    ("sys/devices/system/cpu/isolated", "\n"),
    ("sys/devices/system/cpu/nohz_full", "(null)\n"),
    ("sys/devices/system/cpu/cpu7/cpufreq/scaling_governor", "powersave\n"),
    ("sys/devices/system/cpu/cpu0/cpuidle/state2/disable", "0\n"),
];

fn loaded(path: &str, version: (u32, u32)) -> Library {
    Library { is_needed: false, found: Ok(Loaded { path: path.to_owned(), version }) }
}

fn absent(name: &str, is_needed: bool) -> Library {
    Library { is_needed, found: Err(format!("{name}: cannot open shared object file")) }
}

/// Facts of a machine with these files; later files override earlier ones.
fn facts(files: &[&[(&str, &str)]]) -> Facts {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files.iter().copied().flatten() {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let onnxruntime = loaded("/usr/lib/libonnxruntime.so", (1, 23));
    Facts::read(root.path(), onnxruntime, loaded("/usr/lib/liblsl.so", (1, 16)))
}

fn tuned() -> RealtimeSettings {
    RealtimeSettings { priority: 60, cpus: vec![7], lock_memory: true, ..RealtimeSettings::default() }
}

/// `severity name: found` of each finding that is not ok.
fn amiss(findings: &[Finding]) -> Vec<String> {
    let amiss = findings.iter().filter(|finding| finding.severity != Severity::Ok);
    amiss.map(|Finding { name, severity, found, .. }| format!("{severity} {name}: {found}")).collect()
}

fn report(findings: Vec<Finding>) -> Diagnosis {
    Diagnosis { version: "0", machine: facts(&[RIG]).machine, findings }
}

fn mend<'a>(findings: &'a [Finding], name: &str) -> &'a str {
    findings.iter().find(|finding| finding.name == name).unwrap().mend.as_deref().unwrap()
}

#[test]
fn a_tuned_rig_has_nothing_to_mend() {
    let facts = facts(&[RIG]);
    assert_eq!(facts.machine.preemption, Preemption::Realtime);
    assert_eq!(facts.idle_states.last(), Some(&IdleState { name: "C1".to_owned(), latency_us: 2 }));
    let findings = examine(&facts, &tuned());
    assert_eq!(amiss(&findings), Vec::<String>::new());
    assert!(findings.iter().all(|finding| finding.mend.is_none()));
    assert_eq!(report(findings).exit_status(), 0);
}

#[test]
fn a_laptop_hears_what_makes_its_bins_late() {
    let facts = facts(&[RIG, LAPTOP]);
    let findings = examine(&facts, &RealtimeSettings::default());
    assert_eq!(
        amiss(&findings),
        [
            "note real-time priority: none allowed here, none asked for",
            "note locked memory: limit 8192 KB, not asked for",
            "warning preemption: voluntary",
            "note isolated cpus: none",
            "warning cpu governor: performance, powersave",
            "note idle states: C6 at the deepest, 133 us to wake",
            "warning clock source: hpet",
            "warning swap: /swap.img, swappiness 60",
            "warning huge pages: always",
        ]
    );
    assert!(mend(&findings, "real-time priority").starts_with("echo \"$USER - rtprio 80\" | sudo tee -a"));
    assert!(mend(&findings, "preemption").starts_with("preempt=full"));
    assert!(mend(&findings, "isolated cpus").ends_with("and cpus = [7] in [realtime] of ndtd.toml"));
    assert!(mend(&findings, "cpu governor").starts_with("echo performance | sudo tee"));
    assert!(mend(&findings, "clock source").contains("dmesg"), "tsc cannot be chosen");
    assert!(mend(&findings, "swap").starts_with("sudo swapoff -a"));
    assert_eq!(report(findings).exit_status(), 1);
}

#[test]
fn what_is_asked_for_and_not_permitted_is_a_problem() {
    let facts = facts(&[RIG, LAPTOP]);
    let findings = examine(&facts, &RealtimeSettings { cpus: vec![7, 8], ..tuned() });
    let problems = findings.iter().filter(|finding| finding.severity == Severity::Problem);
    let problems: Vec<_> = problems.map(|finding| finding.name).collect();
    assert_eq!(problems, ["real-time priority", "locked memory", "cpus"]);
    assert_eq!(report(findings).exit_status(), 2);
}

#[test]
fn a_virtual_machine_is_not_blamed_for_what_its_host_decides() {
    const VIRTUAL: &[(&str, &str)] = &[
        ("proc/cpuinfo", "model name\t: AMD EPYC\nflags\t\t: fpu hypervisor\n"),
        ("proc/sys/kernel/osrelease", "6.12.0\n"),
        ("proc/version", "Linux version 6.12.0 #1 SMP PREEMPT_DYNAMIC\n"),
        ("proc/cmdline", "console=ttyS0 preempt=full\n"),
        ("proc/self/limits", LIMITS),
        ("proc/self/status", "CapEff:\t000001ffffffffff\n"),
        ("sys/devices/system/cpu/online", "0-1\n"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "kvm-clock\n"),
    ];
    let facts = facts(&[VIRTUAL]);
    assert!(facts.machine.virtual_machine && facts.machine.governor.is_none());
    let findings = examine(&facts, &RealtimeSettings::default());
    assert_eq!(
        amiss(&findings),
        [
            "note real-time priority: up to 99 allowed here, none asked for",
            "note locked memory: no limit, not asked for"
        ],
        "root's capabilities stand above its limits"
    );
    let settings = RealtimeSettings { cpus: vec![1], ..tuned() };
    assert_eq!(amiss(&examine(&facts, &settings)), Vec::<String>::new());
}

#[test]
fn what_the_installed_unit_grants_counts_and_not_what_root_may() {
    const ROOT: &[(&str, &str)] = &[("proc/self/status", "CapEff:\t000001ffffffffff\n")];
    const UNIT: &[(&str, &str)] = &[(
        "etc/systemd/system/ndtd.service",
        "[Service]\nDynamicUser=yes\nLimitRTPRIO=80\nLimitMEMLOCK=64M\n",
    )];
    let settings = RealtimeSettings { priority: 90, ..tuned() };
    let of = |files: &[&[(&str, &str)]]| amiss(&examine(&facts(files), &settings));
    assert_eq!(
        of(&[RIG, ROOT, UNIT]),
        [
            "problem real-time priority: 90 asked for, up to 80 allowed by /etc/systemd/system/ndtd.service",
            "problem locked memory: asked for, limit 65536 KB by /etc/systemd/system/ndtd.service",
        ]
    );
    assert_eq!(
        of(&[RIG, ROOT]),
        Vec::<String>::new(),
        "the unit that comes with ndtd grants as much as root may"
    );
    // A person without limits of his own may ask too.
    let settings = RealtimeSettings { priority: 80, lock_memory: false, ..tuned() };
    let findings = examine(&facts(&[RIG, LAPTOP, UNIT]), &settings);
    let priority = findings.iter().find(|finding| finding.name == "real-time priority").unwrap();
    assert_eq!(priority.severity, Severity::Ok);
}

#[test]
fn a_machine_that_says_nothing_is_no_error() {
    let findings = examine(&facts(&[]), &tuned());
    assert!(findings.iter().all(|finding| finding.severity < Severity::Problem), "{findings:#?}");
}

#[test]
fn single_facts_are_judged() {
    type Change = fn(&mut Facts, &mut RealtimeSettings);
    let cases: [(Change, &[&str]); 18] = [
        (
            |facts, _| facts.realtime_runtime_us = Some(-1),
            &["note real-time throttling: off: a real-time thread that spins keeps its CPU"],
        ),
        (
            |facts, _| facts.realtime_runtime_us = Some(0),
            &["problem real-time throttling: no time at all for real-time threads"],
        ),
        (
            |facts, _| facts.realtime_runtime_us = Some(200_000),
            &["warning real-time throttling: at 20 % of every 1000 ms"],
        ),
        (
            |facts, _| facts.granted = vec![0, 1, 2],
            &["problem cpus: cpus = [7] asked for, only 0-2 granted here"],
        ),
        (
            |_, settings| settings.cpus = vec![],
            &["note cpus: 8 online, the threads on any of them", "warning isolated cpus: 6-7, not used"],
        ),
        (|_, settings| settings.cpus = vec![6, 7], &["note cpus: 8 online, cpus = [6, 7] asked for"]),
        (|_, settings| settings.cpus = vec![0], &["note isolated cpus: 6-7, cpus = [0] asked for"]),
        (|_, settings| settings.cpus = vec![5], &["note isolated cpus: 6-7, cpus = [5] asked for"]),
        (|facts, _| facts.tickless = vec![], &["note isolated cpus: 6-7, with a timer tick"]),
        (|facts, _| facts.machine.preemption = Preemption::Lazy, &[]),
        (|facts, _| facts.machine.clocksource = Some("hyperv_clocksource_tsc_page".to_owned()), &[]),
        (
            |facts, _| facts.onnxruntime = absent("libonnxruntime.so", false),
            &["note ONNX Runtime: libonnxruntime.so: cannot open shared object file"],
        ),
        (
            |facts, _| facts.onnxruntime = absent("/opt/ort.so", true),
            &["problem ONNX Runtime: /opt/ort.so: cannot open shared object file"],
        ),
        (
            |facts, _| facts.onnxruntime = loaded("/usr/lib/libonnxruntime.so", (1, 21)),
            &["note ONNX Runtime: 1.21 in /usr/lib/libonnxruntime.so, older than 1.23"],
        ),
        (|facts, _| facts.onnxruntime_cuda = Some(true), &[]),
        (
            |facts, _| facts.onnxruntime_cuda = Some(false),
            &["problem ONNX Runtime: 1.23 in /usr/lib/libonnxruntime.so, without the CUDA provider that \
               provider = \"cuda\" asks for"],
        ),
        (
            |facts, _| facts.liblsl = absent("liblsl.so", false),
            &["note liblsl: liblsl.so: cannot open shared object file"],
        ),
        (
            |facts, _| facts.liblsl = absent("liblsl.so", true),
            &["problem liblsl: liblsl.so: cannot open shared object file"],
        ),
    ];
    for (change, expected) in cases {
        let (mut facts, mut settings) = (facts(&[RIG]), tuned());
        change(&mut facts, &mut settings);
        assert_eq!(amiss(&examine(&facts, &settings)), expected);
    }
}

#[test]
fn a_program_that_forbids_deep_sleep_is_seen() {
    let mut facts = facts(&[RIG, LAPTOP]);
    facts.wake_us_held = Some(0);
    let findings = examine(&facts, &tuned());
    let idle = findings.iter().find(|finding| finding.name == "idle states").unwrap();
    assert_eq!(
        (idle.severity, idle.found.as_str()),
        (Severity::Ok, "held to 0 us through /dev/cpu_dma_latency")
    );
}

#[test]
fn a_library_that_is_not_there_or_no_such_library_says_so() {
    let library = libraries::onnxruntime(Some("/nonexistent/libonnxruntime.so".into()), false);
    assert!(library.is_needed, "what was named is wanted");
    let says = library.found.unwrap_err();
    assert!(says.contains("/nonexistent/libonnxruntime.so") && says.contains("No such file"), "{says}");
    // The C library is on every machine, and is no ONNX Runtime.
    let says = libraries::onnxruntime(Some("libc.so.6".into()), false).found.unwrap_err();
    assert!(says.contains("OrtGetApiBase"), "{says}");
}

#[test]
fn the_cuda_provider_is_looked_for_beside_the_library() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libonnxruntime.so.1.31.1").display().to_string();
    let library = Loaded { path, version: (1, 31) };
    assert!(!library.has_cuda());
    std::fs::write(folder.path().join("libonnxruntime_providers_cuda.so"), []).unwrap();
    assert!(library.has_cuda());
}

#[test]
fn the_report_reads_well_and_its_json_keeps_its_keys() {
    let finding = |severity, mend: Option<&str>| Finding {
        name: "swap",
        severity,
        found: "/swap.img".to_owned(),
        why: "pages",
        mend: mend.map(str::to_owned),
    };
    let report = report(vec![finding(Severity::Warning, Some("swapoff")), finding(Severity::Ok, None)]);
    assert_eq!(
        report.to_string(),
        "ndtd 0 on Linux 6.1.0-18-rt-amd64: Intel(R) Xeon(R) W-2245, 8 CPUs\n\n\
         warning  swap  /swap.img\n           why   pages\n           mend  swapoff\n\
         ok       swap  /swap.img\n\n\
         ok 1, note 0, warning 1, problem 0"
    );
    assert_eq!(
        serde_json::to_string(&report).unwrap(),
        r#"{"version":"0","machine":{"cpu":"Intel(R) Xeon(R) W-2245","cpus":8,"virtual-machine":false,"#
            .to_owned()
            + r#""kernel":"6.1.0-18-rt-amd64","preemption":"realtime","governor":"performance","#
            + r#""clocksource":"tsc"},"findings":[{"name":"swap","severity":"warning","found":"/swap.img","#
            + r#""why":"pages","mend":"swapoff"},{"name":"swap","severity":"ok","found":"/swap.img","#
            + r#""why":"pages","mend":null}]}"#
    );
}

#[test]
fn a_configuration_that_cannot_be_used_is_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ndtd.toml");
    let of = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let finding = examine_this_machine(Some(&path), None, None).findings.remove(0);
        assert_eq!(finding.name, "configuration");
        (finding.severity, finding.found)
    };
    assert_eq!(of("[realtime]\npriority = 0").0, Severity::Ok);
    let (severity, found) = of("[realtime]\npriority = 99");
    assert_eq!(severity, Severity::Problem);
    assert_eq!(found, "expected a realtime.priority of 0, or from 4 to 95, found 99");
    let (severity, found) = of("[realtime]\nprio = 99");
    assert_eq!(severity, Severity::Problem);
    assert!(found.contains("unknown field `prio`"), "{found}");
    assert_eq!(examine_this_machine(None, None, None).findings[0].severity, Severity::Note);
}

#[test]
fn a_bundle_that_is_not_there_is_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ndtd.toml");
    std::fs::write(&path, "bundle = \"/nowhere/model\"\n").unwrap();
    let findings = examine_this_machine(Some(&path), None, None).findings;
    let bundle = findings.iter().find(|finding| finding.name == "bundle").unwrap();
    assert_eq!(bundle.severity, Severity::Problem);
    assert!(bundle.found.contains("/nowhere/model"), "{}", bundle.found);
}
