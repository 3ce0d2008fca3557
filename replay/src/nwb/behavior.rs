//! Reads behaviour of an NWB file into [`Series`] in SI units: every series of numbers in `/processing/behavior`, and those of other
//! processing modules and of `/acquisition` that can be behaviour.
//!
//! The standard says that `data * conversion + offset` is in `unit`. Writers differ: the benchmark stores millimetres with a
//! conversion of 1e-3 and the unit metres, others store millimetres with a conversion of 1 and the unit mm. **Both are read
//! as metres**: first the standard's rule is applied, then units such as mm or cm/s are converted into SI units ([`UNITS`]).
//! Values in any other unit are kept as recorded.

use super::problem::{ReadProblem, content};
use crate::h5::{Dataset, Group, Kind};
use crate::session::Series;

/// NWB types whose data are marks, text or pictures, and no samples of behaviour.
const NOT_SAMPLES: [&str; 5] =
    ["AnnotationSeries", "ImageSeries", "IndexSeries", "IntervalSeries", "OpticalSeries"];

/// NWB types whose data are recordings of the brain and of no behaviour, wherever they are stored.
const OF_THE_BRAIN: [&str; 7] = [
    "CurrentClampSeries",
    "ElectricalSeries",
    "FeatureExtraction",
    "OnePhotonSeries",
    "RoiResponseSeries",
    "SpikeEventSeries",
    "TwoPhotonSeries",
];

/// Most columns, and most numbers, of a series outside of `/processing/behavior` that is read: those of a hand or of many muscles. More
/// are those of a probe or a screen.
const ELSEWHERE_MAX: [usize; 2] = [64, 1 << 26];

/// Number of nested containers that are searched: `Position` and similar types nest once, extensions nest twice.
const DEPTH_MAX: usize = 3;

/// Reads every series of behaviour: those of `/processing/behavior` first, then those of other modules and of `/acquisition`. If a
/// name is already taken, the later series is called `container/name`. A series outside of `/processing/behavior` that cannot be read
/// is left out: it need not be behaviour.
pub(super) fn behavior(root: &Group) -> Result<Vec<Series>, ReadProblem> {
    let mut found = Vec::new();
    let has_modules = root.has("processing");
    if has_modules && root.group("processing")?.has("behavior") {
        collect(&root.group("processing/behavior")?, "", DEPTH_MAX, true, &mut found)?;
    }
    if has_modules {
        let modules = root.group("processing")?;
        for module in modules.members()?.iter().filter(|name| *name != "behavior") {
            collect(&modules.group(module)?, module, DEPTH_MAX, false, &mut found)?;
        }
    }
    if root.has("acquisition") {
        collect(&root.group("acquisition")?, "acquisition", DEPTH_MAX, false, &mut found)?;
    }
    Ok(found)
}

/// Whether a series outside of `/processing/behavior` can be behaviour.
fn can_be_behavior(series: &Group, kind: &str) -> bool {
    let [columns_max, numbers_max] = ELSEWHERE_MAX;
    let shape = series.dataset("data").map(|data| data.shape()).unwrap_or_default();
    let numbers = shape.iter().try_fold(1usize, |all, length| all.checked_mul(*length));
    !OF_THE_BRAIN.contains(&kind)
        && shape.get(1).is_none_or(|columns| *columns <= columns_max)
        && numbers.is_some_and(|numbers| numbers <= numbers_max)
}

fn collect(
    within: &Group,
    container: &str,
    depth: usize,
    is_behavior: bool,
    found: &mut Vec<Series>,
) -> Result<(), ReadProblem> {
    for name in within.members()? {
        if !within.is_group(&name)? {
            continue;
        }
        let member = within.group(&name)?;
        let kind = member.text_attribute("neurodata_type").unwrap_or_default();
        if kind == "DynamicTable" || kind == "TimeIntervals" || NOT_SAMPLES.contains(&kind.as_str()) {
            continue;
        }
        if !member.has("data") {
            if depth > 0 {
                collect(&member, &name, depth - 1, is_behavior, found)?;
            }
            continue;
        }
        if !is_behavior && !can_be_behavior(&member, &kind) {
            continue;
        }
        let is_taken = found.iter().any(|series| series.name == name);
        let name = if is_taken && !container.is_empty() { format!("{container}/{name}") } else { name };
        match series(&member, name) {
            Err(_) if !is_behavior => {}
            read => found.extend(read?),
        }
    }
    Ok(())
}

