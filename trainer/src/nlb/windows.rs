//! Where each trial's windows lie among the bins of a recording.

use super::recording::Recording;
use super::variant::Variant;
use ndt_replay::session::{Trial, Value};
use std::collections::BTreeSet;

/// A trial and the bins of its windows.
pub struct Aligned<'a> {
    /// The trial.
    pub trial: &'a Trial,
    /// The first bin that begins at the alignment's instant or later.
    pub aligned: i64,
    /// First bin of the window.
    pub first: i64,
    /// First bin of the forward window.
    pub forward: i64,
    /// First bin of the behaviour's window.
    pub behavior: i64,
}

/// No trial of the wanted splits can be aligned.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "expected trials of the split {split} with a column {align}, found none; the recording's splits are {found}"
)]
pub struct NoTrial {
    /// The split or splits that were asked for.
    pub split: String,
    /// The column that windows are aligned to.
    pub align: String,
    /// The splits of the recordings.
    pub found: String,
}

/// The trials of these splits that can be aligned, in the order of the trial tables. A trial without an instant to
/// align to is left out, and `notes` says how many were.
///
/// # Errors
/// [`NoTrial`] when none is left.
pub fn aligned<'a>(
    recording: &Recording<'a>,
    variant: &Variant,
    splits: &[&str],
    notes: &mut Vec<String>,
) -> Result<Vec<Aligned<'a>>, NoTrial> {
    let bin_ns = recording.bin_ms() as i64 * 1_000_000;
    let mut trials = Vec::new();
    let mut without = 0;
    for (trial, shift_ns) in recording.trials() {
        if !splits.iter().any(|split| trial.is_in(split)) {
            continue;
        }
        let Some(aligned_s) = instant(trial, &variant.align) else {
            without += 1;
            continue;
        };
        let aligned_ns = (aligned_s * 1e9).round() as i64 + shift_ns;
        // The bin index is rounded up: the first bin that begins no earlier.
        let bin = |offset_ms: i64| -(-(aligned_ns + offset_ms * 1_000_000)).div_euclid(bin_ns);
        trials.push(Aligned {
            trial,
            aligned: bin(0),
            first: bin(variant.from_ms),
            forward: bin(variant.to_ms),
            behavior: bin(variant.from_ms + variant.lag_ms),
        });
    }
    if without > 0 {
        notes.push(format!("{without} trials have no {} and are left out", variant.align));
    }
    match trials.is_empty() {
        true => {
            let found: BTreeSet<&str> =
                recording.trials().filter_map(|(trial, _)| trial.split.as_deref()).collect();
            let found = found.into_iter().collect::<Vec<_>>().join(", ");
            let found = if found.is_empty() { "(none)".to_owned() } else { found };
            Err(NoTrial { split: splits.join(" or "), align: variant.align.clone(), found })
        }
        false => Ok(trials),
    }
}

/// Returns the instant that a trial has in `column`, s; `None` if the value is missing or not a number.
fn instant(trial: &Trial, column: &str) -> Option<f64> {
    let time = match (column, trial.columns.get(column)) {
        ("start_time", _) => trial.interval.start,
        ("stop_time", _) => trial.interval.stop,
        (_, Some(Value::Float(time))) => *time,
        (_, Some(Value::Int(time))) => *time as f64,
        _ => return None,
    };
    time.is_finite().then_some(time)
}
