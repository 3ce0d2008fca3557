//! The rows of the unit table: what is written of each unit besides its spikes, which of them are taken, and what identifies them.

use super::columns::{column, ids, ragged, scalar_columns};
use super::options::UnitOptions;
use super::problem::{ReadProblem, content};
use crate::h5::{Group, Kind};
use crate::session::{Identity, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Path of the table of electrodes.
const ELECTRODES: &str = "general/extracellular_ephys/electrodes";

/// Rows that could be units: units of the table, or channels of counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    /// Id of each row in its table.
    pub ids: Vec<i64>,
    /// Whether each row is marked as held out.
    pub heldout: Vec<bool>,
    /// Values of each row by column, those of its electrode too.
    pub columns: Vec<BTreeMap<String, Value>>,
    /// Id of the electrode of each row, where it is known.
    pub electrodes: Vec<Option<i64>>,
}

/// The rows that are taken, in the order of the table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Taken {
    /// Number of each row in its table, from 0.
    pub rows: Vec<usize>,
    /// Id of each row.
    pub ids: Vec<i64>,
    /// Whether each row is held out.
    pub heldout: Vec<bool>,
    /// What makes a unit the same unit in another recording.
    pub identity: Identity,
    /// What was decided, one sentence each.
    pub notes: Vec<String>,
}

impl Rows {
    /// The rows of the unit table.
    pub fn of_units(root: &Group) -> Result<Rows, ReadProblem> {
        let table = root.group("units")?;
        let ids = ids(&table)?;
        let columns = cells_of(&table, ids.len())?;
        let heldout = match table.has("heldout") {
            true => {
                super::columns::same_length(&table, "heldout", table.dataset("heldout")?.bools()?, ids.len())?
            }
            false => vec![false; ids.len()],
        };
        let mut rows = Rows { electrodes: vec![None; ids.len()], ids, heldout, columns };
        if let Some(of_unit) = electrodes_of(&table, rows.ids.len()) {
            rows.join(&Rows::of_electrodes(root), &of_unit);
        }
        Ok(rows)
    }

    /// The rows of the table of electrodes; none if the recording has no such table.
    pub fn of_electrodes(root: &Group) -> Rows {
        let Some(table) = has_path(root, ELECTRODES).then(|| root.group(ELECTRODES).ok()).flatten() else {
            return Rows::default();
        };
        let Ok(ids) = ids(&table) else { return Rows::default() };
        let Ok(columns) = cells_of(&table, ids.len()) else { return Rows::default() };
        let electrodes = ids.iter().map(|id| Some(*id)).collect();
        Rows { heldout: vec![false; ids.len()], electrodes, ids, columns }
    }

    /// Rows that are only counted, from 0.
    pub fn counted(count: usize) -> Rows {
        Rows {
            ids: (0..count as i64).collect(),
            heldout: vec![false; count],
            columns: vec![BTreeMap::new(); count],
            electrodes: vec![None; count],
        }
    }

    /// Adds what is known of the electrode of each row; `of_row` is the number of its electrode's row.
    pub fn join(&mut self, electrodes: &Rows, of_row: &[Option<usize>]) {
        for (row, at) in of_row.iter().enumerate().take(self.ids.len()) {
            let Some(at) = at.filter(|at| *at < electrodes.ids.len()) else { continue };
            self.electrodes[row] = Some(electrodes.ids[at]);
            for (name, cell) in &electrodes.columns[at] {
                self.columns[row].entry(name.clone()).or_insert_with(|| cell.clone());
            }
            self.columns[row].entry("electrode_group".to_owned()).or_insert_with(|| {
                electrodes.columns[at].get("group_name").cloned().unwrap_or(Value::Int(electrodes.ids[at]))
            });
            self.columns[row].entry("electrode".to_owned()).or_insert(Value::Int(electrodes.ids[at]));
        }
    }

    /// Takes the rows that the options ask for.
    pub fn taken(&self, options: &UnitOptions, table: &str) -> Result<Taken, ReadProblem> {
        let mut notes = Vec::new();
        let rows = self.selected(options, table)?;
        if rows.len() < self.ids.len() {
            let conditions: Vec<String> = options.conditions.iter().map(ToString::to_string).collect();
            notes.push(format!(
                "{} of {} units have {}: the others are left out",
                rows.len(),
                self.ids.len(),
                conditions.join(" and ")
            ));
        }
        let (ids, identity) = self.identified(&rows, options, table, &mut notes)?;
        let mut seen = BTreeSet::new();
        if let Some(twice) = ids.iter().find(|&&id| !seen.insert(id)) {
            let column = options.unit_id.as_deref().unwrap_or("id");
            return Err(content("unique unit ids", format!("{table}/{column}"), format!("{twice} twice")));
        }
        let heldout = match options.held_out {
            Some(held_out) => held_out.mark(&ids, options.held_out_seed),
            None => rows.iter().map(|&row| self.heldout[row]).collect(),
        };
        Ok(Taken { rows, ids, heldout, identity, notes })
    }

