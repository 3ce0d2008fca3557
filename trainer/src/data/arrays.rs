//! Binned recordings as files: arrays for NumPy (`.npz`), or safetensors, which hold no text.
//!
//! In safetensors, an array of text is one of numbers: each is the place of the text in a list. The lists are in the file's metadata
//! under `text`, as one JSON object by the names of the arrays.

use ndt_protocol::bundle::tensors;
use ndt_protocol::destination::{Form, Kind};
use ndt_protocol::files::{self, FileError};
use ndt_replay::npz::{self, Array, NpzError, Values};
use safetensors::tensor::{Dtype, SafeTensorError, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Name of the array that every file of a binned recording has.
const SPIKES: &str = "spikes";

/// Name of the array of the bins' times.
const TIME: &str = "time_s";

/// A binned recording for NumPy, for the rule about what a program may replace.
pub const BINNED_NPZ: Kind =
    Kind { name: "tensors of an earlier run", form: Form::File, other: |path| other(&npz::names(path)) };

/// A binned recording as safetensors, for the rule about what a program may replace.
pub const BINNED_SAFETENSORS: Kind =
    Kind { name: "tensors of an earlier run", form: Form::File, other: |path| other(&tensors::names(path)) };

fn other(names: &[String]) -> Option<String> {
    let is_ours = [SPIKES, TIME].iter().all(|name| names.iter().any(|found| found == name));
    (!is_ours).then(|| "a file that holds no tensors".to_owned())
}

/// Why arrays were not written.
#[derive(Debug, thiserror::Error)]
pub enum ArraysError {
    /// The file cannot be written.
    #[error(transparent)]
    Npz(#[from] NpzError),
    /// The file cannot be created or renamed.
    #[error("write {0}")]
    File(#[from] FileError),
    /// An array cannot be stored.
    #[error("expected arrays that safetensors can hold, found {0}")]
    Tensor(#[from] SafeTensorError),
    /// The texts cannot be stored.
    #[error("expected texts that JSON can hold, found {0}")]
    Text(#[from] serde_json::Error),
}

/// Writes arrays as safetensors, and replaces a file that is already there.
///
/// # Errors
/// [`ArraysError`]; a file that was at `path` is then unchanged.
pub fn write_safetensors(path: &Path, arrays: &[Array]) -> Result<(), ArraysError> {
    let mut texts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut stored = Vec::new();
    for array in arrays {
        array.check()?;
        let (dtype, bytes): (Dtype, Vec<u8>) = match &array.values {
            Values::F32(values) => {
                (Dtype::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect())
            }
            Values::F64(values) => {
                (Dtype::F64, values.iter().flat_map(|value| value.to_le_bytes()).collect())
            }
            Values::I64(values) => {
                (Dtype::I64, values.iter().flat_map(|value| value.to_le_bytes()).collect())
            }
            Values::Bool(values) => (Dtype::BOOL, values.iter().map(|value| u8::from(*value)).collect()),
            Values::Text(values) => {
                let list = texts.entry(array.name).or_default();
                let mut places: HashMap<&str, i64> = HashMap::new();
                let mut bytes = Vec::with_capacity(values.len() * 8);
                for text in values {
                    let next = places.len() as i64;
                    let place = *places.entry(text.as_str()).or_insert(next);
                    if place == next {
                        list.push(text);
                    }
                    bytes.extend(place.to_le_bytes());
                }
                (Dtype::I64, bytes)
            }
        };
        stored.push((array, dtype, bytes));
    }
    let views = stored
        .iter()
        .map(|(array, dtype, bytes)| Ok((array.name, TensorView::new(*dtype, array.shape.clone(), bytes)?)));
    let views = views.collect::<Result<Vec<_>, SafeTensorError>>()?;
    let metadata = HashMap::from([("text".to_owned(), serde_json::to_string(&texts)?)]);
    Ok(files::write_file(path, &safetensors::serialize(views, Some(metadata))?)?)
}
