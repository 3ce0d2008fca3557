//! Arrays for NumPy: several of them in one compressed `.npz` file, which `numpy.load` reads without pickles.
//!
//! An `.npz` file is a zip archive with a `.npy` file for each array: a header in the syntax of a Python dictionary, padded to 64
//! bytes, and the elements in row-major order, little-endian. Text is an array of one width in UTF-32, as NumPy stores it; crates that
//! write `.npy` files lack this type. **Equal arrays give equal files**: no clock is read.

use ndt_protocol::files::{self, FileError};
use std::fs::File;
use std::io::{BufWriter, Cursor, Write};
use std::path::{Path, PathBuf};
use zip::result::{ZipError, ZipResult};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// Size of an array from which on its entry of the archive needs 64-bit lengths, bytes; with a margin for what cannot be compressed.
const LARGE_BYTES: usize = 2 << 30;

/// Why arrays were not written.
#[derive(Debug, thiserror::Error)]
pub enum NpzError {
    /// The file cannot be created or renamed.
    #[error("write {0}")]
    File(#[from] FileError),
    /// The archive cannot be made.
    #[error("write {}: {error}", path.display())]
    Archive {
        /// Path of the file.
        path: PathBuf,
        /// Error of the archive's library.
        error: ZipError,
    },
    /// The number of values is not the product of the shape.
    #[error("expected {expected} values in the array {array} of {shape:?}, found {found}")]
    Shape {
        /// Name of the array.
        array: String,
        /// Shape of the array.
        shape: Vec<usize>,
        /// Product of the shape.
        expected: usize,
        /// Number of values.
        found: usize,
    },
}

/// The elements of an array, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// `float32`.
    F32(Vec<f32>),
    /// `float64`.
    F64(Vec<f64>),
    /// `int64`.
    I64(Vec<i64>),
    /// `bool`.
    Bool(Vec<bool>),
    /// Text, `str`.
    Text(Vec<String>),
}

/// An array with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Name of the array.
    pub name: &'static str,
    /// Length of each axis; empty for a single value.
    pub shape: Vec<usize>,
    /// The elements.
    pub values: Values,
}

impl Array {
    /// An array of this shape.
    pub fn new(name: &'static str, shape: &[usize], values: Values) -> Array {
        Array { name, shape: shape.to_vec(), values }
    }

    /// A list.
    pub fn list(name: &'static str, values: Values) -> Array {
        Array { name, shape: vec![values.len()], values }
    }

    /// A single text.
    pub fn text(name: &'static str, text: String) -> Array {
        Array { name, shape: Vec::new(), values: Values::Text(vec![text]) }
    }

    /// Checks that the values fill the shape.
    ///
    /// # Errors
    /// [`NpzError::Shape`] if they do not.
    pub fn check(&self) -> Result<(), NpzError> {
        let (expected, found) = (self.shape.iter().product(), self.values.len());
        if expected == found {
            return Ok(());
        }
        Err(NpzError::Shape { array: self.name.to_owned(), shape: self.shape.clone(), expected, found })
    }

    /// The header of the array's `.npy` file, version 1.
    fn header(&self) -> Vec<u8> {
        let lengths: String = self.shape.iter().map(|length| format!("{length}, ")).collect();
        let kind = self.values.dtype();
        let text =
            format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}", lengths.trim_end());
        // Magic, version and length take 10 bytes, and the header ends with a line break at a multiple of 64.
        let padded = (10 + text.len() + 1).next_multiple_of(64) - 10;
        let mut header = b"\x93NUMPY\x01\x00".to_vec();
        header.extend((padded as u16).to_le_bytes());
        header.extend(format!("{text:<width$}\n", width = padded - 1).bytes());
        header
    }
}

impl Values {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::F64(values) => values.len(),
            Values::I64(values) => values.len(),
            Values::Bool(values) => values.len(),
            Values::Text(values) => values.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Characters of the longest text; NumPy has no type of width 0.
    fn width(texts: &[String]) -> usize {
        texts.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(1)
    }

    fn dtype(&self) -> String {
        match self {
            Values::F32(_) => "<f4".to_owned(),
            Values::F64(_) => "<f8".to_owned(),
            Values::I64(_) => "<i8".to_owned(),
            Values::Bool(_) => "|b1".to_owned(),
            Values::Text(texts) => format!("<U{}", Values::width(texts)),
        }
    }