    fn selected(&self, options: &UnitOptions, table: &str) -> Result<Vec<usize>, ReadProblem> {
        let mut rows: Vec<usize> = (0..self.ids.len()).collect();
        for condition in &options.conditions {
            let cell = |row: &usize| match condition.column.as_str() {
                "id" => Some(Value::Int(self.ids[*row])),
                name => self.columns[*row].get(name).cloned(),
            };
            let there: BTreeSet<String> =
                (0..self.ids.len()).filter_map(|row| cell(&row)).map(|cell| cell.to_string()).collect();
            if there.is_empty() {
                return Err(content(
                    format!("a column \"{}\" to select units by", condition.column),
                    table,
                    self.names(),
                ));
            }
            let had: BTreeSet<String> = rows.iter().filter_map(cell).map(|cell| cell.to_string()).collect();
            rows.retain(|row| cell(row).is_some_and(|cell| condition.holds(&cell)));
            if rows.is_empty() {
                return Err(content(format!("units with {condition}"), table, few(&had)));
            }
        }
        Ok(rows)
    }

    /// Ids of these rows, and what they are worth in another recording.
    fn identified(
        &self,
        rows: &[usize],
        options: &UnitOptions,
        table: &str,
        notes: &mut Vec<String>,
    ) -> Result<(Vec<i64>, Identity), ReadProblem> {
        if let Some(name) = &options.unit_id {
            let whole = |row: &usize| match self.columns[*row].get(name)? {
                Value::Int(id) => Some(*id),
                Value::Float(id) if id.fract() == 0.0 => Some(*id as i64),
                Value::Text(text) => text.trim().parse().ok(),
                _ => None,
            };
            let Some(ids) = rows.iter().map(whole).collect::<Option<Vec<i64>>>() else {
                let found = if rows.iter().any(|row| self.columns[*row].contains_key(name)) {
                    "other values in it".to_owned()
                } else {
                    self.names()
                };
                return Err(content(format!("a column \"{name}\" of whole numbers"), table, found));
            };
            return Ok((ids, Identity::Column(name.clone())));
        }
        let ids: Vec<i64> = rows.iter().map(|&row| self.ids[row]).collect();
        if !number_the_rows(&self.ids) {
            return Ok((ids, Identity::Ids));
        }
        if options.same_units {
            return Ok((ids, Identity::Stated));
        }
        let electrodes: Option<Vec<i64>> = rows.iter().map(|&row| self.electrodes[row]).collect();
        let own = electrodes
            .filter(|electrodes| electrodes.iter().collect::<BTreeSet<_>>().len() == electrodes.len());
        match own {
            Some(electrodes) => {
                if electrodes != ids {
                    notes.push(format!(
                        "the ids of {table} only number its rows: each unit is known by its electrode"
                    ));
                }
                Ok((electrodes, Identity::Electrodes))
            }
            None => Ok((ids, Identity::Rows)),
        }
    }

    /// The names of all columns, in words.
    fn names(&self) -> String {
        let names: BTreeSet<String> = self.columns.iter().flat_map(|row| row.keys().cloned()).collect();
        if names.is_empty() {
            "no column of one value for each unit".to_owned()
        } else {
            format!("the columns {}", few(&names))
        }
    }
}

/// The cells of each row of a table by their columns. A column that cannot be read is one that nothing is selected by.
fn cells_of(table: &Group, rows: usize) -> Result<Vec<BTreeMap<String, Value>>, ReadProblem> {
    let mut columns = vec![BTreeMap::new(); rows];
    for name in scalar_columns(table)? {
        let Ok(Some(cells)) = column(table, &name, rows) else { continue };
        cells.into_iter().zip(&mut columns).for_each(|(cell, row)| drop(row.insert(name.clone(), cell)));
    }
    Ok(columns)
}

