//! Which trials a model is fitted to, and which choose among its epochs and settings.
//!
//! **A trial of the split `test` or `none` is in neither**, whatever other splits the recording has.

use ndt_protocol::bundle::origin::RecordingSplits;
use ndt_replay::session::{Interval, SelectError, Session, Trial};

/// In a recording without the splits `train` and `val`, one trial of this many is used for validation.
const VALIDATION_EVERY: usize = 5;

/// A recording of hardly any trials is cut into pieces of this length, s.
const PIECE_S: f64 = 1.0;

/// The intervals of the trials to fit and to validate on.
pub(super) struct Splits {
    pub(super) train: Vec<Interval>,
    pub(super) val: Vec<Interval>,
}

impl Splits {
    /// Takes the splits `train` and `val` where the session has both, and else one trial in five for validation. Adds to
    /// `notes` what was decided.
    pub(super) fn of(session: &Session, notes: &mut Vec<String>) -> Result<Splits, SelectError> {
        let has = |split: &str| session.trials.iter().any(|trial: &Trial| trial.is_in(split));
        if has("train") && has("val") {
            let (train, val) = (session.segments(Some("train"))?, session.segments(Some("val"))?);
            return Ok(Splits { train, val });
        }
        let mut note = |text: String| {
            if !notes.contains(&text) {
                notes.push(text);
            }
        };
        note(format!(
            "the recording has no splits train and val: one trial in {VALIDATION_EVERY} is used for validation"
        ));
        let reserved = session.reserved_trials();
        if reserved > 0 {
            note(format!("{reserved} trials of the splits test and none are left out"));
        }
        let mut all = session.segments(None)?;
        if all.len() < VALIDATION_EVERY {
            note(format!(
                "fewer than {VALIDATION_EVERY} trials: the observed time is cut into pieces of {PIECE_S} s"
            ));
            all = all.iter().flat_map(|interval| pieces(*interval)).collect();
        }
        let pick = |validates: bool| {
            let chosen = all.iter().enumerate();
            let chosen = chosen.filter(|(at, _)| (at % VALIDATION_EVERY == 2) == validates);
            chosen.map(|(_, interval)| *interval).collect()
        };
        Ok(Splits { train: pick(false), val: pick(true) })
    }

    /// The splits as a bundle keeps them: trials by their ids, and pieces by their times.
    pub(super) fn recorded(&self, session: &Session) -> RecordingSplits {
        let id = |interval: &Interval| {
            session.trials.iter().find(|trial| trial.interval == *interval).map(|trial| trial.id)
        };
        let ids = |intervals: &[Interval]| intervals.iter().filter_map(id).collect();
        let pieces = |intervals: &[Interval]| {
            let pieces = intervals.iter().filter(|interval| id(interval).is_none());
            pieces.map(|piece| [piece.start, piece.stop]).collect()
        };
        let test = session.trials.iter().filter(|trial| trial.is_in("test")).map(|trial| trial.id);
        RecordingSplits {
            identifier: session.identifier.clone(),
            train: ids(&self.train),
            val: ids(&self.val),
            test: test.collect(),
            train_pieces_s: pieces(&self.train),
            val_pieces_s: pieces(&self.val),
        }
    }
}

/// An interval in pieces of equal length; the last one also takes the remainder.
fn pieces(interval: Interval) -> Vec<Interval> {
    let count = ((interval.stop - interval.start) / PIECE_S).floor().max(1.0) as usize;
    let edge = |piece: usize| interval.start + piece as f64 * PIECE_S;
    let stop = |piece: usize| if piece + 1 == count { interval.stop } else { edge(piece + 1) };
    (0..count).map(|piece| Interval { start: edge(piece), stop: stop(piece) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndt_replay::simulate::{Recipe, simulate};

    fn session(splits: &[&str]) -> Session {
        let mut session = simulate(&Recipe { trials: splits.len(), units: 4, heldout: 1, seed: 1 });
        for (trial, split) in session.trials.iter_mut().zip(splits) {
            trial.split = Some((*split).to_owned());
        }
        session
    }

    /// Numbers of the trials in each part, and the notes.
    fn parts(session: &Session) -> (Vec<usize>, Vec<usize>, Vec<String>) {
        let mut notes = Vec::new();
        let splits = Splits::of(session, &mut notes).unwrap();
        let number = |interval: &Interval| {
            session.trials.iter().position(|trial| trial.interval == *interval).unwrap_or(usize::MAX)
        };
        (splits.train.iter().map(number).collect(), splits.val.iter().map(number).collect(), notes)
    }

    #[test]
    fn a_recording_without_validation_trials_never_trains_on_test() {
        let splits = ["train", "test", "train", "Test", "train", "none", "train", "train", "train"];
        let (train, val, notes) = parts(&session(&splits));
        assert_eq!((train, val), (vec![0, 2, 6, 7, 8], vec![4]));
        assert_eq!(notes[1], "3 trials of the splits test and none are left out");
    }

    #[test]
    fn pieces_of_a_recording_of_few_trials_lie_in_the_trials_that_may_be_used() {
        let mut session = session(&["train", "test", "train", "train"]);
        for (at, trial) in session.trials.iter_mut().enumerate() {
            trial.interval = Interval { start: at as f64 * 10.0, stop: at as f64 * 10.0 + 3.5 };
        }
        let splits = Splits::of(&session, &mut Vec::new()).unwrap();
        let test = session.trials[1].interval;
        let all: Vec<&Interval> = splits.train.iter().chain(&splits.val).collect();
        assert!(
            all.len() > 3 && all.iter().all(|piece| piece.stop <= test.start || piece.start >= test.stop)
        );
    }

    #[test]
    fn capitalised_splits_are_the_same_words() {
        let (train, val, notes) = parts(&session(&["Train", "Val", "TRAIN", "Test"]));
        assert_eq!((train, val, notes), (vec![0, 2], vec![1], Vec::new()));
    }
}
