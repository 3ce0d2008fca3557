//! Reads NWB 2.x into a [`Session`].
//!
//! The reader accepts what the benchmark's files and today's writers produce: index columns of any width, soft-linked time
//! stamps, booleans as enumerations or integers, series directly in `/processing/behavior` or inside containers. What a file
//! lacks stays empty (no trials, no behaviour, no column `heldout`). **A file that contradicts itself is refused**, with a
//! sentence that says what was expected and what was found. Observed time is what the units have in common ([`observed`]).

use super::behavior::behavior;
use super::columns::{column, ids, ragged, same_length, scalar_columns};
use super::observed::{self, Observed};
use super::options::UnitOptions;
use super::problem::{ReadProblem, content};
use super::unit_rows::{Rows, Taken};
use super::{counts, limits};
use crate::h5::{self, Group, H5Error};
use crate::session::{Clock, Identity, Interval, Session, Source, Trial, Unit, Value};
use ndt_protocol::destination::{Form, Kind as OutputKind};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Error of [`read`]: a file that could not be read, and why.
#[derive(Debug, thiserror::Error)]
#[error("read {}: {problem}", path.display())]
pub struct ReadError {
    /// Path of the file.
    pub path: PathBuf,
    /// What is wrong with the file.
    pub problem: ReadProblem,
}

/// A recording, for the rule about what a program may replace: an NWB file of any version.
pub const RECORDING: OutputKind = OutputKind {
    name: "a recording",
    form: Form::File,
    other: |path| {
        let is_nwb = h5::open(path).is_ok_and(|root| root.text_attribute("nwb_version").is_some());
        (!is_nwb).then(|| "a file that is no NWB recording".to_owned())
    },
};

/// Reads a recording. Times are seconds from the reference time of the file, behaviour is in SI units.
///
/// # Errors
/// [`ReadError`] if the file is missing, damaged or not NWB 2, has no units or no spikes, or contradicts itself.
pub fn read(path: &Path) -> Result<Session, ReadError> {
    read_units(path, &UnitOptions::default())
}

/// Reads a recording, with the units that the options select.
///
/// # Errors
/// As [`read`], and if the file lacks what the options ask for.
pub fn read_units(path: &Path, options: &UnitOptions) -> Result<Session, ReadError> {
    read_session(path, options).map_err(|problem| ReadError { path: path.to_owned(), problem })
}

/// Reads several recordings, each as [`read_units`] does.
///
/// # Errors
/// That of the first one that cannot be read.
pub fn read_all(paths: &[PathBuf], options: &UnitOptions) -> Result<Vec<Session>, ReadError> {
    paths.iter().map(|path| read_units(path, options)).collect()
}

fn read_session(path: &Path, options: &UnitOptions) -> Result<Session, ReadProblem> {
    let root = open(path)?;
    let identifier = root.dataset("identifier")?.texts()?.into_iter().next().unwrap_or_default();
    let Spiking { mut units, mut observed, bin_width_s, identity, mut notes, series } =
        spiking(&root, options)?;
    if units.iter().all(|unit| unit.spike_times.is_empty()) {
        return Err(ReadProblem::ZeroSpikes { units: units.len() });
    }
    let mut trials = match root.has("intervals") && root.group("intervals")?.has("trials") {
        true => trials(&root.group("intervals/trials")?, &mut notes)?,
        false => Vec::new(),
    };
    limits::check(&units, &observed, &trials)?;
    if let Some(width_s) = bin_width_s {
        counts::align(&mut trials, &observed, width_s, &mut notes);
    }
    observed::common(&mut units, &mut observed, &mut notes);
    let mut behavior = behavior(&root)?;
    behavior.retain(|found| Some(&found.name) != series.as_ref());
    let source = Source { identity, bin_width_s, clock: clock(&root), notes };
    Ok(Session { identifier, units, observed: observed.shared, trials, behavior, source })
}

