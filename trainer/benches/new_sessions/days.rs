//! Pairs of days: the session that a bundle is fitted on, and the new session that the bundle is adapted to.

use ndt_replay::nwb;
use ndt_replay::session::{Session, Unit};
use ndt_replay::simulate::{Recipe, simulate};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// Added to the id of a unit that must not be recognised on the new day.
const STRANGER: i64 = 1_000_000;

/// Two days and what changed between them.
pub struct Days {
    pub title: &'static str,
    pub first: Session,
    pub second: Session,
}

/// The recording's train and val trials, cut in halves in time. The units change only as a set-up says.
pub fn recorded(path: &Path) -> Vec<Days> {
    let session = nwb::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (first, second) = (half(&session, 0), half(&session, 1));
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut order: Vec<usize> = (0..session.units.len()).collect();
    order.shuffle(&mut random);
    let part = |range: std::ops::Range<f64>| {
        let at = |part: f64| (part * order.len() as f64).round() as usize;
        order[at(range.start)..at(range.end)].to_vec()
    };
    let days = |title, first_units: Vec<usize>, second_units: Vec<usize>, strangers: bool| {
        let mut second = with_units(&second, &second_units);
        if strangers {
            second.units.iter_mut().for_each(|unit| unit.id += STRANGER);
        }
        Days { title, first: with_units(&first, &first_units), second }
    };
    let all: Vec<usize> = (0..order.len()).collect();
    vec![
        days("permuted, ids known", all.clone(), order.clone(), false),
        days("permuted, ids unknown", all.clone(), order.clone(), true),
        days("a third gone", all, part(0.0..2.0 / 3.0), false),
        days("60 % re-drawn, 1/3 of them known", part(0.0..0.6), part(0.4..1.0), false),
        days("half re-drawn, none known", part(0.0..0.5), part(0.5..1.0), false),
    ]
}

/// Simulated days of one population: rates change by factors of 0.5 to 2, 30 % of the units are replaced by others, and
/// the tuning of each unit changes: 30 % of its spikes are replaced by another unit's.
pub fn simulated(trials: usize) -> Vec<Days> {
    const UNITS: usize = 96;
    // The second half of the units are the strangers. A trial's movement does not depend on the number of units.
    let session = simulate(&Recipe { trials: 2 * trials, units: 2 * UNITS, heldout: 48, seed: 11 });
    let known: Vec<usize> = (0..UNITS).collect();
    let (first, second) = (half(&session, 0), half(&session, 1));
    let first_day = with_units(&first, &known);
    let drifted = |gain: bool, exchanged: usize, turned: f64| {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let mut units: Vec<usize> = known.clone();
        units.shuffle(&mut random);
        let mut second = with_units(&second, &units);
        let before = second.units.clone();
        for (at, unit) in second.units.iter_mut().enumerate() {
            let other = &before[(at + 1) % before.len()];
            let mut spike_times = thinned(&unit.spike_times, 1.0 - turned, &mut random);
            spike_times.extend(thinned(&other.spike_times, turned, &mut random));
            spike_times.sort_by(f64::total_cmp);
            let factor = if gain { random.random_range(0.5..1.0) } else { 1.0 };
            unit.spike_times = thinned(&spike_times, factor, &mut random);
        }
        for (at, unit) in second.units.iter_mut().take(exchanged).enumerate() {
            let stranger: &Unit = &session.units[UNITS + at];
            *unit = Unit { heldout: unit.heldout, ..stranger.clone() };
        }
        second
    };
    let days = |title, second| Days { title, first: first_day.clone(), second };
    vec![
        days("simulated: as it was", drifted(false, 0, 0.0)),
        days("simulated: rates x 0.5-1", drifted(true, 0, 0.0)),
        days("simulated: and 30 % exchanged", drifted(true, UNITS * 3 / 10, 0.0)),
        days("simulated: and tuning turned", drifted(true, UNITS * 3 / 10, 0.3)),
    ]
}

/// The spikes that remain when each is kept with this probability.
fn thinned(spike_times: &[f64], kept: f64, random: &mut ChaCha8Rng) -> Vec<f64> {
    spike_times.iter().copied().filter(|_| random.random_bool(kept)).collect()
}

/// One half of the train trials and one half of the val trials.
fn half(session: &Session, which: usize) -> Session {
    let mut half = session.clone();
    for split in ["train", "val"] {
        let trials = half.trials.iter_mut().filter(|trial| trial.split.as_deref() == Some(split));
        let trials: Vec<_> = trials.collect();
        let middle = trials.len() / 2;
        for (at, trial) in trials.into_iter().enumerate() {
            if usize::from(at >= middle) != which {
                trial.split = Some("none".to_owned());
            }
        }
    }
    half
}

fn with_units(session: &Session, units: &[usize]) -> Session {
    let units = units.iter().map(|unit| session.units[*unit].clone()).collect();
    Session { units, ..session.clone() }
}
