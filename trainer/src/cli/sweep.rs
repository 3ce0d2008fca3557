//! `ndt-train sweep`: runs a sweep, shows it as it goes, and prints its ranking.

use super::progress::{about, style};
use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};
use indicatif::{MultiProgress, ProgressBar};
use ndt_protocol::terminal::say;
use ndt_replay::{nwb, stop};
use ndt_trainer::config::Data;
use ndt_trainer::data::Dataset;
use ndt_trainer::sweep::claim;
use ndt_trainer::sweep::local::{self, Local};
use ndt_trainer::sweep::plan::{Plan, Run};
#[cfg(feature = "plots")]
use ndt_trainer::sweep::plot;
use ndt_trainer::sweep::ranking::{Ranking, plain, score_names};
use ndt_trainer::sweep::run::{Progress, State};
use ndt_trainer::sweep::slurm::{Job, Resources, Slurm};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

pub const HELP: &str = "\
The file says what is fitted. Its paths are relative to the file, and all keys except data and space have defaults:
  data = [\"session.nwb\"]
  # where = [\"location=M1\"] selects units; there are also unit-id, held-out, held-out-seed and same-units, as the options of fit
  bin-ms = 20.0
  units = \"held-in\"       # or \"all\", as for fit --units
  preset = \"ndt\"          # as for fit --preset
  out = \"sweep\"           # folder for the results
  search = \"random\"       # or \"grid\": all combinations of lists and of ranges with a step
  points = 20             # number of points of a random search
  seed = 1                # seed of the random search
  seeds = [1, 2, 3]       # seeds of the fits; each point is fitted with each seed
  [base]                  # a configuration, as for fit --config; what it leaves open follows from the data, as in fit
  optimiser.epochs = 100
  [space]
  model.width = [32, 64]
  model.window-ms = { low = 200, high = 600, step = 100 }
  optimiser.learning-rate = { low = 1e-3, high = 1e-2, scale = \"log\" }

The folder must be new or a sweep's; the sweep adds to it and replaces nothing else. It gets ranking.csv, scores.svg, best.toml, and a folder for each run with its bundle. Finished runs are not repeated:
after an interruption the same command continues, and one more value in the file costs only the runs that it adds.

Examples:
  ndt-train sweep --config sweep.toml --jobs 8
  ndt-train sweep --config sweep.toml --executor slurm --partition cpu --time 00:30:00 --mem 4G --no-wait
  ndt-train sweep --config sweep.toml --collect --json";

/// The options of `sweep`.
#[derive(Args)]
pub struct Sweep {
    /// Sweep file (TOML), described below.
    #[arg(long)]
    config: PathBuf,
    /// Number of runs at a time [default: the number of cores; with Slurm as many as the cluster allows].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Option<u32>,
    /// Where the runs are executed.
    #[arg(long, value_enum, default_value = "local")]
    executor: Executor,
    #[command(flatten)]
    resources: SlurmResources,
    /// Submit the runs to Slurm and exit; --collect ranks them later.
    #[arg(long, conflicts_with = "collect")]
    no_wait: bool,
    /// Rank the finished runs and start none.
    #[arg(long)]
    collect: bool,
    /// Score by which points are ranked, such as velocity-r2 or hand-vel-100-ms-r2; the highest is the best [default: co-bps, or
    /// masked-bps without held-out units]. With --collect, finished runs are ranked anew.
    #[arg(long, value_name = "SCORE")]
    rank_by: Option<String>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Executor {
    /// Processes on this machine.
    Local,
    /// A Slurm job array.
    Slurm,
}

/// The resources of each job of the array.
#[derive(Args)]
struct SlurmResources {
    /// Slurm: partition [default: the cluster's].
    #[arg(long)]
    partition: Option<String>,
    /// Slurm: time limit of a run, such as 00:30:00 [default: the partition's].
    #[arg(long)]
    time: Option<String>,
    /// Slurm: number of CPUs of a run.
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Slurm: memory of a run, such as 4G [default: the partition's].
    #[arg(long)]
    mem: Option<String>,
    /// Slurm: further argument for sbatch, such as --sbatch-arg=--qos=low; may be given several times.
    #[arg(long, allow_hyphen_values = true)]
    sbatch_arg: Vec<String>,
}

/// Carries out the command; returns its report.
pub fn sweep(command: &Sweep) -> anyhow::Result<String> {
    let is_slurm = command.executor == Executor::Slurm;
    ensure!(is_slurm || !command.no_wait, "expected --executor slurm with --no-wait, found local");
    let plan = Plan::read(&command.config)?;
    claim(&plan, [&command.config])?;
    stop::outlive_terminal()?;
    say(format_args!("{} points, {} runs in {}", plan.points.len(), plan.runs.len(), plan.out.display()));
    if !command.collect {
        look_at_recordings(&plan)?;
    }
    let states = if command.collect {
        plan.runs.iter().map(|run| run.state(&plan)).collect()
    } else if is_slurm {
        match on_slurm(command, &plan)? {
            Waited::Over(states) => states,
            Waited::Left(text) => return Ok(text),
        }
    } else {
        here(command, &plan)?
    };
    report(command, &plan, &states)
}

/// Reads the recordings once before the runs do, so that what is odd about them is said and what cannot be fitted is refused.
fn look_at_recordings(plan: &Plan) -> anyhow::Result<()> {
    let sessions = nwb::read_all(&plan.data, &plan.selected)?;
    // Another width of the bins has no other trials, but for those of less than a bin.
    let data = Dataset::new(&sessions, plan.bin_ms.unwrap_or(Data::default().bin_ms), 0.0)?;
    for note in &data.notes {
        say(format_args!("note: {note}"));
    }
    Ok(())
}

/// Runs the sweep on this machine.
fn here(command: &Sweep, plan: &Plan) -> anyhow::Result<Vec<State>> {
    let queued = ndt_trainer::sweep::slurm::queued(plan).map_or(0, |queued| queued.len());
    ensure!(queued == 0, "expected no run in Slurm's queue, found {queued}; --executor slurm waits for them");
    let jobs = command.jobs.map_or_else(local::cores, |jobs| jobs as usize);
    let local = Local { program: local::this_program()?, jobs };
    let stop = stop::on_signal()?;
    let mut table = Table::new(plan, command.rank_by.as_deref());
    let states = local.work(plan, &stop, &mut |states| table.show(states))?;
    table.clear();
    if stop.load(Ordering::Relaxed) {
        let done = states.iter().filter(|state| matches!(state, State::Done(_))).count();
        bail!("stopped with {done} of {} runs done; the same command goes on from there", states.len());
    }
    Ok(states)
}

/// The outcome of a submission.
enum Waited {
    /// All runs have ended, in these states.
    Over(Vec<State>),
    /// The command exits without waiting, with this report.
    Left(String),
}

/// Submits the sweep to Slurm and waits for it, if wanted.
fn on_slurm(command: &Sweep, plan: &Plan) -> anyhow::Result<Waited> {
    let SlurmResources { partition, time, cpus, mem, sbatch_arg } = &command.resources;
    let slurm = Slurm {
        program: local::this_program()?,
        jobs: command.jobs,
        resources: Resources {
            partition: partition.clone(),
            time: time.clone(),
            cpus: *cpus,
            memory: mem.clone(),
            more: sbatch_arg.clone(),
        },
    };
    let submission = slurm.submit(plan)?;
    for job in &submission.jobs {
        say(format_args!("submitted job array {} with {} runs", job.id, job.runs));
    }
    if submission.queued > 0 {
        say(format_args!("{} runs were already in the queue", submission.queued));
    }
    if command.no_wait {
        if !command.json {
            return Ok(Waited::Left("run the command with --collect to rank the finished runs".to_owned()));
        }
        let job = |job: &Job| json!({ "id": job.id, "runs": job.runs });
        let jobs: Vec<_> = submission.jobs.iter().map(job).collect();
        return Ok(Waited::Left(format!("{:#}", json!({ "jobs": jobs, "queued": submission.queued }))));
    }
    let stop = stop::on_signal()?;
    let mut table = Table::new(plan, command.rank_by.as_deref());
    let states = submission.wait(plan, &stop, &mut |states| table.show(states))?;
    table.clear();
    if stop.load(Ordering::Relaxed) {
        bail!("stopped waiting; the jobs go on, and the same command waits for them again");
    }
    Ok(Waited::Over(states))
}

fn report(command: &Sweep, plan: &Plan, states: &[State]) -> anyhow::Result<String> {
    let by = command.rank_by.as_deref();
    let ranking = Ranking::new(plan, states, by);
    let names = score_names(states);
    if let Some(by) = by.filter(|by| !names.is_empty() && !names.contains(*by)) {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        bail!("expected one of the scores {names} for --rank-by, found {by}");
    }
    let best = ranking.write(plan)?;
    let Some(best) = best else {
        let reason = ranking
            .failed
            .first()
            .map_or_else(String::new, |failed| format!("; one failed with: {}", failed.reason));
        bail!("expected a run that is done, found none of {}{reason}", ranking.runs);
    };
    #[cfg(feature = "plots")]
    plot::draw(&plan.out.join("scores.svg"), plan, &ranking)?;
    if command.json {
        let mut report = serde_json::to_value(&ranking)?;
        report["best"] = json!(best);
        return Ok(format!("{report:#}"));
    }
    let mut lines = table(plan, &ranking);
    lines.push(format!("{} of {} runs done, {} failed", ranking.done, ranking.runs, ranking.failed.len()));
    for failed in &ranking.failed {
        let at = plan.runs.iter().position(|run| run.name == failed.run);
        lines.push(format!("  {}  {}", at.map_or_else(String::new, |at| label(plan, at)), failed.reason));
    }
    lines.push(format!("best {}, ranking.csv and scores.svg beside it", best.display()));
    Ok(lines.join("\n"))
}

/// The ranking as a table, line by line.
fn table(plan: &Plan, ranking: &Ranking) -> Vec<String> {
    let title = ["rank", ranking.score.as_str(), "sd", "velocity R2", "seconds", "seeds"];
    let mut rows = vec![title.map(str::to_owned).to_vec()];
    rows[0].extend(plan.keys.iter().cloned());
    let optional =
        |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.4}"));
    for point in &ranking.points {
        let seeds = format!("{}/{}", point.done, point.seeds);
        let (sd, r2) = (optional(point.sd), optional(point.velocity_r2));
        let score = format!("{:.4}", point.score);
        let mut row = vec![point.rank.to_string(), score, sd, r2, format!("{:.1}", point.seconds), seeds];
        row.extend(plan.keys.iter().map(|key| plain(&point.values[key])));
        rows.push(row);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// The progress of a sweep on standard error: on a terminal a line for each run in progress and one for the whole sweep,
/// otherwise a line whenever a run starts or ends.
struct Table<'a> {
    plan: &'a Plan,
    /// Name of the score that is shown; `None` for the one that chooses epochs.
    by: Option<&'a str>,
    lines: MultiProgress,
    whole: ProgressBar,
    running: BTreeMap<usize, ProgressBar>,
    shown: Vec<State>,
    is_terminal: bool,
}

impl<'a> Table<'a> {
    fn new(plan: &'a Plan, by: Option<&'a str>) -> Table<'a> {
        let lines = MultiProgress::new();
        let whole = lines.add(ProgressBar::new(plan.runs.len() as u64));
        whole.set_style(style("{pos}/{len} runs {bar:30} {msg}"));
        let is_terminal = std::io::stderr().is_terminal();
        Table { plan, by, lines, whole, running: BTreeMap::new(), shown: Vec::new(), is_terminal }
    }

    fn show(&mut self, states: &[State]) {
        let is_first = self.shown.is_empty();
        for (at, state) in states.iter().enumerate() {
            let before = self.shown.get(at).cloned();
            if let State::Running(progress) = state {
                self.show_running(at, *progress, !matches!(before, Some(State::Running(_))));
            } else if let Some(line) = self.running.remove(&at) {
                line.finish_and_clear();
                self.lines.remove(&line);
            }
            let is_told = !is_first && before.as_ref() != Some(state);
            match state {
                State::Done(outcome) if is_told => {
                    let score = outcome
                        .score(self.by)
                        .map_or_else(String::new, |(name, score)| format!("{name} {score:.4}"));
                    let left = left_s(states).filter(|left| *left > 0.0);
                    let left = left.map_or_else(String::new, |left| format!("  {} left", about(left)));
                    let label = label(self.plan, at);
                    self.say(&format!("done    {label}  {score}  {:.1} s{left}", outcome.seconds));
                }
                State::Failed(reason) if is_told => {
                    self.say(&format!("failed  {}  {reason}", label(self.plan, at)));
                }
                _ => {}
            }
        }
        self.show_whole(states);
        self.shown = states.to_vec();
    }

    fn show_running(&mut self, at: usize, progress: Option<Progress>, is_new: bool) {
        if !self.is_terminal {
            if is_new {
                self.say(&format!("running {}", label(self.plan, at)));
            }
            return;
        }
        let line = self.running.entry(at).or_insert_with(|| {
            let line = self.lines.insert_before(&self.whole, ProgressBar::new(0));
            line.set_style(style("epoch {pos:>4}/{len:<4} {bar:20} {msg}"));
            line.set_message(label(self.plan, at));
            line
        });
        if let Some(progress) = progress {
            line.set_length(progress.epochs as u64);
            line.set_position(progress.epoch as u64);
            let left =
                progress.seconds_left.map_or_else(String::new, |left| format!("  {} left", about(left)));
            line.set_message(format!("best {:.4}{left}  {}", progress.best, label(self.plan, at)));
        }
    }

    fn show_whole(&self, states: &[State]) {
        let scores = states.iter().filter_map(|state| match state {
            State::Done(outcome) => outcome.score(self.by),
            _ => None,
        });
        let done = scores.clone().count();
        let failed = states.iter().filter(|state| matches!(state, State::Failed(_))).count();
        let running = states.iter().filter(|state| matches!(state, State::Running(_))).count();
        let best = scores.max_by(|a, b| a.1.total_cmp(&b.1));
        let best = best.map_or_else(String::new, |(name, score)| format!("best {name} {score:.4}"));
        let left = left_s(states).map_or_else(String::new, |left| format!("  {} left", about(left)));
        let failed_words = if failed > 0 { format!("  {failed} failed") } else { String::new() };
        self.whole.set_position((done + failed) as u64);
        self.whole.set_message(format!("{running} running{failed_words}  {best}{left}"));
    }

    fn say(&self, line: &str) {
        if self.is_terminal {
            // There is nothing to do about a terminal that is gone.
            drop(self.lines.println(line));
        } else {
            say(line);
        }
    }

    fn clear(&self) {
        drop(self.lines.clear());
    }
}

/// About how many seconds the sweep will go on: runs in progress by their own account, those that wait as long as the others
/// took. `None` before anything is known.
fn left_s(states: &[State]) -> Option<f64> {
    let (mut totals, mut left, mut running, mut waiting) = (Vec::new(), 0.0, 0usize, 0usize);
    for state in states {
        match state {
            State::Done(outcome) => totals.push(outcome.seconds),
            State::Running(progress) => {
                running += 1;
                let own = progress.and_then(|progress| Some((progress.seconds, progress.seconds_left?)));
                match own {
                    Some((seconds, own_left)) => {
                        totals.push(seconds + own_left);
                        left += own_left;
                    }
                    None => waiting += 1,
                }
            }
            State::Waiting(_) => waiting += 1,
            State::Failed(_) => {}
        }
    }
    let mean = (!totals.is_empty()).then(|| totals.iter().sum::<f64>() / totals.len() as f64)?;
    Some((left + waiting as f64 * mean) / running.max(1) as f64)
}

/// A run's name, the values of the keys that vary, and its seed.
fn label(plan: &Plan, at: usize) -> String {
    let Run { name, point, seed, .. } = &plan.runs[at];
    let short = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let values = plan.keys.iter().zip(&plan.points[*point]);
    let values: Vec<String> = values.map(|(key, value)| format!("{} {}", short(key), plain(value))).collect();
    format!("{name}  {}  seed {seed}", values.join("  "))
}
