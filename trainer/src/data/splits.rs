//! Which time of a session is fitted, which is used for validation, and which is kept for a test.
//!
//! **No model is fitted to a trial of the splits `test` and `none`, nor is anything chosen by one**, whatever other splits the
//! recording has. Where there is a split `train`, no other trial is fitted. Where no column says it, contiguous blocks of time are
//! the parts, with the model's reach between them: what lies next to a training bin resembles it and would flatter the score.

use super::selection::{Selection, SelectionError, value};
use super::time;
use crate::config::SplitBy;
use ndt_protocol::binner::Binner;
use ndt_protocol::bundle::origin::RecordingSplits;
use ndt_replay::inspect::findings::OVERLAP_S;
use ndt_replay::session::{Interval, Session, Trial};
use std::collections::BTreeMap;

/// Where trials of `train` are the only ones, one trial of this many is used for validation.
const VALIDATION_EVERY: usize = 5;

/// The splits of a session as a bundle keeps them; adds to `notes` what was decided.
///
/// # Errors
/// [`SelectionError`] when the trial table lacks a column or value of the selection.
pub fn split(
    session: &Session,
    selection: &Selection,
    binner: Binner,
    notes: &mut Vec<String>,
) -> Result<RecordingSplits, SelectionError> {
    let session = selection.relabelled(session)?;
    Ok(Splits::of(&session, selection, binner, notes).recorded(&session))
}

/// The intervals to fit, to validate on, and to test on.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Splits {
    pub(super) train: Vec<Interval>,
    pub(super) val: Vec<Interval>,
    pub(super) test: Vec<Interval>,
}

impl Splits {
    /// Splits a session whose column `split` holds the names that [`Selection::relabelled`] gives. Adds to `notes` what was
    /// decided. Training and validation are empty where all trials are reserved.
    pub(super) fn of(
        session: &Session,
        selection: &Selection,
        binner: Binner,
        notes: &mut Vec<String>,
    ) -> Splits {
        let (is_observed, why) = time::is_observed(session, selection.data.time, binner);
        let what = if is_observed { "all observed time is" } else { "trials alone are" };
        note(notes, &format!("{what} fitted and scored: {why}"));
        let split = Split { session, selection, binner, is_observed };
        let by_column = match selection.data.split_by {
            SplitBy::Auto => has(session, "train") || has(session, "val"),
            SplitBy::Column => true,
            SplitBy::Blocks | SplitBy::Trials => false,
        };
        let splits = match (by_column, selection.data.split_by) {
            (true, _) => split.by_column(notes),
            (false, SplitBy::Trials) if !session.trials.is_empty() => split.by_trials(notes),
            (false, _) => split.by_blocks(notes),
        };
        splits.apart_from(session, notes).joined(session, is_observed)
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
        let kept: Vec<Interval> = reserved.iter().chain(&self.test).copied().collect();
        let before = (self.train.len(), self.val.len());
        self.train.retain(|interval| !shares(interval, &kept));
        self.val.retain(|interval| !shares(interval, &kept));
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

    /// Of observed time, trials of one part that follow each other are one interval, with the time between them.
    fn joined(self, session: &Session, is_observed: bool) -> Splits {
        if !is_observed {
            return self;
        }
        let reserved = intervals(session, Trial::is_reserved);
        let apart = |part: &[Interval]| {
            let is_other = |other: &Interval| !part.contains(other);
            let all = self.train.iter().chain(&self.val).chain(&self.test).chain(&reserved);
            let others: Vec<Interval> = all.copied().filter(is_other).collect();
            time::joined(session, part, &others)
        };
        Splits { train: apart(&self.train), val: apart(&self.val), test: apart(&self.test) }
    }

    /// The splits as a bundle keeps them: trials by their ids, or pieces by their times.
    pub(super) fn recorded(&self, session: &Session) -> RecordingSplits {
        let id = |interval: &Interval| {
            session.trials.iter().find(|trial| trial.interval == *interval).map(|trial| trial.id)
        };
        let ids = |intervals: &[Interval]| intervals.iter().map(id).collect::<Option<Vec<i64>>>();
        let pieces =
            |intervals: &[Interval]| intervals.iter().map(|piece| [piece.start, piece.stop]).collect();
        let identifier = session.identifier.clone();
        match (ids(&self.train), ids(&self.val), ids(&self.test)) {
            (Some(train), Some(val), Some(test)) => {
                RecordingSplits { identifier, train, val, test, ..RecordingSplits::default() }
            }
            _ => RecordingSplits {
                identifier,
                train_pieces_s: pieces(&self.train),
                val_pieces_s: pieces(&self.val),
                test_pieces_s: pieces(&self.test),
                ..RecordingSplits::default()
            },
        }
    }
}

/// A session to be split, and by what.
struct Split<'a> {
    session: &'a Session,
    selection: &'a Selection,
    binner: Binner,
    is_observed: bool,
}