    /// Size of the values in the file before compression, bytes.
    fn size(&self) -> usize {
        self.len()
            * match self {
                Values::F32(_) => 4,
                Values::F64(_) | Values::I64(_) => 8,
                Values::Bool(_) => 1,
                Values::Text(texts) => 4 * Values::width(texts),
            }
    }

    fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        match self {
            Values::F32(values) => values.iter().try_for_each(|value| to.write_all(&value.to_le_bytes())),
            Values::F64(values) => values.iter().try_for_each(|value| to.write_all(&value.to_le_bytes())),
            Values::I64(values) => values.iter().try_for_each(|value| to.write_all(&value.to_le_bytes())),
            Values::Bool(values) => values.iter().try_for_each(|value| to.write_all(&[u8::from(*value)])),
            Values::Text(texts) => {
                let width = Values::width(texts);
                texts.iter().try_for_each(|text| {
                    let padded = text.chars().map(u32::from).chain(std::iter::repeat(0)).take(width);
                    to.write_all(&padded.flat_map(u32::to_le_bytes).collect::<Vec<u8>>())
                })
            }
        }
    }
}

/// Writes arrays to a file, and replaces a file that is already there.
///
/// # Errors
/// [`NpzError`]; a file that was at `path` is then unchanged, and no temporary file is left.
pub fn write(path: &Path, arrays: &[Array]) -> Result<(), NpzError> {
    arrays.iter().try_for_each(Array::check)?;
    let archived = archive(arrays).map_err(|error| NpzError::Archive { path: path.to_owned(), error })?;
    Ok(files::write_file(path, &archived)?)
}

/// The bytes of an archive. It is made in memory, because the library writes to standard error when a disk is full.
fn archive(arrays: &[Array]) -> ZipResult<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for array in arrays {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .large_file(array.values.size() > LARGE_BYTES);
        archive.start_file(format!("{}.npy", array.name), options)?;
        let mut entry = BufWriter::new(&mut archive);
        entry.write_all(&array.header())?;
        array.values.write(&mut entry)?;
        entry.flush()?;
    }
    Ok(archive.finish()?.into_inner())
}

/// Names of the arrays in an `.npz` file; empty if it is none.
pub fn names(path: &Path) -> Vec<String> {
    let archive = File::open(path).ok().and_then(|file| ZipArchive::new(file).ok());
    let names = archive.iter().flat_map(ZipArchive::file_names);
    names.filter_map(|name| Some(name.ok()?.strip_suffix(".npy")?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrays() -> Vec<Array> {
        vec![
            Array::new("rates", &[2, 3], Values::F32(vec![0.5, -1.0, f32::NAN, 3.0, 4.0, 5.0])),
            Array::list("quality", Values::Text(vec!["good".to_owned(), "é".to_owned()])),
            Array::text("source", "a session".to_owned()),
            Array::new("nothing", &[2, 0], Values::F64(Vec::new())),
        ]
    }

    #[test]
    fn a_header_says_type_and_shape_and_ends_at_a_multiple_of_64_bytes() {
        let header = |array: &Array| {
            let bytes = array.header();
            assert!(bytes.len().is_multiple_of(64) && bytes.ends_with(b"\n"), "{bytes:?}");
            let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
            assert_eq!(length + 10, bytes.len());
            String::from_utf8_lossy(&bytes[10..]).trim_end().to_owned()
        };
        let found: Vec<String> = arrays().iter().map(header).collect();
        assert_eq!(found[0], "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3,), }");
        assert_eq!(found[1], "{'descr': '<U4', 'fortran_order': False, 'shape': (2,), }");
        assert_eq!(found[2], "{'descr': '<U9', 'fortran_order': False, 'shape': (), }");
        assert_eq!(found[3], "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 0,), }");
    }

    #[test]
    fn equal_arrays_give_equal_files_and_a_wrong_shape_leaves_the_one_that_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one.npz"), folder.path().join("other.npz"));
        write(&one, &arrays()).unwrap();
        write(&other, &arrays()).unwrap();
        let bytes = std::fs::read(&one).unwrap();
        assert_eq!(bytes, std::fs::read(&other).unwrap());
        assert_eq!(names(&one), ["rates", "quality", "source", "nothing"]);
        let wrong = [Array::new("rates", &[2, 2], Values::F32(vec![0.0; 3]))];
        let error = write(&one, &wrong).unwrap_err().to_string();
        assert_eq!(error, "expected 4 values in the array rates of [2, 2], found 3");
        assert_eq!(bytes, std::fs::read(&one).unwrap());
        assert!(names(Path::new("nowhere")).is_empty());
    }
}
