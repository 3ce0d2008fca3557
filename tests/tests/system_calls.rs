//! Which system calls the real-time threads make for a bin, and what they wait for, as `strace` sees it: each thread sleeps on a word
//! of its own and never on a lock that another thread may hold.

use ndt_tests::free_address;
use ndt_tests::lsl::{Running, Session, bundle, daemon, script, usual_ids};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

/// Silent bins that the daemon waits for: more than the rig of this test is late on a busy machine.
const NEVER_STALE: u64 = 256;
/// Bins that are watched, at least.
const BINS: usize = 200;

/// What a thread may do for a bin beside that: wait for a message, and wake the transport's own thread.
const ALLOWED: [(&str, &[&str]); 3] = [
    ("ndt-source", &["poll", "read", "write", "getpid", "sched_yield"]),
    ("ndt-decode", &["sched_yield"]),
    ("ndt-publish", &["poll", "read", "write", "getpid", "sched_yield"]),
];

/// What each of them may do: sleep on a word, wake another thread, and go on with a sleep that `strace` has interrupted.
const ANYWHERE: [&str; 2] = ["futex", "restart_syscall"];

/// The calls of one thread.
#[derive(Default)]
struct Calls {
    /// Number of calls of each name.
    names: BTreeMap<String, usize>,
    /// Addresses of the words that the thread has slept on.
    slept_on: BTreeSet<String>,
}

/// The calls of each real-time thread in the output of `strace -f -Y`, by the thread's name.
fn calls(text: &str) -> BTreeMap<String, Calls> {
    let mut threads = BTreeMap::<String, Calls>::new();
    for line in text.lines() {
        // `1234<ndt-source> poll([{fd=9, ...`; the second half of a call that was interrupted begins with `<... `.
        let Some((thread, call)) = line.split_once('<').and_then(|(_, rest)| rest.split_once('>')) else {
            continue;
        };
        let call = call.trim_start();
        let Some((name, arguments)) = call.split_once('(').filter(|_| !call.starts_with('<')) else {
            continue;
        };
        let of_thread = threads.entry(thread.to_owned()).or_default();
        *of_thread.names.entry(name.to_owned()).or_default() += 1;
        if name == "futex" && arguments.contains("FUTEX_WAIT") {
            of_thread.slept_on.extend(arguments.split(',').next().map(str::to_owned));
        }
    }
    threads
}

/// What `strace` writes of a process while `BINS` bins are decoded; `None`, with the reason printed, where it cannot.
fn trace(process: &Running, folder: &Path) -> Option<String> {
    let path = folder.join("strace");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-Y", "-p", &process.id().to_string(), "-o"])
        .arg(&path)
        .stderr(Stdio::piped());
    let Ok(mut strace) = command.spawn() else {
        println!("skipped: this machine has no strace; tests/need-packages says how to get it");
        return None;
    };
    loop {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        // Each bin is one wake-up of the decode thread.
        if text
            .lines()
            .filter(|line| line.contains("<ndt-decode> futex(") && line.contains("FUTEX_WAKE"))
            .count()
            >= BINS
        {
            // SAFETY: a signal to a child that has not been waited for.
            unsafe { libc::kill(strace.id() as i32, libc::SIGINT) };
            strace.wait().unwrap();
            return Some(std::fs::read_to_string(&path).unwrap());
        }
        if strace.try_wait().unwrap().is_some() {
            let why = std::io::read_to_string(strace.stderr.take().unwrap()).unwrap();
            println!("skipped: strace may not watch a process here: {}", why.trim());
            return None;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn real_time_threads_sleep_on_words_of_their_own() {
    let session = Session::new();
    // A folder, from which the rig reads its channels.
    let model = session.folder().join("model");
    bundle(usual_ids()).write(&model).unwrap();
    let (input, output) = (free_address(), free_address());
    let sessions = session.folder().join("sessions");
    // Recording costs the real-time threads no call, and neither does a monitor, whose thread these threads never wake.
    let record = ["--record", sessions.to_str().unwrap(), "--monitor", "127.0.0.1:0"];
    let endpoints = ["--input", &input, "--output", &output];
    let mut daemon = daemon(&session, &model, NEVER_STALE, &[&endpoints[..], &record[..]].concat());
    let mut reader = script(&session, "read_estimates.py", &[&output, "--count", "100"]);
    let _reader_that_stays = script(&session, "read_estimates.py", &[&output, "--count", "100000"]);
    let _rig =
        script(&session, "first_rig.py", &[&input, "--bundle", model.to_str().unwrap(), "--seconds", "600"]);
    // The first sleeps and wake-ups are over.
    reader.wait_for("good");
    let Some(text) = trace(&daemon, session.folder()) else { return };
    let threads = calls(&text);
    let mut slept_on = BTreeSet::new();
    for (name, allowed) in ALLOWED {
        let thread = &threads[name];
        println!("{name}: {:?}, asleep on {:?}", thread.names, thread.slept_on);
        for call in thread.names.keys().filter(|call| !ANYWHERE.contains(&call.as_str())) {
            assert!(allowed.contains(&call.as_str()), "{name} called {call}");
        }
        // The source sleeps in `poll`, and the others on one word each.
        assert!(thread.slept_on.len() <= 1, "{name} slept on {:?}", thread.slept_on);
        for word in &thread.slept_on {
            assert!(slept_on.insert(word.clone()), "{name} slept on the word of another thread");
        }
    }
    daemon.signal(libc::SIGTERM);
    assert!(daemon.end(), "{:#?}", daemon.heard());
}