impl Split<'_> {
    /// Takes the splits `train` and `val` where the session has both. Validation otherwise comes out of the trials that may be
    /// fitted: of `train`, or of all that are not reserved where there is no `train`.
    fn by_column(&self, notes: &mut Vec<String>) -> Splits {
        let session = self.session;
        let of_split = |split: &str| intervals(session, |trial| trial.is_in(split));
        let (train, val, test) = (of_split("train"), of_split("val"), of_split("test"));
        let others =
            intervals(session, |trial| !trial.is_in("train") && !trial.is_in("val") && !trial.is_reserved());
        match (train.is_empty(), val.is_empty()) {
            (true, false) if !others.is_empty() => {
                note(
                    notes,
                    "the recording has no split train: all trials but those of val, test and none are fitted",
                );
                return Splits { train: others, val, test };
            }
            _ if !train.is_empty() && !others.is_empty() => note(
                notes,
                &format!("{} trials of other splits than train, val and test are left out", others.len()),
            ),
            _ => {}
        }
        if train.is_empty() || !val.is_empty() {
            return Splits { train, val, test };
        }
        if train.len() < VALIDATION_EVERY {
            let [train_part, val_part, _] = self.fractions();
            let whole = train_part + val_part;
            note(notes, "the recording has no split val: the end of train is used for validation");
            let time = time::sorted(train);
            let splits = self.of_time(&time, [train_part / whole, val_part / whole, 0.0]);
            return Splits { test, ..splits };
        }
        note(notes, "the recording has no split val: one trial in 5 of train is used for validation");
        let pick = |validates: bool| {
            let chosen = train.iter().enumerate();
            let chosen = chosen.filter(|(at, _)| (at % VALIDATION_EVERY == 2) == validates);
            chosen.map(|(_, interval)| *interval).collect()
        };
        Splits { train: pick(false), val: pick(true), test }
    }

    /// Deals the trials of each condition to the three parts, so that each part has its fraction of every condition.
    fn by_trials(&self, notes: &mut Vec<String>) -> Splits {
        let column = &self.selection.data.condition_column;
        let fractions = self.fractions();
        let mut splits = Splits::default();
        let mut dealt: BTreeMap<Option<String>, [f64; 3]> = BTreeMap::new();
        for trial in self.session.trials.iter().filter(|trial| !trial.is_reserved()) {
            let counts = dealt.entry(value(trial, column).filter(|_| !column.is_empty())).or_default();
            let seen: f64 = counts.iter().sum::<f64>() + 1.0;
            let lack = |part: usize| fractions[part] * seen - counts[part];
            let part = (0..3).max_by(|a, b| lack(*a).total_cmp(&lack(*b))).unwrap_or(0);
            counts[part] += 1.0;
            [&mut splits.train, &mut splits.val, &mut splits.test][part].push(trial.interval);
        }
        let conditions = if column.is_empty() {
            String::new()
        } else {
            format!(", {} conditions of {column} alike", dealt.len())
        };
        let percent = percent(fractions);
        note(notes, &format!("{percent} of the trials are for training, validation and test{conditions}"));
        self.reserving(splits)
    }

    /// Takes contiguous blocks of the trials, or of the observed time, that are not reserved.
    fn by_blocks(&self, notes: &mut Vec<String>) -> Splits {
        let session = self.session;
        let reserved = intervals(session, Trial::is_reserved);
        let usable = intervals(session, |trial| !trial.is_reserved());
        if usable.is_empty() && !session.trials.is_empty() {
            return self.reserving(Splits::default());
        }
        let mut fractions = self.fractions();
        if !reserved.is_empty() {
            let whole = fractions[0] + fractions[1];
            fractions = [fractions[0] / whole, fractions[1] / whole, 0.0];
        }
        let of_trials = !self.is_observed && usable.len() >= time::TRIALS_MIN;
        let usable = match self.is_observed {
            true => time::without(&time::observed(session), &reserved),
            false => time::sorted(usable),
        };
        let (splits, gap_s) = match of_trials {
            true => (self.of_trials(&usable, fractions), self.selection.gap_s),
            false => (self.of_time(&usable, fractions), self.gap_s(time::total_s(&usable), fractions)),
        };
        note(
            notes,
            &format!(
                "the recording has no splits train and val: blocks of {} of its {} are for training, validation and test, {:.2} s \
                 apart",
                percent(fractions),
                if of_trials { "trials" } else { "time" },
                gap_s
            ),
        );
        self.reserving(splits)
    }

    /// The trials in three contiguous blocks. A trial that begins sooner than the gap after the block before is in none.
    fn of_trials(&self, trials: &[Interval], [train, val, _]: [f64; 3]) -> Splits {
        let count = |part: f64| (part * trials.len() as f64).round() as usize;
        let (first, second) = (count(train), count(train + val).min(trials.len()));
        // A block keeps at least its last trial, however few there are.
        let block = |from: usize, to: usize| {
            let end =
                trials[..from].last().map_or(f64::NEG_INFINITY, |last| last.stop) + self.selection.gap_s;
            let near = trials[from..to].iter().take_while(|trial| trial.start < end).count();
            &trials[from + near.min((to - from).saturating_sub(1))..to]
        };
        let (val, test) = (block(first, second), block(second, trials.len()));
        Splits { train: trials[..first].to_vec(), val: val.to_vec(), test: test.to_vec() }
    }

    /// The time of these intervals in three contiguous blocks, with the gap between them.
    fn of_time(&self, time: &[Interval], [train, val, test]: [f64; 3]) -> Splits {
        let total_s = time::total_s(time);
        let gap_s = self.gap_s(total_s, [train, val, test]);
        let cut = |from: f64, to: f64| {
            time::cut(time, from * total_s + if from > 0.0 { gap_s } else { 0.0 }, to * total_s, self.binner)
        };
        let test = if test > 0.0 { cut(train + val, train + val + test) } else { Vec::new() };
        Splits { train: cut(0.0, train), val: cut(train, train + val), test }
    }

    /// The gap between blocks of so much time together. It takes no more than a quarter of the shortest block.
    fn gap_s(&self, total_s: f64, fractions: [f64; 3]) -> f64 {
        let shortest = fractions.into_iter().filter(|part| *part > 0.0).fold(1.0, f64::min);
        self.selection.gap_s.min(total_s * shortest / 4.0)
    }

    /// These splits, with the recording's own trials of `test` as the test where it has some.
    fn reserving(&self, splits: Splits) -> Splits {
        let own = intervals(self.session, |trial| trial.is_in("test"));
        if own.is_empty() { splits } else { Splits { test: own, ..splits } }
    }

    fn fractions(&self) -> [f64; 3] {
        let of = |part: usize| self.selection.data.blocks.get(part).copied().unwrap_or(0.0);
        [of(0), of(1), of(2)]
    }
}

