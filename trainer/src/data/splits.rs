//! Which trials a model is fitted to, and which choose among its epochs and settings.
//!
//! **A trial of the split `test` or `none` is in neither, and neither is a trial that shares time with one**, whatever other
//! splits the recording has. Where there is a split `train`, no other trial is fitted.

use ndt_protocol::bundle::origin::RecordingSplits;
use ndt_replay::inspect::findings::OVERLAP_S;
use ndt_replay::session::{Interval, Session, Trial};

/// Where no split is called `val`, one trial of this many is used for validation.
const VALIDATION_EVERY: usize = 5;

/// A recording of hardly any trials is cut into pieces of this length, s.
const PIECE_S: f64 = 1.0;

/// The intervals of the trials to fit and to validate on.
pub(super) struct Splits {
    pub(super) train: Vec<Interval>,
    pub(super) val: Vec<Interval>,
}

impl Splits {
    /// Takes the splits `train` and `val` where the session has both. Validation otherwise comes out of the trials that may be
    /// fitted, one in five: those of `train`, or all that are not reserved where there is no `train`. Adds to `notes` what was
    /// decided. Both parts are empty where all trials are reserved.
    pub(super) fn of(session: &Session, notes: &mut Vec<String>) -> Splits {
        let of_split = |split: &str| intervals(session, |trial| trial.is_in(split));
        let (train, val) = (of_split("train"), of_split("val"));
        let others =
            intervals(session, |trial| !trial.is_in("train") && !trial.is_in("val") && !trial.is_reserved());
        let splits = match (train.is_empty(), val.is_empty()) {
            (false, false) => Splits { train, val },
            (false, true) => {
                Splits::drawn(train, "the recording has no split val: one trial in 5 of train", notes)
            }
            (true, false) if !others.is_empty() => {
                note(
                    notes,
                    "the recording has no split train: all trials but those of val, test and none are fitted",
                );
                return Splits { train: others, val }.apart_from(session, notes);
            }
            (true, _) => {
                let usable = session.segments(None).unwrap_or_default();
                Splits::drawn(usable, "the recording has no splits train and val: one trial in 5", notes)
            }
        };
        if !splits.train.is_empty()
            && session.trials.iter().any(|trial| trial.is_in("train"))
            && !others.is_empty()
        {
            note(
                notes,
                &format!("{} trials of other splits than train, val and test are left out", others.len()),
            );
        }
        splits.apart_from(session, notes)
    }

    /// One trial in five of `usable` for validation, and the others to fit. `how` begins the note.
    fn drawn(mut usable: Vec<Interval>, how: &str, notes: &mut Vec<String>) -> Splits {
        if usable.is_empty() {
            return Splits { train: Vec::new(), val: Vec::new() };
        }
        note(notes, &format!("{how} is used for validation"));
        if usable.len() < VALIDATION_EVERY {
            note(
                notes,
                &format!(
                    "fewer than {VALIDATION_EVERY} trials: the observed time is cut into pieces of {PIECE_S} s"
                ),
            );
            usable = usable.iter().flat_map(|interval| pieces(*interval)).collect();
        }
        let pick = |validates: bool| {
            let chosen = usable.iter().enumerate();
            let chosen = chosen.filter(|(at, _)| (at % VALIDATION_EVERY == 2) == validates);
            chosen.map(|(_, interval)| *interval).collect()
        };
        Splits { train: pick(false), val: pick(true) }
    }

    /// Leaves out what shares time with a reserved trial, and of the training trials what shares time with a validation trial.
    fn apart_from(mut self, session: &Session, notes: &mut Vec<String>) -> Splits {
        let reserved = intervals(session, Trial::is_reserved);
        if !reserved.is_empty() && ["train", "val"].iter().any(|split| !has(session, split)) {
            note(notes, &format!("{} trials of the splits test and none are left out", reserved.len()));
        }
        let shares = |interval: &Interval, others: &[Interval]| {
            others.iter().any(|other| other.overlap_s(interval) > OVERLAP_S)
        };
        let before = (self.train.len(), self.val.len());
        self.train.retain(|interval| !shares(interval, &reserved));
        self.val.retain(|interval| !shares(interval, &reserved));
        let lost = before.0 - self.train.len() + before.1 - self.val.len();
        if lost > 0 {
            note(
                notes,
                &format!("{lost} trials that share time with one of the splits test and none are left out"),
            );
        }
        let before = self.train.len();
        self.train.retain(|interval| !shares(interval, &self.val));
        let lost = before - self.train.len();
        if lost > 0 {
            note(
                notes,
                &format!("{lost} training trials that share time with a validation trial are left out"),
            );
        }
        self
    }