/// Reads one series; `None` if its data are not numbers in one or two dimensions.
fn series(group: &Group, name: String) -> Result<Option<Series>, ReadProblem> {
    let stored = group.dataset("data")?;
    let (samples, dims) = match stored.shape()[..] {
        [samples] => (samples, 1),
        [samples, dims] => (samples, dims),
        _ => return Ok(None),
    };
    if !matches!(stored.kind(), Kind::Float | Kind::Int) {
        return Ok(None);
    }
    stored.elements_stored()?;
    let timestamps = timestamps(group, samples)?;
    let Scale { unit, converted_from, factor, offset } = scale(&stored)?;
    let data = stored.numbers::<f64>()?.into_iter().map(|value| value * factor + offset).collect();
    Ok(Some(in_order(Series { name, unit, converted_from, dims, timestamps, data })))
}

/// How stored numbers become values in SI units.
struct Scale {
    /// Unit of the values.
    unit: String,
    /// The recorded unit, if it is converted.
    converted_from: Option<String>,
    factor: f64,
    offset: f64,
}

/// Returns the SI unit of a series, and the factor and offset that convert stored numbers into it.
fn scale(stored: &Dataset) -> Result<Scale, ReadProblem> {
    let recorded = stored.text_attribute("unit").unwrap_or_default();
    let conversion = stored.number_attribute("conversion").unwrap_or(1.0);
    let offset = stored.number_attribute("offset").unwrap_or(0.0);
    if !conversion.is_finite() || conversion == 0.0 || !offset.is_finite() {
        let found = format!("{conversion} and {offset}");
        return Err(content("a usable conversion and offset", stored.name(), found));
    }
    let (unit, to_si) = si(&recorded);
    let converted_from = (to_si != 1.0).then(|| recorded.trim().to_owned());
    Ok(Scale { unit, converted_from, factor: conversion * to_si, offset: offset * to_si })
}

/// What is converted into SI units: the SI unit, the factor, and the names of the unit in recordings, in lower case.
const UNITS: [(&str, f64, &[&str]); 5] = [
    ("m", 1.0, &["m", "meter", "meters", "metre", "metres"]),
    ("m", 1e-2, &["cm", "centimeter", "centimeters", "centimetre", "centimetres"]),
    ("m", 1e-3, &["mm", "millimeter", "millimeters", "millimetre", "millimetres"]),
    ("N", 1.0, &["n", "newton", "newtons"]),
    ("N", 1e-3, &["mn", "millinewton", "millinewtons"]),
];

/// Returns the SI unit for the unit of a recorded series (a length, a force, or a rate of change of one), and the factor that
/// converts values into it. Any other unit is returned as it is, with a factor of 1.
pub fn si(recorded: &str) -> (String, f64) {
    let plain = recorded.trim().to_lowercase();
    let (name, per) = match plain.split_once('/').or_else(|| plain.split_once(" per ")) {
        Some((name, time)) => (name.trim(), per_time(time.trim())),
        None => (plain.as_str(), Some("")),
    };
    let known = UNITS.iter().find(|(_, _, names)| names.contains(&name));
    match known.zip(per) {
        Some(((unit, factor, _), per)) => (format!("{unit}{per}"), *factor),
        None => (recorded.to_owned(), 1.0),
    }
}

/// Returns what stands after the SI unit of a first or second rate of change: `/s` or `/s^2`. `None` if `time` is neither a
/// second nor its square.
fn per_time(time: &str) -> Option<&'static str> {
    let is_second = |time: &str| ["s", "sec", "second", "seconds"].contains(&time.trim());
    let is_square = match time.split_once('/').or_else(|| time.split_once(" per ")) {
        Some((first, second)) => is_second(first) && is_second(second),
        None => ["^2", "**2", "2", "²", " squared"]
            .iter()
            .any(|square| time.strip_suffix(square).is_some_and(is_second)),
    };
    if is_second(time) { Some("/s") } else { is_square.then_some("/s^2") }
}

