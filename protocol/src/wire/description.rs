//! Descriptions: what a stream of bins or of estimates consists of.

use super::{WireError, description_header, split_description};
use crate::bundle::Bundle;
use crate::bundle::behavior::Component;
use crate::bundle::manifest::Readout;
use serde::{Deserialize, Serialize};

/// What a stream consists of: JSON in the payload of a description message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Description {
    /// The bins of a source.
    Bins {
        /// Width of a bin, us.
        bin_width_us: u32,
        /// Channel ids in the order of the counts.
        channel_ids: Vec<i64>,
    },
    /// The estimates of the daemon.
    Estimates {
        /// Id of the bundle.
        bundle: String,
        /// Name of the engine, such as `native avx512`: two engines of the same name give the same bits.
        engine: String,
        /// Width of a bin, us.
        bin_width_us: u32,
        /// Unit ids in the order of the rates (spikes/s).
        unit_ids: Vec<i64>,
        /// Number of velocity components, which are the first of the outputs.
        velocity_dims: u32,
        /// Time from a bin's end to the instant that its velocity is for, ns.
        velocity_offset_ns: i64,
        /// Outputs in the order of their values in the last frame.
        outputs: Vec<OutputDescription>,
    },
}

/// Description of one value in the last frame of an estimate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OutputDescription {
    /// Name of the output, unique among the outputs of a stream: `vx`, `vy` and `vz` for the components of a velocity, else
    /// such as `emg[3]`.
    pub name: String,
    /// Unit of the output, e.g. `m/s`.
    pub unit: String,
    /// Time from a bin's end to the instant that the output is for, ns.
    pub offset_ns: i64,
}

impl Description {
    /// Describes the estimates that `engine` computes of `bundle`, whose outputs are the components of the published readout.
    pub fn of_estimates(bundle: &Bundle, engine: &str) -> Description {
        let manifest = &bundle.manifest;
        let offset_ns = manifest.velocity_offset_ns();
        let published = manifest.velocity();
        let components = published.map(Readout::components).unwrap_or_default().into_iter();
        let output = |Component { name, unit }| OutputDescription { name, unit, offset_ns };
        Description::Estimates {
            bundle: manifest.id.clone(),
            engine: engine.to_owned(),
            bin_width_us: manifest.bin_width_us(),
            unit_ids: manifest.unit_ids.clone(),
            velocity_dims: published.filter(|it| it.is_velocity()).map_or(0, |it| it.dims as u32),
            velocity_offset_ns: offset_ns,
            outputs: components.map(output).collect(),
        }
    }
}

/// Makes the header and payload frames of a description. `stream` is the run of the source that it describes, or 0 for all that
/// comes over the same connection.
pub fn description_frames(stream: u64, description: &Description) -> (Vec<u8>, Vec<u8>) {
    let json =
        serde_json::to_vec(description).unwrap_or_else(|e| panic!("plain data always serialises: {e}"));
    (description_header(stream).to_vec(), json)
}

/// Reads which stream a description is of, 0 if its sender does not say which, without its JSON. Does not allocate.
///
/// # Errors
/// [`WireError`] when the frames are not a description of this version.
pub fn described_stream(frames: &[&[u8]]) -> Result<u64, WireError> {
    split_description(frames).map(|(stream, _)| stream)
}

/// Reads a description (topic, header, JSON). Returns the stream that it describes, 0 if its sender does not say which, and
/// `None` for JSON that this version does not know: a description informs, and a stream is not refused for it.
///
/// # Errors
/// [`WireError`] when the frames are not a description of this version, or describe bins without their width or channel ids.
pub fn read_description(frames: &[&[u8]]) -> Result<(u64, Option<Description>), WireError> {
    let (stream, json) = split_description(frames)?;
    if let Ok(description) = serde_json::from_slice(json) {
        return Ok((stream, Some(description)));
    }
    if let Ok(json) = serde_json::from_slice(json) {
        check_bins(&json)?;
    }
    Ok((stream, None))
}

/// Finds what is wrong with a description that says something of bins.
fn check_bins(json: &serde_json::Value) -> Result<(), WireError> {
    let Some(bins) = json.get("bins") else { return Ok(()) };
    let expect = |key, expected, found| Err(WireError::Description { key, expected, found });
    let is_width =
        |width: &serde_json::Value| width.as_u64().is_some_and(|width| u32::try_from(width).is_ok());
    match bins.get("bin-width-us") {
        Some(width) if is_width(width) => {}
        found => return expect("bin-width-us", "an integer", found.map_or("none", kind)),
    }
    let ids = "a list of integers";
    match bins.get("channel-ids") {
        Some(serde_json::Value::Array(found)) => match found.iter().find(|id| id.as_i64().is_none()) {
            Some(serde_json::Value::String(_)) => expect("channel-ids", ids, "strings in the list"),
            Some(serde_json::Value::Number(_)) => {
                expect("channel-ids", ids, "a number that is no integer in the list")
            }
            Some(_) => expect("channel-ids", ids, "other values in the list"),
            None => Ok(()),
        },
        found => expect("channel-ids", ids, found.map_or("none", kind)),
    }
}

/// The kind of a JSON value, in words.
fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number that is none",
        serde_json::Value::String(_) => "a string",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}
