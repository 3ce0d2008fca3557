//! Simulated sessions follow the task, survive being written and read, and allow a hand to be decoded from them.

use ndt_protocol::binner::Binner;
use ndt_replay::h5;
use ndt_replay::nwb;
use ndt_replay::session::{Series, Session, Value};
use ndt_replay::simulate::{Recipe, RecipeError, simulate};
use proptest::prelude::*;
use std::path::Path;

const CLOSE: f64 = 1e-9;

fn small(seed: u64) -> Recipe {
    Recipe { trials: 6, units: 9, heldout: 2, seed }
}

fn close(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || (a - b).abs() <= CLOSE
}

fn assert_close(a: &[f64], b: &[f64], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    assert!(a.iter().zip(b).all(|(&a, &b)| close(a, b)), "{what} differs");
}

/// Checks that two sessions are equal, except for the last bits that converting back and forth changes.
fn assert_same(a: &Session, b: &Session) {
    assert_eq!(a.identifier, b.identifier);
    assert_eq!(a.units.len(), b.units.len());
    for (a, b) in a.units.iter().zip(&b.units) {
        assert_eq!((a.id, a.heldout), (b.id, b.heldout));
        assert_close(&a.spike_times, &b.spike_times, "spike times");
    }
    let edges = |session: &Session| -> Vec<f64> {
        session.observed.iter().flat_map(|interval| [interval.start, interval.stop]).collect()
    };
    assert_close(&edges(a), &edges(b), "observation");
    assert_eq!(a.trials.len(), b.trials.len());
    for (a, b) in a.trials.iter().zip(&b.trials) {
        assert_eq!((a.id, &a.split), (b.id, &b.split));
        assert_close(&[a.interval.start, a.interval.stop], &[b.interval.start, b.interval.stop], "trial");
        assert_eq!(a.columns.keys().collect::<Vec<_>>(), b.columns.keys().collect::<Vec<_>>());
        for (name, value) in &a.columns {
            match (value, &b.columns[name]) {
                (Value::Float(a), Value::Float(b)) => assert!(close(*a, *b), "{name}: {a} and {b}"),
                (a, b) => assert_eq!(a, b, "{name}"),
            }
        }
    }
    assert_eq!(a.behavior.len(), b.behavior.len());
    for (a, b) in a.behavior.iter().zip(&b.behavior) {
        assert_eq!((&a.name, &a.unit, a.dims), (&b.name, &b.unit, b.dims));
        assert_close(&a.timestamps, &b.timestamps, "timestamps");
        assert_close(&a.data, &b.data, "data");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_written_session_is_read_as_it_was(
        seed: u64, trials in 1usize..8, units in 2usize..12, heldout in 0usize..2,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.nwb");
        let session = simulate(&Recipe { trials, units, heldout, seed });
        prop_assume!(session.spikes() > 0);
        nwb::write(&session, &path).unwrap();
        assert_same(&session, &nwb::read(&path).unwrap());
    }
}

/// Collects the path and the cells of every dataset below a group.
fn datasets(group: &h5::Group, found: &mut Vec<(String, Vec<String>)>) {
    for name in group.members().unwrap() {
        if group.is_group(&name).unwrap() {
            datasets(&group.group(&name).unwrap(), found);
            continue;
        }
        let stored = group.dataset(&name).unwrap();
        let cells = match stored.kind() {
            h5::Kind::Float => {
                stored.numbers::<f64>().unwrap().iter().map(|v| v.to_bits().to_string()).collect()
            }
            h5::Kind::Int => stored.numbers::<i64>().unwrap().iter().map(i64::to_string).collect(),
            h5::Kind::Bool => stored.bools().unwrap().iter().map(bool::to_string).collect(),
            h5::Kind::Text => stored.texts().unwrap(),
            h5::Kind::Other => vec!["a reference".to_owned()],
        };
        found.push((stored.name(), cells));
    }
}

fn datasets_of(path: &Path) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    datasets(&h5::open(path).unwrap(), &mut found);
    found
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, seed| {
        let path = folder.path().join(name);
        nwb::write(&simulate(&small(seed)), &path).unwrap();
        path
    };
    let (first, again, other) = (file("first.nwb", 7), file("again.nwb", 7), file("other.nwb", 8));
    assert!(datasets_of(&first).len() > 25);
    assert_eq!(datasets_of(&first), datasets_of(&again));
    assert_ne!(datasets_of(&first), datasets_of(&other));
    assert_eq!(
        std::fs::read(&first).unwrap(),
        std::fs::read(&again).unwrap(),
        "the files differ beside their data"
    );
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), 3, "something is left beside the files: {left:?}");
}

