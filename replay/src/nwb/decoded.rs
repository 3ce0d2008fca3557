//! Writes a [`DecodedSession`] as NWB 2: a processing module `decoded` beside nothing else, with the date and the times of the recording.
//!
//! | in `/processing/decoded` | what it holds |
//! |---|---|
//! | `rates` | `TimeSeries [T, N]`, spikes/s, at the centres of the bins |
//! | one `TimeSeries` for each readout, named after it | its components `[T, dims]`, at the instants that they are for: centre of the bin plus lag |
//! | `bins` | `TimeIntervals`, a row for each bin: start, stop, number, quality, reasons, trial, split |
//! | `rate_units`, `outputs` | `DynamicTable`, a row for each column of the rates, and of all readouts side by side |
//! | `provenance` | `DynamicTable` of keys and values: where the numbers come from |
//!
//! A session that a daemon recorded ([`write_recorded`]) has the counts of its bins beside that, as a series in `/acquisition` with a
//! column for each row of the table of electrodes, whose ids are those of the channels.
//!
//! Row `t` of `bins` and of every series is the same bin. The files pass pynwb's validator.

use super::objects::{Objects, RootText, SeriesText};
use super::writing::WriteError;
use crate::decoded::{DecodedBin, DecodedSession, DecodedUnit, Output};
use crate::h5::{self, Group, H5Error};
use ndt_protocol::clock::utc;
use ndt_protocol::destination::{Form, Kind};
use ndt_protocol::files;
use std::path::Path;

/// Name of the processing module.
const MODULE: &str = "decoded";

/// Date of a session that has none: the standard demands a date.
const UNKNOWN_START: &str = "1970-01-01T00:00:00+00:00";

/// A decoded session, for the rule about what a program may replace: an NWB file with a table of decoded bins.
pub const DECODED: Kind = Kind {
    name: "a decoded session of an earlier run",
    form: Form::File,
    other: |path| {
        let is_decoded = h5::open(path).is_ok_and(|root| {
            let bins = root.group("processing").and_then(|processing| processing.group(MODULE));
            bins.is_ok_and(|module| module.has("bins") && module.has("provenance"))
        });
        (!is_decoded).then(|| "a file that holds no decoded session".to_owned())
    },
};

/// Writes a decoded session as NWB to `path`, and replaces a file that is already there.
///
/// # Errors
/// [`WriteError`]; a file that was at `path` is then unchanged, and no temporary file is left.
pub fn write_decoded(session: &DecodedSession, path: &Path) -> Result<(), WriteError> {
    let provenance = session.provenance.iter().map(|(_, text)| format!(" {text}"));
    let identifier = format!("{} decoded", session.identifier);
    // Two decodings of a recording have other ids of their objects.
    let mut layout = Layout {
        session,
        counts: None,
        objects: Objects::of(&(identifier.clone() + &provenance.collect::<String>())),
    };
    files::fill_file(path, |part| {
        layout.file(part, &identifier).map_err(|error| WriteError::H5 { path: path.to_owned(), error })
    })
}

/// The counts of a session that was recorded: `T` bins, `C` channels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RecordedCounts {
    /// Ids of the channels.
    pub channel_ids: Vec<i64>,
    /// Start of each bin, s, ascending.
    pub starts_s: Vec<f64>,
    /// Counts `[T, C]`, row-major; NaN where a channel has none.
    pub counts: Vec<f32>,
}

/// Writes a session that a daemon recorded as NWB to `path`, and replaces a file that is already there.
///
/// # Errors
/// [`WriteError`]; a file that was at `path` is then unchanged, and no temporary file is left.
pub fn write_recorded(
    session: &DecodedSession,
    counts: &RecordedCounts,
    path: &Path,
) -> Result<(), WriteError> {
    let mut layout = Layout { session, counts: Some(counts), objects: Objects::of(&session.identifier) };
    files::fill_file(path, |part| {
        layout
            .file(part, &session.identifier)
            .map_err(|error| WriteError::H5 { path: path.to_owned(), error })
    })
}

/// Writes one decoded session into one file.
struct Layout<'a> {
    session: &'a DecodedSession,
    /// The counts, of a session that was recorded.
    counts: Option<&'a RecordedCounts>,
    objects: Objects,
}

