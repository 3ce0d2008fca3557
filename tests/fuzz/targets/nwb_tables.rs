//! What a recording holds: tables and series whose columns have any name, kind, value and length. The files themselves are well-formed:
//! damage within a file is the C library's to find, which this fuzzer does not see into.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_replay::h5::{self, Group, H5Error};
use ndt_replay::nwb;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Names that the reader looks for.
const NAMES: [&str; 14] = [
    "id",
    "spike_times",
    "spike_times_index",
    "heldout",
    "obs_intervals",
    "obs_intervals_index",
    "start_time",
    "stop_time",
    "split",
    "split_index",
    "data",
    "timestamps",
    "starting_time",
    "electrodes",
];

/// The recording. HDF5 wants a file that has a name; where the system has a folder in memory, it is there.
static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz");
    let folder = if memory.is_dir() { memory } else { &target };
    folder.join(format!("ndt-fuzz-{}.nwb", std::process::id()))
});

/// The bytes of an input, taken one after another; zeros at the end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> f64 {
        match self.next() {
            250 => f64::NAN,
            251 => f64::INFINITY,
            252 => -1e300,
            253 => f64::from(u32::MAX) * 1e12,
            small => f64::from(small) * 0.25,
        }
    }

    fn text(&mut self) -> String {
        let length = usize::from(self.next() % 8);
        (0..length).map(|_| char::from(self.next() % 127 + 1)).collect()
    }

    fn name(&mut self) -> String {
        match self.next() {
            at if usize::from(at) < NAMES.len() => NAMES[usize::from(at)].to_owned(),
            // Slashes would make groups.
            _ => format!("x{}", self.text().replace(['/', '.'], "_")),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    // What the C library refuses to write cannot be read either.
    if write(&PATH, &mut Bytes(input)).is_ok() {
        let refused = [nwb::read(&PATH).err(), nwb::tables(&PATH).err()];
        assert!(refused.iter().flatten().all(|refused| !refused.to_string().is_empty()));
    }
});

fn write(path: &Path, bytes: &mut Bytes) -> Result<(), H5Error> {
    let root = h5::create(path)?;
    let version = if bytes.next() == 255 { bytes.text() } else { "2.6.0".to_owned() };
    root.set_text("nwb_version", &version)?;
    root.write_text("identifier", "x")?;
    columns(&root.create_group("units")?, bytes)?;
    if bytes.next() & 1 == 0 {
        columns(&root.create_group("intervals")?.create_group("trials")?, bytes)?;
    }
    let behavior = root.create_group("processing")?.create_group("behavior")?;
    for at in 0..bytes.next() % 3 {
        let series = behavior.create_group(&format!("series {at}"))?;
        series.set_text("neurodata_type", "TimeSeries")?;
        columns(&series, bytes)?;
    }
    root.flush()
}

/// Writes up to seven columns, and attributes as a series has them.
fn columns(table: &Group, bytes: &mut Bytes) -> Result<(), H5Error> {
    for _ in 0..bytes.next() % 8 {
        let name = bytes.name();
        if table.has(&name) {
            continue;
        }
        let kind = bytes.next();
        let rows = usize::from(bytes.next() % 6);
        let mut numbers: Vec<f64> = (0..rows).map(|_| bytes.number()).collect();
        let integers: Vec<i64> = numbers.iter().map(|number| *number as i64).collect();
        let column = match kind % 8 {
            0 => table.write(&name, &numbers, &[rows])?,
            1 => table.write(&name, &integers, &[rows])?,
            2 => table.write(&name, &integers.iter().map(|at| *at as u64).collect::<Vec<_>>(), &[rows])?,
            3 => table.write_bools(&name, &integers.iter().map(|at| at % 2 == 0).collect::<Vec<_>>())?,
            4 => table.write_texts(&name, &(0..rows).map(|_| bytes.text()).collect::<Vec<_>>())?,
            5 => table.write_lists(&name, &(0..rows).map(|at| vec![3; at]).collect::<Vec<_>>())?,
            6 => {
                numbers.extend_from_within(..);
                table.write(&name, &numbers, &[rows, 2])?
            }
            _ => table.write(&name, &[bytes.number()], &[])?,
        };
        if bytes.next() & 1 == 0 {
            column.set_text("unit", &bytes.text())?;
            column.set_number("conversion", bytes.number())?;
            column.set_number("rate", bytes.number())?;
        }
    }
    Ok(())
}
