//! Recordings without a table of spike times: binned counts as a `TimeSeries` or of the extension ndx-binned-spikes, and threshold
//! crossings as one series of events for each electrode.
//!
//! A count becomes so many spikes in the middle of its bin, so that all that follows works on spike times. Bins of a whole multiple of
//! the recorded width then hold exactly the recorded counts.

use super::observed::Observed;
use super::problem::{ReadProblem, content};
use super::unit_rows::Rows;
use crate::h5::{Dataset, Group, Kind};
use crate::session::{Interval, Trial};

/// Largest count of one bin: more is no count of spikes.
const COUNT_MAX: f64 = 10_000.0;

/// Spikes that were read from something other than the column `spike_times`.
#[derive(Debug)]
pub(super) struct Events {
    /// The channels.
    pub rows: Rows,
    /// Spike times of each channel, s, ascending.
    pub spike_times: Vec<Vec<f64>>,
    /// When counts are known; empty for events.
    pub observed: Vec<Interval>,
    /// Width of the recorded bins, s; `None` for events.
    pub bin_width_s: Option<f64>,
    /// Name of the series, or of the first of several.
    pub name: String,
    /// Path of the series, for messages.
    pub path: String,
    /// What was decided, one sentence each.
    pub notes: Vec<String>,
}

/// Moves the start of each trial to the nearest edge of a recorded bin, so that the trial's bins are made of whole recorded ones.
pub(super) fn align(trials: &mut [Trial], observed: &Observed, width_s: f64, notes: &mut Vec<String>) {
    let mut moved = 0;
    for trial in trials {
        let start = trial.interval.start;
        let Some(open) = observed.shared.iter().rev().find(|open| open.start <= start + 0.5 * width_s) else {
            continue;
        };
        let edge = open.start + ((start - open.start) / width_s).round() * width_s;
        // Times are rounded by whoever writes them.
        if (edge - start).abs() > 1e-6 {
            moved += 1;
        }
        trial.interval.start = edge.min(trial.interval.stop);
    }
    if moved > 0 {
        notes.push(format!(
            "{moved} trials began within a bin of the recorded counts: they begin at its nearest edge"
        ));
    }
}

/// Looks for spikes in `/acquisition` and the processing modules: binned spikes of the extension, then counts, then events.
pub(super) fn events(root: &Group) -> Result<Option<Events>, ReadProblem> {
    let series = all_series(root)?;
    for (name, group) in &series {
        match group.text_attribute("neurodata_type").as_deref() {
            Some("BinnedAlignedSpikes") => return aligned(root, name, group).map(Some),
            Some("BinnedSpikes") => return binned(root, name, group).map(Some),
            _ => {}
        }
    }
    for (name, group) in &series {
        if is_counts(name, group) {
            return counts(root, name, group).map(Some);
        }
    }
    crossings(root, &series)
}

