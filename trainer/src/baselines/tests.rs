//! Baselines on a hand that moves in circles, and on units whose rates follow its velocity some bins ahead.

use super::clock::Clock;
use super::gru::{Gru, GruSettings};
use super::kalman::{Kalman, KalmanSettings, State};
use super::linear::LinearFilter;
use super::poisson::PoissonRegression;
use super::runs::{Run, Runs, r2};
use super::table::{Method, rows};
use super::wiener::{Wiener, single_lags, widening_lags};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson};

const BINS: usize = 40;
const CHANNELS: usize = 24;
const HIDDEN: usize = 2;
const AHEAD: usize = 5;

/// A run whose counts depend on the velocity `neural_lag` bins later.
fn run(random: &mut ChaCha8Rng, neural_lag: usize) -> Run {
    let (phase, speed) = (random.random_range(0.0..6.3f64), random.random_range(0.1..0.3f64));
    let velocity = |bin: usize| {
        let angle = phase + speed * bin as f64;
        [0.3 * angle.cos(), 0.3 * angle.sin()]
    };
    let mut count = |unit: usize, bin: usize| {
        let [x, y] = velocity(bin + neural_lag);
        let direction = unit as f64;
        let rate = (1.0 + 4.0 * (direction.cos() * x + direction.sin() * y)).exp();
        Poisson::new(rate).map_or(0.0, |poisson| poisson.sample(random)) as f32
    };
    let mut counts = Vec::new();
    let mut hidden = Vec::new();
    for bin in 0..BINS {
        counts.extend((0..CHANNELS).map(|unit| count(unit, bin)));
        hidden.extend((CHANNELS..CHANNELS + HIDDEN).map(|unit| count(unit, bin)));
    }
    let at = |bin: usize| velocity(bin).map(|axis| axis as f32);
    let now = (0..BINS).flat_map(at).collect();
    let ahead = (0..BINS).flat_map(|bin| if bin + AHEAD < BINS { at(bin + AHEAD) } else { [f32::NAN; 2] });
    Run { bins: BINS, counts, hidden, velocity: [now, ahead.collect()] }
}

fn data(neural_lag: usize) -> Runs {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut runs = |count: usize| (0..count).map(|_| run(&mut random, neural_lag)).collect::<Vec<_>>();
    Runs {
        channel_ids: (0..CHANNELS as i64).collect(),
        hidden: HIDDEN,
        dims: 2,
        series: "hand_vel".to_owned(),
        unit: "m/s".to_owned(),
        bin_width_ms: 20.0,
        train: runs(60),
        val: runs(20),
        scored: runs(20),
        splits: Vec::new(),
        notes: Vec::new(),
    }
}

const FILTER: KalmanSettings = KalmanSettings {
    state: State::PositionVelocityAcceleration,
    neural_lag_bins: 3,
    square_root: true,
    noise_scale: 1.0,
};

const NETWORK: GruSettings = GruSettings {
    width: 16,
    epochs: 30,
    patience_epochs: 30,
    batch: 16,
    learning_rate: 1e-2,
    weight_decay: 0.01,
    dropout: 0.1,
    seed: 3,
};

#[test]
fn each_decodes_trials_that_it_was_not_fitted_on() {
    let data = data(3);
    for method in Method::ALL {
        for row in rows(method, &data, &NETWORK, 1, &mut |_, _, _| {}) {
            assert_eq!(row.failed, None, "{}", row.method);
            let means: Vec<f64> = row.velocity.iter().map(|velocity| velocity.mean).collect();
            assert!(means.iter().all(|mean| *mean > 0.6), "{}: {means:?}", row.method);
            assert_eq!(row.co_bps.is_some(), method == Method::Poisson);
            assert!(row.co_bps.is_none_or(|score| score > 0.1), "{:?}", row.co_bps);
        }
    }
}

/// Checks that decoding the first bins does not depend on later bins.
fn check_causal(data: &Runs, mut decode: impl FnMut(&[f32]) -> Vec<f32>) {
    let run = &data.val[0];
    let whole = decode(&run.counts);
    assert_eq!(whole.len(), BINS * 2);
    let mut changed = run.counts.clone();
    changed[20 * CHANNELS] += 30.0;
    let changed = decode(&changed);
    assert_eq!(whole[..20 * 2], changed[..20 * 2]);
    assert_ne!(whole[20 * 2..], changed[20 * 2..]);
    assert_eq!(decode(&run.counts[..20 * CHANNELS]), whole[..20 * 2]);
}

