//! Writes a [`Session`] as NWB 2, in the layout of the benchmark's MC_Maze files.
//!
//! The files open in pynwb and pass its validator. They hold the obligatory objects of the root; units with `heldout`, spike
//! times, observation intervals and electrodes; the trial table with every column; and behaviour directly in
//! `/processing/behavior`, in millimetres with a conversion of 1e-3 and explicit time stamps. **Equal sessions give equal
//! files**: object ids are drawn from a seed that follows from the session's identifier, and no clock is read. A file is
//! written under another name and then renamed, so that a reader never sees a part of it.

use super::objects::{ELECTRODES, Objects, RootText, SeriesText};
use crate::h5::{self, Dataset, Group, H5Error};
use crate::session::{Series, Session, Trial, Value};
use ndt_protocol::files::{self, FileError};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Start of the session: the standard demands a date, and a session that was made up has none.
const SESSION_START: &str = "2000-01-01T00:00:00+00:00";

/// Why a session could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system refused to create or rename the file.
    #[error("write {0}")]
    File(#[from] FileError),
    /// HDF5 could not write a part of the file.
    #[error("write {}: {error}", path.display())]
    H5 {
        /// Path of the file.
        path: PathBuf,
        /// HDF5's error.
        error: H5Error,
    },
    /// A trial column holds values of more than one kind, or lacks values although its kind has no way to store a missing
    /// value.
    #[error("expected values of one kind in the trial column {column}, found {found}")]
    Column {
        /// Name of the column.
        column: String,
        /// Kinds of value that the column holds.
        found: String,
    },
    /// The number of values in a series is not its number of time stamps times its dimensions.
    #[error("expected {expected} values in the series {series}, found {found}")]
    Series {
        /// Name of the series.
        series: String,
        /// Number of time stamps times dimensions.
        expected: usize,
        /// Number of values in the series.
        found: usize,
    },
}

/// Writes `session` as NWB to `path`, and replaces a file that is already there.
///
/// # Errors
/// [`WriteError`]; a file that was at `path` is then unchanged, and no temporary file is left.
pub fn write(session: &Session, path: &Path) -> Result<(), WriteError> {
    check(session)?;
    let mut layout = Layout::of(session);
    files::fill_file(path, |part| {
        layout.file(part).map_err(|error| WriteError::H5 { path: path.to_owned(), error })
    })
}

/// Refuses a session that does not fit the layout, before any file is touched.
fn check(session: &Session) -> Result<(), WriteError> {
    for series in &session.behavior {
        let (expected, found) = (series.timestamps.len() * series.dims, series.data.len());
        if expected != found {
            return Err(WriteError::Series { series: series.name.clone(), expected, found });
        }
    }
    for name in column_names(&session.trials) {
        let kinds: BTreeSet<&str> =
            session.trials.iter().map(|trial| kind(trial.columns.get(&name))).collect();
        let can_lack_values = kinds.contains("float") || kinds.contains("text");
        let one_kind = kinds.len() == 1 || (kinds.len() == 2 && kinds.contains("none") && can_lack_values);
        if !one_kind {
            let found = kinds.into_iter().collect::<Vec<_>>().join(", ");
            return Err(WriteError::Column { column: name, found });
        }
    }
    Ok(())
}

fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None => "none",
        Some(Value::Float(_)) => "float",
        Some(Value::Int(_)) => "int",
        Some(Value::Bool(_)) => "bool",
        Some(Value::Text(_)) => "text",
    }
}

fn column_names(trials: &[Trial]) -> Vec<String> {
    let names: BTreeSet<&String> = trials.iter().flat_map(|trial| trial.columns.keys()).collect();
    names.into_iter().cloned().collect()
}

/// Writes one session into one file.
struct Layout<'a> {
    session: &'a Session,
    objects: Objects,
}

impl<'a> Layout<'a> {
    fn of(session: &'a Session) -> Self {
        Layout { session, objects: Objects::of(&session.identifier) }
    }

