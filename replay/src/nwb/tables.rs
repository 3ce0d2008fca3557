//! What the tables of a recording hold: the columns of units and trials, with the kind of their cells.
//!
//! [`super::read()`] takes what programs use; this lists what there is, for people.

use super::problem::ReadProblem;
use super::reading::{ReadError, open};
use crate::h5::{Group, Kind};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// The columns of a recording's tables.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Tables {
    /// Columns of the unit table, in the order of their names.
    pub units: Vec<Column>,
    /// Columns of the trial table, in the order of their names; empty without trials.
    pub trials: Vec<Column>,
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Name of the column.
    pub name: String,
    /// Kind of a cell: `number`, `integer`, `boolean`, `text` or `other`; `ragged` before it where a cell is a list, and the
    /// shape behind it where a cell is an array.
    pub kind: String,
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.kind)
    }
}

/// Lists the columns of a recording's unit and trial tables, ids excluded.
///
/// # Errors
/// [`ReadError`] if the file is missing, damaged or not NWB 2.
pub fn tables(path: &Path) -> Result<Tables, ReadError> {
    read_tables(path).map_err(|problem| ReadError { path: path.to_owned(), problem })
}

fn read_tables(path: &Path) -> Result<Tables, ReadProblem> {
    let root = open(path)?;
    let of = |within: &Group, name: &str| match within.has(name) {
        true => columns(&within.group(name)?),
        false => Ok(Vec::new()),
    };
    let trials = if root.has("intervals") { of(&root.group("intervals")?, "trials")? } else { Vec::new() };
    Ok(Tables { units: of(&root, "units")?, trials })
}

fn columns(table: &Group) -> Result<Vec<Column>, ReadProblem> {
    let names: BTreeSet<String> = table.members()?.into_iter().collect();
    let mut columns = Vec::new();
    for name in &names {
        let is_index = name.strip_suffix("_index").is_some_and(|target| names.contains(target));
        if is_index || name == "id" || table.is_group(name)? {
            continue;
        }
        let stored = table.dataset(name)?;
        let kind = match stored.kind() {
            Kind::Float => "number",
            Kind::Int => "integer",
            Kind::Bool => "boolean",
            Kind::Text => "text",
            Kind::Other => "other",
        };
        let ragged = if names.contains(&format!("{name}_index")) { "ragged " } else { "" };
        let shape = stored.shape();
        let shape = shape.get(1..).filter(|cell| !cell.is_empty());
        let shape = shape.map_or_else(String::new, |cell| format!(" {cell:?}"));
        columns.push(Column { name: name.clone(), kind: format!("{ragged}{kind}{shape}") });
    }
    Ok(columns)
}