#[test]
fn a_later_bin_changes_nothing() {
    let data = data(3);
    let wiener = Wiener::fit(&data, 0, 5).unwrap();
    check_causal(&data, |counts| wiener.decode(counts));
    for neural_lag_bins in [0, 3] {
        let kalman = Kalman::fit(&data, 0, KalmanSettings { neural_lag_bins, ..FILTER }).unwrap();
        check_causal(&data, |counts| kalman.decode(counts));
    }
    let network = GruSettings { epochs: 1, ..NETWORK };
    let gru = Gru::fit(&data, &network, &mut |_, _| {}).unwrap();
    let run = |counts: &[f32]| Run {
        bins: counts.len() / CHANNELS,
        counts: counts.to_vec(),
        hidden: Vec::new(),
        velocity: [vec![0.0; counts.len() / CHANNELS * 2], vec![0.0; counts.len() / CHANNELS * 2]],
    };
    let now = |rows: &Vec<f32>| rows.chunks_exact(4).flat_map(|row| row[..2].to_vec()).collect::<Vec<f32>>();
    check_causal(&data, |counts| now(&gru.decode(&[run(counts)], 2)[0]));
}

/// A filter with the true neural lag decodes the present and the future better than one with a wrong lag.
#[test]
fn the_neural_lag_is_found() {
    let data = data(3);
    let score = |lag, neural_lag_bins| {
        let fit = Kalman::fit(&data, lag, KalmanSettings { neural_lag_bins, ..FILTER }).unwrap();
        r2(&data.scored, lag, 2, |counts| fit.decode(counts)).mean().unwrap()
    };
    for lag in [0, 1] {
        assert!(score(lag, 3) > 0.9, "{}", score(lag, 3));
        assert!(score(lag, 3) > score(lag, 0) && score(lag, 3) > score(lag, 12));
    }
}

#[test]
fn the_same_seed_gives_the_same_network() {
    let data = data(0);
    let network = GruSettings { epochs: 2, ..NETWORK };
    let fit = |seed| {
        let fit = Gru::fit(&data, &GruSettings { seed, ..network }, &mut |_, _| {}).unwrap();
        fit.decode(&data.val[..2], 2)
    };
    assert_eq!(fit(1), fit(1));
    assert_ne!(fit(1), fit(2));
}

#[test]
fn silent_units_and_short_runs_are_no_trouble() {
    let mut data = data(3);
    for run in data.train.iter_mut().chain(&mut data.val).chain(&mut data.scored) {
        run.counts.iter_mut().step_by(CHANNELS).for_each(|count| *count = 0.0);
        run.hidden.iter_mut().step_by(HIDDEN).for_each(|count| *count = 0.0);
    }
    let short = Run { bins: 1, ..data.train[0].clone() };
    let cut = |values: &[f32], width: usize| values[..width].to_vec();
    data.train.push(Run {
        counts: cut(&short.counts, CHANNELS),
        hidden: cut(&short.hidden, HIDDEN),
        velocity: [cut(&short.velocity[0], 2), vec![f32::NAN; 2]],
        ..short
    });
    for method in Method::ALL {
        let rows = rows(method, &data, &GruSettings { epochs: 1, ..NETWORK }, 1, &mut |_, _, _| {});
        assert!(rows.iter().all(|row| row.failed.is_none()), "{rows:?}");
        assert!(rows.iter().flat_map(|row| &row.velocity).all(|velocity| velocity.mean.is_finite()));
    }
}

#[test]
fn without_what_it_needs_a_fit_is_refused_with_a_sentence() {
    let mut data = data(0);
    let hidden = Runs { hidden: 0, ..data.clone() };
    assert_eq!(
        PoissonRegression::fit(&hidden).unwrap_err().to_string(),
        "expected held-out units with spikes in the validation trials, found none"
    );
    for run in &mut data.train {
        run.velocity = [vec![f32::NAN; 2 * BINS], vec![f32::NAN; 2 * BINS]];
    }
    let refusal = Kalman::fit(&data, 0, FILTER).err().map(|error| error.to_string());
    assert_eq!(
        refusal.as_deref(),
        Some("expected at least two training runs of known velocity that are longer than 4 bins, found 0")
    );
    let refusal = Wiener::fit(&data, 0, 5).unwrap_err().to_string();
    assert!(refusal.starts_with("expected as many rows of targets"), "{refusal}");
}