#[test]
fn a_session_is_built_as_the_task_is() {
    let recipe = Recipe { trials: 40, units: 30, heldout: 7, seed: 5 };
    let session = simulate(&recipe);
    assert_eq!(session.units.iter().filter(|unit| unit.heldout).count(), 7);
    let count = |split: &str| session.segments(Some(split)).unwrap().len();
    assert_eq!((count("train"), count("val"), count("test")), (24, 8, 8));
    for pair in session.trials.windows(2) {
        assert!(pair[1].interval.start - pair[0].interval.stop > 0.05 - CLOSE);
    }
    for trial in &session.trials {
        let tenths = trial.interval.start * 10.0;
        assert!((tenths - tenths.round()).abs() < 1e-6, "starts at {}", trial.interval.start);
        let time = |name: &str| match trial.columns[name] {
            Value::Float(time) => time,
            ref other => panic!("{name} is {other:?}"),
        };
        let course =
            [trial.interval.start, time("target_on_time"), time("go_cue_time"), time("move_onset_time")];
        assert!(course.is_sorted() && time("move_onset_time") < trial.interval.stop);
        assert!((time("go_cue_time") - time("target_on_time") - time("delay") / 1e3).abs() < CLOSE);
        assert!((time("move_onset_time") - time("go_cue_time") - time("rt") / 1e3).abs() < CLOSE);
    }
    for unit in &session.units {
        // A sample of the recording system lasts 33 us, which is far more than rounding in f64 seconds.
        assert!(
            unit.spike_times.windows(2).all(|pair| pair[1] - pair[0] > 0.002 - CLOSE),
            "unit {}",
            unit.id
        );
        let inside = |&time: &f64| session.observed.iter().any(|at| (at.start..at.stop).contains(&time));
        assert!(unit.spike_times.iter().all(inside), "unit {} fires unobserved", unit.id);
    }
    let rate =
        session.spikes() as f64 / 30.0 / session.observed.iter().map(|at| at.stop - at.start).sum::<f64>();
    assert!((3.0..10.0).contains(&rate), "a mean rate of {rate} spikes/s");
}

#[test]
fn a_trial_does_not_depend_on_the_units_nor_a_few_trials_on_many() {
    let base = simulate(&small(11));
    let more_units = simulate(&Recipe { units: 20, ..small(11) });
    let more_trials = simulate(&Recipe { trials: 12, ..small(11) });
    assert_eq!(base.trials, more_units.trials);
    assert_eq!(base.behavior, more_units.behavior);
    assert_eq!(base.trials[..], more_trials.trials[..6]);
}

#[test]
fn useless_recipes_are_refused() {
    assert_eq!(Recipe::default().check(), Ok(()));
    let empty = Recipe { trials: 0, ..small(1) };
    assert_eq!(empty.check(), Err(RecipeError::Empty { trials: 0, units: 9 }));
    let blind = Recipe { heldout: 9, ..small(1) };
    let sentence = blind.check().unwrap_err().to_string();
    assert_eq!(sentence, "expected fewer held-out units than the 9 units, found 9");
    assert_eq!(simulate(&empty).trials.len(), 0);
}