/// The date of a recording; what cannot be read of it is empty, because decoding does not need it.
fn clock(root: &Group) -> Clock {
    let text = |name: &str| {
        let texts = root.dataset(name).and_then(|stored| stored.texts());
        texts.ok().and_then(|texts| texts.into_iter().next()).unwrap_or_default()
    };
    let session_start = text("session_start_time");
    let reference = text("timestamps_reference_time");
    let reference = if reference.is_empty() { session_start.clone() } else { reference };
    Clock { session_start, reference }
}

/// What a file holds of spikes.
struct Spiking {
    units: Vec<Unit>,
    observed: Observed,
    bin_width_s: Option<f64>,
    identity: Identity,
    notes: Vec<String>,
    /// Name of the series of counts, which is no behaviour.
    series: Option<String>,
}

fn spiking(root: &Group, options: &UnitOptions) -> Result<Spiking, ReadProblem> {
    if root.has("units") && root.group("units")?.has("spike_times") {
        let table = root.group("units")?;
        let rows = Rows::of_units(root)?;
        if rows.ids.is_empty() {
            return Err(ReadProblem::ZeroUnits);
        }
        let taken = rows.taken(options, &table.name())?;
        let units = units(&table, &taken, rows.ids.len())?;
        let observed = Observed::of_units(&table, &taken.rows, rows.ids.len())?;
        let (identity, notes) = (taken.identity, taken.notes);
        return Ok(Spiking { units, observed, bin_width_s: None, identity, notes, series: None });
    }
    if let Some(mut events) = counts::events(root)? {
        let taken = events.rows.taken(options, &events.path)?;
        let rows = taken.rows.iter().zip(&taken.ids).zip(&taken.heldout);
        let unit = |((&row, &id), &heldout): ((&usize, &i64), &bool)| Unit {
            id,
            heldout,
            spike_times: std::mem::take(&mut events.spike_times[row]),
        };
        let units = rows.map(unit).collect();
        let mut notes = events.notes;
        notes.extend(taken.notes);
        return Ok(Spiking {
            units,
            observed: Observed::shared(events.observed),
            bin_width_s: events.bin_width_s,
            identity: taken.identity,
            notes,
            series: Some(events.name),
        });
    }
    match root.has("units") {
        false => Err(ReadProblem::NoUnits),
        true if ids(&root.group("units")?)?.is_empty() => Err(ReadProblem::ZeroUnits),
        true => Err(content("a column spike_times", "/units", "none")),
    }
}

/// Opens the file. The error says whether the file is missing, has another format, or is damaged.
pub(super) fn open(path: &Path) -> Result<Group, ReadProblem> {
    const SIGNATURE: [u8; 8] = *b"\x89HDF\r\n\x1a\n";
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(ReadProblem::File)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, 8), &mut start).map_err(ReadProblem::File)?;
    let root = h5::open(path).map_err(|error| match error {
        H5Error::Library { reason, .. } if start == SIGNATURE => ReadProblem::Damaged { reason },
        _ => ReadProblem::NotHdf5,
    })?;
    match root.text_attribute("nwb_version") {
        Some(version) if version.trim_start_matches("NWB-").starts_with("2.") => Ok(root),
        Some(version) => Err(ReadProblem::NotNwb { found: format!("NWB \"{version}\"") }),
        None => Err(ReadProblem::NotNwb { found: "HDF5 without the attribute nwb_version".to_owned() }),
    }
}

fn units(table: &Group, taken: &Taken, rows: usize) -> Result<Vec<Unit>, ReadProblem> {
    let times = table.dataset("spike_times")?;
    let ranges = ragged(table, "spike_times", rows, times.elements_stored()?)?;
    let times = times.numbers::<f64>()?;
    if let Some(bad) = times.iter().position(|time| !time.is_finite()) {
        let found = format!("{} at row {bad}", times[bad]);
        return Err(content("finite spike times", format!("{}/spike_times", table.name()), found));
    }
    let unit = |((&id, &heldout), &row): ((&i64, &bool), &usize)| {
        let mut spike_times = times[ranges[row].clone()].to_vec();
        // Concatenated recordings are not always sorted within a unit.
        spike_times.sort_unstable_by(f64::total_cmp);
        Unit { id, heldout, spike_times }
    };
    Ok(taken.ids.iter().zip(&taken.heldout).zip(&taken.rows).map(unit).collect())
}