/// Fractions in words, such as `70, 15 and 15 %`.
fn percent(fractions: [f64; 3]) -> String {
    let [train, val, test] = fractions.map(|part| (part * 100.0).round());
    format!("{train}, {val} and {test} %")
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
        let splits = Splits::of(session, &Selection::default(), Binner::new(20.0).unwrap(), &mut notes);
        notes.retain(|note| !note.contains("fitted and scored: "));
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
        assert_eq!((train, val), (vec![0, 1, 2, 4, 5], vec![6]), "blocks, as there is no other rule");
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
    fn blocks_of_a_recording_of_few_trials_lie_in_the_trials_that_may_be_used_and_apart() {
        let mut session = session(&["train", "test", "train", "train"]);
        for (at, trial) in session.trials.iter_mut().enumerate() {
            trial.interval = Interval { start: at as f64 * 10.0, stop: at as f64 * 10.0 + 3.5 };
        }
        session.observed.clear();
        let splits = Splits::of(&session, &Selection::default(), Binner::new(20.0).unwrap(), &mut Vec::new());
        let test = session.trials[1].interval;
        let all: Vec<&Interval> = splits.train.iter().chain(&splits.val).collect();
        assert!(!splits.val.is_empty() && splits.test == [test], "{splits:?}");
        assert!(all.iter().all(|piece| piece.stop <= test.start || piece.start >= test.stop), "{splits:?}");
    }

    #[test]
    fn a_recording_without_splits_becomes_blocks_of_time_that_a_gap_divides() {
        let mut session = session(&["train"]);
        session.trials.clear();
        session.observed = vec![Interval { start: 5.0, stop: 1005.0 }];
        let binner = Binner::new(20.0).unwrap();
        let splits = Splits::of(&session, &Selection::default(), binner, &mut Vec::new());
        let edges = |part: &[Interval]| -> Vec<(i64, i64)> {
            part.iter()
                .map(|part| ((part.start * 1e3).round() as i64, (part.stop * 1e3).round() as i64))
                .collect()
        };
        // The default model reaches back 77 bins.
        assert_eq!(edges(&splits.train), [(5_000, 705_000)]);
        assert_eq!(edges(&splits.val), [(706_540, 855_000)]);
        assert_eq!(edges(&splits.test), [(856_540, 1_005_000)]);
        let recorded = splits.recorded(&session);
        assert_eq!((recorded.train_pieces_s.len(), recorded.test_pieces_s.len()), (1, 1));
    }

    #[test]
    fn trials_are_dealt_so_that_each_part_has_its_fraction_of_every_condition() {
        let mut session = session(&["x"; 80]);
        for (at, trial) in session.trials.iter_mut().enumerate() {
            trial.split = None;
            trial.columns.insert("target".to_owned(), ndt_replay::session::Value::Int((at % 3 == 0).into()));
        }
        let mut selection = Selection::default();
        (selection.data.split_by, selection.data.condition_column) = (SplitBy::Trials, "target".to_owned());
        let splits = Splits::of(&session, &selection, Binner::new(20.0).unwrap(), &mut Vec::new());
        let of = |part: &[Interval]| {
            let is_first = |interval: &&Interval| {
                session
                    .trials
                    .iter()
                    .position(|trial| trial.interval == **interval)
                    .is_some_and(|at| at % 3 == 0)
            };
            (part.len(), part.iter().filter(is_first).count())
        };
        assert_eq!(
            [of(&splits.train), of(&splits.val), of(&splits.test)].map(|(all, _)| all).iter().sum::<usize>(),
            80
        );
        let (val, first) = of(&splits.val);
        assert!((11..=13).contains(&val) && (3..=5).contains(&first), "{val} {first}");
    }

    #[test]
    fn trials_that_follow_each_other_are_one_stretch_of_observed_time_and_test_lies_in_none() {
        let mut session = session(&["train", "train", "test", "train", "train", "val", "val"]);
        for (at, trial) in session.trials.iter_mut().enumerate() {
            trial.interval = Interval { start: at as f64, stop: at as f64 + 1.0 };
        }
        session.observed = vec![Interval { start: 0.0, stop: 7.0 }];
        let splits = Splits::of(&session, &Selection::default(), Binner::new(20.0).unwrap(), &mut Vec::new());
        let stretch = |start: f64, stop: f64| Interval { start, stop };
        assert_eq!(splits.train, [stretch(0.0, 2.0), stretch(3.0, 5.0)]);
        assert_eq!((splits.val, splits.test), (vec![stretch(5.0, 7.0)], vec![stretch(2.0, 3.0)]));
    }

    #[test]
    fn capitalised_splits_are_the_same_words() {
        let (train, val, notes) = parts(&session(&["Train", "Val", "TRAIN", "Test"]));
        assert_eq!((train, val, notes), (vec![0, 2], vec![1], Vec::new()));
    }
}
