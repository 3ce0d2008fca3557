//! Threads of a running daemon: what the system says of them, and one of them made to hang.

use std::path::{Path, PathBuf};

/// One thread of a process.
pub struct Thread {
    folder: PathBuf,
    number: libc::pid_t,
}

impl Thread {
    /// The thread of `process` that is called so.
    pub fn of(process: u32, name: &str) -> Thread {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
        let is_called = |task: &PathBuf| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|found| found.trim() == name)
        };
        let folder = tasks.map(|task| task.path()).find(is_called);
        let folder = folder.unwrap_or_else(|| panic!("expected a thread {name}, found none"));
        let number = folder.file_name().unwrap().to_str().unwrap().parse().unwrap();
        Thread { folder, number }
    }

    /// Its `SCHED_FIFO` priority; 0 in the normal class.
    pub fn priority(&self) -> i32 {
        // SAFETY: zeros are a valid `sched_param`, to which the call only writes.
        unsafe {
            let mut parameter: libc::sched_param = std::mem::zeroed();
            assert_eq!(libc::sched_getparam(self.number, &mut parameter), 0);
            if libc::sched_getscheduler(self.number) == libc::SCHED_FIFO {
                parameter.sched_priority
            } else {
                0
            }
        }
    }

    /// Page faults since it began: those that found the page in memory, and those that waited for a disk.
    pub fn page_faults(&self) -> [u64; 2] {
        let stat = std::fs::read_to_string(self.folder.join("stat")).unwrap();
        // The name in brackets may have spaces; the tenth and the twelfth field count from its end on.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        [7, 9].map(|at| fields[at].parse().unwrap())
    }

    /// Stops this one thread, as an engine or a network library that never returns would, and not its process. It is given up when
    /// the process ends.
    pub fn hang(&self) {
        let number = self.number;
        // SAFETY: these take numbers alone; a thread that is traced stops, and the others of its process go on.
        unsafe {
            assert_eq!(
                libc::ptrace(libc::PTRACE_SEIZE, number, 0, 0),
                0,
                "{}",
                std::io::Error::last_os_error()
            );
            assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, number, 0, 0), 0);
            let mut status = 0;
            assert_eq!(libc::waitpid(number, &mut status, libc::__WALL), number);
            assert!(libc::WIFSTOPPED(status), "{status}");
        }
        // The process is gone only once somebody has taken note of the end of the thread.
        std::thread::spawn(move || {
            let mut status = 0;
            // SAFETY: `status` is written to while it is borrowed.
            while unsafe { libc::waitpid(number, &mut status, libc::__WALL) } == number
                && libc::WIFSTOPPED(status)
            {}
        });
    }
}

/// A number of `/proc/PROCESS/status`, such as `VmLck`, KB.
pub fn status_kb(process: u32, name: &str) -> u64 {
    let status =
        std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().split_whitespace().next().unwrap().parse().unwrap()
}