impl Layout<'_> {
    fn file(&mut self, path: &Path, identifier: &str) -> Result<(), H5Error> {
        let root = h5::create(path)?;
        let clock = &self.session.clock;
        let known = |text: &str| if text.is_empty() { UNKNOWN_START.to_owned() } else { text.to_owned() };
        self.objects.root(
            &root,
            &RootText {
                identifier,
                description: "firing rates and behaviour that were decoded from the spikes of a recording",
                session_start: &known(&clock.session_start),
                reference: &known(&clock.reference),
                created: &utc(self.session.decoded_unix_s),
            },
        )?;
        let module = root.create_group("processing")?.create_group(MODULE)?;
        self.objects.typed(&module, "core", "ProcessingModule")?;
        module.set_text("description", &self.description())?;
        self.bins(&module.create_group("bins")?)?;
        if !self.session.units.is_empty() {
            self.rates(&module.create_group("rates")?)?;
            self.units(&module.create_group("rate_units")?)?;
        }
        self.readouts(&module)?;
        self.outputs(&module.create_group("outputs")?)?;
        self.provenance(&module.create_group("provenance")?)?;
        if let Some(counts) = self.counts {
            self.objects.electrodes(&root, &counts.channel_ids, "unknown")?;
            self.binned_spikes(&root.group("acquisition")?.create_group("binned_spikes")?, counts)?;
        }
        root.flush()
    }

    fn description(&self) -> String {
        let same = "Row t of the table bins and of every series is the same bin";
        match self.counts {
            None => format!(
                "decoded from the spikes of the recording {}, bin by bin in the order of time: no value depends on a later bin. \
                 {same}; values are NaN where nothing was computed",
                self.session.identifier
            ),
            Some(_) => format!(
                "what a daemon published in the session {}, one estimate for each bin period, whatever came. {same}; the quality \
                 says which values were computed, and which are those that the policy published in their place",
                self.session.identifier
            ),
        }
    }

    /// Writes the counts as a series whose times are the starts of the bins.
    fn binned_spikes(&mut self, group: &Group, counts: &RecordedCounts) -> Result<(), H5Error> {
        let text = SeriesText {
            description: &format!(
                "spike counts of bins of {} ms; each time is the start of a bin, each column an electrode of the table, in its order",
                self.session.bin_width_s * 1e3
            ),
            comments: "a channel without a count is NaN",
            unit: "count",
            conversion: 1.0,
        };
        let shape = [counts.starts_s.len(), counts.channel_ids.len()];
        let data = group.write_gzip("data", &counts.counts, &shape)?;
        self.objects.time_series(group, &data, &text, &counts.starts_s)
    }

    fn bins(&mut self, table: &Group) -> Result<(), H5Error> {
        let DecodedSession { bins, bin_width_s, .. } = self.session;
        self.objects.table(table, "core", "TimeIntervals", "the bins that were decoded, in their order")?;
        table.set_texts(
            "colnames",
            &["start_time", "stop_time", "seq", "quality", "reasons", "trial", "split"],
        )?;
        let rows = [bins.len()];
        self.objects.row_ids(table, &(0..bins.len() as i64).collect::<Vec<_>>())?;
        let mut numbers = |name: &str, values: Vec<f64>, description: &str| {
            self.objects.column(table.write(name, &values, &rows)?, description)
        };
        numbers(
            "start_time",
            bins.iter().map(|bin| bin.end_s() - bin_width_s).collect(),
            "start of the bin, s",
        )?;
        numbers(
            "stop_time",
            bins.iter().map(DecodedBin::end_s).collect(),
            "end of the bin, s: the earliest time at which its values can be known",
        )?;
        let mut integers = |name: &str, value: fn(&DecodedBin) -> i64, description: &str| {
            let values: Vec<i64> = bins.iter().map(value).collect();
            self.objects.column(table.write(name, &values, &rows)?, description)
        };
        integers(
            "seq",
            |bin| bin.seq as i64,
            "number of the bin in its stream; a jump in the numbers is a gap",
        )?;
        integers("trial", |bin| bin.trial.unwrap_or(-1), "id of the recording's trial; -1 for none")?;
        let mut texts = |name: &str, value: fn(&DecodedBin) -> String, description: &str| {
            let values: Vec<String> = bins.iter().map(value).collect();
            self.objects.column(table.write_texts(name, &values)?, description)
        };
        texts(
            "quality",
            |bin| bin.quality.name().to_owned(),
            "good: from this bin and enough history; warmup: with less history; gap: the bin was not observed; fault: not usable",
        )?;
        texts("reasons", DecodedBin::reasons_in_words, "why the bin has its quality, separated by spaces")?;
        texts("split", |bin| bin.split.clone(), "train, val, test or none; empty if unknown")
    }

    fn rates(&mut self, group: &Group) -> Result<(), H5Error> {
        let text = SeriesText {
            description: "estimated firing rates at the centres of the bins; a column for each row of rate_units",
            comments: "no comments",
            unit: "spikes/s",
            conversion: 1.0,
        };
        let shape = [self.session.bins.len(), self.session.units.len()];
        let data = group.write_gzip("data", &self.session.rates, &shape)?;
        let times = self.centres(0.0);
        self.objects.time_series(group, &data, &text, &times)
    }

    fn readouts(&mut self, module: &Group) -> Result<(), H5Error> {
        let session = self.session;
        let (bins, all) = (session.bins.len(), session.readouts.iter().map(|readout| readout.dims).sum());
        let mut first = 0;
        for (at, readout) in session.readouts.iter().enumerate() {
            let group = module.create_group(&session.readout_name(at).replace(['/', ':'], "_"))?;
            let names: Vec<String> =
                readout.components().into_iter().map(|component| component.name).collect();
            let published = if at == session.published { "; a daemon publishes this readout" } else { "" };
            let text = SeriesText {
                description: &format!(
                    "{} decoded for {} ms after the centre of each bin, which is the time of its row{published}",
                    readout.series, readout.lag_ms
                ),
                comments: &format!("columns=[{}]", names.join(",")),
                unit: &readout.unit,
                conversion: 1.0,
            };
            let rows = session.outputs.chunks_exact(std::cmp::Ord::max(all, 1));
            let values: Vec<f32> = rows.flat_map(|row| &row[first..first + readout.dims]).copied().collect();
            let shape = [bins, readout.dims];
            let data = group.write_gzip(
                "data",
                &values,
                if readout.dims == 1 { &shape[..1] } else { &shape[..] },
            )?;
            let times = self.centres(readout.lag_ms * 1e-3);
            self.objects.time_series(&group, &data, &text, &times)?;
            first += readout.dims;
        }
        Ok(())
    }

    /// The centres of the bins plus a lag, s.
    fn centres(&self, lag_s: f64) -> Vec<f64> {
        let half_s = 0.5 * self.session.bin_width_s;
        self.session.bins.iter().map(|bin| bin.end_s() - half_s + lag_s).collect()
    }

    fn units(&mut self, table: &Group) -> Result<(), H5Error> {
        let units = &self.session.units;
        self.objects.table(table, "hdmf-common", "DynamicTable", "the columns of rates")?;
        table.set_texts("colnames", &["unit_id", "is_input"])?;
        self.objects.row_ids(table, &(0..units.len() as i64).collect::<Vec<_>>())?;
        let ids: Vec<i64> = units.iter().map(|unit| unit.id).collect();
        let inputs: Vec<bool> = units.iter().map(|DecodedUnit { is_input, .. }| *is_input).collect();
        self.objects
            .column(table.write("unit_id", &ids, &[ids.len()])?, "id in the recording's unit table")?;
        self.objects.column(table.write_bools("is_input", &inputs)?, "whether the decoder sees its spikes")
    }

    fn outputs(&mut self, table: &Group) -> Result<(), H5Error> {
        let outputs = self.session.outputs_described();
        let description = "the columns of all readouts side by side";
        self.objects.table(table, "hdmf-common", "DynamicTable", description)?;
        table.set_texts("colnames", &["output", "unit", "lag_ms", "is_published"])?;
        self.objects.row_ids(table, &(0..outputs.len() as i64).collect::<Vec<_>>())?;
        let texts = |value: fn(&Output) -> &str| outputs.iter().map(value).collect::<Vec<_>>();
        let lags: Vec<f64> = outputs.iter().map(|output| output.lag_ms).collect();
        let published: Vec<bool> = outputs.iter().map(|output| output.is_published).collect();
        let names = table.write_texts("output", &texts(|output| &output.name))?;
        self.objects.column(names, "readout and component")?;
        let units = table.write_texts("unit", &texts(|output| &output.unit))?;
        self.objects.column(units, "unit of the values")?;
        let lags = table.write("lag_ms", &lags, &[lags.len()])?;
        self.objects.column(lags, "from the centre of the bin to the instant that the value is for, ms")?;
        let published = table.write_bools("is_published", &published)?;
        self.objects.column(published, "whether a daemon publishes the output")
    }

    fn provenance(&mut self, table: &Group) -> Result<(), H5Error> {
        let provenance = &self.session.provenance;
        self.objects.table(table, "hdmf-common", "DynamicTable", "where the numbers come from")?;
        table.set_texts("colnames", &["key", "value"])?;
        self.objects.row_ids(table, &(0..provenance.len() as i64).collect::<Vec<_>>())?;
        let names: Vec<&str> = provenance.iter().map(|(name, _)| *name).collect();
        let values: Vec<&str> = provenance.iter().map(|(_, value)| value.as_str()).collect();
        self.objects.column(table.write_texts("key", &names)?, "what is stated")?;
        self.objects.column(table.write_texts("value", &values)?, "the statement")
    }
}
