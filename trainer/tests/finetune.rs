//! A bundle on a new session: known units keep their weights, a frozen body stays bit by bit, and unknown units are
//! learned.

use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::{Architecture, Linear, Manifest, Training};
use ndt_protocol::bundle::tensors::Tensors;
use ndt_replay::nwb;
use ndt_replay::session::Session;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_trainer::config::Config;
use ndt_trainer::data::Dataset;
use ndt_trainer::export;
use ndt_trainer::model::units::is_session_layer;
use ndt_trainer::training::finetune::fractions::Fractions;
use ndt_trainer::training::finetune::{self, FinetuneError, FinetuneOptions};
use ndt_trainer::training::{self, Fit, FitError, sessions};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

fn session(units: usize) -> Session {
    simulate(&Recipe { trials: 60, units, heldout: 5, seed: 5 })
}

fn data(session: &Session) -> Dataset {
    Dataset::new(std::slice::from_ref(session), 20.0, 0.0).unwrap()
}

fn config() -> Config {
    let mut config = Config::default();
    (config.model.width, config.model.layers, config.model.feedforward) = (16, 2, 24);
    config.model.window_ms = 200.0;
    (config.optimiser.epochs, config.optimiser.batch_trials) = (8, 8);
    config
}

fn origin() -> Training {
    Training { seed: 1, ..Training::of_nothing("a test") }
}

fn bundle(session: &Session) -> Bundle {
    let data = data(session);
    let fit = training::fit(&data, &config(), None, &mut training::unwatched).unwrap();
    export::bundle(&fit, &data, &config(), origin()).unwrap()
}

fn tuned(bundle: &Bundle, session: &Session, options: FinetuneOptions) -> Result<Fit, FinetuneError> {
    let data = finetune::calibration_data(data(session), &bundle.manifest, Some(12));
    finetune::finetune(bundle, &data, &config(), options, &mut finetune::unwatched).map(|tuned| tuned.fit)
}

fn epochs(epochs: usize, freeze_body: bool) -> FinetuneOptions {
    FinetuneOptions { freeze_body, epochs: Some(epochs), whole: false }
}

/// So many epochs, and the fitted weights as they are.
fn whole(epochs: usize, freeze_body: bool) -> FinetuneOptions {
    FinetuneOptions { freeze_body, epochs: Some(epochs), whole: true }
}

/// The session with its units in another order.
fn permuted(session: &Session) -> Session {
    let mut permuted = session.clone();
    permuted.units.rotate_left(7);
    permuted.units.reverse();
    permuted
}

/// Units that the bundle does not know.
fn strangers(mut session: Session) -> Session {
    session.units.iter_mut().for_each(|unit| unit.id += 100_000);
    session
}

#[test]
fn permuted_units_give_the_old_scores_without_a_step() {
    let session = session(24);
    let bundle = bundle(&session);
    let fit = tuned(&bundle, &permuted(&session), epochs(0, false)).unwrap();
    assert!((fit.scores.bits_per_spike - bundle.manifest.scores["co-bps"]).abs() < 1e-5, "{:?}", fit.scores);
    let r2 = fit.scores.velocity_r2.unwrap();
    assert!((r2 - bundle.manifest.scores["velocity-r2"]).abs() < 1e-4, "{r2}");
    let lost = tuned(&bundle, &strangers(permuted(&session)), epochs(0, false)).unwrap();
    assert!(lost.scores.velocity_r2.unwrap() < r2 - 0.1, "without ids there is nothing to match");
}

fn body(weights: &Tensors) -> Tensors {
    let body = weights.iter().filter(|(name, _)| !is_session_layer(name));
    body.map(|(name, weight)| (name.clone(), weight.clone())).collect()
}