#[test]
fn lags_in_groups_share_weights_and_are_a_linear_filter_over_the_whole_history() {
    let groups = widening_lags(77);
    assert_eq!(groups.len(), 19);
    assert!(groups.iter().flat_map(Clone::clone).eq(0..77), "{groups:?}");
    assert_eq!((&groups[..8], &groups[8]), (&single_lags(8)[..], &(8..10)));
    assert_eq!((widening_lags(1), widening_lags(0)), (single_lags(1), Vec::new()));

    let data = data(3);
    let fit = Wiener::fit_groups(&data, 0, widening_lags(20)).unwrap();
    let (taps, _) = fit.taps();
    let of_lag = |lag: usize| &taps[lag * CHANNELS * 2..][..CHANNELS * 2];
    assert_eq!((of_lag(8), taps.len()), (of_lag(9), 20 * CHANNELS * 2));
    let run = &data.scored[0];
    let linear = LinearFilter::wiener(&fit, 0).stream(&run.counts, &[0.0; BINS], &[0.0; CHANNELS]);
    for (one, other) in fit.decode(&run.counts).iter().zip(&linear) {
        assert!((one - other).abs() < 1e-5, "{one} {other}");
    }
    assert!(fit.validation_r2() > 0.6, "{}", fit.validation_r2());
}

/// A long run is taken in in parts, each with the bins before it.
#[test]
fn runs_one_after_another_are_fitted_as_one_long_run_would_be() {
    let mut data = data(3);
    let whole = |runs: &[Run]| {
        let mut long = Run { bins: 0, counts: vec![], hidden: vec![], velocity: [vec![], vec![]] };
        // So many times that one part does not hold it.
        for run in runs.iter().cycle().take(110) {
            long.bins += run.bins;
            long.counts.extend(&run.counts);
            long.velocity[0].extend(&run.velocity[0]);
            long.velocity[1].extend(&run.velocity[1]);
        }
        long
    };
    let long = whole(&data.train);
    data.train = vec![long.clone()];
    let once = Wiener::fit(&data, 0, 10).unwrap();
    // The same rows in two runs: the second begins with the bins that its first known bin depends on.
    let cut = 4096 - 10;
    let mut second = long.pieces(cut).split_off(1);
    let overlap = Run { bins: 10, ..long.pieces(cut - 10)[1].pieces(10)[0].clone() };
    let first = long.pieces(cut)[0].clone();
    let mut joined = second.remove(0);
    joined.bins += 10;
    joined.counts = [overlap.counts, joined.counts].concat();
    joined.velocity[0] = [vec![f32::NAN; 20], joined.velocity[0].clone()].concat();
    joined.velocity[1] = [vec![f32::NAN; 20], joined.velocity[1].clone()].concat();
    assert!(second.is_empty(), "two parts are enough");
    data.train = vec![first, joined];
    let twice = Wiener::fit(&data, 0, 10).unwrap();
    for (one, other) in once.taps().0.iter().zip(&twice.taps().0) {
        assert!((one - other).abs() < 1e-9, "{one} {other}");
    }
}

#[test]
fn the_clock_knows_the_mean_course_of_the_trials_and_no_spike() {
    let mut data = data(0);
    let ramp = |bins: usize, height: f32| Run {
        bins,
        counts: vec![0.0; bins * CHANNELS],
        hidden: Vec::new(),
        velocity: [(0..2 * bins).map(|at| height * (at / 2) as f32).collect(), vec![f32::NAN; 2 * bins]],
    };
    data.train = vec![ramp(4, 1.0), ramp(2, 3.0)];
    data.val = vec![ramp(3, 2.0)];
    let clock = Clock::fit(&data, 0).unwrap();
    // Bins 0 and 1 are known of both runs, bins 2 and 3 of the first, and later ones of none.
    let mean = (0.0 + 1.0 + 2.0 + 3.0 + 0.0 + 3.0) / 6.0;
    assert_eq!(clock.decode(5), [0.0, 0.0, 2.0, 2.0, 2.0, 2.0, 3.0, 3.0, mean, mean]);
    assert!((clock.validation_r2() - (1.0 - 4.0 / 8.0)).abs() < 1e-6, "{}", clock.validation_r2());
    assert_eq!(Clock::fit(&data, 1), None);
}
