//! Runs as a job array of Slurm, handled with `sbatch`, `squeue` and `scontrol`.
//!
//! `OUT/slurm/N` is the N-th submission: `runs.txt` with a run's name on each line, `array.sh`, `job` with the array's
//! id, and `INDEX.out` with Slurm's own messages about a job. **The state of a run is what its own folder tells**; the
//! queue tells only whether a run may still finish. A job that is requeued resumes from its checkpoint.

use crate::sweep::plan::{Plan, Run};
use crate::sweep::run::{self, State};
use crate::sweep::{SweepError, lock};
use ndt_protocol::files::{self, FileError};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Largest number of jobs of an array: Slurm's default (`MaxArraySize`) allows no more.
const ARRAY_MAX: usize = 1000;

/// Interval at which the queue is asked: short enough for a person, long enough for a controller that serves many users.
const POLL: Duration = Duration::from_secs(3);

/// How often a run must be found gone without a result before it counts as failed: over a network, files may come late.
const GONE_MAX: usize = 2;

/// How often in a row the queue may give no answer: a restart of the controller is no reason to give up.
const SILENT_MAX: usize = 40;

/// The executor of runs on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slurm {
    /// Path of the program `ndt-train`, valid on the nodes as well.
    pub program: PathBuf,
    /// Largest number of runs of a job array at a time; `None` for as many as the cluster allows.
    pub jobs: Option<u32>,
    /// The resources of each run.
    pub resources: Resources,
}

/// The resources of a run, as options of `sbatch`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// `--partition`.
    pub partition: Option<String>,
    /// Time limit of a run: the option `--time` of `sbatch`.
    pub time: Option<String>,
    /// `--cpus-per-task`.
    pub cpus: u32,
    /// `--mem`.
    pub memory: Option<String>,
    /// Further arguments of `sbatch`.
    pub more: Vec<String>,
}

/// A submission. It keeps the folder of results locked.
#[derive(Debug)]
pub struct Submission {
    /// The job arrays that were submitted.
    pub jobs: Vec<Job>,
    /// Number of runs that were already in the queue.
    pub queued: usize,
    _lock: File,
}

/// A job array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Id of the array in Slurm.
    pub id: String,
    /// Number of runs in the array.
    pub runs: usize,
}

/// The state of a job that is still in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queued {
    /// The job waits for a node.
    Pending,
    /// The job runs on a node.
    Running,
}

/// The job array that a run was last submitted in.
struct Place {
    job: String,
    index: usize,
    folder: PathBuf,
}

impl Slurm {
    /// Submits all runs that are neither done nor in the queue.
    ///
    /// # Errors
    /// [`SweepError`] when files cannot be written, another sweep uses the folder, or Slurm is missing or refuses the jobs.
    pub fn submit(&self, plan: &Plan) -> Result<Submission, SweepError> {
        let lock = lock(plan)?;
        let queued = queued(plan)?;
        let is_open =
            |run: &&Run| !matches!(run.state(plan), State::Done(_)) && !queued.contains_key(&run.name);
        let open: Vec<&Run> = plan.runs.iter().filter(is_open).collect();
        let mut jobs = Vec::new();
        for runs in open.chunks(ARRAY_MAX) {
            for run in runs {
                run.prepare(plan)?;
            }
            jobs.push(self.submit_array(plan, runs)?);
        }
        Ok(Submission { jobs, queued: queued.len(), _lock: lock })
    }

    fn submit_array(&self, plan: &Plan, runs: &[&Run]) -> Result<Job, SweepError> {
        let folder = root(plan).join((submissions(plan).len() + 1).to_string());
        std::fs::create_dir_all(&folder).map_err(FileError::at(&folder))?;
        let names: String = runs.iter().map(|run| format!("{}\n", run.name)).collect();
        files::write_file(&folder.join("runs.txt"), names.as_bytes())?;
        files::write_file(&folder.join("array.sh"), &self.script(plan, &folder, runs.len()))?;
        let mut command = Command::new("sbatch");
        command.arg(output(&folder)).args(&self.resources.more);
        command.args(["--parsable", "array.sh"]).current_dir(&folder);
        // Slurm writes the id itself, so that no array is forgotten if this program is interrupted here.
        let path = folder.join("job");
        command.stdout(File::create(&path).map_err(FileError::at(&path))?);
        answer(&mut command)?;
        Ok(Job { id: id(&folder), runs: runs.len() })
    }

