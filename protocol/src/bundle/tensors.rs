//! Named arrays of `f32` and their safetensors bytes: the form in which weights and golden vectors are stored.

use crate::destination::first_bytes;
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::path::Path;

/// Largest header of which [`names`] reads the names.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// Arrays by name, each with its shape and its values in row-major order.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Why a safetensors file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorsError {
    /// The bytes are not a safetensors file.
    #[error("expected a safetensors file, found {found}")]
    Format {
        /// Message of the parser.
        found: String,
    },
    /// An array's element type is not `f32`.
    #[error("expected f32 in \"{name}\", found {found}")]
    Type {
        /// Name of the array.
        name: String,
        /// Element type of the array.
        found: String,
    },
}

/// Reads arrays from safetensors bytes.
///
/// # Errors
/// [`TensorsError`] when the bytes are damaged or hold anything but `f32`.
pub fn from_bytes(bytes: &[u8]) -> Result<Tensors, TensorsError> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| TensorsError::Format { found: e.to_string() })?;
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(TensorsError::Type { name, found: format!("{:?}", view.dtype()) });
        }
        let (values, _) = view.data().as_chunks::<4>();
        tensors
            .insert(name, (view.shape().to_vec(), values.iter().map(|b| f32::from_le_bytes(*b)).collect()));
    }
    Ok(tensors)
}

/// Reads the names of the arrays in a safetensors file, and nothing else of it; none where the file is of another format.
pub fn names(path: &Path) -> Vec<String> {
    // The format's own reader wants the whole file.
    let start = first_bytes(path, HEADER_BYTES_MAX);
    let header = start.split_first_chunk().and_then(|(length, rest)| {
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        serde_json::from_slice::<Metadata>(rest.get(..length)?).ok()
    });
    header.map_or_else(Vec::new, |header| header.tensors().into_keys().collect())
}

/// Writes arrays to safetensors bytes. The same arrays give the same bytes.
///
/// # Panics
/// When an array's values do not fill its shape, which is a mistake of the caller.
pub fn to_bytes(tensors: &Tensors) -> Vec<u8> {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| (name, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes);
        (*name, view.unwrap_or_else(|e| panic!("array {name} does not fill its shape: {e}")))
    });
    safetensors::serialize(views, None).unwrap_or_else(|e| panic!("arrays in memory always serialise: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_come_back_and_bytes_repeat() {
        let tensors = Tensors::from([
            ("b".to_owned(), (vec![2, 3], vec![1.0, -2.0, 3.5, f32::MIN_POSITIVE, 0.0, 1e30])),
            ("a".to_owned(), (vec![1], vec![7.0])),
        ]);
        let bytes = to_bytes(&tensors);
        assert_eq!(from_bytes(&bytes).unwrap(), tensors);
        assert_eq!(to_bytes(&tensors), bytes);
    }

    #[test]
    fn the_names_in_a_file_of_any_size_are_found_and_none_in_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arrays.safetensors");
        for values in [3, HEADER_BYTES_MAX as usize] {
            let tensors = Tensors::from([("rates".to_owned(), (vec![values], vec![0.5; values]))]);
            std::fs::write(&path, to_bytes(&tensors)).unwrap();
            assert_eq!(names(&path), ["rates"], "{values} values");
        }
        for other in [&b"not a file"[..], b"", &[255; 100], b"\x02\0\0\0\0\0\0\0[]"] {
            std::fs::write(&path, other).unwrap();
            assert!(names(&path).is_empty());
        }
    }

    #[test]
    fn damage_is_one_sentence() {
        let error = from_bytes(b"not a file").unwrap_err().to_string();
        assert!(error.starts_with("expected a safetensors file, found "), "{error}");
    }
}
