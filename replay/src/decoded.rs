//! A decoded session: what a decoder answers to the bins of a recording, with the time, the number and the quality of each bin, and with
//! all that a reader must know of where the numbers come from.
//!
//! It is written as NWB ([`crate::nwb::write_decoded`]) or as arrays for NumPy ([`DecodedSession::arrays`]).

use crate::npz::{self, Array, Values};
use crate::session::Clock;
use ndt_protocol::bundle::manifest::Readout;
use ndt_protocol::destination::{Form, Kind};
use ndt_protocol::{Quality, Reasons};

/// What a decoder answers to a recording: `T` bins, `N` units, `R` outputs. Arrays are row-major, one row a bin.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedSession {
    /// Identifier that the recording gives itself.
    pub identifier: String,
    /// Date of the recording, from which its times are counted.
    pub clock: Clock,
    /// When the session was decoded, in seconds since 1970 (UTC).
    pub decoded_unix_s: u64,
    /// Width of a bin, s.
    pub bin_width_s: f64,
    /// The bins.
    pub bins: Vec<DecodedBin>,
    /// The units whose rates are estimated; empty for a decoder without rates.
    pub units: Vec<DecodedUnit>,
    /// Firing rates `[T, N]`, spikes/s; NaN in a bin of which nothing was computed.
    pub rates: Vec<f32>,
    /// The readouts, whose components side by side are the outputs.
    pub readouts: Vec<Readout>,
    /// Index in `readouts` of the one that a daemon publishes.
    pub published: usize,
    /// Outputs `[T, R]`, each in the unit of its readout; NaN in a bin of which nothing was computed.
    pub outputs: Vec<f32>,
    /// Where the numbers come from: keys and values.
    pub provenance: Vec<(&'static str, String)>,
}

/// One bin of a decoded session.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedBin {
    /// Number of the bin in its stream; a jump in the numbers is a gap.
    pub seq: u64,
    /// End of the bin in the recording's time, ns.
    pub end_ns: i64,
    /// Kind of answer.
    pub quality: Quality,
    /// Why the answer has this quality.
    pub reasons: Reasons,
    /// Id of the trial that holds the bin, in the recording's trial table.
    pub trial: Option<i64>,
    /// Split that the bin belongs to; empty if none is known.
    pub split: String,
}

/// One unit of a decoded session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodedUnit {
    /// Identifier in the recording's unit table.
    pub id: i64,
    /// Whether the decoder is shown the unit's spikes.
    pub is_input: bool,
}

/// One output: a component of a readout.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Name: that of the readout, its lag where several readouts have the same name, and the component where there are several.
    pub name: String,
    /// Unit of the values.
    pub unit: String,
    /// From the bin's centre to the instant that the value is for, ms.
    pub lag_ms: f64,
    /// Whether a daemon publishes the output.
    pub is_published: bool,
}

/// Arrays of a decoded session, for the rule about what a program may replace.
pub const DECODED_ARRAYS: Kind = Kind {
    name: "a decoded session of an earlier run",
    form: Form::File,
    other: |path| {
        let names = npz::names(path);
        let is_decoded = ["rates", "outputs", "quality"].iter().all(|name| names.iter().any(|n| n == name));
        (!is_decoded).then(|| "a file that holds no decoded session".to_owned())
    },
};

impl DecodedBin {
    /// End of the bin in the recording's time, s.
    pub fn end_s(&self) -> f64 {
        self.end_ns as f64 * 1e-9
    }

    /// The reasons in words, separated by spaces; empty for none.
    pub fn reasons_in_words(&self) -> String {
        self.reasons.names().collect::<Vec<_>>().join(" ")
    }
}

impl DecodedSession {
    /// Name of a readout in the file, unique among the readouts: its behaviour, and its lag where another readout has the same behaviour.
    pub fn readout_name(&self, at: usize) -> String {
        let readout = &self.readouts[at];
        let is_alone = self.readouts.iter().filter(|other| other.series == readout.series).count() == 1;
        let is_taken =
            ["bins", "outputs", "provenance", "rates", "rate_units"].contains(&readout.series.as_str());
        match is_alone || readout.lag_ms == 0.0 {
            true if is_taken => format!("{}_decoded", readout.series),
            true => readout.series.clone(),
            false if readout.lag_ms < 0.0 => format!("{}_minus_{}_ms", readout.series, -readout.lag_ms),
            false => format!("{}_{}_ms", readout.series, readout.lag_ms),
        }
    }

    /// The outputs, in the order of their columns.
    pub fn outputs_described(&self) -> Vec<Output> {
        let mut outputs = Vec::new();
        for (at, readout) in self.readouts.iter().enumerate() {
            let name = self.readout_name(at);
            for component in readout.components() {
                outputs.push(Output {
                    name: match readout.dims {
                        1 => name.clone(),
                        _ => format!("{name} {}", component.name),
                    },
                    unit: component.unit,
                    lag_ms: readout.lag_ms,
                    is_published: at == self.published,
                });
            }
        }
        outputs
    }

    /// Number of bins of each quality, in the order of [`Quality::ALL`].
    pub fn qualities(&self) -> [usize; 6] {
        Quality::ALL.map(|quality| self.bins.iter().filter(|bin| bin.quality == quality).count())
    }

    /// The session as arrays for NumPy.
    pub fn arrays(&self) -> Vec<Array> {
        let (bins, outputs) = (self.bins.len(), self.outputs_described());
        let each = |value: fn(&DecodedBin) -> String| Values::Text(self.bins.iter().map(value).collect());
        let of_outputs =
            |value: fn(&Output) -> String| Values::Text(outputs.iter().map(value).collect::<Vec<_>>());
        let provenance = |value: fn(&(&'static str, String)) -> String| {
            Values::Text(self.provenance.iter().map(value).collect())
        };
        vec![
            Array::new("rates", &[bins, self.units.len()], Values::F32(self.rates.clone())),
            Array::list("unit_ids", Values::I64(self.units.iter().map(|unit| unit.id).collect())),
            Array::list("unit_is_input", Values::Bool(self.units.iter().map(|unit| unit.is_input).collect())),
            Array::new("outputs", &[bins, outputs.len()], Values::F32(self.outputs.clone())),
            Array::list("output_names", of_outputs(|output| output.name.clone())),
            Array::list("output_units", of_outputs(|output| output.unit.clone())),
            Array::list("output_lags_ms", Values::F64(outputs.iter().map(|output| output.lag_ms).collect())),
            Array::list(
                "output_is_published",
                Values::Bool(outputs.iter().map(|output| output.is_published).collect()),
            ),
            Array::list("time_s", Values::F64(self.bins.iter().map(DecodedBin::end_s).collect())),
            Array::list("seq", Values::I64(self.bins.iter().map(|bin| bin.seq as i64).collect())),
            Array::list("quality", each(|bin| bin.quality.name().to_owned())),
            Array::list("reasons", each(DecodedBin::reasons_in_words)),
            Array::list("trial", Values::I64(self.bins.iter().map(|bin| bin.trial.unwrap_or(-1)).collect())),
            Array::list("split", each(|bin| bin.split.clone())),
            Array::list("provenance_keys", provenance(|(name, _)| (*name).to_owned())),
            Array::list("provenance", provenance(|(_, text)| text.clone())),
        ]
    }
}
