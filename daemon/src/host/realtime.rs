//! Real-time settings of a thread, as `[realtime]` of `ndtd.toml` chooses them.
//!
//! All settings lower latency, and decoding needs none of them. What the system does not permit stays as it was and
//! is returned as a [`Refused`], which says what would permit it. `ndtd doctor` tells it beforehand.

pub mod granted;
pub mod memory;

use crate::host::machine;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Highest priority that may be asked for: above it, the kernel's own watchdog and migration threads would have to
/// wait.
const PRIORITY_MAX: i32 = 95;

/// Most stack that may be touched beforehand, KB: half of a thread's stack.
const PREFAULT_STACK_KB_MAX: usize = 1024;

/// Numbers of CPUs that a set of the system can hold.
const CPUS: std::ops::Range<usize> = 0..libc::CPU_SETSIZE as usize;

/// Largest timer slack, ns: a second. More is a mistaken unit.
const TIMER_SLACK_NS_MAX: u64 = 1_000_000_000;

/// Steps below the configured priority of the publish thread, and of the threads that send what it publishes.
pub const PUBLISH: i32 = 0;
/// The same of the source thread, which takes in what the network has received.
pub const SOURCE: i32 = 1;
/// The same of the decode thread.
pub const DECODE: i32 = 2;
/// The same of the thread that receives from the network.
pub const RECEIVE: i32 = 3;

/// The table `[realtime]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RealtimeSettings {
    /// `SCHED_FIFO` priority of the publish thread, and the highest; 0 leaves all threads in the normal class. See
    /// [`RealtimeSettings::below`].
    pub priority: i32,
    /// CPUs on which these threads may run; empty for all.
    pub cpus: Vec<usize>,
    /// Whether all memory is locked, so that no thread ever waits for a page.
    pub lock_memory: bool,
    /// How much of each thread's stack is touched before the first bin, KB.
    pub prefault_stack_kb: usize,
    /// How late the kernel may end a sleep to save power, ns; 0 keeps the system's 50 microseconds.
    pub timer_slack_ns: u64,
}

/// A setting that the system did not permit, and what would permit it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The scheduling class or priority was refused.
    #[error(
        "expected SCHED_FIFO priority {priority} for this thread, found {found}; allow it with LimitRTPRIO= \
         in the unit or rtprio in /etc/security/limits.d"
    )]
    Priority {
        /// Priority that was asked for.
        priority: i32,
        /// Message of the system.
        found: String,
    },
    /// The CPUs were refused.
    #[error(
        "expected this thread on cpus = {cpus:?}, found {found}; set cpus to online ones that AllowedCPUs= \
         of the unit or its container grants"
    )]
    Cpus {
        /// CPUs that were asked for.
        cpus: Vec<usize>,
        /// Message of the system, or the CPUs that it gave.
        found: String,
    },
    /// Locked memory was refused.
    #[error(
        "expected all memory to be locked, found {found}; allow it with LimitMEMLOCK=infinity in the unit or \
         memlock unlimited in /etc/security/limits.d"
    )]
    Memory {
        /// Message of the system.
        found: String,
    },
    /// The timer slack was refused.
    #[error(
        "expected a timer slack of {nanoseconds} ns, found {found}; allow prctl in SystemCallFilter= of the \
         unit or set timer-slack-ns = 0"
    )]
    TimerSlack {
        /// Timer slack that was asked for, ns.
        nanoseconds: u64,
        /// Message of the system.
        found: String,
    },
}

impl Default for RealtimeSettings {
    fn default() -> Self {
        RealtimeSettings {
            priority: 0,
            cpus: Vec::new(),
            lock_memory: false,
            prefault_stack_kb: 256,
            timer_slack_ns: 1,
        }
    }
}