/// Whether ids are 0, 1, 2, ... or 1, 2, 3, ..., as a table has them that nobody gave ids to.
pub(super) fn number_the_rows(ids: &[i64]) -> bool {
    let Some(&first) = ids.first() else { return false };
    (0..=1).contains(&first) && ids.iter().zip(first..).all(|(id, expected)| *id == expected)
}

/// Up to 12 names in words.
fn few(names: &BTreeSet<String>) -> String {
    const SHOWN: usize = 12;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("\"{name}\"")).collect();
    let more = names.len().saturating_sub(SHOWN);
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// Row of the first electrode of each unit; `None` without such a column.
fn electrodes_of(table: &Group, rows: usize) -> Option<Vec<Option<usize>>> {
    let name = ["electrodes", "electrode"].into_iter().find(|name| table.has(name))?;
    let stored = table.dataset(name).ok()?;
    if stored.kind() != Kind::Int {
        return None;
    }
    let cells = stored.numbers::<i64>().ok()?;
    let cell = |at: usize| usize::try_from(*cells.get(at)?).ok();
    if !table.has(&format!("{name}_index")) {
        return (cells.len() == rows).then(|| (0..rows).map(cell).collect());
    }
    let ranges = ragged(table, name, rows, cells.len()).ok()?;
    Some(ranges.into_iter().map(|range| if range.is_empty() { None } else { cell(range.start) }).collect())
}

/// Whether there is something at a path: each of its groups is asked for.
pub(super) fn has_path(root: &Group, path: &str) -> bool {
    let mut within = root.clone();
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        if !within.has(name) {
            return false;
        }
        if names.peek().is_some() {
            match within.group(name) {
                Ok(group) => within = group,
                Err(_) => return false,
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let mut rows = Rows::counted(4);
        for (row, (place, shank)) in [("M1", 1), ("M1", 2), ("PMd", 1), ("PMd", 2)].into_iter().enumerate() {
            rows.columns[row].insert("location".to_owned(), Value::Text(place.to_owned()));
            rows.columns[row].insert("shank".to_owned(), Value::Int(shank));
        }
        rows
    }

    fn options(conditions: &[&str]) -> UnitOptions {
        let conditions = conditions.iter().map(|condition| condition.parse().unwrap()).collect();
        UnitOptions { conditions, ..UnitOptions::default() }
    }

    #[test]
    fn all_conditions_must_hold_and_what_is_missing_is_answered_with_what_is_there() {
        let taken = rows().taken(&options(&["location=PMd", "shank=2"]), "/units").unwrap();
        assert_eq!((taken.rows, taken.ids), (vec![3], vec![3]));
        let refused =
            |conditions: &[&str]| rows().taken(&options(conditions), "/units").unwrap_err().to_string();
        assert_eq!(
            refused(&["area=M1"]),
            "expected a column \"area\" to select units by in /units, found the columns \"location\", \"shank\""
        );
        assert_eq!(
            refused(&["location=S1"]),
            "expected units with location=S1 in /units, found \"M1\", \"PMd\""
        );
    }

    #[test]
    fn row_numbers_are_no_identity_and_electrodes_are_one_where_each_unit_has_its_own() {
        let identity = |rows: &Rows, options: &UnitOptions| rows.taken(options, "/units").unwrap().identity;
        let usual = UnitOptions::default();
        let mut rows = rows();
        assert_eq!(identity(&rows, &usual), Identity::Rows);
        assert_eq!(identity(&rows, &UnitOptions { same_units: true, ..usual.clone() }), Identity::Stated);
        rows.electrodes = vec![Some(7), Some(5), Some(5), Some(9)];
        assert_eq!(identity(&rows, &usual), Identity::Rows);
        rows.electrodes[2] = Some(6);
        let taken = rows.taken(&usual, "/units").unwrap();
        assert_eq!((taken.identity, taken.ids), (Identity::Electrodes, vec![7, 5, 6, 9]));
        rows.ids = vec![11, 12, 13, 14];
        assert_eq!(identity(&rows, &usual), Identity::Ids);
        let by = |name: &str| UnitOptions { unit_id: Some(name.to_owned()), ..UnitOptions::default() };
        let twice = rows.taken(&by("shank"), "/units").unwrap_err().to_string();
        assert_eq!(twice, "expected unique unit ids in /units/shank, found 1 twice");
        let text = rows.taken(&by("location"), "/units").unwrap_err().to_string();
        assert_eq!(
            text,
            "expected a column \"location\" of whole numbers in /units, found other values in it"
        );
    }
}