/// Every group with a `neurodata_type` in `/acquisition` and the processing modules, containers' members too.
fn all_series(root: &Group) -> Result<Vec<(String, Group)>, ReadProblem> {
    let mut found = Vec::new();
    let mut within = Vec::new();
    if root.has("acquisition") {
        within.push(root.group("acquisition")?);
    }
    if root.has("processing") {
        let modules = root.group("processing")?;
        for name in modules.members()? {
            within.extend(modules.group(&name).ok());
        }
    }
    while let Some(group) = within.pop() {
        for name in group.members()? {
            // A link that leads nowhere costs what it should lead to, and not the file.
            if !group.is_group(&name).unwrap_or(false) {
                continue;
            }
            let Ok(member) = group.group(&name) else { continue };
            match member.has("data") || member.has("timestamps") || member.has("event_timestamps") {
                true => found.push((name, member)),
                false => within.push(member),
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

/// Whether a series holds counts `[T, channels]`: by its name or its unit.
fn is_counts(name: &str, group: &Group) -> bool {
    let Ok(data) = group.dataset("data") else { return false };
    let unit = data.text_attribute("unit").unwrap_or_default().to_lowercase();
    let name = name.to_lowercase();
    let named = ["count", "binned", "crossing", "spikes"].iter().any(|word| name.contains(word));
    let is_series = group.text_attribute("neurodata_type").is_some_and(|kind| kind.ends_with("TimeSeries"));
    let is_of_counts =
        named || ["count", "counts", "spikes", "spike count", "spike counts"].contains(&unit.trim());
    is_series && is_of_counts && data.shape().len() == 2 && matches!(data.kind(), Kind::Int | Kind::Float)
}

/// Bins of one width without a hole.
struct Piece {
    start_s: f64,
    rows: std::ops::Range<usize>,
}

fn counts(root: &Group, name: &str, group: &Group) -> Result<Events, ReadProblem> {
    let data = group.dataset("data")?;
    let (bins, channels) = match data.shape()[..] {
        [bins, channels] if bins > 0 && channels > 0 => (bins, channels),
        ref other => {
            return Err(content("counts of shape [bins, channels]", data.name(), format!("{other:?}")));
        }
    };
    let (width_s, pieces) = if group.has("timestamps") {
        pieces(&group.dataset("timestamps")?, bins)?
    } else {
        let start = group.dataset("starting_time")?;
        let rate = start.number_attribute("rate").unwrap_or(0.0);
        let start_s = start.numbers::<f64>()?.first().copied().unwrap_or(f64::NAN);
        if !(rate > 0.0 && rate.is_finite() && start_s.is_finite()) {
            return Err(content(
                "a rate and a start of the counts",
                group.name(),
                format!("{rate} Hz from {start_s} s"),
            ));
        }
        (1.0 / rate, vec![Piece { start_s, rows: 0..bins }])
    };
    let values = data.numbers::<f64>()?;
    let mut events = Events {
        rows: channel_rows(root, channels),
        spike_times: vec![Vec::new(); channels],
        observed: Vec::new(),
        bin_width_s: Some(width_s),
        name: name.to_owned(),
        path: group.name(),
        notes: Vec::new(),
    };
    let mut unknown = 0;
    for piece in pieces {
        for (bin, row) in piece.rows.enumerate() {
            let cells = &values[row * channels..(row + 1) * channels];
            let start_s = piece.start_s + bin as f64 * width_s;
            if cells.iter().any(|cell| cell.is_nan()) {
                unknown += 1;
                continue;
            }
            events.put(cells, start_s, &data)?;
        }
    }
    if unknown > 0 {
        events.notes.push(format!(
            "{unknown} of {bins} bins of {name} have a count that is not a number: they are unobserved"
        ));
    }
    Ok(events)
}

impl Events {
    /// Adds one bin of counts.
    fn put(&mut self, cells: &[f64], start_s: f64, data: &Dataset) -> Result<(), ReadProblem> {
        let width_s = self.bin_width_s.unwrap_or(0.0);
        for (times, &cell) in self.spike_times.iter_mut().zip(cells) {
            if !(0.0..=COUNT_MAX).contains(&cell) || cell.fract() != 0.0 {
                return Err(content(format!("whole counts from 0 to {COUNT_MAX}"), data.name(), cell));
            }
            times.extend(std::iter::repeat_n(start_s + 0.5 * width_s, cell as usize));
        }
        match self.observed.last_mut() {
            Some(last) if (last.stop - start_s).abs() < 0.01 * width_s => last.stop = start_s + width_s,
            _ => self.observed.push(Interval { start: start_s, stop: start_s + width_s }),
        }
        Ok(())
    }
}

/// Width of the bins that start at these times, s, and the runs of bins without a hole between them.
fn pieces(stamps: &Dataset, bins: usize) -> Result<(f64, Vec<Piece>), ReadProblem> {
    let times = stamps.numbers::<f64>()?;
    let ascends = times.windows(2).all(|pair| pair[0] < pair[1]);
    if times.len() != bins || bins < 2 || !ascends || times.iter().any(|time| !time.is_finite()) {
        return Err(content(
            format!("{bins} ascending time stamps, at least 2"),
            stamps.name(),
            format!("{} others", times.len()),
        ));
    }
    let mut steps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    steps.sort_unstable_by(f64::total_cmp);
    // Stamps are rounded, and widths are whole microseconds.
    let width_s = ((steps[steps.len() / 2] * 1e6).round() * 1e-6).max(1e-6);
    if steps[0] < 0.9 * width_s {
        return Err(content(
            format!("bins of {} ms that do not overlap", width_s * 1e3),
            stamps.name(),
            format!("two {} ms apart", steps[0] * 1e3),
        ));
    }
    let mut pieces: Vec<Piece> = Vec::new();
    for (row, &time) in times.iter().enumerate() {
        match pieces.last_mut() {
            Some(piece)
                if (time - (piece.start_s + piece.rows.len() as f64 * width_s)).abs() < 0.25 * width_s =>
            {
                piece.rows.end = row + 1
            }
            _ => pieces.push(Piece { start_s: time, rows: row..row + 1 }),
        }
    }
    Ok((width_s, pieces))
}

/// The channels: the electrodes if there are as many, else they are counted.
fn channel_rows(root: &Group, channels: usize) -> Rows {
    let electrodes = Rows::of_electrodes(root);
    if electrodes.ids.len() == channels { electrodes } else { Rows::counted(channels) }
}

/// The units whose counts these are: those of the unit table if there are as many, else as [`channel_rows`].
fn unit_rows(root: &Group, units: usize) -> Rows {
    let table = if root.has("units") { Rows::of_units(root).ok() } else { None };
    table.filter(|rows| rows.ids.len() == units).unwrap_or_else(|| channel_rows(root, units))
}

fn width_of(group: &Group) -> Result<f64, ReadProblem> {
    let width = group.number_attribute("bin_width_in_milliseconds").unwrap_or(f64::NAN);
    match width > 0.0 && width.is_finite() {
        true => Ok(width * 1e-3),
        false => Err(content("a bin_width_in_milliseconds above 0", group.name(), width)),
    }
}

/// Counts `[units, events, bins]` around events. What two windows share is taken from the first one.
fn aligned(root: &Group, name: &str, group: &Group) -> Result<Events, ReadProblem> {
    let data = group.dataset("data")?;
    let [units, count, bins] = data.shape()[..] else {
        return Err(content(
            "counts of shape [units, events, bins]",
            data.name(),
            format!("{:?}", data.shape()),
        ));
    };
    let stamps = if group.has("event_timestamps") { "event_timestamps" } else { "timestamps" };
    let stamps = group.dataset(stamps)?;
    let times = stamps.numbers::<f64>()?;
    if times.len() != count || times.iter().any(|time| !time.is_finite()) {
        return Err(content(format!("{count} finite times of events"), stamps.name(), times.len()));
    }
    let width_s = width_of(group)?;
    let first_s = group.number_attribute("milliseconds_from_event_to_first_bin").unwrap_or(0.0) * 1e-3;
    let values = data.numbers::<f64>()?;
    let mut events = Events::of_bins(unit_rows(root, units), width_s, name, group);
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| times[*a].total_cmp(&times[*b]));
    let (mut until, mut shared) = (f64::NEG_INFINITY, 0);
    for event in order {
        for bin in 0..bins {
            let start_s = times[event] + first_s + bin as f64 * width_s;
            if start_s < until - 0.01 * width_s {
                shared += 1;
                continue;
            }
            let cells: Vec<f64> =
                (0..units).map(|unit| values[(unit * count + event) * bins + bin]).collect();
            events.put(&cells, start_s, &data)?;
            until = start_s + width_s;
        }
    }
    if shared > 0 {
        events.notes.push(format!(
            "{shared} bins of {name} lie in the window of an earlier event too: they are taken from that one"
        ));
    }
    Ok(events)
}

/// Counts `[units, bins]` of one stretch of time.
fn binned(root: &Group, name: &str, group: &Group) -> Result<Events, ReadProblem> {
    let data = group.dataset("data")?;
    let [units, bins] = data.shape()[..] else {
        return Err(content("counts of shape [units, bins]", data.name(), format!("{:?}", data.shape())));
    };
    let width_s = width_of(group)?;
    let start_s = group.number_attribute("start_time_in_milliseconds").unwrap_or(0.0) * 1e-3;
    let values = data.numbers::<f64>()?;
    let mut events = Events::of_bins(unit_rows(root, units), width_s, name, group);
    for bin in 0..bins {
        let cells: Vec<f64> = (0..units).map(|unit| values[unit * bins + bin]).collect();
        events.put(&cells, start_s + bin as f64 * width_s, &data)?;
    }
    Ok(events)
}

impl Events {
    fn of_bins(rows: Rows, width_s: f64, name: &str, group: &Group) -> Events {
        Events {
            spike_times: vec![Vec::new(); rows.ids.len()],
            rows,
            observed: Vec::new(),
            bin_width_s: Some(width_s),
            name: name.to_owned(),
            path: group.name(),
            notes: Vec::new(),
        }
    }
}

/// Threshold crossings: each series of events is one channel.
fn crossings(root: &Group, series: &[(String, Group)]) -> Result<Option<Events>, ReadProblem> {
    const KINDS: [&str; 2] = ["SpikeEventSeries", "Events"];
    let is_event = |group: &Group| {
        group.text_attribute("neurodata_type").is_some_and(|kind| KINDS.contains(&kind.as_str()))
    };
    let found: Vec<&(String, Group)> =
        series.iter().filter(|(_, group)| is_event(group) && group.has("timestamps")).collect();
    let Some((name, first)) = found.first() else { return Ok(None) };
    let mut rows = Rows::counted(found.len());
    let (mut spike_times, mut of_channel) = (Vec::new(), Vec::new());
    for (_, group) in &found {
        let stamps = group.dataset("timestamps")?;
        let mut times = stamps.numbers::<f64>()?;
        if let Some(bad) = times.iter().find(|time| !time.is_finite()) {
            return Err(content("finite times of events", stamps.name(), bad));
        }
        times.sort_unstable_by(f64::total_cmp);
        spike_times.push(times);
        let electrode =
            if group.has("electrodes") { group.dataset("electrodes")?.numbers::<i64>().ok() } else { None };
        of_channel
            .push(electrode.filter(|rows| rows.len() == 1).and_then(|rows| usize::try_from(rows[0]).ok()));
    }
    rows.join(&Rows::of_electrodes(root), &of_channel);
    Ok(Some(Events {
        rows,
        spike_times,
        observed: Vec::new(),
        bin_width_s: None,
        name: name.clone(),
        path: first.name(),
        notes: vec![format!(
            "{} series of threshold crossings, {name} and so on: each is a unit",
            found.len()
        )],
    }))
}