impl RealtimeSettings {
    /// The same settings with a priority that is lower by so many steps. A priority that would be below 1 is the normal class.
    ///
    /// A thread at a `SCHED_FIFO` priority is preempted by higher ones alone. So the guard, which answers whatever happens, comes first
    /// ([`PUBLISH`]), and the threads follow in the order in which something from outside could keep them busy: an engine that never
    /// returns must not keep bins from being seen, nor a flood of messages keep bins from being decoded.
    pub fn below(&self, steps: i32) -> RealtimeSettings {
        RealtimeSettings { priority: (self.priority - steps).max(0), ..self.clone() }
    }

    /// Returns a sentence for each value that cannot be used on this machine.
    pub fn problems(&self) -> Vec<String> {
        self.problems_on(&machine::online_cpus(Path::new("/")))
    }

    /// Returns a sentence for each value that cannot be used on a machine with the CPUs `online`. An empty list means
    /// that the machine does not say which CPUs it has.
    pub(crate) fn problems_on(&self, online: &[usize]) -> Vec<String> {
        let mut problems = Vec::new();
        let mut expect = |holds: bool, expected: String| {
            if !holds {
                problems.push(expected);
            }
        };
        expect(
            self.priority == 0 || (RECEIVE + 1..=PRIORITY_MAX).contains(&self.priority),
            format!(
                "expected a realtime.priority of 0, or from {} to {PRIORITY_MAX}, found {}",
                RECEIVE + 1,
                self.priority
            ),
        );
        expect(
            self.prefault_stack_kb <= PREFAULT_STACK_KB_MAX,
            format!(
                "expected at most {PREFAULT_STACK_KB_MAX} for realtime.prefault-stack-kb, found {}",
                self.prefault_stack_kb
            ),
        );
        expect(
            self.timer_slack_ns <= TIMER_SLACK_NS_MAX,
            format!(
                "expected at most {TIMER_SLACK_NS_MAX} for realtime.timer-slack-ns, found {}",
                self.timer_slack_ns
            ),
        );
        let missing: Vec<_> = self.cpus.iter().filter(|cpu| !online.contains(cpu)).collect();
        expect(
            missing.is_empty() || online.is_empty(),
            format!("expected in realtime.cpus some of the online CPUs {online:?}, found also {missing:?}"),
        );
        problems
    }
}

/// Applies the settings to the calling thread. The source, decode and publish threads call it first of all, once,
/// before the first bin.
///
/// Returns what the system refused, which the caller must report before the first bin.
pub fn enter(settings: &RealtimeSettings) -> Vec<Refused> {
    prefault_stack(settings.prefault_stack_kb);
    // The priority comes last, so that the other settings do not hold up other threads.
    let done =
        [set_timer_slack(settings.timer_slack_ns), pin(&settings.cpus), set_priority(settings.priority)];
    done.into_iter().filter_map(Result::err).collect()
}

/// Returns a sentence for each refusal, with the names of all threads that met it.
pub fn once_each(refused: &[(&'static str, Refused)]) -> Vec<String> {
    let mut told: Vec<(String, Vec<&str>)> = Vec::new();
    for (thread, refused) in refused {
        let sentence = refused.to_string();
        match told.iter_mut().find(|(said, _)| *said == sentence) {
            Some((_, threads)) => threads.push(thread),
            None => told.push((sentence, vec![thread])),
        }
    }
    told.into_iter().map(|(sentence, threads)| format!("{}: {sentence}", threads.join(", "))).collect()
}

/// Touches `kilobytes` KiB of the stack, so that the kernel maps them now and not by a page fault within a bin. Returns the
/// address of the last page.
fn prefault_stack(kilobytes: usize) -> usize {
    const PAGE: usize = 4096;
    /// Touches one page in each call, so that no more is touched than was asked for. Returns the address of the last
    /// page.
    #[inline(never)]
    fn touch(pages: usize) -> usize {
        let mut page = [0u8; PAGE];
        // Makes the optimiser treat the page as written here and read after the call, so that no frame is reused.
        std::hint::black_box(&mut page);
        let last = if pages > 1 { touch(pages - 1) } else { page.as_ptr().addr() };
        std::hint::black_box(&page);
        last
    }
    touch(kilobytes.div_ceil(PAGE / 1024))
}

fn set_timer_slack(nanoseconds: u64) -> Result<(), Refused> {
    if nanoseconds == 0 {
        return Ok(());
    }
    // SAFETY: PR_SET_TIMERSLACK takes one number and concerns the calling thread alone.
    match unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds as libc::c_ulong) } {
        0 => Ok(()),
        _ => Err(Refused::TimerSlack { nanoseconds, found: last_error() }),
    }
}