    fn file(&mut self, path: &Path) -> Result<(), H5Error> {
        let root = h5::create(path)?;
        self.objects.root(
            &root,
            &RootText {
                identifier: &self.session.identifier,
                description: "delayed reaches: units, trials and hand kinematics",
                session_start: SESSION_START,
                reference: SESSION_START,
                created: SESSION_START,
            },
        )?;
        let rows: Vec<i64> = (0..self.session.units.len() as i64).collect();
        self.objects.electrodes(&root, &rows, "motor cortex")?;
        self.units(&root.create_group("units")?)?;
        let intervals = root.create_group("intervals")?;
        if !self.session.trials.is_empty() {
            self.trials(&intervals.create_group("trials")?)?;
        }
        let processing = root.create_group("processing")?;
        if !self.session.behavior.is_empty() {
            self.behavior(&processing.create_group("behavior")?)?;
        }
        root.flush()
    }

    fn units(&mut self, table: &Group) -> Result<(), H5Error> {
        let units = &self.session.units;
        self.objects.table(table, "core", "Units", "sorted units")?;
        let mut names = vec!["heldout", "spike_times"];
        names.extend((!self.session.observed.is_empty()).then_some("obs_intervals"));
        names.push("electrodes");
        table.set_texts("colnames", &names)?;
        self.objects.row_ids(table, &units.iter().map(|unit| unit.id).collect::<Vec<_>>())?;
        let heldout: Vec<bool> = units.iter().map(|unit| unit.heldout).collect();
        self.objects
            .column(table.write_bools("heldout", &heldout)?, "whether the unit is predicted, never shown")?;

        let times: Vec<f64> = units.iter().flat_map(|unit| unit.spike_times.iter().copied()).collect();
        let spikes = table.write("spike_times", &times, &[times.len()])?;
        self.objects.column(spikes, "the spike times of each unit, s")?;
        let ends = units.iter().scan(0, |end, unit| {
            *end += unit.spike_times.len() as u64;
            Some(*end)
        });
        self.objects.index(table, "spike_times", &ends.collect::<Vec<_>>())?;

        if !self.session.observed.is_empty() {
            let edges: Vec<f64> = self.session.observed.iter().flat_map(|at| [at.start, at.stop]).collect();
            let each = self.session.observed.len();
            let stored =
                table.write("obs_intervals", &edges.repeat(units.len()), &[each * units.len(), 2])?;
            self.objects.column(stored, "when each unit was observed, s")?;
            self.objects.index(
                table,
                "obs_intervals",
                &(1..=units.len()).map(|unit| (unit * each) as u64).collect::<Vec<_>>(),
            )?;
        }

        let rows: Vec<i64> = (0..units.len() as i64).collect();
        let electrodes = table.write("electrodes", &rows, &[rows.len()])?;
        electrodes.set_reference("table", ELECTRODES)?;
        self.objects.described(
            &electrodes,
            "DynamicTableRegion",
            "the electrode that the unit was recorded on",
        )?;
        self.objects.index(table, "electrodes", &(1..=units.len() as u64).collect::<Vec<_>>())
    }

    fn trials(&mut self, table: &Group) -> Result<(), H5Error> {
        let trials = &self.session.trials;
        self.objects.table(table, "core", "TimeIntervals", "trials")?;
        let others = column_names(trials);
        let has_split = trials.iter().any(|trial| trial.split.is_some());
        let mut names = vec!["start_time", "stop_time"];
        names.extend(others.iter().map(String::as_str));
        names.extend(has_split.then_some("split"));
        table.set_texts("colnames", &names)?;
        self.objects.row_ids(table, &trials.iter().map(|trial| trial.id).collect::<Vec<_>>())?;
        let start: Vec<f64> = trials.iter().map(|trial| trial.interval.start).collect();
        let stop: Vec<f64> = trials.iter().map(|trial| trial.interval.stop).collect();
        self.objects.column(table.write("start_time", &start, &[start.len()])?, "start of the trial, s")?;
        self.objects.column(table.write("stop_time", &stop, &[stop.len()])?, "end of the trial, s")?;
        for name in &others {
            let cells: Vec<Option<&Value>> = trials.iter().map(|trial| trial.columns.get(name)).collect();
            self.objects.column(write_cells(table, name, &cells)?, meaning(name))?;
        }
        if has_split {
            let split: Vec<&str> =
                trials.iter().map(|trial| trial.split.as_deref().unwrap_or("none")).collect();
            self.objects.column(table.write_texts("split", &split)?, meaning("split"))?;
        }
        Ok(())
    }

