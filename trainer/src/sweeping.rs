//! `ndt-train sweep`: a sweep on the command line, its live table and its ranking.

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use ndt_replay::stop;
use ndt_trainer::sweep::local::{self, Local};
use ndt_trainer::sweep::plan::Plan;
use ndt_trainer::sweep::plot;
use ndt_trainer::sweep::ranking::{Ranking, plain};
use ndt_trainer::sweep::run::{Progress, Run, State};
use ndt_trainer::sweep::slurm::{Job, Resources, Slurm};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

pub const HELP: &str = "\
The file says what is fitted; paths are relative to it, and each key but data and space may be left out:
  data = [\"session.nwb\"]
  bin-ms = 20.0
  out = \"sweep\"           # folder of the results
  search = \"random\"       # or grid: all combinations of lists and of ranges with a step
  points = 20             # with search random
  seed = 1                # of the search
  seeds = [1, 2, 3]       # each point is fitted with each
  [base]                  # a configuration as of fit --config
  optimiser.epochs = 100
  [space]
  model.width = [32, 64]
  model.window-ms = { low = 200, high = 600, step = 100 }
  optimiser.learning-rate = { low = 1e-3, high = 1e-2, scale = \"log\" }

OUT gets ranking.csv, scores.svg, best.toml, and a folder for each run with its bundle. What is done is not done
again: the same command goes on after a cut, and a value more in the file costs its own runs only.

Examples:
  ndt-train sweep --config sweep.toml --jobs 8
  ndt-train sweep --config sweep.toml --executor slurm --partition cpu --time 00:30:00 --mem 4G --no-wait
  ndt-train sweep --config sweep.toml --collect --json";

#[derive(Args)]
pub struct Sweep {
    /// What is fitted (TOML), see below.
    #[arg(long)]
    config: PathBuf,
    /// Runs at a time [default: the cores of this machine; with Slurm as many as it gives].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Option<u32>,
    /// Where the runs are worked off.
    #[arg(long, value_enum, default_value = "local")]
    executor: Executor,
    #[command(flatten)]
    resources: SlurmResources,
    /// Submit to Slurm and leave; --collect ranks later.
    #[arg(long, conflicts_with = "collect")]
    no_wait: bool,
    /// Rank what is done, and start nothing.
    #[arg(long)]
    collect: bool,
    /// Print JSON at the end.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Executor {
    /// Processes on this machine.
    Local,
    /// A job array.
    Slurm,
}

/// What a job of the array asks for.
#[derive(Args)]
struct SlurmResources {
    /// Slurm: the partition [default: the cluster's].
    #[arg(long)]
    partition: Option<String>,
    /// Slurm: longest time of a run, such as 00:30:00 [default: the partition's].
    #[arg(long)]
    time: Option<String>,
    /// Slurm: CPUs of a run.
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Slurm: memory of a run, such as 4G [default: the partition's].
    #[arg(long)]
    mem: Option<String>,
    /// Slurm: another argument for sbatch, such as --sbatch-arg=--qos=low; may be given several times.
    #[arg(long, allow_hyphen_values = true)]
    sbatch_arg: Vec<String>,
}

/// Runs the command; gives what is to be printed.
pub fn run(command: &Sweep) -> anyhow::Result<String> {
    let is_slurm = command.executor == Executor::Slurm;
    ensure!(is_slurm || !command.no_wait, "expected --executor slurm with --no-wait, found local");
    let plan = Plan::read(&command.config)?;
    eprintln!("{} points, {} runs in {}", plan.points.len(), plan.runs.len(), plan.out.display());
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

fn here(command: &Sweep, plan: &Plan) -> anyhow::Result<Vec<State>> {
    let queued = ndt_trainer::sweep::slurm::queued(plan).map_or(0, |queued| queued.len());
    ensure!(queued == 0, "expected no run in Slurm's queue, found {queued}; --executor slurm waits for them");
    let jobs = command.jobs.map_or_else(local::cores, |jobs| jobs as usize);
    let local = Local { program: local::this_program()?, jobs };
    let stop = stop::on_signal()?;
    let mut table = Table::new(plan);
    let states = local.work(plan, &stop, &mut |states| table.show(states))?;
    table.clear();
    if stop.load(Ordering::Relaxed) {
        let done = states.iter().filter(|state| matches!(state, State::Done(_))).count();
        bail!("stopped with {done} of {} runs done; the same command goes on from there", states.len());
    }
    Ok(states)
}

/// What has come of a submission.
enum Waited {
    /// How the runs stand at the end.
    Over(Vec<State>),
    /// Nobody waits; what is to be printed.
    Left(String),
}

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
        eprintln!("submitted job array {} with {} runs", job.id, job.runs);
    }
    if submission.queued > 0 {
        eprintln!("{} runs were in the queue before", submission.queued);
    }
    if command.no_wait {
        if !command.json {
            return Ok(Waited::Left("--collect in place of --executor slurm ranks what is done".to_owned()));
        }
        let job = |job: &Job| json!({ "id": job.id, "runs": job.runs });
        let jobs: Vec<_> = submission.jobs.iter().map(job).collect();
        return Ok(Waited::Left(format!("{:#}", json!({ "jobs": jobs, "queued": submission.queued }))));
    }
    let stop = stop::on_signal()?;
    let mut table = Table::new(plan);
    let states = submission.wait(plan, &stop, &mut |states| table.show(states))?;
    table.clear();
    if stop.load(Ordering::Relaxed) {
        bail!("stopped waiting; the jobs go on, and the same command waits for them again");
    }
    Ok(Waited::Over(states))
}

fn report(command: &Sweep, plan: &Plan, states: &[State]) -> anyhow::Result<String> {
    let ranking = Ranking::new(plan, states);
    let best = ranking.write(plan)?;
    let Some(best) = best else {
        let reason = ranking
            .failed
            .first()
            .map_or_else(String::new, |failed| format!("; one failed with: {}", failed.reason));
        bail!("expected a run that is done, found none of {}{reason}", ranking.runs);
    };
    let picture = plan.out.join("scores.svg");
    plot::draw(&picture, plan, &ranking)?;
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

/// The ranking, line by line.
fn table(plan: &Plan, ranking: &Ranking) -> Vec<String> {
    let title = ["rank", ranking.score, "sd", "velocity R2", "seconds", "seeds"];
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

/// The sweep as it goes: for a person a line for each run under way and one for the whole, for a log a line for each
/// run that starts or ends.
struct Table<'a> {
    plan: &'a Plan,
    lines: MultiProgress,
    whole: ProgressBar,
    running: BTreeMap<usize, ProgressBar>,
    shown: Vec<State>,
    for_person: bool,
}

impl<'a> Table<'a> {
    fn new(plan: &'a Plan) -> Table<'a> {
        let lines = MultiProgress::new();
        let whole = lines.add(ProgressBar::new(plan.runs.len() as u64));
        whole.set_style(style("{pos}/{len} runs {bar:30} {msg}"));
        let for_person = std::io::stderr().is_terminal();
        Table { plan, lines, whole, running: BTreeMap::new(), shown: Vec::new(), for_person }
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
                        .score()
                        .map_or_else(String::new, |(name, score)| format!("{name} {score:.4}"));
                    self.say(&format!("done    {}  {score}  {:.1} s", label(self.plan, at), outcome.seconds));
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
        if !self.for_person {
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
            line.set_message(format!("best {:.4}  {}", progress.best, label(self.plan, at)));
        }
    }

    fn show_whole(&self, states: &[State]) {
        let scores = states.iter().filter_map(|state| match state {
            State::Done(outcome) => outcome.score(),
            _ => None,
        });
        let done = scores.clone().count();
        let failed = states.iter().filter(|state| matches!(state, State::Failed(_))).count();
        let running = states.iter().filter(|state| matches!(state, State::Running(_))).count();
        let best = scores.max_by(|a, b| a.1.total_cmp(&b.1));
        let best = best.map_or_else(String::new, |(name, score)| format!("best {name} {score:.4}"));
        let failed_words = if failed > 0 { format!("  {failed} failed") } else { String::new() };
        self.whole.set_position((done + failed) as u64);
        self.whole.set_message(format!("{running} running{failed_words}  {best}"));
    }

    fn say(&self, line: &str) {
        if self.for_person {
            // A terminal that is gone cannot be told.
            drop(self.lines.println(line));
        } else {
            eprintln!("{line}");
        }
    }

    fn clear(&self) {
        drop(self.lines.clear());
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A run in words: its name, what varies, its seed.
fn label(plan: &Plan, at: usize) -> String {
    let Run { name, point, seed, .. } = &plan.runs[at];
    let short = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let values = plan.keys.iter().zip(&plan.points[*point]);
    let values: Vec<String> = values.map(|(key, value)| format!("{} {}", short(key), plain(value))).collect();
    format!("{name}  {}  seed {seed}", values.join("  "))
}
