//! What peers do to a live daemon costs no estimate: each behaviour of `tests/python/adversary.py`, while a well-behaved rig
//! streams at 200 Hz and a well-behaved subscriber records every estimate. Prints a table with a row for each behaviour.
//!
//! * `NDT_ADVERSARY_SECONDS=10` lets each behaviour last so long, instead of one second.
//! * `NDT_ADVERSARY_ONLY=http,tls` runs these behaviours alone; `NDT_ADVERSARY_SEED=7` draws what they do from another seed.
//! * `NDT_ADVERSARY_HOUR=1` makes `behaviours_in_turn_for_an_hour` run, for so many hours (`0.01` is 36 seconds): behaviours drawn
//!   at random, one daemon, at `SCHED_FIFO` where that is permitted, with a busy loop for each core at normal priority. Prints the totals once a minute.
//!
//! A machine may be busy, so that estimates may be late: they are counted and not judged. Judged are the order and the number of
//! the estimates, bins that were lost, whether the daemon lives and serves newcomers, and its memory.

mod bench;
mod daemon;
mod rig;
mod table;

use bench::Bench;
use daemon::Start;
use ndt_tests::{python, workspace};
use std::process::Command;
use std::time::{Duration, Instant};
use table::Row;

/// A behaviour of the script: its name, and what it does.
struct Behaviour {
    name: String,
    sentence: String,
}

fn script() -> Command {
    let mut command = Command::new(python());
    command.arg(workspace().join("tests/python/adversary.py"));
    command
}

fn behaviours() -> Vec<Behaviour> {
    let listed = script().arg("--list").output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let text = String::from_utf8(listed.stdout).unwrap();
    let all = text.lines().filter_map(|line| line.split_once('\t'));
    all.map(|(name, sentence)| Behaviour { name: name.to_owned(), sentence: sentence.to_owned() }).collect()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn seed() -> u64 {
    variable("NDT_ADVERSARY_SEED").map_or(1, |seed| seed.parse().unwrap())
}

#[test]
fn no_behaviour_of_a_peer_costs_an_estimate() {
    let seconds = variable("NDT_ADVERSARY_SECONDS").map_or(1.0, |seconds| seconds.parse().unwrap());
    let time = Duration::from_secs_f64(seconds);
    let only = variable("NDT_ADVERSARY_ONLY");
    let is_wanted =
        |name: &str| only.as_ref().is_none_or(|only| only.split(',').any(|wanted| wanted == name));
    let all = behaviours();
    assert!(all.len() >= 25, "the script lists {} behaviours", all.len());
    println!("{}", table::HEADER);
    let (mut usual, mut failed) = (None, Vec::new());
    for Behaviour { name, sentence } in all.iter().filter(|behaviour| is_wanted(&behaviour.name)) {
        let start = Start::of(name);
        let mut bench = match (start, usual.take()) {
            (Start::Usual, Some(bench)) => bench,
            (Start::Usual, None) => Bench::start(Start::Usual),
            (special, kept) => {
                usual = kept;
                Bench::start(special)
            }
        };
        let row = bench.bother(name, seed(), time);
        println!("{row}");
        if !row.faults.is_empty() {
            failed.push(format!("{name} ({sentence}): {}", row.faults.join("; ")));
        } else if start == Start::Usual {
            // What a failed behaviour leaves behind is not held against the next one.
            usual = Some(bench);
        }
    }
    assert!(failed.is_empty(), "{} behaviours cost something:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn behaviours_in_turn_for_an_hour() {
    let Some(hours) = variable("NDT_ADVERSARY_HOUR") else {
        return println!("skipped: NDT_ADVERSARY_HOUR is not set");
    };
    let time = Duration::from_secs_f64(3600.0 * hours.parse::<f64>().unwrap());
    let only = variable("NDT_ADVERSARY_ONLY");
    let is_wanted =
        |name: &str| only.as_ref().is_none_or(|only| only.split(',').any(|wanted| wanted == name));
    let names: Vec<String> = behaviours().into_iter().map(|behaviour| behaviour.name).collect();
    let names: Vec<&String> =
        names.iter().filter(|name| Start::of(name) == Start::Usual && is_wanted(name)).collect();
    let _load = bench::Load::on_every_core();
    let mut bench = Bench::start(Start::RealTime);
    let (begin, mut draw, mut total) = (Instant::now(), seed(), Row::default());
    let mut told = None;
    println!("{}", table::HOUR_HEADER);
    while begin.elapsed() < time {
        // A multiplicative generator is random enough to choose a name and a duration.
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let name = names[(draw >> 33) as usize % names.len()];
        let lasts = Duration::from_secs_f64((1.0 + (draw >> 20 & 0x7) as f64).min(time.as_secs_f64()));
        let row = bench.bother(name, draw >> 40, lasts);
        total.add(&row);
        let minute = begin.elapsed().as_secs() / 60;
        if told != Some(minute) || !row.faults.is_empty() {
            println!("{}  {}", table::hour(begin.elapsed(), &row, &total), row.faults.join("; "));
            told = Some(minute);
        }
        if !bench.is_alive() {
            break;
        }
    }
    assert!(total.faults.is_empty(), "seed {}:\n{}", seed(), total.faults.join("\n"));
}
