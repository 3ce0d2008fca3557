//! The gradient in shards against that of the whole batch, and what causal and acausal models see.

use super::checkpoint::Reached;
use super::trainer::{Trainer, shape};
use super::workers::Workers;
use super::{ComputeDevice, FitError, fit};
use crate::config::Config;
use crate::data::{Dataset, Readout, Trial};
use crate::model::ModelShape;
use crate::objective::batch::{Batch, values};
use crate::objective::masking::{Masking, masked};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::ops::ControlFlow;

/// Trials of different lengths, with a held-out unit; the hand's velocity is not always known.
fn data(trials: usize) -> Dataset {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut trial = |at: usize| {
        let bins = 5 + at % 4;
        let mut targets: Vec<f32> = (0..bins * 2).map(|_| random.random_range(-1.0..1.0)).collect();
        targets[..at % 3 * 2].fill(f32::NAN);
        let counts = (0..bins * 4).map(|_| random.random_range(0..4u8).into()).collect();
        let rates = (0..bins * 4).map(|_| random.random_range(0.1..2.0)).collect();
        Trial { bins, counts, targets, rates, ..Trial::default() }
    };
    Dataset {
        unit_ids: vec![1, 2, 3, 4],
        heldout: vec![false, false, true, false],
        bin_width_ms: 20.0,
        readouts: vec![Readout { dims: 2, unit: "m/s".into(), lag_ms: 0.0, series: "hand_vel".into() }],
        train: (0..trials).map(&mut trial).collect(),
        val: vec![trial(0)],
        test: Vec::new(),
        splits: Vec::new(),
        train_runs: Vec::new(),
        notes: Vec::new(),
    }
}

fn config(dropout: f64) -> Config {
    let mut config = Config::default();
    (config.model.width, config.model.layers, config.model.feedforward) = (8, 2, 16);
    config.model.window_ms = 80.0;
    config.objective.readout_weight = 1.0;
    // Every part of the loss counts.
    (config.objective.forward_bins, config.objective.forward_weight) = (2, 0.5);
    (config.objective.teacher_weight, config.objective.redrawn) = (0.5, 0.3);
    config.optimiser.dropout = dropout;
    config
}

struct Values<'a>(&'a burn::optim::GradientsParams, Vec<f32>);

impl ModuleVisitor for Values<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = self.0.get::<D>(param.id).expect("each weight has a gradient");
        self.1.extend(gradient.into_data().iter::<f32>());
    }
}

/// Computes loss and gradient of one masked batch with `workers` workers: as one shard if `whole`, else as several shards.
fn gradient(data: &Dataset, dropout: f64, workers: usize, whole: bool) -> (f64, Vec<f32>) {
    let config = config(dropout);
    let mut trainer = Trainer::new(data, &config, shape(data, &config).expect("a shape"), ComputeDevice::Cpu);
    trainer.workers = Workers::of(workers);
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let trials: Vec<&Trial> = data.train.iter().collect();
    let masking = Masking::of(&config.objective, data.bin_width_ms, 0);
    let batch = masked(&trials, &data.heldout, &masking, &mut random);
    let loss = trainer.loss();
    let shards = if whole {
        vec![loss.shard(&loss.targeted(&batch, &trials), 0..trials.len(), &mut random)]
    } else {
        trainer.shards(&batch, &trials, &mut random)
    };
    assert!(whole || shards.len() > 1);
    let of_shard = |model: &_, at: usize| loss.of(model, &shards[at], &trainer.device);
    let (loss, gradients) =
        trainer.workers.gradients(&trainer.model, &trainer.device, shards.len(), of_shard);
    let mut values = Values(&gradients, Vec::new());
    trainer.model.visit(&mut values);
    (loss, values.1)
}

#[test]
fn shards_add_up_to_the_loss_and_gradient_of_their_batch() {
    let data = data(13);
    let ((loss, gradient_whole), (loss_shards, gradient_shards)) =
        (gradient(&data, 0.0, 1, true), gradient(&data, 0.0, 1, false));
    assert!((loss - loss_shards).abs() < 1e-6 * loss.abs(), "{loss} {loss_shards}");
    let largest = gradient_whole.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    for (whole, shards) in gradient_whole.iter().zip(&gradient_shards) {
        assert!((whole - shards).abs() < 1e-5 * largest, "{whole} {shards}, largest {largest}");
    }
}

#[test]
fn any_number_of_workers_gives_the_same_gradient() {
    let data = data(13);
    let one = gradient(&data, 0.3, 1, false);
    assert!(one.1.iter().any(|value| *value != 0.0));
    for workers in [2, 3, 8] {
        assert_eq!(one, gradient(&data, 0.3, workers, false), "{workers} workers");
    }
}

