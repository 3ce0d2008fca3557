//! The whole path, small: a simulated session is written, read, fitted, exported, evaluated, played into a running
//! daemon, and heard again.

use ndt_daemon::engine::{self, EngineKind};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Training;
use ndt_protocol::bundle::precision::Precision;
use ndt_replay::listen::Summary;
use ndt_replay::nwb;
use ndt_replay::play::Plan;
use ndt_replay::session::{Interval, Session};
use ndt_replay::simulate::{Recipe, simulate};
use ndt_tests::{onnxruntime_library, rig};
use ndt_trainer::config::Config;
use ndt_trainer::data::{Dataset, Trial};
use ndt_trainer::{evaluation, export, training};
use std::ops::ControlFlow;
use std::path::Path;

/// A session that has been through a file.
fn session(folder: &Path) -> Session {
    let path = folder.join("session.nwb");
    let recipe = Recipe { trials: 120, units: 60, heldout: 15, seed: 3 };
    nwb::write(&simulate(&recipe), &path).unwrap();
    nwb::read(&path).unwrap()
}

fn config() -> Config {
    let mut config = Config::default();
    config.model.width = 32;
    config.model.layers = 2;
    config.model.feedforward = 48;
    config.optimiser.epochs = 25;
    config.optimiser.learning_rate = 4e-3;
    config.optimiser.batch_trials = 16;
    (config.objective.redrawn, config.objective.teacher_weight) = (0.0, 0.0);
    config
}

fn origin() -> Training {
    Training { seed: 1, ..Training::of_nothing("a test") }
}

fn fit(data: &Dataset) -> Bundle {
    let mut scores = Vec::new();
    let fit = training::fit(data, &config(), None, &mut |progress| {
        scores.push(progress.scores.bits_per_spike);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(scores.len(), 25);
    assert!(scores[24] > scores[0], "the epochs teach something: {scores:?}");
    export::bundle(&fit, data, &config(), origin()).unwrap()
}

fn stream(bundle: &Bundle, session: &Session, kind: EngineKind, precision: Precision) -> (Plan, Summary) {
    let choice = engine::Choice {
        kind,
        instruction_set: None,
        precision: Some(precision),
        onnxruntime_library: Some(onnxruntime_library()),
        onnx: engine::onnx::OnnxSettings::default(),
    };
    let engine = engine::load(&choice, bundle).unwrap();
    rig::heard(bundle, session, engine).unwrap()
}

#[test]
fn a_simulated_session_goes_from_spike_to_velocity_and_scores_as_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let data = Dataset::new(std::slice::from_ref(&session), 20.0, 0.0).unwrap();
    let path = folder.path().join("model.ndt");
    fit(&data).write(&path).unwrap();
    let bundle = Bundle::read(&path).unwrap();
    let evaluation = evaluation::evaluate(&bundle, &session, "val").unwrap();
    let evaluated = evaluation.readouts[0].mean.unwrap();
    assert!(evaluated > 0.2 && evaluation.co_bps.unwrap() > 0.0, "{evaluation:?}");
    let selected = bundle.manifest.scores["co-bps"];
    assert!(
        (evaluation.co_bps.unwrap() - selected).abs() < 1e-4,
        "bin by bin is the batch: {evaluation:?} {selected}"
    );

    let engines = Precision::ALL.map(|precision| (EngineKind::Native, precision));
    for (kind, precision) in engines.into_iter().chain([(EngineKind::Onnx, Precision::F32)]) {
        let (plan, summary) = stream(&bundle, &session, kind, precision);
        assert_eq!(summary.estimates, plan.bins() as u64);
        assert_eq!((summary.missing, summary.repeated, summary.out_of_order, summary.streams), (0, 0, 0, 1));
        assert_eq!(summary.reasons["segment-start"], plan.segments() as u64);
        assert_eq!(summary.quality["warmup"], 4 * plan.segments() as u64, "{summary:?}");
        let heard = summary.velocity_r2_mean.unwrap();
        // In fewer bits what is heard is what the trainer computed that they would lose.
        let loss = bundle.manifest.precisions.get(&precision).and_then(|loss| loss.validation);
        assert_eq!(loss.is_some(), precision != Precision::F32);
        let lost = loss.and_then(|loss| loss.velocity_r2).unwrap_or(0.0);
        println!("{kind:?} {}: heard {heard}, evaluated {evaluated}, lost {lost}", precision.name());
        assert!(
            (heard - (evaluated - lost)).abs() < 1e-4,
            "{kind:?} {precision:?}: heard {heard}, evaluated {evaluated}, lost {lost}"
        );
    }
}

#[test]
fn the_same_seed_and_data_give_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let data = Dataset::new(std::slice::from_ref(&session), 20.0, 0.0).unwrap();
    let (first, second) = (fit(&data), fit(&data));
    let bits = |bundle: &Bundle| -> Vec<u32> {
        bundle.weights.values().flat_map(|(_, values)| values.iter().map(|value| value.to_bits())).collect()
    };
    assert!(bits(&first) == bits(&second), "two fits of one seed differ");
    let mut other = config();
    other.optimiser.seed = 2;
    let other = training::fit(&data, &other, None, &mut training::unwatched).unwrap();
    let other = export::bundle(&other, &data, &config(), origin()).unwrap();
    assert!(bits(&first) != bits(&other), "two seeds give the same weights");
}