/// Reads the trials. One whose start or end is not a number is left out, and `notes` say so.
fn trials(table: &Group, notes: &mut Vec<String>) -> Result<Vec<Trial>, ReadProblem> {
    let ids = ids(table)?;
    let time = |name: &str| -> Result<Vec<f64>, ReadProblem> {
        if !table.has(name) {
            return Err(content(format!("a column {name}"), table.name(), "none"));
        }
        same_length(table, name, table.dataset(name)?.numbers::<f64>()?, ids.len())
    };
    let (start, stop) = (time("start_time")?, time("stop_time")?);
    for trial in 0..ids.len() {
        if start[trial] > stop[trial] {
            let found = format!("{} to {} in trial {}", start[trial], stop[trial], ids[trial]);
            return Err(content("trials that stop after they start", table.name(), found));
        }
    }
    let mut columns = vec![BTreeMap::new(); ids.len()];
    let mut splits: Vec<Option<String>> = vec![None; ids.len()];
    for name in scalar_columns(table)? {
        for (trial, value) in column(table, &name, ids.len())?.into_iter().flatten().enumerate() {
            match value {
                Value::Text(split) if name == "split" => splits[trial] = Some(split),
                value => {
                    columns[trial].insert(name.clone(), value);
                }
            }
        }
    }
    let rows = ids.into_iter().zip(start.into_iter().zip(stop)).zip(splits.into_iter().zip(columns));
    let trial = |((id, (start, stop)), (split, columns))| {
        let interval = Interval { start, stop };
        Trial { id, interval, split, columns }
    };
    let mut trials: Vec<Trial> = rows.map(trial).collect();
    let all = trials.len();
    trials.retain(|trial| trial.interval.start.is_finite() && trial.interval.stop.is_finite());
    if trials.len() < all {
        let left_out = all - trials.len();
        notes.push(format!(
            "{left_out} of {all} trials have a start or an end that is not a number: they are left out"
        ));
    }
    Ok(trials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_that_claims_more_than_it_stores_is_refused_and_not_allocated() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |shape: &[usize], claims: &dyn Fn(&Group, &[usize])| {
            let path = folder.path().join("claims.nwb");
            let root = h5::create(&path).unwrap();
            root.set_text("nwb_version", "2.6.0").unwrap();
            root.write_text("identifier", "x").unwrap();
            let units = root.create_group("units").unwrap();
            units.write("id", &[7i64], &[1]).unwrap();
            units.write("spike_times_index", &[2u64], &[1]).unwrap();
            claims(&root, shape);
            if !units.has("spike_times") {
                units.write("spike_times", &[0.1, 0.2], &[2]).unwrap();
            }
            drop((root, units));
            read(&path).unwrap_err().problem.to_string()
        };
        let times =
            |root: &Group, shape: &[usize]| h5::claim(&root.group("units").unwrap(), "spike_times", shape);
        let series = |root: &Group, shape: &[usize]| {
            let behavior = root.create_group("processing").unwrap().create_group("behavior").unwrap();
            let series = behavior.create_group("hand_vel").unwrap();
            h5::claim(&series, "data", shape);
            series.write("starting_time", &[0.0], &[]).unwrap().set_number("rate", 1000.0).unwrap();
        };
        for (shape, expected) in [
            (&[1usize << 40][..], "expected at most 2147483648 elements in "),
            (&[1 << 40, 16], "expected at most 2147483648 elements in "),
            (&[1 << 30], "to store its 1073741824 elements, found 0 bytes for them"),
        ] {
            let found = [refused(shape, &times), refused(shape, &series)];
            assert!(found.iter().all(|sentence| sentence.contains(expected)), "{found:?}");
        }
    }
}
