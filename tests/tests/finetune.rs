//! A bundle made to fit a session of more units, and of fewer: the daemon's engine answers as the trainer.

use ndt_daemon::engine::{self, Choice, EngineKind, Input, Output};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Training;
use ndt_protocol::bundle::precision::Precision;
use ndt_replay::session::Session;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_trainer::config::Config;
use ndt_trainer::data::Dataset;
use ndt_trainer::training::finetune::{self, FinetuneOptions};
use ndt_trainer::{evaluation, export, training};

fn session(units: usize) -> Session {
    simulate(&Recipe { trials: 40, units, heldout: 4, seed: 5 })
}

fn data(session: &Session) -> Dataset {
    Dataset::new(std::slice::from_ref(session), 20.0, 0.0).unwrap()
}

fn origin(parent: Option<String>) -> Training {
    Training { seed: 1, parent, ..Training::of_nothing("a test") }
}

fn config() -> Config {
    let mut config = Config::default();
    (config.model.width, config.model.layers, config.model.feedforward) = (16, 2, 24);
    config.model.window_ms = 200.0;
    (config.optimiser.epochs, config.optimiser.batch_trials) = (3, 8);
    config
}

#[test]
fn the_daemon_runs_a_bundle_of_more_and_of_fewer_units() {
    let folder = tempfile::tempdir().unwrap();
    let day1 = data(&session(24));
    let fit = training::fit(&day1, &config(), None, &mut training::unwatched).unwrap();
    let parent = export::bundle(&fit, &day1, &config(), origin(None)).unwrap();
    for units in [31, 15] {
        let day2 = finetune::calibration_data(data(&session(units)), &parent.manifest, Some(8));
        let config = finetune::config_for(&parent.manifest, &config());
        let settings = FinetuneOptions { freeze_body: true, epochs: Some(3), whole: true };
        let tuned = finetune::finetune(&parent, &day2, &config, settings, &mut finetune::unwatched).unwrap();
        let origin = origin(Some("1".repeat(64)));
        let path = folder.path().join("model.ndt");
        export::finetuned(&parent, &tuned.fit, &day2, &config, origin).unwrap().write(&path).unwrap();
        let bundle = Bundle::read(&path).unwrap();
        assert_eq!((bundle.manifest.units(), bundle.manifest.channels()), (units, units - 4));

        let choice = Choice {
            kind: EngineKind::Native,
            instruction_set: None,
            precision: Some(Precision::F32),
            onnxruntime_library: None,
            onnx: engine::onnx::OnnxSettings::default(),
        };
        let mut engine = engine::load(&choice, &bundle).unwrap();
        let (counts, missing) = (&bundle.golden["counts"].1, &bundle.golden["missing"].1);
        let (log_rates, velocity) = evaluation::reference_stream(&bundle, counts, missing).unwrap();
        let mut output = Output::for_bundle(&bundle);
        for (bin, counts) in counts.chunks_exact(units - 4).enumerate() {
            engine.step(Input { counts, missing: missing[bin] != 0.0 }, &mut output).unwrap();
            let close = |found: &[f32], expected: &[f32]| {
                found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-4)
            };
            assert!(close(&output.log_rates, &log_rates[bin * units..][..units]), "rates of bin {bin}");
            assert!(close(&output.velocity, &velocity[bin * 2..][..2]), "velocity of bin {bin}");
        }
    }
}
