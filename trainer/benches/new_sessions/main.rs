//! The cost and the benefit of fine-tuning on a new session, compared with a fit from scratch, the old bundle and a
//! Wiener filter, on 8, 16, 32 and all trials of days whose units were permuted, dropped, replaced or have drifted.
//!
//! ```sh
//! cargo bench -p ndt-trainer --bench new_sessions -- --data reach.nwb [--quick] [part of a set-up's title]
//! ```
//!
//! With `--quick` the fits from scratch, which take most of the time, are left out. All methods are scored on the new
//! day's validation trials. Fine-tuning chooses nothing by these trials, whereas the fit from scratch chooses its epoch
//! by them, and the Wiener filter its penalty and history: the scores of these two are optimistic. Durations are
//! wall-clock seconds, and processor seconds of all threads together.

mod days;

use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Training;
use ndt_replay::session::Session;
use ndt_trainer::baselines::runs::{Runs, Units, r2};
use ndt_trainer::baselines::wiener::{HISTORIES, Wiener};
use ndt_trainer::config::Config;
use ndt_trainer::data::Dataset;
use ndt_trainer::export;
use ndt_trainer::training::finetune::{self, FinetuneOptions};
use ndt_trainer::training::{self, Scores};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

const BIN_MS: f64 = 20.0;

/// Numbers of calibration trials; `usize::MAX` for all.
const TRIALS: [usize; 4] = [8, 16, 32, usize::MAX];

/// Number of epochs of a fit from scratch on few trials, with one step each.
const SCRATCH_EPOCHS: usize = 300;

/// One row of the table: a method on a number of trials.
struct Row {
    method: &'static str,
    trials: usize,
    co_bps: Option<f64>,
    velocity_r2: Option<f64>,
    seconds: f64,
    cpu_seconds: f64,
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut recording, mut quick, mut part) = (None, false, String::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--data" => recording = arguments.next().map(PathBuf::from),
            "--quick" => quick = true,
            _ => part = argument,
        }
    }
    let mut all = Vec::new();
    match &recording {
        Some(path) if path.exists() => all.extend(days::recorded(path)),
        Some(path) => println!("skipped the recorded days: no {}", path.display()),
        None => println!("skipped the recorded days: no --data reach.nwb"),
    }
    all.extend(days::simulated(250));
    let mut report = Vec::new();
    let mut known: Option<(Session, Bundle)> = None;
    println!("| set-up | trials | method | co-bps | velocity R2 | s | CPU s |");
    println!("|---|---|---|---|---|---|---|");
    for days in all.iter().filter(|days| days.title.contains(&part)) {
        let mut tell = |row: Row| {
            print(days.title, &row);
            report.push(json!({
                "set-up": days.title, "trials": row.trials, "method": row.method, "co-bps": row.co_bps,
                "velocity-r2": row.velocity_r2, "seconds": row.seconds, "cpu-seconds": row.cpu_seconds,
            }));
        };
        // Set-ups with the same first day share its bundle.
        let bundle = match known.take_if(|(first, _)| *first == days.first) {
            Some((_, bundle)) => bundle,
            None => first_bundle(&days.first, &mut tell),
        };
        compare(&bundle, &days.second, quick, &mut tell);
        known = Some((days.first.clone(), bundle));
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&folder).expect("target/bench can be made");
    std::fs::write(folder.join("new_sessions.json"), format!("{:#}\n", json!(report)))
        .expect("new_sessions.json can be written");
}

fn data(session: &Session) -> Dataset {
    Dataset::new(std::slice::from_ref(session), BIN_MS, 0.0).expect("a day can be binned")
}

/// The bundle of the first day.
fn first_bundle(day: &Session, tell: &mut dyn FnMut(Row)) -> Bundle {
    let first = data(day);
    let (bundle, row) = timed("day 1: the bundle", first.train.len(), || {
        let config = Config::default();
        let fit =
            training::fit(&first, &config, None, &mut training::unwatched).expect("day 1 can be fitted");
        let scores = fit.scores;
        (export::bundle(&fit, &first, &config, origin()).expect("a fit makes a bundle"), scores)
    });
    tell(row);
    bundle
}

