//! Shards of a batch against the batch.

use super::*;
use burn::module::{ModuleVisitor, Param};
use ndt_protocol::bundle::manifest::Velocity;
use rand::RngExt;

/// Trials of unlike lengths, with a held-out unit; the hand's velocity is not always known.
fn data(trials: usize) -> Dataset {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut trial = |at: usize| {
        let bins = 5 + at % 4;
        let mut velocity: Vec<f32> = (0..bins * 2).map(|_| random.random_range(-1.0..1.0)).collect();
        velocity[..at % 3 * 2].fill(f32::NAN);
        let counts = (0..bins * 4).map(|_| random.random_range(0..4u8).into()).collect();
        let rates = (0..bins * 4).map(|_| random.random_range(0.1..2.0)).collect();
        Trial { bins, counts, velocity, rates }
    };
    Dataset {
        unit_ids: vec![1, 2, 3, 4],
        heldout: vec![false, false, true, false],
        bin_width_ms: 20.0,
        readouts: vec![Velocity { dims: 2, unit: "m/s".into(), lag_ms: 0.0, series: "hand_vel".into() }],
        train: (0..trials).map(&mut trial).collect(),
        val: vec![trial(0)],
        notes: Vec::new(),
    }
}

fn config(dropout: f64) -> Config {
    let mut config = Config::default();
    (config.model.width, config.model.layers, config.model.feedforward) = (8, 2, 16);
    config.model.window_ms = 80.0;
    config.objective.velocity_weight = 1.0;
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

/// Loss and gradient of one masked batch in `workers`; as one shard or as it is split.
fn gradient(data: &Dataset, dropout: f64, workers: usize, whole: bool) -> (f64, Vec<f32>) {
    let config = config(dropout);
    let mut trainer = Trainer::new(data, &config, shape(data, &config).expect("a shape"), ComputeDevice::Cpu);
    trainer.workers = Workers::of(workers);
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let trials: Vec<&Trial> = data.train.iter().collect();
    let batch = masking::masked(&trials, &data.heldout, &config.masking(data.bin_width_ms, 0), &mut random);
    let shards = if whole {
        vec![trainer.shard(&trainer.asked(&batch, &trials), 0..trials.len(), &mut random)]
    } else {
        trainer.shards(&batch, &trials, &mut random)
    };
    assert!(whole || shards.len() > 1);
    let loss = |model: &_, at: usize| trainer.loss(model, &shards[at]);
    let (loss, gradients) = trainer.workers.gradients(&trainer.model, &trainer.device, shards.len(), loss);
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

/// Log rates `[T, N]` of the first of two trials of unlike lengths, whose counts are those of `data` with one changed.
fn log_rates(causal: bool, changed: Option<(usize, usize)>) -> Vec<f32> {
    let (data, config) = (data(4), config(0.0));
    let mut shown = data.train.clone();
    if let Some((trial, bin)) = changed {
        shown[trial].counts[bin * 4] += 3.0;
    }
    let shape = ModelShape { causal, ..shape(&data, &config).expect("a shape") };
    let trainer = Trainer::new(&data, &config, shape, ComputeDevice::Cpu);
    let trials: Vec<&Trial> = shown.iter().collect();
    let batch = masking::unmasked(&trials, &data.heldout);
    let log_rates = values(answer(&trainer.model, causal, &batch, &trainer.device, None).log_rates);
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
    let alone = masking::unmasked(&[&data.train[0]], &data.heldout);
    let alone = values(answer(&trainer.model, false, &alone, &trainer.device, None).log_rates);
    for (alone, padded) in alone.iter().zip(&teacher) {
        assert!((alone - padded).abs() < 1e-5, "{alone} {padded}");
    }
}