    fn behavior(&mut self, module: &Group) -> Result<(), H5Error> {
        self.objects.typed(module, "core", "ProcessingModule")?;
        module.set_text("description", "kinematics")?;
        for series in &self.session.behavior {
            // The reader may have joined the names of a container and a series with `/`, which would be a path here.
            self.series(&module.create_group(&series.name.replace('/', "_"))?, series)?;
        }
        Ok(())
    }

    fn series(&mut self, group: &Group, series: &Series) -> Result<(), H5Error> {
        let axes = ["x", "y", "z"].get(..series.dims).map(|axes| format!("columns=[{}]", axes.join(",")));
        let is_length = series.unit == "m" || series.unit == "m/s";
        let (conversion, per_unit) = if is_length { (1e-3, 1e3) } else { (1.0, 1.0) };
        let stored: Vec<f64> = series.data.iter().map(|value| value * per_unit).collect();
        let shape = [series.timestamps.len(), series.dims];
        let written = SeriesText {
            description: &format!("{} in {}", series.name, series.unit),
            comments: axes.as_deref().unwrap_or("no comments"),
            unit: &series.unit,
            conversion,
        };
        let data = group.write("data", &stored, if series.dims == 1 { &shape[..1] } else { &shape[..] })?;
        self.objects.time_series(group, &data, &written, &series.timestamps)
    }
}

/// Writes a column whose kind is that of its first value; [`check`] has made sure that all values are of one kind.
fn write_cells(table: &Group, name: &str, cells: &[Option<&Value>]) -> Result<Dataset, H5Error> {
    let rows = [cells.len()];
    match cells.iter().flatten().next() {
        Some(Value::Int(_)) => {
            let cell = |cell: &Option<&Value>| if let Some(Value::Int(value)) = cell { *value } else { 0 };
            table.write(name, &cells.iter().map(cell).collect::<Vec<i64>>(), &rows)
        }
        Some(Value::Bool(_)) => {
            let cell = |cell: &Option<&Value>| matches!(cell, Some(Value::Bool(true)));
            table.write_bools(name, &cells.iter().map(cell).collect::<Vec<bool>>())
        }
        Some(Value::Text(_)) => {
            let cell = |cell: &Option<&'_ Value>| match cell {
                Some(Value::Text(text)) => text.clone(),
                _ => String::new(),
            };
            table.write_texts(name, &cells.iter().map(cell).collect::<Vec<String>>())
        }
        _ => {
            let cell =
                |cell: &Option<&Value>| if let Some(Value::Float(value)) = cell { *value } else { f64::NAN };
            table.write(name, &cells.iter().map(cell).collect::<Vec<f64>>(), &rows)
        }
    }
}

/// Description of a column in the benchmark's trial table.
fn meaning(column: &str) -> &'static str {
    match column {
        "target_on_time" => "when the target appeared, s",
        "go_cue_time" => "when the go cue was given, s",
        "move_onset_time" => "when the hand began to move, s",
        "rt" => "reaction time, go cue to movement onset, ms",
        "delay" => "target to go cue, ms",
        "trial_type" => "index of the maze within the session",
        "trial_version" => "0: no barrier, 1: a barrier to reach around",
        "maze_id" => "identifier of the maze",
        "success" => "whether the target was reached",
        "split" => "train, val, test or none",
        _ => "a column of the recording",
    }
}