    fn script(&self, plan: &Plan, folder: &Path, runs: usize) -> Vec<u8> {
        let Resources { partition, time, cpus, memory, .. } = &self.resources;
        let limit = self.jobs.map_or_else(String::new, |jobs| format!("%{jobs}"));
        let mut script = format!(
            "#!/bin/sh\n#SBATCH --job-name=ndt-sweep\n#SBATCH --array=0-{}{limit}\n#SBATCH --open-mode=append\n\
             #SBATCH --requeue\n#SBATCH --ntasks=1\n#SBATCH --cpus-per-task={cpus}\n",
            runs - 1
        )
        .into_bytes();
        for (option, value) in [("partition", partition), ("time", time), ("mem", memory)] {
            if let Some(value) = value {
                script.extend(format!("#SBATCH --{option}={value}\n").into_bytes());
            }
        }
        let mut line = |parts: &[&[u8]]| script.extend(parts.concat().into_iter().chain(*b"\n"));
        line(&[b"set -u"]);
        line(&[
            b"run=$(sed -n \"$((SLURM_ARRAY_TASK_ID + 1))p\" ",
            &quoted(folder.join("runs.txt")),
            b") || exit",
        ]);
        line(&[b"cd ", &quoted(&plan.out), b"/\"$run\" || exit"]);
        line(&[b"rm -f ", run::FAILED.as_bytes()]);
        line(&[b"echo ", run::STARTED.as_bytes(), b" >>", run::LOG.as_bytes()]);
        line(&[b"export RAYON_NUM_THREADS=\"${SLURM_CPUS_PER_TASK:-1}\""]);
        let arguments: Vec<Vec<u8>> = run::arguments(plan).iter().map(quoted).collect();
        let (part, log) = (run::PART.as_bytes(), run::LOG.as_bytes());
        line(&[&quoted(&self.program), b" ", &arguments.join(&b' '), b" >", part, b" 2>>", log]);
        line(&[b"status=$?"]);
        line(&[b"[ $status = 0 ] && exec mv ", part, b" ", run::RESULT.as_bytes()]);
        line(&[b"echo $status >", run::FAILED.as_bytes()]);
        line(&[b"exit $status"]);
        script
    }
}

impl Submission {
    /// Waits until no run is in the queue or `stop` is set; returns the state of each run. `watch` is called with the
    /// states every few seconds.
    ///
    /// # Errors
    /// [`SweepError`] when the queue cannot be read.
    pub fn wait(
        &self,
        plan: &Plan,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(&[State]),
    ) -> Result<Vec<State>, SweepError> {
        let mut gone: BTreeMap<&str, usize> = BTreeMap::new();
        let mut states: Vec<State> = plan.runs.iter().map(|run| run.state(plan)).collect();
        let mut silent = 0;
        loop {
            let queued = match queued(plan) {
                Err(SweepError::Refused { .. }) if silent < SILENT_MAX => {
                    silent += 1;
                    if pause(stop) {
                        return Ok(states);
                    }
                    continue;
                }
                queued => queued?,
            };
            silent = 0;
            let mut is_over = true;
            for (run, state) in plan.runs.iter().zip(&mut states) {
                if matches!(state, State::Done(_)) {
                    continue;
                }
                *state = match queued.get(&run.name) {
                    Some(Queued::Running) => State::Running(run.progress(plan)),
                    Some(Queued::Pending) => State::Waiting(run.progress(plan)),
                    None => run.state(plan),
                };
                let gone = gone.entry(&run.name).or_default();
                if queued.contains_key(&run.name) {
                    (*gone, is_over) = (0, false);
                } else if matches!(state, State::Waiting(_)) {
                    *gone += 1;
                    is_over &= *gone >= GONE_MAX;
                    if *gone >= GONE_MAX {
                        *state = State::Failed(reason(plan, &run.name));
                    }
                }
            }
            watch(&states);
            if is_over || pause(stop) {
                return Ok(states);
            }
        }
    }
}

