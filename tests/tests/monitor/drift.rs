//! Two days of a session that drifts: on the second, half of the units fire at other rates, and a fifth of them are other neurons. The
//! monitor sees the drift, and takes none of it for an exchange of channels; an exchange is seen on both days.

use ndt_daemon::control::channels::{ChannelHealth, Fault, Finding};
use ndt_daemon::control::recent::{LONG, Recent};
use ndt_daemon::engine::native::Native;
use ndt_daemon::engine::{Engine, Input, Output};
use ndt_protocol::bundle::manifest::Training;
use ndt_protocol::{Bin, Bundle};
use ndt_replay::session::Session;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_trainer::config::Config;
use ndt_trainer::data::Dataset;
use ndt_trainer::{export, training};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const UNITS: usize = 80;
const SEED: u64 = 3;

/// Units that are replaced by others on the second day: every fifth.
const OTHERS_EVERY: usize = 5;

fn simulated(seed: u64) -> Session {
    simulate(&Recipe { trials: 200, units: UNITS, heldout: 0, seed })
}

/// The second day of a session.
fn next_day(mut session: Session) -> Session {
    let (mut random, other) = (ChaCha8Rng::seed_from_u64(SEED), simulated(SEED + 1));
    for (at, unit) in session.units.iter_mut().enumerate() {
        if at % OTHERS_EVERY == 0 {
            unit.spike_times.clone_from(&other.units[at].spike_times);
        } else if at % 2 == 0 {
            // From a third of its rate to three times.
            let factor = 3f64.powf(random.random_range(-1.0..1.0));
            let (whole, rest) = (factor.floor() as usize, factor.fract());
            let mut spikes = Vec::new();
            for time in &unit.spike_times {
                let copies = whole + usize::from(random.random_bool(rest));
                spikes.extend((0..copies).map(|_| time + random.random_range(-0.03..0.03)));
            }
            spikes.sort_unstable_by(f64::total_cmp);
            unit.spike_times = spikes;
        }
    }
    session
}

fn data(session: &Session) -> Dataset {
    Dataset::new(std::slice::from_ref(session), 20.0, 0.0).unwrap()
}

fn fit(data: &Dataset) -> Bundle {
    let mut config = Config::default();
    (config.model.width, config.model.layers, config.model.feedforward) = (48, 2, 48);
    config.optimiser.epochs = 30;
    (config.optimiser.learning_rate, config.optimiser.batch_trials) = (4e-3, 16);
    (config.objective.redrawn, config.objective.teacher_weight) = (0.0, 0.0);
    let fit = training::fit(data, &config, None, &mut training::unwatched).unwrap();
    export::bundle(&fit, data, &config, Training { seed: 1, ..Training::of_nothing("a test") }).unwrap()
}

/// What the monitor has of a day, with these pairs of channels exchanged: the mean count of each channel, bits per spike, and the
/// findings.
fn watched(bundle: &Bundle, day: &Dataset, exchanged: &[(usize, usize)]) -> (Vec<f64>, f64, Vec<Finding>) {
    let manifest = &bundle.manifest;
    let width_s = manifest.bin_width_ms * 1e-3;
    let mut recent = Recent::new(UNITS, width_s);
    let mut health = ChannelHealth::new(width_s, manifest.count_max, bundle.mean_counts(), true);
    let (mut engine, mut output) = (Native::new(bundle), Output::for_bundle(bundle));
    let mut bin = Bin::empty();
    for trial in day.train.iter().chain(&day.val).chain(&day.test) {
        engine.reset();
        for counts in trial.counts.chunks_exact(UNITS) {
            let mut counts = counts.to_vec();
            exchanged.iter().for_each(|(one, other)| counts.swap(*one, *other));
            bin.fill(counts.iter().copied(), manifest.count_range());
            engine.step(Input { counts: bin.counts(), missing: false }, &mut output).unwrap();
            let rate = |channel: usize| f64::from(output.log_rates[channel].exp()) * width_s;
            recent.take_in(bin.counts_or_nan(), |channel| Some(rate(channel)));
            health.take_in(&bin, Some(&|channel| rate(channel) as f32));
        }
    }
    health.compare_all();
    let means = recent.means(LONG).into_iter().map(Option::unwrap_or_default).collect();
    (means, recent.bits_per_spike(LONG).unwrap(), health.findings())
}

#[test]
fn a_drift_is_seen_and_not_taken_for_an_exchange_which_is_seen_on_both_days() {
    println!("seed {SEED}");
    let first = simulated(SEED);
    let day1 = data(&first);
    let bundle = fit(&day1);
    let day2 = data(&next_day(first));
    let (means, bits, found) = watched(&bundle, &day1, &[]);
    println!("first day: {bits:.3} bits per spike, {found:?}");
    assert!(bits > 0.0 && found.is_empty());
    let (drifted, worse, found) = watched(&bundle, &day2, &[]);
    println!("second day: {worse:.3} bits per spike, {found:?}");
    assert!(worse < bits, "the model explains the second day worse");
    let is_changed = |(one, other): (&f64, &f64)| (one / other).ln().abs() > 0.5;
    let changed = means.iter().zip(&drifted).filter(|pair| is_changed(*pair)).count();
    assert!(changed >= UNITS / 8, "{changed} rates have changed");
    assert!(found.iter().all(|finding| finding.fault == Fault::Died), "{found:?}");
    // Channels of which neither is replaced nor drifts, in the order of their rates, so that a pair has about the same.
    let mut steady: Vec<usize> = (0..UNITS).filter(|at| at % OTHERS_EVERY != 0 && at % 2 == 1).collect();
    steady.sort_unstable_by(|one, other| means[*other].total_cmp(&means[*one]));
    let pairs: Vec<(usize, usize)> = steady[..8].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    for (day, data) in [("first", &day1), ("second", &day2)] {
        let (_, bits, found) = watched(&bundle, data, &pairs);
        println!("{day} day, exchanged {pairs:?}: {bits:.3} bits per spike, {found:?}");
        let is_of = |finding: &Finding, (one, other): &(usize, usize)| {
            let (channel, with) = (finding.channel, finding.with.unwrap_or(usize::MAX));
            (channel, with) == (*one, *other) || (channel, with) == (*other, *one)
        };
        let told: Vec<_> = found.iter().filter(|finding| finding.fault == Fault::Exchanged).collect();
        // Of several pairs, two channels may be told crosswise; a channel that is in its place never is.
        let is_displaced =
            |channel: usize| pairs.iter().any(|(one, other)| [*one, *other].contains(&channel));
        assert!(told.iter().all(|finding| is_displaced(finding.channel)), "{day} day: {told:?}");
        let right = told.iter().filter(|finding| pairs.iter().any(|pair| is_of(finding, pair))).count();
        // Two of a pair may be tuned alike. Each pair is told of both its channels.
        assert!(right >= pairs.len(), "{day} day: of {pairs:?} only {told:?}");
    }
}
