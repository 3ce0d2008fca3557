//! Velocities at several lags and other quantities out of one model, and which of them is published.

use ndt_daemon::engine::{self, Engine, EngineKind, Input, Output};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Training;
use ndt_protocol::bundle::precision::Precision;
use ndt_protocol::bundle::quantity::Quantity;
use ndt_replay::session::{Series, Session};
use ndt_replay::simulate::{Recipe, simulate};
use ndt_trainer::config::{Config, Publish};
use ndt_trainer::data::Dataset;
use ndt_trainer::{evaluation, export, training};

fn session() -> Session {
    simulate(&Recipe { trials: 60, units: 40, heldout: 8, seed: 5 })
}

/// Every objective and every readout at once.
fn config() -> Config {
    let mut config = Config::default();
    (config.model.width, config.model.layers, config.model.feedforward) = (24, 2, 32);
    (config.optimiser.epochs, config.optimiser.batch_trials) = (12, 12);
    config.teacher.epochs = vec![3, 3];
    (config.objective.forward_bins, config.objective.random_start) = (2, 0.3);
    (config.objective.jitter_ms, config.objective.readout_weight) = (20.0, 0.3);
    (config.readouts.speed, config.readouts.position) = (true, true);
    config
}

fn bundle(session: &Session, config: &Config, generations: &mut Vec<usize>) -> Bundle {
    let data = Dataset::reading(std::slice::from_ref(session), 20.0, &config.readouts.wanted()).unwrap();
    let fit = training::fit(&data, config, None, &mut |progress| {
        generations.push(progress.generation);
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    let origin = Training { seed: 1, epochs: fit.epoch, ..Training::of_nothing("a test") };
    let bundle = export::bundle(&fit, &data, config, origin).unwrap();
    bundle.check().unwrap();
    bundle
}

/// The velocity that the native engine gives for the last bin of the golden stream.
fn decoded(bundle: &Bundle, precision: Precision) -> Vec<f32> {
    let set = engine::native::simd::InstructionSet::best();
    let mut engine = engine::native::Native::with(bundle, set, precision);
    let tolerance = engine::tolerance(precision, bundle).unwrap();
    engine::reproduce_golden(&mut engine, bundle, tolerance).unwrap();
    engine.reset();
    let mut output = Output::for_bundle(bundle);
    let channels = bundle.manifest.channels();
    for (counts, missing) in bundle.golden["counts"].1.chunks_exact(channels).zip(&bundle.golden["missing"].1)
    {
        engine.step(Input { counts, missing: *missing != 0.0 }, &mut output).unwrap();
    }
    output.velocity
}

#[test]
fn one_bundle_reads_out_several_lags_speed_and_position_and_any_velocity_can_be_published() {
    let session = session();
    let mut generations = Vec::new();
    let bundle = bundle(&session, &config(), &mut generations);
    generations.dedup();
    assert_eq!(generations, [1, 2, 0], "two generations of teachers, then the model");

    let evaluation = evaluation::evaluate(&bundle, &session, "val").unwrap();
    let found: Vec<(&str, f64)> =
        evaluation.readouts.iter().map(|readout| (readout.series.as_str(), readout.lag_ms)).collect();
    let [vel, speed, pos] = ["hand_vel", "hand_speed", "hand_pos"];
    assert_eq!(found, [(vel, 0.0), (vel, 100.0), (speed, 0.0), (speed, 100.0), (pos, 0.0), (pos, 100.0)]);
    for (at, readout) in evaluation.readouts.iter().enumerate() {
        println!("{} at {} ms: R2 {:?}", readout.series, readout.lag_ms, readout.r2);
        let name = format!("{}-{}-ms-r2", readout.series.replace('_', "-"), readout.lag_ms);
        let name = if at == 0 { "velocity-r2".to_owned() } else { name };
        let told = bundle.manifest.scores[&name];
        assert!((readout.mean.unwrap() - told).abs() < 1e-4, "{name}: {told} {:?}", readout.mean);
    }
    assert!(!bundle.manifest.scores.contains_key("hand-vel-0-ms-r2"), "one name for one score");

    let ahead = bundle.clone().reading(100.0).unwrap();
    ahead.check().unwrap();
    assert_eq!(ahead.manifest.velocity().map(|velocity| velocity.lag_ms), Some(100.0));
    let (shape, golden) = &bundle.golden["readouts"];
    let last = |columns: std::ops::Range<usize>| golden[(shape[0] - 1) * shape[1]..][columns].to_vec();
    let last_velocity = |bundle: &Bundle| bundle.golden_velocity()[2 * (shape[0] - 1)..].to_vec();
    assert_eq!((last_velocity(&bundle), last_velocity(&ahead)), (last(0..2), last(2..4)));
    for precision in Precision::ALL {
        assert_ne!(decoded(&bundle, precision), decoded(&ahead, precision));
    }
    assert_eq!(evaluation::evaluate(&ahead, &session, "val").unwrap().readouts[0], evaluation.readouts[1]);
    assert_eq!(ahead.reading(0.0).unwrap().weights, bundle.weights);
}

/// The session with all series that quantities are taken from. One that the simulation lacks holds the velocity.
fn with_every_series(mut session: Session) -> Session {
    let velocity = session.series("hand_vel").unwrap().clone();
    for quantity in Quantity::ALL {
        if !quantity.recorded_series().iter().any(|name| session.series(name).is_some()) {
            let (name, unit) = (quantity.recorded_series()[0].to_owned(), quantity.unit().to_owned());
            session.behavior.push(Series { name, unit, ..velocity.clone() });
        }
    }
    session
}

#[test]
fn every_quantity_is_fitted_exported_scored_and_published_only_where_it_can_be() {
    let session = with_every_series(session());
    let mut config = config();
    (config.optimiser.epochs, config.teacher.epochs) = (1, vec![1]);
    let folder = tempfile::tempdir().unwrap();
    for quantity in Quantity::ALL {
        let wanted = [(Quantity::Velocity, 0.0), (quantity, 100.0)];
        let data = Dataset::reading(std::slice::from_ref(&session), 20.0, &wanted).unwrap();
        let fit = training::fit(&data, &config, None, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
        let bundle = export::bundle(&fit, &data, &config, Training::of_nothing("a test")).unwrap();
        let path = folder.path().join(quantity.series());
        bundle.write(&path).unwrap();
        let bundle = Bundle::read(&path).unwrap();

        let readout = &bundle.manifest.readouts[1];
        assert_eq!((readout.series.as_str(), readout.unit.as_str()), (quantity.series(), quantity.unit()));
        assert_eq!(readout.quantity(), Some(quantity));
        let scored = &evaluation::evaluate(&bundle, &session, "val").unwrap().readouts[1];
        assert_eq!(scored.r2.as_ref().map(Vec::len), Some(readout.dims), "{quantity:?}");
        assert!(scored.mean.is_some_and(f64::is_finite), "{quantity:?}");
        assert_eq!(bundle.clone().reading(100.0).is_ok(), quantity == Quantity::Velocity, "{quantity:?}");
        assert_eq!(decoded(&bundle, Precision::F32).len(), 2, "{quantity:?}");
    }
}

#[test]
fn what_a_bundle_does_not_read_out_is_refused_in_one_sentence() {
    let session = session();
    let mut config = config();
    config.optimiser.epochs = 1;
    config.teacher.epochs = vec![1];
    let bundle = bundle(&session, &config, &mut Vec::new());
    let error = bundle.clone().reading(60.0).unwrap_err().to_string();
    let expected = "expected a velocity for 60 ms after the bin's centre in the bundle, found 0 ms, 100 ms";
    assert!(error.starts_with(expected), "{error}");
    let ahead = bundle.reading(100.0).unwrap();
    let choice = engine::Choice {
        kind: EngineKind::Onnx,
        instruction_set: None,
        precision: None,
        onnxruntime_library: None,
        onnx: engine::onnx::OnnxSettings::default(),
    };
    let error = engine::load(&choice, &ahead).err().expect("the graphs compute another velocity").to_string();
    assert_eq!(
        error,
        "expected the native engine for another velocity than the one that the bundle publishes, found onnx"
    );
}

#[test]
fn the_lag_that_validates_best_is_published_where_that_is_wanted() {
    let session = session();
    let mut config = config();
    config.objective.redrawn = 0.0;
    config.objective.teacher_weight = 0.0;
    config.readouts = ndt_trainer::config::Readouts {
        lags_ms: vec![-300.0, 60.0, 400.0],
        publish: Publish::Best,
        ..Default::default()
    };
    let bundle = bundle(&session, &config, &mut Vec::new());
    let scores = &bundle.manifest.scores;
    println!("{scores:?}");
    let lag = bundle.manifest.velocity().unwrap().lag_ms;
    let others = [-300.0, 60.0, 400.0].into_iter().filter(|other| *other != lag);
    let others: Vec<f64> = others.map(|lag| scores[&format!("hand-vel-{lag}-ms-r2")]).collect();
    assert!(others.len() == 2 && others.iter().all(|score| *score <= scores["velocity-r2"]));
    assert_eq!(bundle.manifest.readouts.len(), 3);
}