/// Waits until the queue may be asked again; returns whether to stop.
fn pause(stop: &AtomicBool) -> bool {
    let since = Instant::now();
    while since.elapsed() < POLL && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
    }
    stop.load(Ordering::Relaxed)
}

/// The runs of the sweep that are in Slurm's queue, by name. Without a submission Slurm is not asked.
///
/// # Errors
/// [`SweepError`] when the queue cannot be read.
pub fn queued(plan: &Plan) -> Result<BTreeMap<String, Queued>, SweepError> {
    let places = places(plan);
    if places.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut command = Command::new("squeue");
    command.args(["--me", "--array", "--noheader", "--format=%i %T"]);
    let table = answer(&mut command)?;
    let states: BTreeMap<&str, &str> = table.lines().filter_map(|line| line.trim().split_once(' ')).collect();
    let state = |(name, place): (String, Place)| {
        let state = states.get(format!("{}_{}", place.job, place.index).as_str())?;
        let is_pending = ["PENDING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED"].contains(state);
        Some((name, if is_pending { Queued::Pending } else { Queued::Running }))
    };
    Ok(places.into_iter().filter_map(state).collect())
}

/// The reason why a job ended without a result, as far as Slurm knows it.
fn reason(plan: &Plan, name: &str) -> String {
    let Some(place) = places(plan).remove(name) else { return "never submitted".to_owned() };
    let job = format!("{}_{}", place.job, place.index);
    let told = answer(Command::new("scontrol").args(["show", "job", "--oneliner", &job])).unwrap_or_default();
    let field = |key: &str| told.split(' ').find_map(|word| word.strip_prefix(key)).map(str::to_owned);
    let state = field("JobState=").filter(|state| state != "COMPLETED");
    let said = std::fs::read(place.folder.join(format!("{}.out", place.index))).unwrap_or_default();
    let said =
        String::from_utf8_lossy(&said).lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned);
    match (state, said) {
        (Some(state), _) => format!("Slurm's job {job} ended as {state}"),
        (None, Some(said)) => said,
        (None, None) => format!("Slurm's job {job} left the queue without a result"),
    }
}

/// The job array that each run was last submitted in.
fn places(plan: &Plan) -> BTreeMap<String, Place> {
    let mut places = BTreeMap::new();
    for folder in submissions(plan) {
        let job = id(&folder);
        if job.is_empty() {
            // Slurm refused this submission.
            continue;
        }
        let names = std::fs::read_to_string(folder.join("runs.txt")).unwrap_or_default();
        for (index, name) in names.lines().enumerate() {
            places.insert(name.to_owned(), Place { job: job.clone(), index, folder: folder.clone() });
        }
    }
    places
}

/// The id of a submission's array; empty if Slurm gave none.
fn id(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("job")).unwrap_or_default();
    // On a federation of clusters the cluster's name follows.
    text.trim().split(';').next().unwrap_or_default().to_owned()
}

fn root(plan: &Plan) -> PathBuf {
    plan.out.join("slurm")
}

/// The folders of all submissions, in order.
fn submissions(plan: &Plan) -> Vec<PathBuf> {
    (1..).map(|number: usize| root(plan).join(number.to_string())).take_while(|path| path.is_dir()).collect()
}

/// The standard output of one of Slurm's programs.
fn answer(command: &mut Command) -> Result<String, SweepError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let start = |error| SweepError::Start { program: program.clone(), error };
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().map_err(start)?;
    if !status.success() {
        let found = String::from_utf8_lossy(&stderr).trim().replace('\n', " ");
        return Err(SweepError::Refused { program, found });
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Returns the option `--output` of a job, with each `%` of `folder` escaped, so that only the `%a` of the file's name is a
/// pattern.
fn output(folder: &Path) -> OsString {
    let folder =
        folder.as_os_str().as_bytes().split(|byte| *byte == b'%').collect::<Vec<_>>().join(&b"%%"[..]);
    OsString::from_vec([b"--output=", folder.as_slice(), b"/%a.out"].concat())
}

/// A text quoted as one word of a shell.
fn quoted(text: impl AsRef<OsStr>) -> Vec<u8> {
    let text = text.as_ref().as_bytes().split(|byte| *byte == b'\'').collect::<Vec<_>>().join(&b"'\\''"[..]);
    [b"'", text.as_slice(), b"'"].concat()
}
