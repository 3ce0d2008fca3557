//! The columns of a table: scalars, lists of different lengths, and ids.

use super::problem::{ReadProblem, content};
use crate::h5::{Group, Kind};
use crate::session::Value;
use std::collections::BTreeSet;

/// Names of the columns that have one cell for each trial. A ragged column (its data and its index) is none of them.
pub(super) fn scalar_columns(table: &Group) -> Result<Vec<String>, ReadProblem> {
    const KNOWN: [&str; 3] = ["id", "start_time", "stop_time"];
    let names: BTreeSet<String> = table.members()?.into_iter().collect();
    let is_scalar = |name: &&String| {
        let is_index = name.strip_suffix("_index").is_some_and(|target| names.contains(target));
        !is_index && !names.contains(&format!("{name}_index")) && !KNOWN.contains(&name.as_str())
    };
    Ok(names.iter().filter(is_scalar).cloned().collect())
}

/// Reads the cells of a column; `None` if its cells are not scalars that a [`Value`] can hold.
pub(super) fn column(table: &Group, name: &str, rows: usize) -> Result<Option<Vec<Value>>, ReadProblem> {
    if table.is_group(name)? {
        return Ok(None);
    }
    let stored = table.dataset(name)?;
    if stored.shape().len() != 1 {
        return Ok(None);
    }
    let values: Vec<Value> = match stored.kind() {
        Kind::Float => stored.numbers::<f64>()?.into_iter().map(Value::Float).collect(),
        Kind::Int => stored.numbers::<i64>()?.into_iter().map(Value::Int).collect(),
        Kind::Bool => stored.bools()?.into_iter().map(Value::Bool).collect(),
        Kind::Text => stored.texts()?.into_iter().map(Value::Text).collect(),
        Kind::Other => return Ok(None),
    };
    same_length(table, name, values, rows).map(Some)
}

pub(super) fn ids(table: &Group) -> Result<Vec<i64>, ReadProblem> {
    if !table.has("id") {
        return Err(content("a column id", table.name(), "none"));
    }
    Ok(table.dataset("id")?.numbers::<i64>()?)
}

/// For each of `rows` table rows, returns the range of the ragged `column` that belongs to it. The index column holds the
/// exclusive end of each range. `length` is the length of the column's data, all of which the index must cover in order.
pub(super) fn ragged(
    table: &Group,
    column: &str,
    rows: usize,
    length: usize,
) -> Result<Vec<std::ops::Range<usize>>, ReadProblem> {
    let name = format!("{column}_index");
    if !table.has(&name) {
        return Err(content(format!("a column {name}"), table.name(), "none"));
    }
    let ends = same_length(table, &name, table.dataset(&name)?.numbers::<u64>()?, rows)?;
    let object = format!("{}/{name}", table.name());
    let mut ranges = Vec::with_capacity(rows);
    let mut start = 0;
    for (row, &end) in ends.iter().enumerate() {
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        if end < start {
            return Err(content("ascending ends", object, format!("{end} after {start} at row {row}")));
        }
        if end > length {
            return Err(content(format!("ends of at most {length}"), object, format!("{end} at row {row}")));
        }
        ranges.push(start..end);
        start = end;
    }
    match start == length {
        true => Ok(ranges),
        false => Err(content(format!("a last end of {length}, the length of {column}"), object, start)),
    }
}

/// Returns `cells` if there is one for each of the table's `rows`.
pub(super) fn same_length<T>(
    table: &Group,
    column: &str,
    cells: Vec<T>,
    rows: usize,
) -> Result<Vec<T>, ReadProblem> {
    match cells.len() == rows {
        true => Ok(cells),
        false => Err(content(format!("{rows} rows"), format!("{}/{column}", table.name()), cells.len())),
    }
}
