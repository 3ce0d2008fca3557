//! The points of a sweep in the order of their validation score: as a table, as CSV, and the best one as a configuration.

use crate::sweep::plan::Plan;
use crate::sweep::run::State;
use ndt_protocol::bundle::origin::CONFIG;
use ndt_protocol::files::{self, FileError};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use toml::Value;

/// The results of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ranking {
    /// Name of the score: the one that was asked for, or else `co-bps`, or `masked-bps` if no unit is held out.
    pub score: String,
    /// Points with at least one finished run, the best first; points with unfinished seeds come after the others.
    pub points: Vec<Ranked>,
    /// Number of finished runs.
    pub done: usize,
    /// Number of runs of the sweep.
    pub runs: usize,
    /// The runs that failed.
    pub failed: Vec<FailedRun>,
}

/// A point and its scores, which are means over the finished seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ranked {
    /// Rank, 1 for the best.
    pub rank: usize,
    /// Values of the keys that vary.
    pub values: BTreeMap<String, Value>,
    /// Mean of the score by which points are ranked.
    pub score: f64,
    /// Standard deviation of the score over seeds (n - 1); `None` with one seed.
    pub sd: Option<f64>,
    /// Mean velocity R2; `None` unless every finished run has one.
    pub velocity_r2: Option<f64>,
    /// Mean duration of a fit, s.
    pub seconds: f64,
    /// Number of finished seeds.
    pub done: usize,
    /// Number of seeds in all.
    pub seeds: usize,
    /// Name of the run with the highest score.
    pub best_run: String,
}

/// A run that failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailedRun {
    /// Name of the run.
    pub run: String,
    /// Values of the keys that vary.
    pub values: BTreeMap<String, Value>,
    /// Seed of the run.
    pub seed: u64,
    /// Reason of the failure.
    pub reason: String,
}

impl Ranking {
    /// Ranks the finished runs by the score called `by`, or by the one that chooses epochs; the highest is the best. `states` are
    /// in the order of the plan's runs. A run without that score has no rank.
    pub fn new(plan: &Plan, states: &[State], by: Option<&str>) -> Ranking {
        let mut points: Vec<Ranked> =
            (0..plan.points.len()).filter_map(|point| ranked(plan, states, by, point)).collect();
        points.sort_by(|a, b| {
            let missing = |ranked: &Ranked| ranked.done < ranked.seeds;
            missing(a).cmp(&missing(b)).then(b.score.total_cmp(&a.score))
        });
        for (at, ranked) in points.iter_mut().enumerate() {
            ranked.rank = at + 1;
        }
        let failed = plan.runs.iter().zip(states).filter_map(|(run, state)| match state {
            State::Failed(reason) => Some(FailedRun {
                run: run.name.clone(),
                values: values(plan, run.point),
                seed: run.seed,
                reason: reason.clone(),
            }),
            _ => None,
        });
        let score = states.iter().find_map(|state| match state {
            State::Done(outcome) => outcome.score(by).map(|(name, _)| name),
            _ => None,
        });
        Ranking {
            score: score.unwrap_or_else(|| by.unwrap_or("co-bps").to_owned()),
            done: points.iter().map(|ranked| ranked.done).sum(),
            runs: plan.runs.len(),
            failed: failed.collect(),
            points,
        }
    }

    /// Writes `ranking.csv` and, if a run is finished, `best.toml`; returns the path of `best.toml`.
    ///
    /// # Errors
    /// [`FileError`] when a file cannot be written.
    pub fn write(&self, plan: &Plan) -> Result<Option<PathBuf>, FileError> {
        files::write_file(&plan.out.join("ranking.csv"), self.csv(plan).as_bytes())?;
        let path = plan.out.join("best.toml");
        let best = self.points.first();
        let run = best.and_then(|best| plan.runs.iter().find(|run| run.name == best.best_run));
        let (Some(best), Some(run)) = (best, run) else { return Ok(None) };
        // The whole configuration is in the bundle. Somebody may have removed that, but not what the sweep has set.
        let whole = std::fs::read_to_string(plan.out.join(&run.name).join("model").join(CONFIG));
        let text = whole.unwrap_or_else(|_| run.choices.to_string());
        let scored = format!("{} {:.4}{}", self.score, best.score, best.spread());
        let text = format!(
            "# The best of {} points: {scored}. Its model is {}/model.\n{text}",
            plan.points.len(),
            run.name
        );
        files::write_file(&path, text.as_bytes())?;
        Ok(Some(path))
    }

    fn csv(&self, plan: &Plan) -> String {
        let mut text = format!("rank,{}", plan.keys.iter().map(|key| cell(key) + ",").collect::<String>());
        text.push_str(&format!("{},sd,velocity-r2,seconds,done,seeds,best-run\n", self.score));
        let number = |number: Option<f64>| number.map_or_else(String::new, |number| number.to_string());
        for point in &self.points {
            let values: String = plan.keys.iter().map(|key| cell(&plain(&point.values[key])) + ",").collect();
            let (sd, r2) = (number(point.sd), number(point.velocity_r2));
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{},{values}{},{sd},{r2},{},{},{},{}",
                point.rank, point.score, point.seconds, point.done, point.seeds, point.best_run
            );
        }
        text
    }
}

impl Ranked {
    /// The standard deviation as text; empty with one seed.
    pub fn spread(&self) -> String {
        self.sd.map_or_else(String::new, |sd| format!(" (sd {sd:.4} over {} seeds)", self.done))
    }
}

/// Names of all scores that finished runs have.
pub fn score_names(states: &[State]) -> BTreeSet<String> {
    let scores = states.iter().filter_map(|state| match state {
        State::Done(outcome) => Some(outcome.scores.keys().cloned()),
        _ => None,
    });
    scores.flatten().collect()
}

/// A value as a table shows it, without quotation marks.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn values(plan: &Plan, point: usize) -> BTreeMap<String, Value> {
    plan.keys.iter().cloned().zip(plan.points[point].iter().cloned()).collect()
}

fn ranked(plan: &Plan, states: &[State], by: Option<&str>, point: usize) -> Option<Ranked> {
    let runs = || plan.runs.iter().zip(states).filter(|(run, _)| run.point == point);
    let done: Vec<_> = runs()
        .filter_map(|(run, state)| match state {
            State::Done(outcome) => Some((run, outcome, outcome.score(by)?.1)),
            _ => None,
        })
        .collect();
    let best = done.iter().max_by(|a, b| a.2.total_cmp(&b.2))?;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let scores: Vec<f64> = done.iter().map(|(_, _, score)| *score).collect();
    let score = mean(&scores);
    let squares = scores.iter().map(|found| (found - score).powi(2)).sum::<f64>();
    let r2: Option<Vec<f64>> =
        done.iter().map(|(_, outcome, _)| outcome.scores.get("velocity-r2").copied()).collect();
    Some(Ranked {
        rank: 0,
        values: values(plan, point),
        score,
        sd: (scores.len() > 1).then(|| (squares / (scores.len() - 1) as f64).sqrt()),
        velocity_r2: r2.map(|r2| mean(&r2)),
        seconds: mean(&done.iter().map(|(_, outcome, _)| outcome.seconds).collect::<Vec<_>>()),
        done: done.len(),
        seeds: runs().count(),
        best_run: best.0.name.clone(),
    })
}
