//! Which part of a recording is for what: the choices of the configuration's table `data`, and a column of any name as splits.

use crate::config::{Config, Data, SplitBy};
use ndt_protocol::bundle::manifest::Positions;
use ndt_replay::session::{Session, Trial, Value};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// The choices by which a recording is split.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Time, splits and their names.
    pub data: Data,
    /// Time that lies between two blocks, s: the reach of the model, so that no bin of one block is history of another.
    pub gap_s: f64,
}

/// Why the trials of a recording cannot be selected by a column.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SelectionError {
    /// The trial table has no such column.
    #[error("expected a column of trials \"{column}\", found {found}")]
    Column {
        /// The column that was asked for.
        column: String,
        /// The columns of the recording in words.
        found: String,
    },
    /// No trial has the value that stands for training, validation or test.
    #[error("expected trials whose {column} is \"{value}\", found {found}")]
    Value {
        /// The column.
        column: String,
        /// The value that was asked for.
        value: String,
        /// The values in the column in words.
        found: String,
    },
}

impl Default for Selection {
    fn default() -> Self {
        Selection::of(&Config::default())
    }
}

impl Selection {
    /// The selection of a configuration, with the model's reach as the gap between blocks.
    pub fn of(config: &Config) -> Selection {
        let (model, data) = (&config.model, config.data.clone());
        let layers = if model.positions == Positions::Learned { 1 } else { model.layers };
        let gap_s = layers as f64 * (model.window_ms - data.bin_ms).max(0.0) * 1e-3 + data.bin_ms * 1e-3;
        Selection { data, gap_s }
    }

    /// The session in whose column `split` stand `train`, `val` and `test`, whatever column and values this selection names for
    /// them. Trials of other values are in `none`.
    ///
    /// # Errors
    /// [`SelectionError`] when the trial table lacks a column or value that differs from the usual one.
    pub fn relabelled<'a>(&self, session: &'a Session) -> Result<Cow<'a, Session>, SelectionError> {
        let (data, usual) = (&self.data, Data::default());
        let names = [&data.train, &data.val, &data.test];
        let usual_names = [&usual.train, &usual.val, &usual.test];
        let has_usual_names = names == usual_names;
        if data.split_column == usual.split_column && has_usual_names && data.split_by != SplitBy::Column {
            return Ok(Cow::Borrowed(session));
        }
        let column = &data.split_column;
        let values: Vec<Option<String>> = session.trials.iter().map(|trial| value(trial, column)).collect();
        let there: BTreeSet<&str> = values.iter().flatten().map(String::as_str).collect();
        if there.is_empty() {
            return Err(SelectionError::Column { column: column.clone(), found: columns(session) });
        }
        let stands_for =
            |names: &str, value: &str| names.split(',').any(|name| name.trim().eq_ignore_ascii_case(value));
        for (name, usual) in names.iter().zip(usual_names) {
            // A value that was asked for by name must be there; `train` must, or nothing could be fitted.
            let is_asked = *name != usual || name == &names[0];
            if is_asked && !there.iter().any(|value| stands_for(name, value)) {
                return Err(SelectionError::Value {
                    column: column.clone(),
                    value: (*name).clone(),
                    found: list(there.iter().copied()),
                });
            }
        }
        let mut session = session.clone();
        for (trial, value) in session.trials.iter_mut().zip(&values) {
            let value = value.as_deref().unwrap_or_default();
            let found =
                names.iter().zip(["train", "val", "test"]).find(|(names, _)| stands_for(names, value));
            trial.split = Some(found.map_or("none", |(_, split)| split).to_owned());
        }
        Ok(Cow::Owned(session))
    }

    /// The session in whose column `split` stand the values of the selection's column as they are, so that a split can be asked for
    /// by its own name.
    ///
    /// # Errors
    /// [`SelectionError::Column`] when the trial table lacks the column.
    pub fn named<'a>(session: &'a Session, column: &str) -> Result<Cow<'a, Session>, SelectionError> {
        if column == Data::default().split_column {
            return Ok(Cow::Borrowed(session));
        }
        let mut named = session.clone();
        named.trials.iter_mut().for_each(|trial| trial.split = value(trial, column));
        if named.trials.iter().all(|trial| trial.split.is_none()) {
            return Err(SelectionError::Column { column: column.to_owned(), found: columns(session) });
        }
        Ok(Cow::Owned(named))
    }
}

/// The columns of a trial table in words.
fn columns(session: &Session) -> String {
    let mut names: BTreeSet<&str> =
        session.trials.iter().flat_map(|trial| trial.columns.keys().map(String::as_str)).collect();
    if session.trials.iter().any(|trial| trial.split.is_some()) {
        names.insert("split");
    }
    if names.is_empty() {
        "a recording without columns of trials".to_owned()
    } else {
        list(names.into_iter())
    }
}

/// Values in quotation marks, the first of them where there are many.
fn list<'a>(values: impl Iterator<Item = &'a str>) -> String {
    const MANY: usize = 12;
    let values: Vec<String> = values.map(|value| format!("\"{value}\"")).collect();
    let more = if values.len() > MANY { ", ..." } else { "" };
    format!("{}{more}", values[..values.len().min(MANY)].join(", "))
}

/// The value of a trial in a column, as text; `None` where it has none.
pub(super) fn value(trial: &Trial, column: &str) -> Option<String> {
    if column == Data::default().split_column {
        return trial.split.as_deref().map(|split| split.trim().to_owned());
    }
    match trial.columns.get(column)? {
        Value::Float(number) if number.is_nan() => None,
        cell => Some(cell.to_string().trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndt_replay::simulate::{Recipe, simulate};

    fn session() -> Session {
        let mut session = simulate(&Recipe { trials: 4, units: 4, heldout: 1, seed: 1 });
        for (at, trial) in session.trials.iter_mut().enumerate() {
            let phase = ["Early", "late", "rest", "early"][at];
            trial.columns.insert("phase".to_owned(), Value::Text(phase.to_owned()));
        }
        session
    }

    fn selection(column: &str, train: &str, test: &str) -> Selection {
        let names = (train.to_owned(), test.to_owned());
        let data = Data { split_column: column.to_owned(), train: names.0, test: names.1, ..Data::default() };
        Selection { data, gap_s: 1.0 }
    }

    #[test]
    fn any_column_with_any_values_can_split() {
        let session = session();
        let relabelled = selection("phase", "early", "late, rest").relabelled(&session).unwrap();
        let splits: Vec<&str> = relabelled.trials.iter().filter_map(|trial| trial.split.as_deref()).collect();
        assert_eq!(splits, ["train", "test", "test", "train"]);
        let named = Selection::named(&session, "phase").unwrap();
        assert_eq!(named.segments(Some("rest")).unwrap().len(), 1);
    }

    #[test]
    fn columns_and_values_that_do_not_exist_are_answered_with_those_that_do() {
        let session = session();
        let error = selection("day", "early", "late").relabelled(&session).unwrap_err().to_string();
        assert!(
            error.starts_with("expected a column of trials \"day\", found \"") && error.contains("\"phase\""),
            "{error}"
        );
        let error = selection("phase", "training", "late").relabelled(&session).unwrap_err().to_string();
        assert_eq!(
            error,
            "expected trials whose phase is \"training\", found \"Early\", \"early\", \"late\", \"rest\""
        );
    }
}
