//! PSTHs (peri-stimulus time histograms): the mean smoothed rate of each neuron over the trials of a condition.

use super::array::Tensor;
use super::recording::Recording;
use super::resample;
use super::variant::Variant;
use super::windows::Aligned;
use ndt_replay::session::{Trial, Value};
use std::cmp::Ordering;

/// The PSTHs of all conditions that have trials, and the trials of each condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Psths {
    /// PSTHs `[conditions, bins, neurons]`, spikes per bin, held-in neurons before held-out ones; NaN where no trial was
    /// observed.
    pub rates: Tensor,
    /// For each condition, the numbers of its trials among the training trials.
    pub train_trials: Vec<Vec<usize>>,
    /// For each condition, the numbers of its trials among the evaluation trials.
    pub eval_trials: Vec<Vec<usize>>,
}

/// A trial's part in the average of its condition.
struct Member {
    first: i64,
    /// Bins from the alignment to the window's first bin. It differs between trials if bins do not divide the window's
    /// start.
    offset: i64,
    condition: usize,
}

/// Averages training and evaluation trials together, as the benchmark does. Conditions are in the order of their
/// values; a trial that lacks one of the values belongs to no condition.
///
/// Bins are averaged at equal distances from the alignment. If windows of one condition begin at two distances (in 20
/// ms bins), the average begins at the earlier one and is as long as a window. The benchmark's tools do the same, to
/// the bin.
pub fn psths(
    recording: &Recording<'_>,
    variant: &Variant,
    neurons: &[i64],
    bins: usize,
    train: &[Aligned<'_>],
    eval: &[Aligned<'_>],
) -> Psths {
    let mut conditions: Vec<Vec<Cell>> =
        train.iter().chain(eval).filter_map(|chosen| condition(chosen.trial, variant)).collect();
    conditions.sort_by(|a, b| compare(a, b));
    conditions.dedup_by(|a, b| compare(a, b).is_eq());
    let mut members = Vec::new();
    let mut sort = |chosen: &[Aligned<'_>]| {
        let mut trials = vec![Vec::new(); conditions.len()];
        for (at, chosen) in chosen.iter().enumerate() {
            let found = condition(chosen.trial, variant)
                .and_then(|cells| conditions.binary_search_by(|other| compare(other, &cells)).ok());
            if let Some(condition) = found {
                trials[condition].push(at);
                let offset = chosen.first - chosen.aligned;
                members.push(Member { first: chosen.first, offset, condition });
            }
        }
        trials
    };
    let (train_trials, eval_trials) = (sort(train), sort(eval));
    let starts: Vec<i64> = (0..conditions.len())
        .map(|at| {
            members
                .iter()
                .filter(|member| member.condition == at)
                .map(|member| member.offset)
                .min()
                .unwrap_or(0)
        })
        .collect();
    let kernel = resample::gaussian(variant.psth_sd_ms);
    let mut rates = Tensor::unknown([conditions.len(), bins, neurons.len()]);
    for (column, id) in neurons.iter().enumerate() {
        let smoothed = recording.smoothed(*id, &kernel);
        let mut sums = vec![(0.0, 0.0); conditions.len() * bins];
        for member in &members {
            for bin in 0..bins {
                let row = bin as i64 + member.offset - starts[member.condition];
                let place = usize::try_from(member.first + bin as i64).ok();
                let rate = place.and_then(|place| smoothed.get(place)).copied().unwrap_or(f64::NAN);
                if row < bins as i64 && !rate.is_nan() {
                    let (sum, trials) = &mut sums[member.condition * bins + row as usize];
                    *sum += rate;
                    *trials += 1.0;
                }
            }
        }
        for (row, (sum, trials)) in sums.into_iter().enumerate() {
            rates.values[row * neurons.len() + column] = (sum / trials) as f32;
        }
    }
    Psths { rates, train_trials, eval_trials }
}

/// The value of a condition in one column: a number, or a text.
type Cell = (f64, String);

fn condition(trial: &Trial, variant: &Variant) -> Option<Vec<Cell>> {
    let cell = |name: &String| match trial.columns.get(name)? {
        Value::Float(value) if value.is_nan() => None,
        Value::Float(value) => Some((*value, String::new())),
        Value::Int(value) => Some((*value as f64, String::new())),
        Value::Bool(value) => Some((f64::from(u8::from(*value)), String::new())),
        Value::Text(text) => Some((0.0, text.clone())),
    };
    variant.conditions.iter().map(cell).collect()
}

fn compare(a: &[Cell], b: &[Cell]) -> Ordering {
    let cells = a.iter().zip(b).map(|(a, b)| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    cells.fold(Ordering::Equal, Ordering::then)
}