#[test]
fn a_frozen_body_stays_bit_by_bit_and_a_free_one_does_not() {
    let session = session(24);
    let bundle = bundle(&session);
    let day = strangers(session);
    let frozen = tuned(&bundle, &day, whole(6, true)).unwrap();
    assert_eq!(body(&frozen.weights), body(&bundle.weights));
    let start = tuned(&bundle, &day, epochs(0, true)).unwrap();
    for name in ["readin.weight", "readin.bias", "rates.weight", "rates.bias", "readouts.weight"] {
        assert_ne!(frozen.weights[name], start.weights[name], "{name} moves");
    }
    let free = tuned(&bundle, &day, whole(6, false)).unwrap();
    for ((name, free), (_, old)) in body(&free.weights).into_iter().zip(body(&bundle.weights)) {
        // All weights of a body that is not frozen move.
        assert!(free != old, "{name} moves");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let session = session(24);
    let bundle = bundle(&session);
    let written = |seed: u64, path: &Path| {
        let mut config = config();
        config.optimiser.seed = seed;
        let config = finetune::config_for(&bundle.manifest, &config);
        let data = finetune::calibration_data(data(&strangers(session.clone())), &bundle.manifest, Some(8));
        let tuned =
            finetune::finetune(&bundle, &data, &config, epochs(4, false), &mut finetune::unwatched).unwrap();
        export::finetuned(&bundle, &tuned.fit, &data, &config, origin()).unwrap().write(path).unwrap();
        std::fs::read(path).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.ndt");
    let first = written(3, &path);
    assert!(first == written(3, &path));
    assert!(first != written(4, &path));
}

#[test]
fn training_teaches_strangers_on_a_frozen_body() {
    let session = session(40);
    let bundle = bundle(&session);
    let day = strangers(simulate(&Recipe { trials: 60, units: 30, heldout: 3, seed: 9 }));
    let before = tuned(&bundle, &day, epochs(0, true)).unwrap();
    let after = tuned(&bundle, &day, whole(60, true)).unwrap();
    let r2 = |fit: &Fit| fit.scores.velocity_r2.unwrap();
    assert!(r2(&after) > r2(&before) + 0.1, "{:?} {:?}", before.scores, after.scores);
    assert!(after.scores.bits_per_spike > before.scores.bits_per_spike);
}

#[test]
fn few_trials_of_known_units_lower_neither_score() {
    let seed = 5;
    println!("seed {seed}");
    let session = simulate(&Recipe { trials: 60, units: 24, heldout: 5, seed });
    let mut well_fitted = config();
    well_fitted.optimiser.epochs = 40;
    let all = data(&session);
    let fit = training::fit(&all, &well_fitted, None, &mut training::unwatched).unwrap();
    let bundle = export::bundle(&fit, &all, &well_fitted, origin()).unwrap();
    let eight = finetune::calibration_data(all, &bundle.manifest, Some(8));
    let on_eight = |options: FinetuneOptions| {
        finetune::finetune(&bundle, &eight, &config(), options, &mut finetune::unwatched).unwrap()
    };
    let before = on_eight(epochs(0, true)).fit.scores;
    let options = epochs(40, true);
    let after = on_eight(options);
    println!("{before:?} {:?} {}", after.fit.scores, after.choice);
    assert!(after.fit.scores.bits_per_spike >= before.bits_per_spike);
    assert!(after.fit.scores.velocity_r2 >= before.velocity_r2);
    let whole = on_eight(FinetuneOptions { whole: true, ..options }).fit.scores;
    assert!(whole.bits_per_spike < before.bits_per_spike, "without folds the rates forget: {whole:?}");
}

#[test]
fn a_bundle_that_cannot_be_bettered_keeps_its_weights_and_few_new_units_are_still_learned() {
    let session = session(24);
    let bundle = bundle(&session);
    let tuned = |session: &Session, trials: usize| {
        let data = finetune::calibration_data(data(session), &bundle.manifest, Some(trials));
        finetune::finetune(&bundle, &data, &config(), epochs(4, true), &mut finetune::unwatched).unwrap()
    };
    // The windows of one trial are too few for four folds.
    let kept = tuned(&session, 1);
    assert_eq!((kept.choice.fractions, kept.fit.epoch), (Fractions::NONE, 0));
    assert!(kept.choice.to_string().starts_with("kept the bundle as it was: "), "{}", kept.choice);
    let new = tuned(&strangers(session.clone()), 1);
    assert_eq!((new.choice.fractions, new.fit.epoch), (Fractions::WHOLE, 4));
}

#[test]
fn without_behaviour_the_readouts_stay_the_bundles() {
    let session = session(24);
    let bundle = bundle(&session);
    let mut silent = session.clone();
    silent.behavior.clear();
    let fit = tuned(&bundle, &silent, epochs(4, true)).unwrap();
    assert_eq!(fit.scores.velocity_r2, None);
    for name in ["readouts.weight", "readouts.bias"] {
        assert_eq!(fit.weights[name], bundle.weights[name]);
    }
}

#[test]
fn sessions_of_other_units_share_a_body() {
    let (first, second) =
        (session(24), strangers(simulate(&Recipe { trials: 40, units: 18, heldout: 2, seed: 6 })));
    let data = [data(&first), data(&second)];
    let mut bits = Vec::new();
    let fits = sessions::fit_sessions(&data, &config(), None, &mut |progress| {
        bits.push(progress.scores.bits_per_spike);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(body(&fits[0].weights), body(&fits[1].weights));
    let of_first = &fits[0].weights["readin.weight"];
    assert_eq!((of_first.0[0], fits[1].weights["readin.weight"].0[0]), (19, 16));
    assert!(bits.iter().copied().fold(f64::MIN, f64::max) > bits[0], "{bits:?}");
    for (fit, data) in fits.iter().zip(&data) {
        export::bundle(fit, data, &config(), origin()).unwrap().check().unwrap();
    }
    let again = sessions::fit_sessions(&data, &config(), None, &mut training::unwatched).unwrap();
    assert_eq!(of_first, &again[0].weights["readin.weight"]);
}

fn sentence(result: Result<Fit, FinetuneError>) -> String {
    result.err().expect("bad input is refused").to_string()
}

#[test]
fn bad_input_is_one_sentence() {
    let session = session(24);
    let bundle = bundle(&session);
    let mut silent = session.clone();
    silent.units.iter_mut().for_each(|unit| unit.spike_times.clear());
    let expected = "expected spikes in the training trials, found none";
    assert_eq!(sentence(tuned(&bundle, &silent, epochs(1, true))), expected);

    let none = finetune::calibration_data(data(&session), &bundle.manifest, Some(0));
    let on = |bundle: &Bundle, data: &Dataset| {
        let options = whole(1, true);
        finetune::finetune(bundle, data, &config(), options, &mut finetune::unwatched).map(|tuned| tuned.fit)
    };
    assert_eq!(sentence(on(&bundle, &none)), "expected at least one training trial, found none");

    let wide = Dataset::new(std::slice::from_ref(&session), 25.0, 0.0).unwrap();
    let expected = "expected trials in the bundle's bins of 20 ms, found 25 ms";
    assert_eq!(sentence(on(&bundle, &wide)), expected);

    let linear = Manifest {
        architecture: Architecture::NONE,
        linear: Some(Linear { window_bins: 5 }),
        ..bundle.manifest.clone()
    };
    let linear = Bundle { manifest: linear, ..bundle.clone() };
    assert!(
        sentence(on(&linear, &data(&session))).starts_with("expected the bundle of a transformer, found a")
    );

    let nothing = on(&bundle, &Dataset { val: Vec::new(), ..data(&session) });
    assert!(matches!(nothing, Err(FinetuneError::Fit(FitError::NoSpikes))));
}

/// Runs ndt-train; returns whether it succeeded, its standard output and its standard error.
fn ndt_train(arguments: &[&str]) -> (bool, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_ndt-train")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.success(), text(done.stdout), text(done.stderr))
}

#[test]
fn on_the_command_line_days_become_bundles_and_one_becomes_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    nwb::write(&session(24), Path::new(&path("day1.nwb"))).unwrap();
    let day2 = strangers(simulate(&Recipe { trials: 40, units: 18, heldout: 2, seed: 6 }));
    nwb::write(&day2, Path::new(&path("day2.nwb"))).unwrap();
    std::fs::write(path("small.toml"), toml::to_string(&config()).unwrap()).unwrap();

    let (day1, day2, days) = (path("day1.nwb"), path("day2.nwb"), path("days"));
    let fit = [
        "fit",
        "--data",
        &day1,
        &day2,
        "--out",
        &days,
        "--config",
        &path("small.toml"),
        "--epochs",
        "2",
        "--json",
    ];
    let (good, said, error) = ndt_train(&fit);
    assert!(good, "{error}");
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["sessions"].as_array().unwrap().len(), 2, "units that differ make separate sessions");
    let parent = Bundle::read(&folder.path().join("days/day1")).unwrap();
    let other = Bundle::read(&folder.path().join("days/day2")).unwrap();
    assert_eq!(body(&parent.weights), body(&other.weights));

    let (model, out) = (path("days/day1"), path("new.ndt"));
    let tune =
        ["finetune", "--bundle", &model, "--data", &day2, "--out", &out, "--interface-only", "--trials", "8"];
    let (good, said, error) = ndt_train(&[&tune[..], &["--epochs", "3", "--json"]].concat());
    assert!(good, "{error}");
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((report["trials"].as_u64(), report["known-units"].as_u64()), (Some(8), Some(0)));
    assert_eq!(
        (&report["step"]["why"]["by"], &report["step"]["why"]["trials"]),
        (&"folds".into(), &8.into())
    );
    assert!(report["because"].as_str().unwrap().contains("in 4 folds of 8 trials"), "{report}");
    let new = Bundle::read(Path::new(&out)).unwrap();
    assert_eq!(new.manifest.training.parent.as_ref(), Some(&parent.manifest.id));
    assert_eq!(new.manifest.training.data, ["day2.nwb"]);
    assert!(new.manifest.count_max >= parent.manifest.count_max);
    assert_eq!((new.manifest.units(), new.manifest.channels()), (18, 16));

    // A fine-tuning that is refused leaves the existing bundle as it is.
    let (good, _, error) = ndt_train(&[
        "finetune",
        "--bundle",
        &model,
        "--data",
        &day2,
        "--out",
        &out,
        "--overwrite",
        "--trials",
        "0",
    ]);
    assert!(
        !good && error.ends_with("ndt-train: expected at least one training trial, found none\n"),
        "{error}"
    );
    assert_eq!(Bundle::read(Path::new(&out)).unwrap(), new);
    let elsewhere = path("together");
    let together = fit.map(|word| if word == days { elsewhere.as_str() } else { word });
    let (good, _, error) = ndt_train(&[&together[..], &["--sessions", "together"]].concat());
    assert!(!good && error.contains("expected the unit ids of the first recording in each"), "{error}");
}

#[test]
fn a_folder_that_is_no_bundle_survives_fit_and_finetune_and_is_refused_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let recording = path("mine/session.nwb");
    std::fs::create_dir(folder.path().join("mine")).unwrap();
    let session = simulate(&Recipe { trials: 20, units: 12, heldout: 0, seed: 5 });
    ndt_replay::nwb::write(&session, folder.path().join("mine/session.nwb").as_path()).unwrap();
    let before = std::fs::read(&recording).unwrap();
    for out in
        [path("mine"), recording.clone(), format!("{}/.", path("mine")), format!("{}/..", path("mine"))]
    {
        let (fitted, _, said) = ndt_train(&["fit", "--data", &recording, "--out", &out, "--epochs", "1"]);
        assert!(!fitted && said.contains("expected an output apart from the inputs"), "{out}: {said}");
        assert!(!said.contains("epoch"), "nothing is fitted first: {said}");
        let arguments = ["finetune", "--bundle", "none", "--data", &recording, "--out", &out];
        let (adapted, _, said) = ndt_train(&arguments);
        assert!(!adapted && said.contains("expected an output apart from the inputs"), "{out}: {said}");
    }
    assert_eq!(std::fs::read(&recording).unwrap(), before);
    assert_eq!(std::fs::read_dir(folder.path().join("mine")).unwrap().count(), 1);
}
