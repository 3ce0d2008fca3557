use super::*;
use crate::config::Config;
use std::hint::black_box;

/// Applies `settings` to a new thread and runs `check` there.
fn entered<T: Send>(settings: &RealtimeSettings, check: impl FnOnce(Vec<Refused>) -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(|| check(enter(settings))).join().unwrap())
}

#[test]
fn a_thread_runs_where_it_was_pinned() {
    // A container may not grant CPU 0; the first allowed CPU can be asked for.
    let allowed = |cpus: Vec<usize>| {
        entered(&RealtimeSettings { cpus, ..RealtimeSettings::default() }, |refused| refused)
    };
    let first = machine::text(Path::new("/"), "proc/self/status").unwrap();
    let first = first.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let first = machine::cpu_list(first.trim())[0];
    let settings = RealtimeSettings { cpus: vec![first], ..RealtimeSettings::default() };
    let on = entered(&settings, |refused| {
        assert_eq!(refused, []);
        // SAFETY: a zeroed set of its own size, and the calling thread.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
            (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &set)).collect::<Vec<_>>()
        }
    });
    assert_eq!(on, [first]);
    for lacking in [1023, 1_000_000] {
        let [refused] = &allowed(vec![lacking])[..] else { panic!("CPU {lacking} was granted") };
        assert!(refused.to_string().contains("found invalid argument; set cpus to online ones"), "{refused}");
    }
    // The system grants the first CPU and silently leaves out the other.
    let [refused] = &allowed(vec![first, 1023])[..] else { panic!("CPU 1023 was granted") };
    assert!(refused.to_string().contains(&format!("found it on [{first}] alone")), "{refused}");
}

#[test]
fn what_is_refused_is_a_sentence_and_the_thread_runs_on() {
    let settings = RealtimeSettings { priority: 120, ..RealtimeSettings::default() };
    let refused = entered(&settings, |refused| refused);
    let [refused] = &refused[..] else { panic!("expected one refusal, found {refused:?}") };
    assert_eq!(
        refused.to_string(),
        "expected SCHED_FIFO priority 120 for this thread, found invalid argument; allow it with \
         LimitRTPRIO= in the unit or rtprio in /etc/security/limits.d"
    );
}

#[test]
fn a_permitted_priority_is_taken_and_one_that_is_not_says_why() {
    let settings = RealtimeSettings { priority: 1, ..RealtimeSettings::default() };
    // SAFETY: no arguments but the calling thread.
    let policy = |_: &[Refused]| unsafe { libc::sched_getscheduler(0) };
    let (refused, policy) = entered(&settings, |refused| (refused.clone(), policy(&refused)));
    match &refused[..] {
        [] => assert_eq!(policy, libc::SCHED_FIFO),
        refused => {
            assert_eq!(policy, libc::SCHED_OTHER);
            assert!(refused[0].to_string().contains("found operation not permitted"), "{}", refused[0]);
        }
    }
}

#[test]
fn the_stack_is_touched_as_deep_as_asked() {
    for kilobytes in [64, 256, PREFAULT_STACK_KB_MAX] {
        let here = 0u8;
        let depth = std::thread::scope(|scope| {
            let run = || {
                let here = black_box(&here) as *const u8;
                let mine = 0u8;
                let mine = black_box(&mine) as *const u8;
                assert_ne!(here, mine);
                mine.addr() - prefault_stack(kilobytes)
            };
            scope.spawn(run).join().unwrap()
        });
        assert!((kilobytes - 4) * 1024 <= depth && depth < 2 * kilobytes * 1024, "{kilobytes}: {depth}");
    }
}

#[test]
fn memory_is_locked_or_the_refusal_says_what_allows_it() {
    assert_eq!(memory::lock(&RealtimeSettings::default()), []);
    let refused = memory::lock(&RealtimeSettings { lock_memory: true, ..RealtimeSettings::default() });
    let locked = machine::text(Path::new("/"), "proc/self/status").unwrap();
    let locked = locked.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap().trim();
    match &refused[..] {
        [] => assert_ne!(locked, "0 kB"),
        refused => {
            assert_eq!(locked, "0 kB");
            assert!(refused[0].to_string().contains("allow it with LimitMEMLOCK=infinity"), "{}", refused[0]);
        }
    }
    // SAFETY: no arguments; the other tests need no locked memory.
    unsafe { libc::munlockall() };
}

#[test]
fn settings_are_read_from_their_table_and_unknown_keys_refused() {
    let text = "priority = 60\ncpus = [2, 3]\nlock-memory = true\nprefault-stack-kb = 512\n\
                timer-slack-ns = 0";
    let settings = RealtimeSettings {
        priority: 60,
        cpus: vec![2, 3],
        lock_memory: true,
        prefault_stack_kb: 512,
        timer_slack_ns: 0,
    };
    assert_eq!(toml::from_str::<RealtimeSettings>(text).unwrap(), settings);
    assert_eq!(toml::from_str::<RealtimeSettings>("").unwrap(), RealtimeSettings::default());
    let error = toml::from_str::<RealtimeSettings>("cpu = [1]").unwrap_err().to_string();
    assert!(error.contains("unknown field `cpu`"), "{error}");
}

#[test]
fn the_example_documents_the_defaults() {
    let example: Config = toml::from_str(include_str!("../../../ndtd.example.toml")).unwrap();
    assert_eq!(example.realtime, RealtimeSettings::default());
}

#[test]
fn every_value_that_cannot_be_is_named() {
    assert_eq!(RealtimeSettings::default().problems(), Vec::<String>::new());
    let settings = RealtimeSettings {
        priority: 96,
        cpus: vec![0, 7],
        prefault_stack_kb: 4096,
        timer_slack_ns: 2_000_000_000,
        ..RealtimeSettings::default()
    };
    assert_eq!(
        settings.problems_on(&[0, 1]),
        [
            "expected a realtime.priority of 0, or from 4 to 95, found 96",
            "expected at most 1024 for realtime.prefault-stack-kb, found 4096",
            "expected at most 1000000000 for realtime.timer-slack-ns, found 2000000000",
            "expected in realtime.cpus some of the online CPUs [0, 1], found also [7]",
        ]
    );
    assert_eq!(settings.problems_on(&[]).len(), 3, "a machine that does not list its CPUs");
}
