//! Runs side by side on this machine, each a process of its own: what one does, or dies of, is its own affair.

use crate::sweep::plan::{Plan, Run};
use crate::sweep::run::{self, State};
use crate::sweep::{SweepError, lock};
use ndt_protocol::files::{self, FileError};
use std::fs::File;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often children are asked whether they are done.
const TICK: Duration = Duration::from_millis(100);

/// Where runs are worked off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// `ndt-train`.
    pub program: PathBuf,
    /// Runs at a time.
    pub jobs: usize,
}

/// A run's process. It is killed when it is forgotten: a fit goes on from its checkpoint.
struct Running {
    child: Child,
    run: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and is none the worse.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Local {
    /// Works off all runs of `plan` that are not done, until `stop`; gives how they stand. `watch` is told about ten
    /// times a second. Stays on the calling thread, and its processes end with that thread.
    ///
    /// # Errors
    /// [`SweepError`] when the folder cannot be written, another sweep uses it, or no process can be started. A run
    /// that fails is no error but a [`State::Failed`].
    pub fn work(
        &self,
        plan: &Plan,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(&[State]),
    ) -> Result<Vec<State>, SweepError> {
        let _lock = lock(&plan.out)?;
        let mut states: Vec<State> = plan.runs.iter().map(|run| run.state(plan)).collect();
        let is_open = |run: &usize| !matches!(states[*run], State::Done(_));
        let mut waiting = (0..plan.runs.len()).filter(is_open).collect::<Vec<_>>().into_iter();
        let mut children: Vec<Running> = Vec::new();
        loop {
            while children.len() < self.jobs.max(1) {
                let Some(run) = waiting.next() else { break };
                children.push(Running { child: self.start(plan, &plan.runs[run])?, run });
            }
            let mut still = Vec::new();
            for mut running in children {
                let run = &plan.runs[running.run];
                let ended = running.child.try_wait().map_err(FileError::at(&run.folder(plan)))?;
                states[running.run] = match ended {
                    Some(status) => end(plan, run, status)?,
                    None => State::Running(run.progress(plan)),
                };
                if ended.is_none() {
                    still.push(running);
                }
            }
            children = still;
            watch(&states);
            if stop.load(Ordering::Relaxed) {
                for running in children {
                    states[running.run] = plan.runs[running.run].state(plan);
                }
                return Ok(states);
            }
            if children.is_empty() && waiting.len() == 0 {
                return Ok(states);
            }
            std::thread::sleep(TICK);
        }
    }

    fn start(&self, plan: &Plan, run: &Run) -> Result<Child, SweepError> {
        run.prepare(plan)?;
        let folder = run.folder(plan);
        let (part, log) = (folder.join(run::PART), folder.join(run::LOG));
        let output = File::create(&part).map_err(FileError::at(&part))?;
        let said = File::options().append(true).create(true).open(&log).and_then(|mut file| {
            writeln!(file, "{}", run::STARTED)?;
            Ok(file)
        });
        let mut command = Command::new(&self.program);
        command.args(run::arguments(plan)).current_dir(&folder);
        command.stdin(Stdio::null()).stdout(output).stderr(said.map_err(FileError::at(&log))?);
        // A Ctrl-C is the sweep's to handle, not its children's.
        command.process_group(0);
        if self.jobs > 1 {
            // Runs share the cores; threads of one would wait for those of another.
            command.env("RAYON_NUM_THREADS", "1");
        }
        // SAFETY: between fork and exec only prctl is called, which is safe there and allocates nothing.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let program = self.program.display().to_string();
        command.spawn().map_err(|error| SweepError::Start { program, error })
    }
}

fn end(plan: &Plan, run: &Run, status: ExitStatus) -> Result<State, SweepError> {
    let folder = run.folder(plan);
    if status.success() {
        let (part, result) = (folder.join(run::PART), folder.join(run::RESULT));
        std::fs::rename(&part, &result).map_err(FileError::at(&part))?;
    } else {
        let number = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        files::write_file(&folder.join(run::FAILED), format!("{number}\n").as_bytes())?;
    }
    Ok(match run.state(plan) {
        State::Waiting(_) => State::Failed("ended without a result".to_owned()),
        state => state,
    })
}

/// The cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// This program's own file.
///
/// # Errors
/// [`SweepError::Start`] when the system does not know.
pub fn this_program() -> Result<PathBuf, SweepError> {
    let unknown = |error| SweepError::Start { program: "this program".to_owned(), error };
    std::env::current_exe().map_err(unknown)
}
