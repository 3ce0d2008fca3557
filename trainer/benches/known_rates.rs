//! How close inferred rates come to the true ones, on a simulated maze session whose true rates are known.
//!
//! `cargo bench -p ndt-trainer --bench known_rates`: 142 units, 100 trials. Each method is fitted to the split `train`,
//! chooses its settings on `val`, and is compared on `test`, from a cold start at each trial's beginning. R2 is that of
//! a unit's rate over all bins, mean over the units; 1 would be the rate itself. Methods are causal unless they are
//! called acausal.

use ndt_protocol::binner::Binner;
use ndt_protocol::bundle::manifest::Training;
use ndt_replay::session::Session;
use ndt_replay::simulate::{self, Recipe};
use ndt_trainer::data::{Dataset, Trial, trials};
use ndt_trainer::evaluation::Reference;
use ndt_trainer::evaluation::metrics::squares_by_column;
use ndt_trainer::recipe::defaults::Kind;
use ndt_trainer::training::{ComputeDevice, teacher};
use ndt_trainer::{export, ridge, training};

const BIN_MS: f64 = 20.0;
const HISTORY_BINS: usize = 15;
const WIDTHS_BINS: [f64; 9] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 32.0];
const PENALTIES: [f64; 6] = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5];

/// Trials of a split and the true rates of their bins, expected counts `[T, N]`.
struct Split {
    trials: Vec<Trial>,
    truth: Vec<Vec<f64>>,
}

impl Split {
    fn of(session: &Session, rates: &[Vec<f64>], name: &str) -> Split {
        let binner = Binner::new(BIN_MS).expect("a bin width");
        let intervals = session.segments(Some(name)).expect("a split");
        let trials = trials(session, &intervals, binner, &[]);
        // The rates of all trials follow each other, one value for each millisecond.
        let lengths = session
            .trials
            .iter()
            .map(|trial| ((trial.interval.stop - trial.interval.start) * 1e3).round() as usize);
        let starts: Vec<usize> =
            lengths.scan(0, |sum, length| Some(std::mem::replace(sum, *sum + length))).collect();
        let in_split =
            session.trials.iter().zip(&starts).filter(|(trial, _)| trial.split.as_deref() == Some(name));
        let width = BIN_MS as usize;
        let truth = in_split.zip(&trials).map(|((_, start), trial)| {
            let bin = |bin: usize| {
                let ms = start + bin * width..start + (bin + 1) * width;
                rates
                    .iter()
                    .map(move |unit| unit[ms.clone()].iter().sum::<f64>() * 1e-3)
                    .collect::<Vec<f64>>()
            };
            (0..trial.bins).flat_map(bin).collect::<Vec<f64>>()
        });
        let truth: Vec<Vec<f64>> = truth.collect();
        assert_eq!(truth.len(), trials.len());
        Split { trials, truth }
    }

    /// R2 of the inferred rates `[T, N]` of each trial, mean over the units.
    fn r2(&self, inferred: &[Vec<f64>]) -> f64 {
        let units = self.truth[0].len() / self.trials[0].bins;
        let column = |of: &[Vec<f64>], unit: usize| -> Vec<f64> {
            of.iter().flat_map(|rows| rows.iter().skip(unit).step_by(units)).copied().collect()
        };
        let unit =
            |unit: usize| squares_by_column(&column(&self.truth, unit), &column(inferred, unit), 1)[0].r2();
        (0..units).map(unit).sum::<f64>() / units as f64
    }
}

/// Counts of each unit smoothed with a Gaussian of `width` bins; the causal Gaussian has no half that looks ahead.
fn smoothed(trials: &[Trial], units: usize, width: f64, causal: bool) -> Vec<Vec<f64>> {
    let reach = (3.0 * width).ceil() as i64;
    let trial = |trial: &Trial| {
        let bin = |bin: usize| {
            let from = (bin as i64 - reach).max(0) as usize;
            let to = if causal { bin } else { (bin + reach as usize).min(trial.bins - 1) };
            let weights: Vec<f64> = (from..=to)
                .map(|other| (-0.5 * ((other as f64 - bin as f64) / width).powi(2)).exp())
                .collect();
            let sum: f64 = weights.iter().sum();
            let unit = move |unit: usize| {
                let counts = (from..=to).map(|other| f64::from(trial.counts[other * units + unit]));
                counts.zip(&weights).map(|(count, weight)| count * weight).sum::<f64>() / sum
            };
            (0..units).map(unit).collect::<Vec<f64>>()
        };
        (0..trial.bins).flat_map(bin).collect()
    };
    trials.iter().map(trial).collect()
}