#[test]
fn without_behaviour_and_without_held_out_units_there_are_rates_and_it_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = session(folder.path());
    session.behavior.clear();
    session.units.iter_mut().for_each(|unit| unit.heldout = false);
    session.trials.iter_mut().for_each(|trial| trial.split = None);
    let data = Dataset::new(std::slice::from_ref(&session), 20.0, 0.0).unwrap();
    assert_eq!(
        data.notes,
        [
            "the recording has no behaviour and so no hand_vel: the model estimates rates only",
            "trials alone are fitted and scored: the time between its trials was not observed, or the recording does not say",
            "the recording has no splits train and val: blocks of 70, 15 and 15 % of its trials are for training, validation and \
             test, 1.54 s apart"
        ]
    );
    assert_eq!((data.train.len(), data.val.len(), data.test.len()), (84, 17, 17));
    let mut config = config();
    config.optimiser.epochs = 2;
    let fit = training::fit(&data, &config, None, &mut training::unwatched).unwrap();
    assert_eq!((fit.selection, fit.scores.velocity_r2), ("masked-bps", None));
    let bundle = export::bundle(&fit, &data, &config, origin()).unwrap();
    assert_eq!(
        (bundle.manifest.channels(), bundle.manifest.units(), bundle.manifest.velocity_dims()),
        (60, 60, 0)
    );
    let mut engine = engine::native::Native::new(&bundle);
    let tolerance = engine::tolerance(Precision::F32, &bundle).unwrap();
    engine::reproduce_golden(&mut engine, &bundle, tolerance).unwrap();
}

#[test]
fn a_recording_without_trials_is_cut_into_blocks_of_time_and_its_holes_are_no_silence() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = session(folder.path());
    session.trials.clear();
    let observed = |start, stop| Interval { start, stop };
    // Seen for 9.5 s in two stretches; the second has a hole, and ends in the middle of a bin.
    session.observed = vec![observed(1.0, 5.0), observed(7.0, 9.0), observed(9.05, 12.51)];
    let data = Dataset::new(std::slice::from_ref(&session), 20.0, 0.0).unwrap();
    assert_eq!(
        data.notes,
        [
            "all observed time is fitted and scored: the recording has fewer than 5 trials",
            "the recording has no splits train and val: blocks of 70, 15 and 15 % of its time are for training, validation and \
             test, 0.35 s apart"
        ]
    );
    let bins = |trials: &[Trial]| trials.iter().map(|trial| trial.bins).sum::<usize>();
    assert_eq!((data.train.len(), data.val.len(), data.test.len()), (3, 1, 1));
    assert_eq!((bins(&data.train), bins(&data.val), bins(&data.test)), (200 + 100 + 31, 53, 53));
    let counted = |trials: &[Trial]| trials.iter().flat_map(|trial| &trial.counts).sum::<f32>();
    let seen = |spike: &&f64| session.observed.iter().any(|open| (open.start..open.stop).contains(spike));
    let spikes = session.units.iter().flat_map(|unit| &unit.spike_times).filter(seen).count();
    let (counted, spikes) = (counted(&data.train) + counted(&data.val) + counted(&data.test), spikes as f32);
    // Up to the gaps between the blocks, and the half bin at the end.
    assert!(counted <= spikes && counted > 0.85 * spikes, "{counted} of {spikes} spikes");
}

#[test]
fn a_fit_that_was_cut_off_goes_on_to_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let data = Dataset::new(std::slice::from_ref(&session), 20.0, 0.0).unwrap();
    let mut config = config();
    config.optimiser.epochs = 9;
    (config.objective.redrawn, config.teacher.epochs) = (0.3, vec![2]);
    let kept = |name: &str, resume| training::Checkpoints {
        folder: folder.path().join(name),
        every_epochs: 3,
        resume,
    };
    let (whole, cut) = (kept("whole", false), kept("cut", true));
    // What stands there after four epochs is what a cut in the fifth would leave: three epochs.
    let uninterrupted = training::fit(&data, &config, Some(&whole), &mut |progress| {
        if progress.generation == 0 && progress.epoch == 4 {
            std::fs::create_dir(&cut.folder).unwrap();
            for file in std::fs::read_dir(&whole.folder).unwrap().flatten() {
                std::fs::copy(file.path(), cut.folder.join(file.file_name())).unwrap();
            }
        }
        ControlFlow::Continue(())
    });
    let mut epochs = Vec::new();
    let resumed = training::fit(&data, &config, Some(&cut), &mut |progress| {
        epochs.push(progress.epoch);
        ControlFlow::Continue(())
    })
    .unwrap();
    // No epoch of the teacher, whose rates were kept.
    assert_eq!(epochs, [4, 5, 6, 7, 8, 9]);
    assert!(
        resumed.weights == uninterrupted.unwrap().weights,
        "a resumed fit differs from an uninterrupted one"
    );

    let refusal = |config: &Config, data: &Dataset| {
        let refused = training::fit(data, config, Some(&cut), &mut training::unwatched);
        refused.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let mut other = config.clone();
    other.optimiser.learning_rate *= 2.0;
    assert!(
        refusal(&other, &data).starts_with("expected a checkpoint of the same configuration, found another")
    );
    let mut changed = data.clone();
    changed.train[0].counts[0] += 1.0;
    assert!(
        refusal(&config, &changed).starts_with("expected a checkpoint of the same recording, found another")
    );
    std::fs::write(cut.folder.join("optimisers.burnpack"), b"half").unwrap();
    assert!(refusal(&config, &data).starts_with("expected a checkpoint in "), "{}", refusal(&config, &data));
    std::fs::write(cut.folder.join("progress.toml"), "version = 5\n").unwrap();
    assert_eq!(refusal(&config, &data), "expected checkpoint version 4, found 5");
}