    /// The splits as a bundle keeps them: trials by their ids, or pieces by their times.
    pub(super) fn recorded(&self, session: &Session) -> RecordingSplits {
        let id = |interval: &Interval| {
            session.trials.iter().find(|trial| trial.interval == *interval).map(|trial| trial.id)
        };
        let ids = |intervals: &[Interval]| intervals.iter().map(id).collect::<Option<Vec<i64>>>();
        let pieces =
            |intervals: &[Interval]| intervals.iter().map(|piece| [piece.start, piece.stop]).collect();
        let test = session.trials.iter().filter(|trial| trial.is_in("test")).map(|trial| trial.id).collect();
        let identifier = session.identifier.clone();
        match (ids(&self.train), ids(&self.val)) {
            (Some(train), Some(val)) => {
                RecordingSplits { identifier, train, val, test, ..RecordingSplits::default() }
            }
            _ => RecordingSplits {
                identifier,
                test,
                train_pieces_s: pieces(&self.train),
                val_pieces_s: pieces(&self.val),
                ..RecordingSplits::default()
            },
        }
    }
}

/// The intervals of the trials that `is_wanted`.
fn intervals(session: &Session, is_wanted: impl Fn(&Trial) -> bool) -> Vec<Interval> {
    session.trials.iter().filter(|trial| is_wanted(trial)).map(|trial| trial.interval).collect()
}

/// Whether any trial is in this split.
fn has(session: &Session, split: &str) -> bool {
    session.trials.iter().any(|trial| trial.is_in(split))
}

/// Adds a note that is not there yet: several recordings often give the same one.
fn note(notes: &mut Vec<String>, text: &str) {
    if !notes.iter().any(|note| note == text) {
        notes.push(text.to_owned());
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
        let splits = Splits::of(session, &mut notes);
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
        assert_eq!(
            notes,
            [
                "the recording has no split val: one trial in 5 of train is used for validation",
                "3 trials of the splits test and none are left out"
            ]
        );
    }

    #[test]
    fn where_there_is_a_split_train_no_trial_of_another_name_is_fitted() {
        let (train, val, notes) = parts(&session(&["train", "practice", "val", "train", "test", "all"]));
        assert_eq!((train, val), (vec![0, 3], vec![2]));
        assert_eq!(notes, ["2 trials of other splits than train, val and test are left out"]);
        let (train, val, _) = parts(&session(&["practice", "val", "test", "all"]));
        assert_eq!((train, val), (vec![0, 3], vec![1]), "without train, all that may be fitted");
        let (train, val, _) = parts(&session(&["all", "all", "all", "none", "all", "all", "all"]));
        assert_eq!((train, val), (vec![0, 1, 4, 5, 6], vec![2]));
    }

    #[test]
    fn of_a_recording_of_test_trials_alone_nothing_is_fitted() {
        for split in ["test", "Test", "none"] {
            let (train, val, notes) = parts(&session(&[split; 8]));
            assert_eq!((train, val), (Vec::new(), Vec::new()));
            assert_eq!(notes, ["8 trials of the splits test and none are left out"]);
        }
    }

    #[test]
    fn a_trial_that_shares_time_with_a_test_trial_is_not_used() {
        let mut session = session(&["train", "test", "val", "train", "train", "val", "train"]);
        for (at, trial) in session.trials.iter_mut().enumerate() {
            trial.interval = Interval { start: at as f64, stop: at as f64 + 1.0 };
        }
        session.trials[0].interval.stop = 1.5;
        session.trials[2].interval.start = 1.9;
        session.trials[4].interval.stop = 5.2;
        session.trials[6].interval.start = 6.0 - 1e-4;
        let (train, val, notes) = parts(&session);
        assert_eq!((train, val), (vec![3, 6], vec![5]));
        assert_eq!(
            notes,
            [
                "2 trials that share time with one of the splits test and none are left out",
                "1 training trials that share time with a validation trial are left out"
            ]
        );
    }

    #[test]
    fn pieces_of_a_recording_of_few_trials_lie_in_the_trials_that_may_be_used() {
        let mut session = session(&["train", "test", "train", "train"]);
        for (at, trial) in session.trials.iter_mut().enumerate() {
            trial.interval = Interval { start: at as f64 * 10.0, stop: at as f64 * 10.0 + 3.5 };
        }
        let splits = Splits::of(&session, &mut Vec::new());
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