/// Features and velocity of every 20 ms bin of a split. The features are a constant, the held-in counts of the last 100 ms,
/// and those of the 100 ms before.
fn bins(session: &Session, velocity: &Series, split: &str) -> (Vec<Vec<f64>>, Vec<[f64; 2]>) {
    let binner = Binner::new(20.0).unwrap();
    let heldin: Vec<_> = session.units.iter().filter(|unit| !unit.heldout).collect();
    let (mut features, mut targets) = (Vec::new(), Vec::new());
    for segment in session.segments(Some(split)).unwrap() {
        let bins = binner.bins(segment.start, segment.stop);
        let mut counts = vec![0.0f32; bins * heldin.len()];
        for (column, unit) in heldin.iter().enumerate() {
            binner.count(&unit.spike_times, segment.start, bins, &mut counts[column..], heldin.len());
        }
        for bin in 10..bins {
            let sum = |from: usize, column: usize| -> f64 {
                (from..from + 5).map(|bin| f64::from(counts[bin * heldin.len() + column])).sum()
            };
            let mut row = vec![1.0];
            row.extend((0..heldin.len()).flat_map(|column| [sum(bin - 4, column), sum(bin - 9, column)]));
            let end = segment.start + (bin + 1) as f64 * binner.width_s();
            // The last bin may end with the trial, a millisecond after the last sample.
            let Some(value) = velocity.at(end - 1e-3, 0.01) else { continue };
            features.push(row);
            targets.push([value[0], value[1]]);
        }
    }
    (features, targets)
}

/// Ridge regression by conjugate gradients on the normal equations.
fn ridge(features: &[Vec<f64>], targets: &[f64], penalty: f64) -> Vec<f64> {
    let product = |weights: &[f64]| -> Vec<f64> {
        let mut sum: Vec<f64> = weights.iter().map(|weight| penalty * weight).collect();
        for row in features {
            let along: f64 = row.iter().zip(weights).map(|(a, b)| a * b).sum();
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += along * value);
        }
        sum
    };
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let mut residual = vec![0.0; features[0].len()];
    for (row, target) in features.iter().zip(targets) {
        residual.iter_mut().zip(row).for_each(|(sum, value)| *sum += target * value);
    }
    let mut weights = vec![0.0; residual.len()];
    let mut direction = residual.clone();
    for _ in 0..60 {
        let pushed = product(&direction);
        let before = dot(&residual, &residual);
        let step = before / dot(&direction, &pushed).max(f64::MIN_POSITIVE);
        for at in 0..weights.len() {
            weights[at] += step * direction[at];
            residual[at] -= step * pushed[at];
        }
        let keep = dot(&residual, &residual) / before.max(f64::MIN_POSITIVE);
        direction = residual.iter().zip(&direction).map(|(new, old)| new + keep * old).collect();
    }
    weights
}

#[test]
fn the_hand_can_be_decoded_from_held_in_units_and_not_perfectly() {
    let session = simulate(&Recipe { trials: 100, ..Recipe::default() });
    let velocity = session.series("hand_vel").unwrap();
    let (features, targets) = bins(&session, velocity, "train");
    let (unseen, truth) = bins(&session, velocity, "val");
    for axis in 0..2 {
        let targets: Vec<f64> = targets.iter().map(|target| target[axis]).collect();
        let weights = ridge(&features, &targets, 100.0);
        let mean = truth.iter().map(|value| value[axis]).sum::<f64>() / truth.len() as f64;
        let (mut missed, mut spread) = (0.0, 0.0);
        for (row, value) in unseen.iter().zip(&truth) {
            let decoded: f64 = row.iter().zip(&weights).map(|(a, b)| a * b).sum();
            missed += (value[axis] - decoded).powi(2);
            spread += (value[axis] - mean).powi(2);
        }
        let score = 1.0 - missed / spread;
        println!("axis {axis}: R2 of {score:.3}");
        assert!((0.6..0.9).contains(&score), "an R2 of {score} on axis {axis}");
    }
}