/// Runs all methods on the second day; `tell` is called with the row of each.
fn compare(bundle: &Bundle, day: &Session, quick: bool, tell: &mut dyn FnMut(Row)) {
    let second = data(day);
    let old = FinetuneOptions { epochs: Some(0), ..FinetuneOptions::default() };
    tell(finetuned("day 1's bundle, no step", bundle, &second, usize::MAX, old));
    for trials in TRIALS {
        let methods = [
            ("finetune --interface-only", true, false),
            ("finetune --interface-only --whole-step", true, true),
            ("finetune", false, false),
        ];
        for (method, freeze_body, whole) in methods {
            let options = FinetuneOptions { freeze_body, whole, ..FinetuneOptions::default() };
            tell(finetuned(method, bundle, &second, trials, options));
        }
        if !quick {
            tell(from_nothing(&second, trials));
        }
        tell(wiener(day, trials));
    }
}

fn finetuned(
    method: &'static str,
    bundle: &Bundle,
    day: &Dataset,
    trials: usize,
    options: FinetuneOptions,
) -> Row {
    let data = finetune::calibration_data(day.clone(), &bundle.manifest, Some(trials));
    let fit = || {
        let tuned = finetune::finetune(bundle, &data, &Config::default(), options, &mut finetune::unwatched)
            .expect("a bundle can be fine-tuned");
        ((), tuned.fit.scores)
    };
    timed(method, data.train.len(), fit).1
}

fn from_nothing(day: &Dataset, trials: usize) -> Row {
    let mut data = day.clone();
    data.train.truncate(trials);
    let mut config = Config::default();
    if trials != usize::MAX {
        (config.optimiser.epochs, config.optimiser.patience_epochs) = (SCRATCH_EPOCHS, SCRATCH_EPOCHS);
    }
    let fit = || {
        (
            (),
            training::fit(&data, &config, None, &mut training::unwatched)
                .expect("a day can be fitted")
                .scores,
        )
    };
    timed("fit from scratch, best epoch", data.train.len(), fit).1
}

/// The Wiener filter with the best history, on the held-in units that the other methods see.
fn wiener(day: &Session, trials: usize) -> Row {
    let mut data = Runs::new(std::slice::from_ref(day), BIN_MS, "val", Units::Heldin).expect("a day");
    data.train.truncate(trials);
    let best = || {
        let fits = HISTORIES.iter().map(|history| {
            let fit = Wiener::fit(&data, 0, *history).expect("a Wiener filter has a solution");
            r2(&data.scored, 0, data.dims, |counts| fit.decode(counts)).mean().unwrap_or(f64::NAN)
        });
        ((), fits.fold(f64::NEG_INFINITY, f64::max))
    };
    let started = (Instant::now(), cpu_seconds());
    let ((), velocity_r2) = best();
    Row {
        method: "Wiener, best history",
        trials: data.train.len(),
        co_bps: None,
        velocity_r2: Some(velocity_r2),
        seconds: started.0.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds() - started.1,
    }
}

fn timed<T>(method: &'static str, trials: usize, job: impl FnOnce() -> (T, Scores)) -> (T, Row) {
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let (value, scores) = job();
    let row = Row {
        method,
        trials,
        co_bps: Some(scores.bits_per_spike),
        velocity_r2: scores.velocity_r2,
        seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds() - cpu,
    };
    (value, row)
}

/// Processor time of this process so far, s. Linux counts it in hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn print(title: &str, row: &Row) {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    println!(
        "| {title} | {} | {} | {} | {} | {:.1} | {:.1} |",
        row.trials,
        row.method,
        number(row.co_bps),
        number(row.velocity_r2),
        row.seconds,
        row.cpu_seconds
    );
}

fn origin() -> Training {
    Training { seed: 1, ..Training::of_nothing("a benchmark") }
}
