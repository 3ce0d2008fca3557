//! Descriptions: what a stream of bins or of estimates consists of.

use super::{WireError, description_header, split_description};
use crate::bundle::Bundle;
use crate::lsl::LABELS_VELOCITY;
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
    /// Name of the output, unique among the outputs of a stream: `vx`, `vy` and `vz` for the components of the velocity.
    pub name: String,
    /// Unit of the output, e.g. `m/s`.
    pub unit: String,
    /// Time from a bin's end to the instant that the output is for, ns.
    pub offset_ns: i64,
}

impl Description {
    /// Describes the estimates that `engine` computes of `bundle`, whose outputs are the components of the velocity.
    pub fn of_estimates(bundle: &Bundle, engine: &str) -> Description {
        let manifest = &bundle.manifest;
        let offset_ns = manifest.velocity_offset_ns();
        let unit = manifest.velocity().map_or("", |velocity| &velocity.unit);
        let output =
            |name: &&str| OutputDescription { name: (*name).to_owned(), unit: unit.to_owned(), offset_ns };
        Description::Estimates {
            bundle: manifest.id.clone(),
            engine: engine.to_owned(),
            bin_width_us: manifest.bin_width_us(),
            unit_ids: manifest.unit_ids.clone(),
            velocity_dims: manifest.velocity_dims() as u32,
            velocity_offset_ns: offset_ns,
            outputs: LABELS_VELOCITY.iter().take(manifest.velocity_dims()).map(output).collect(),
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

/// Reads a description (topic, header, JSON). Returns the stream that it describes, 0 if its sender does not say which, and
/// `None` for JSON that this version does not know: a description informs, and a stream is not refused for it.
///
/// # Errors
/// [`WireError`] when the frames are not a description of this version.
pub fn read_description(frames: &[&[u8]]) -> Result<(u64, Option<Description>), WireError> {
    let (stream, json) = split_description(frames)?;
    Ok((stream, serde_json::from_slice(json).ok()))
}
