//! Simulated faults of channels. Every stream is drawn from a seed.

use super::*;
use ndt_protocol::CountRange;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson, StandardNormal};

const CHANNELS: usize = 40;
const LATENTS: usize = 4;
const WIDTH_S: f64 = 0.02;
const COUNT_MAX: u32 = 30;
/// Two minutes.
const BINS: usize = 6_000;

/// What a channel sends in place of its count, by its position, the number of the bin and the counts of all.
type Change<'a> = &'a dyn Fn(usize, usize, &[f32]) -> f32;

/// Plays a population whose channels follow four shared latents, with a model that knows the rate of each unit, and returns what is
/// found. Units fire between 1 and 25 spikes/s.
fn findings(seed: u64, change: Change) -> Vec<Finding> {
    println!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let normal = |random: &mut ChaCha8Rng| -> f64 { random.sample(StandardNormal) };
    let means: Vec<f64> = (0..CHANNELS).map(|_| WIDTH_S * random.random_range(1.0..25.0)).collect();
    let weights: Vec<[f64; LATENTS]> =
        (0..CHANNELS).map(|_| std::array::from_fn(|_| 0.5 * normal(&mut random))).collect();
    let mut health = ChannelHealth::new(WIDTH_S, COUNT_MAX, means.clone(), true);
    let (mut latents, mut bin) = ([0.0; LATENTS], Bin::empty());
    for at in 0..BINS {
        // A time constant of 20 bins.
        latents.iter_mut().for_each(|latent| *latent = 0.95 * *latent + 0.31 * normal(&mut random));
        let drive = |weights: &[f64; LATENTS]| -> f64 {
            weights.iter().zip(&latents).map(|(weight, latent)| weight * latent).sum()
        };
        let rates: Vec<f64> = means
            .iter()
            .zip(&weights)
            .map(|(mean, weights)| (mean * drive(weights).exp()).min(9.0))
            .collect();
        let counts: Vec<f32> =
            rates.iter().map(|rate| Poisson::new(*rate).unwrap().sample(&mut random) as f32).collect();
        let sent = (0..CHANNELS).map(|channel| change(channel, at, &counts));
        bin.fill(sent, CountRange::new(COUNT_MAX, 20.0));
        health.take_in(&bin, Some(&|channel| rates[channel] as f32));
        health.compare();
    }
    health.compare_all();
    health.findings()
}

fn of(fault: Fault, pairs: &[(usize, Option<usize>)]) -> Vec<Finding> {
    pairs.iter().map(|&(channel, with)| Finding { channel, fault, with }).collect()
}

#[test]
fn nothing_is_found_in_a_healthy_population() {
    for seed in 0..8 {
        assert_eq!(findings(seed, &|channel, _, counts| counts[channel]), []);
    }
}

#[test]
fn a_channel_that_dies_after_a_minute_is_found_and_one_that_is_quiet_is_not() {
    let dies = |channel: usize, at: usize, counts: &[f32]| match channel {
        5 if at > 3_000 => 0.0,
        // Silent for two seconds.
        6 if at > BINS - 100 => 0.0,
        channel => counts[channel],
    };
    assert_eq!(findings(11, &dies), of(Fault::Died, &[(5, None)]));
}

#[test]
fn saturated_channels_are_found_whichever_way_they_saturate() {
    let saturates = |channel: usize, at: usize, counts: &[f32]| match channel {
        // More than the bundle accepts; half of that; and the same count in every bin.
        1 => 100.0,
        2 => (15 + at % 7) as f32,
        3 => 3.0,
        channel => counts[channel],
    };
    assert_eq!(findings(12, &saturates), of(Fault::Saturated, &[(1, None), (2, None), (3, None)]));
    // A single bin of artefact is no fault.
    let artefact =
        |channel: usize, at: usize, counts: &[f32]| if at == BINS - 9 { 30.0 } else { counts[channel] };
    assert_eq!(findings(13, &artefact), []);
}

#[test]
fn a_channel_without_values_is_missing_and_not_dead() {
    let missing =
        |channel: usize, _: usize, counts: &[f32]| if channel == 9 { f32::NAN } else { counts[channel] };
    assert_eq!(findings(14, &missing), of(Fault::Missing, &[(9, None)]));
}

#[test]
fn two_channels_with_the_same_counts_are_doubled() {
    for seed in 20..24 {
        let doubles =
            |channel: usize, _: usize, counts: &[f32]| counts[if channel == 30 { 4 } else { channel }];
        let found = findings(seed, &doubles);
        assert_eq!(found, of(Fault::Doubled, &[(4, Some(30)), (30, Some(4))]));
    }
}

#[test]
fn two_channels_that_were_exchanged_are_found_and_no_others() {
    for seed in 30..46 {
        let exchanged = |channel: usize, _: usize, counts: &[f32]| match channel {
            8 => counts[21],
            21 => counts[8],
            channel => counts[channel],
        };
        assert_eq!(findings(seed, &exchanged), of(Fault::Exchanged, &[(8, Some(21)), (21, Some(8))]));
    }
}

#[test]
fn a_model_that_knows_nothing_tells_of_no_exchange() {
    let mut random = ChaCha8Rng::seed_from_u64(60);
    let mut health = ChannelHealth::new(WIDTH_S, COUNT_MAX, vec![0.2; 6], true);
    let mut bin = Bin::empty();
    for _ in 0..3_000 {
        let counts: [f32; 6] = std::array::from_fn(|_| f32::from(u8::from(random.random_bool(0.2))));
        bin.fill(counts.into_iter(), CountRange::new(COUNT_MAX, 20.0));
        // Each rate follows the counts of another channel, in pairs.
        health.take_in(&bin, Some(&|channel| 0.1 + 0.3 * counts[channel ^ 1]));
    }
    health.compare_all();
    assert_eq!(health.findings(), []);
}

#[test]
fn a_linear_bundle_has_no_rates_and_its_doubles_are_found() {
    let mut health = ChannelHealth::new(WIDTH_S, COUNT_MAX, vec![0.0; 3], false);
    let mut random = ChaCha8Rng::seed_from_u64(50);
    let mut bin = Bin::empty();
    for _ in 0..3_000 {
        let mut count = || f32::from(u8::from(random.random_bool(0.2)));
        let (one, two) = (count(), count());
        bin.fill([one, two, one].into_iter(), CountRange::new(COUNT_MAX, 20.0));
        health.take_in(&bin, None);
    }
    health.compare_all();
    assert_eq!(health.findings(), of(Fault::Doubled, &[(0, Some(2)), (2, Some(0))]));
}