/// Reads sample times: from `timestamps` (which may be a link to those of another series), or from `starting_time` and its
/// `rate`.
fn timestamps(group: &Group, samples: usize) -> Result<Vec<f64>, ReadProblem> {
    if group.has("timestamps") {
        let stored = group.dataset("timestamps")?;
        let times = stored.numbers::<f64>()?;
        if times.len() != samples {
            let expected = format!("{samples} timestamps, one for each sample,");
            return Err(content(expected, group.name(), times.len()));
        }
        return match times.iter().find(|time| !time.is_finite()) {
            Some(bad) => Err(content("finite timestamps", group.name(), bad)),
            None => Ok(times),
        };
    }
    if !group.has("starting_time") {
        return Err(content("timestamps or a starting_time", group.name(), "neither"));
    }
    let stored = group.dataset("starting_time")?;
    let start = stored.numbers::<f64>()?.first().copied().unwrap_or(f64::NAN);
    let rate = stored.number_attribute("rate").unwrap_or(f64::NAN);
    if !(start.is_finite() && rate.is_finite() && rate > 0.0) {
        let found = format!("{start} s at {rate} Hz");
        return Err(content("a starting time and a rate above 0", stored.name(), found));
    }
    Ok((0..samples).map(|sample| start + sample as f64 / rate).collect())
}

/// Sorts the samples of a series by time. Most series are sorted already; one that was put together from parts may not be.
fn in_order(series: Series) -> Series {
    if series.timestamps.is_sorted() {
        return series;
    }
    let mut order: Vec<usize> = (0..series.timestamps.len()).collect();
    order.sort_by(|&a, &b| series.timestamps[a].total_cmp(&series.timestamps[b]));
    let timestamps = order.iter().map(|&sample| series.timestamps[sample]).collect();
    let row = |&sample: &usize| series.data[sample * series.dims..(sample + 1) * series.dims].iter().copied();
    let data = order.iter().flat_map(row).collect();
    Series { timestamps, data, ..series }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndt_protocol::bundle::quantity::Quantity;

    #[test]
    fn lengths_and_speeds_become_metres_and_other_units_stay() {
        let check = |recorded: &str, unit: &str, factor: f64| {
            assert_eq!(si(recorded), (unit.to_owned(), factor), "{recorded}");
        };
        for metres in ["m", "meters", "Metres", " metre "] {
            check(metres, "m", 1.0);
        }
        for speed in ["m/s", "meters/second", "metres per second", "m / s"] {
            check(speed, "m/s", 1.0);
        }
        check("mm", "m", 1e-3);
        check("mm/s", "m/s", 1e-3);
        check("centimeters/sec", "m/s", 1e-2);
        for acceleration in
            ["m/s^2", "m/s/s", "m / s2", "meters per second per second", "metres/second squared"]
        {
            check(acceleration, "m/s^2", 1.0);
        }
        check("cm/s²", "m/s^2", 1e-2);
        check("Newtons", "N", 1.0);
        check("mN", "N", 1e-3);
        for other in ["deg", "a.u.", "", "rad/s", "m/s^3", "m/min"] {
            check(other, other, 1.0);
        }
    }

    #[test]
    fn the_unit_of_every_quantity_is_converted_from_thousandths() {
        for quantity in Quantity::ALL {
            let unit = quantity.unit();
            assert_eq!(si(unit), (unit.to_owned(), 1.0));
            assert_eq!(
                si(&format!("m{unit}")),
                (unit.to_owned(), 1e-3),
                "{quantity:?} in thousandths of {unit}"
            );
        }
    }

    #[test]
    fn samples_out_of_order_are_sorted_with_their_rows() {
        let series = |timestamps: &[f64], data: &[f64]| Series {
            name: "hand".to_owned(),
            unit: "m".to_owned(),
            converted_from: None,
            dims: 2,
            timestamps: timestamps.to_vec(),
            data: data.to_vec(),
        };
        let sorted = in_order(series(&[2.0, 1.0], &[20.0, 21.0, 10.0, 11.0]));
        assert_eq!(sorted, series(&[1.0, 2.0], &[10.0, 11.0, 20.0, 21.0]));
    }
}