fn pin(cpus: &[usize]) -> Result<(), Refused> {
    if cpus.is_empty() {
        return Ok(());
    }
    let refused = |found: String| Refused::Cpus { cpus: cpus.to_vec(), found };
    // SAFETY: a set of all zeros is the empty one, CPU_SET stays within it for the numbers of `CPUS`, the call gets its size, and
    // 0 is the calling thread.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cpus.iter().filter(|cpu| CPUS.contains(cpu)).for_each(|cpu| libc::CPU_SET(*cpu, &mut set));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) != 0
    };
    if failed {
        return Err(refused(last_error()));
    }
    let got = cpus_of_this_thread();
    // The system silently leaves out CPUs that it does not grant.
    if cpus.iter().all(|cpu| got.contains(cpu)) {
        Ok(())
    } else {
        Err(refused(format!("it on {got:?} alone")))
    }
}

/// CPUs on which the calling thread may run.
fn cpus_of_this_thread() -> Vec<usize> {
    // SAFETY: a set of all zeros is the empty one, CPU_ISSET stays within it for the numbers of `CPUS`, the call gets its size,
    // and 0 is the calling thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        CPUS.filter(|cpu| libc::CPU_ISSET(*cpu, &set)).collect()
    }
}

/// The calling thread, for the system.
const THIS_THREAD: libc::pid_t = 0;

fn set_priority(priority: i32) -> Result<(), Refused> {
    if priority == 0 { Ok(()) } else { set_priority_of(THIS_THREAD, priority) }
}

/// Gives a thread of this process a `SCHED_FIFO` priority, or the normal class for 0.
fn set_priority_of(thread: libc::pid_t, priority: i32) -> Result<(), Refused> {
    let class = if priority == 0 { libc::SCHED_OTHER } else { libc::SCHED_FIFO };
    // SAFETY: a sched_param of zeros and a priority is a valid one.
    let failed = unsafe {
        let mut parameter: libc::sched_param = std::mem::zeroed();
        parameter.sched_priority = priority;
        libc::sched_setscheduler(thread, class, &parameter) != 0
    };
    if failed { Err(Refused::Priority { priority, found: last_error() }) } else { Ok(()) }
}

/// Runs `start`, which makes a library start threads that inherit the settings of the calling thread, and gives those of them that are
/// called `name` the priority of `settings`. What the system refuses is left as it was.
pub fn start_threads<T>(name: &str, settings: &RealtimeSettings, start: impl FnOnce() -> T) -> T {
    let before = threads_called(name);
    let started = start();
    if settings.priority != 0 || granted::Granted::to_this_thread().priority != 0 {
        for thread in threads_called(name).into_iter().filter(|thread| !before.contains(thread)) {
            drop(set_priority_of(thread, settings.priority));
        }
    }
    started
}

/// Threads of this process with this name.
fn threads_called(name: &str) -> Vec<libc::pid_t> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let is_called = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|found| found.trim_end() == name)
    };
    let called = tasks.flatten().filter(is_called);
    called.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

fn last_error() -> String {
    sentence(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// Returns the system's message for an error number, as the middle of a sentence.
fn sentence(error: i32) -> String {
    let text = std::io::Error::from_raw_os_error(error).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests;
