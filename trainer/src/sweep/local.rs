//! Runs side by side on this machine, each in a process of its own, so that a run that crashes does not harm the others.

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

/// Interval at which the runs' processes are polled.
const TICK: Duration = Duration::from_millis(100);

/// The executor of runs on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// Path of the program `ndt-train`.
    pub program: PathBuf,
    /// Number of runs at a time.
    pub jobs: usize,
}

/// The process of a run. Dropping it kills the process: the fit resumes from its checkpoint later.
struct Running {
    child: Child,
    run: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        // A process that has already ended cannot be killed, which does no harm.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Local {
    /// Executes all runs of `plan` that are not done, until `stop` is set; returns the state of each run. `watch` is
    /// called with the states about ten times a second. The runs' processes end when the calling thread ends.
    ///
    /// # Errors
    /// [`SweepError`] when the folder cannot be written, another sweep uses it, or no process can be started. A run that fails is
    /// not an error but a [`State::Failed`].
    pub fn work(
        &self,
        plan: &Plan,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(&[State]),
    ) -> Result<Vec<State>, SweepError> {
        let _lock = lock(plan)?;
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
        // A process group of its own keeps Ctrl-C from the run: the sweep handles the signal.
        command.process_group(0);
        if self.jobs > 1 {
            // Runs share the cores: the threads of one would wait for those of another.
            command.env("RAYON_NUM_THREADS", "1");
        }
        // SAFETY: between fork and exec only prctl is called, which is async-signal-safe and allocates nothing.
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

/// Files the outcome of a run whose process has ended; returns the run's state.
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

/// Number of cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// Path of this program's executable.
///
/// # Errors
/// [`SweepError::Start`] when the system does not know the path.
pub fn this_program() -> Result<PathBuf, SweepError> {
    let unknown = |error| SweepError::Start { program: "this program".to_owned(), error };
    std::env::current_exe().map_err(unknown)
}
