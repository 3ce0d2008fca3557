//! What the system has granted to the real-time threads, read back from it, for the log.

use crate::host::machine;
use std::path::Path;

/// Scheduling of one thread, as the system has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Granted {
    /// `SCHED_FIFO` priority; 0 in the normal scheduling class.
    pub priority: i32,
    /// CPUs on which the thread may run.
    pub cpus: Vec<usize>,
}

impl Granted {
    /// Asks the system about the calling thread.
    pub fn to_this_thread() -> Granted {
        // SAFETY: zeroes are a valid `sched_param`, to which the call only writes; the thread is the calling one.
        let priority = unsafe {
            let (mut policy, mut parameter): (libc::c_int, libc::sched_param) = (0, std::mem::zeroed());
            let failed = libc::pthread_getschedparam(libc::pthread_self(), &mut policy, &mut parameter);
            if failed == 0 && policy == libc::SCHED_FIFO { parameter.sched_priority } else { 0 }
        };
        Granted { priority, cpus: super::cpus_of_this_thread() }
    }

    fn words(&self) -> String {
        let class = match self.priority {
            0 => "normal scheduling".to_owned(),
            priority => format!("SCHED_FIFO priority {priority}"),
        };
        format!("{class} on CPUs {}", machine::cpu_ranges(&self.cpus))
    }
}

/// Returns the sentence of the log: what was granted to each of these threads, and how much memory is locked.
pub fn sentence(threads: &[(&'static str, Granted)], locked_kb: u64) -> String {
    let mut told: Vec<(&Granted, Vec<&str>)> = Vec::new();
    for (thread, granted) in threads {
        match told.iter_mut().find(|(same, _)| *same == granted) {
            Some((_, threads)) => threads.push(thread),
            None => told.push((granted, vec![thread])),
        }
    }
    let mut parts: Vec<String> = told
        .into_iter()
        .map(|(granted, threads)| format!("{}: {}", threads.join(", "), granted.words()))
        .collect();
    parts.push(match locked_kb {
        0 => "memory not locked".to_owned(),
        kilobytes => format!("{} MB of memory locked", kilobytes / 1024),
    });
    parts.join("; ")
}

/// Memory of this process that is locked, KB.
pub fn locked_kb() -> u64 {
    let status = machine::text(Path::new("/"), "proc/self/status").unwrap_or_default();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    locked.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_with_the_same_grant_are_told_together() {
        let fifo = Granted { priority: 60, cpus: vec![2, 3] };
        let normal = Granted { priority: 0, cpus: vec![0, 1, 3] };
        let threads = [("ndt-publish", fifo.clone()), ("ndt-decode", normal), ("ndt-source", fifo)];
        assert_eq!(
            sentence(&threads, 370 * 1024),
            "ndt-publish, ndt-source: SCHED_FIFO priority 60 on CPUs 2-3; ndt-decode: normal scheduling on CPUs 0-1,3; 370 \
             MB of memory locked"
        );
        assert!(sentence(&threads[..1], 0).ends_with("; memory not locked"));
    }
}