/// Held-in counts of the last [`HISTORY_BINS`] bins, one row for each bin.
fn history(trial: &Trial, channels: &[usize], units: usize) -> Vec<f64> {
    let count = |bin: usize, lag: usize, channel: &usize| {
        if lag > bin { 0.0 } else { f64::from(trial.counts[(bin - lag) * units + channel]) }
    };
    let row = |bin: usize| {
        (0..HISTORY_BINS).flat_map(move |lag| channels.iter().map(move |channel| count(bin, lag, channel)))
    };
    (0..trial.bins).flat_map(row).collect()
}

/// The choice that scores best on `val`, with its score on `test`.
fn chosen<T: Copy>(choices: &[T], score: impl Fn(T) -> (f64, f64)) -> (T, f64) {
    let scored = choices.iter().map(|choice| (*choice, score(*choice)));
    let best = scored.max_by(|a, b| a.1.0.total_cmp(&b.1.0)).expect("there are choices");
    (best.0, best.1.1)
}

fn main() {
    let recipe = Recipe { trials: 100, units: 142, heldout: 35, seed: 1 };
    let (session, rates) = (simulate::simulate(&recipe), simulate::rates(&recipe));
    let data = Dataset::new(std::slice::from_ref(&session), BIN_MS, 0.0).expect("a dataset");
    let [val, test] = ["val", "test"].map(|name| Split::of(&session, &rates, name));
    let (units, channels) = (data.units(), data.channels().collect::<Vec<usize>>());
    println!(
        "{} training trials of {units} units, {} held in; R2 of the rates on {} test trials",
        data.train.len(),
        channels.len(),
        test.trials.len()
    );
    for (name, causal) in [("smoothing, causal", true), ("smoothing, acausal", false)] {
        let score = |width| {
            let of = |split: &Split| split.r2(&smoothed(&split.trials, units, width, causal));
            (of(&val), of(&test))
        };
        let (width, r2) = chosen(&WIDTHS_BINS, score);
        println!("{name:32} {r2:.3}   (width {width} bins)");
    }
    let x: Vec<f64> = data.train.iter().flat_map(|trial| history(trial, &channels, units)).collect();
    let y: Vec<f64> =
        data.train.iter().flat_map(|trial| &trial.counts).map(|count| f64::from(*count)).collect();
    let (penalty, r2) = chosen(&PENALTIES, |penalty| {
        let ridge = ridge::fit(&x, HISTORY_BINS * channels.len(), &y, units, penalty).expect("a regression");
        let of = |split: &Split| {
            let trials = split.trials.iter().map(|trial| ridge.predict(&history(trial, &channels, units)));
            split.r2(&trials.collect::<Vec<_>>())
        };
        (of(&val), of(&test))
    });
    println!("{:32} {r2:.3}   ({HISTORY_BINS} bins, penalty {penalty})", "Wiener from held-in counts");

    let (config, notes) =
        ndt_trainer::recipe::Recipe::default().configure(Kind::of(&data)).expect("a configuration");
    notes.iter().for_each(|note| println!("note: {note}"));
    let fit = training::fit(&data, &config, None, &mut training::unwatched).expect("a fit");
    let origin = Training { seed: 1, epochs: fit.epoch, ..Training::of_nothing("a benchmark") };
    let bundle = export::bundle(&fit, &data, &config, origin).expect("a bundle");
    let reference = Reference::new(&bundle.manifest, &bundle.weights);
    let causal = test.trials.iter().map(|trial| {
        let counts = trial.counts.chunks_exact(units);
        let counts: Vec<f32> = counts.flat_map(|row| channels.iter().map(|channel| row[*channel])).collect();
        let (log_rates, _) = reference.stream(&counts, &vec![0.0; trial.bins]);
        log_rates.iter().map(|rate| f64::from(*rate).exp() * BIN_MS * 1e-3).collect::<Vec<f64>>()
    });
    println!("{:32} {:.3}", "transformer, causal", test.r2(&causal.collect::<Vec<_>>()));
    let acausal = teacher::rates(ComputeDevice::Cpu, &data, &config, &test.trials, &mut training::unwatched)
        .expect("a fit");
    let acausal = acausal.iter().map(|rates| rates.iter().map(|rate| f64::from(*rate)).collect::<Vec<f64>>());
    println!("{:32} {:.3}", "transformer, acausal (teacher)", test.r2(&acausal.collect::<Vec<_>>()));
}