/// Log rates `[T, N]` of the first trial of `data`, beside trials of other lengths and with one count changed.
fn log_rates(causal: bool, changed: Option<(usize, usize)>) -> Vec<f32> {
    let (data, config) = (data(4), config(0.0));
    let mut shown = data.train.clone();
    if let Some((trial, bin)) = changed {
        shown[trial].counts[bin * 4] += 3.0;
    }
    let shape = ModelShape { causal, ..shape(&data, &config).expect("a shape") };
    let trainer = Trainer::new(&data, &config, shape, ComputeDevice::Cpu);
    let trials: Vec<&Trial> = shown.iter().collect();
    let batch = Batch::unmasked(&trials, &data.heldout);
    let log_rates = values(batch.answer(&trainer.model, &trainer.device, None).log_rates);
    log_rates[..shown[0].bins * 4].to_vec()
}

#[test]
fn a_teacher_sees_its_trial_as_a_whole_and_nothing_behind_it_and_a_student_nothing_to_come() {
    // The first trial has 5 bins, the batch 8; the window of 4 bins in 2 layers reaches 6 bins either way.
    let rows = |changed: &[f32], before: &[f32]| -> Vec<bool> {
        changed.chunks_exact(4).zip(before.chunks_exact(4)).map(|(a, b)| a != b).collect()
    };
    let (student, teacher) = (log_rates(true, None), log_rates(false, None));
    assert_eq!(rows(&log_rates(true, Some((0, 2))), &student), [false, false, true, true, true]);
    assert_eq!(rows(&log_rates(false, Some((0, 2))), &teacher), [true; 5]);
    assert_eq!(rows(&log_rates(false, Some((1, 2))), &teacher), [false; 5]);
    // Alone, without padding behind it, it gives the same.
    let (data, config) = (data(4), config(0.0));
    let shape = ModelShape { causal: false, ..shape(&data, &config).expect("a shape") };
    let trainer = Trainer::new(&data, &config, shape, ComputeDevice::Cpu);
    let alone = Batch::unmasked(&[&data.train[0]], &data.heldout);
    let alone = values(alone.answer(&trainer.model, &trainer.device, None).log_rates);
    for (alone, padded) in alone.iter().zip(&teacher) {
        assert!((alone - padded).abs() < 1e-5, "{alone} {padded}");
    }
}

#[test]
fn the_callback_stops_a_fit_whose_checkpoint_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, mut config) = (data(8), config(0.0));
    (config.objective.redrawn, config.objective.teacher_weight) = (0.0, 0.0);
    config.optimiser.epochs = 5;
    let kept = super::Checkpoints { folder: folder.path().join("kept"), every_epochs: 10, resume: true };
    let stopped = fit(&data, &config, Some(&kept), &mut |progress| match progress.epoch {
        2 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(matches!(stopped, Err(FitError::Stopped(Reached { generation: 0, epoch: 2 }))));
    let of_teacher = FitError::Stopped(Reached { generation: 1, epoch: 25 }).to_string();
    assert_eq!(of_teacher, "expected to fit to the end, found it stopped after epoch 25 of teacher 1");
    let mut epochs = Vec::new();
    let resumed = fit(&data, &config, Some(&kept), &mut |progress| {
        epochs.push(progress.epoch);
        ControlFlow::Continue(())
    });
    let whole = fit(&data, &config, None, &mut super::unwatched);
    assert_eq!(epochs, [3, 4, 5]);
    assert!(resumed.is_ok_and(|resumed| whole.is_ok_and(|whole| whole.weights == resumed.weights)));
}

#[test]
fn a_fit_that_is_stopped_in_any_of_its_teachers_goes_on_to_the_same_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, mut config) = (data(8), config(0.0));
    config.optimiser.epochs = 2;
    config.teacher.epochs = vec![2, 3];
    let kept = super::Checkpoints { folder: folder.path().join("kept"), every_epochs: 10, resume: true };
    let mut told = Vec::new();
    // The fit is stopped after each of its epochs, and resumed each time.
    let resumed = loop {
        let fitted = fit(&data, &config, Some(&kept), &mut |progress| {
            told.push((progress.generation, progress.epoch));
            ControlFlow::Break(())
        });
        match fitted {
            Err(FitError::Stopped { .. }) => {}
            other => break other,
        }
    };
    let whole = fit(&data, &config, None, &mut super::unwatched);
    assert_eq!(told, [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (0, 1), (0, 2)]);
    assert!(resumed.is_ok_and(|resumed| whole.is_ok_and(|whole| whole.weights == resumed.weights)));
}
