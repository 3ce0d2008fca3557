//! HDF5 behind a fence: this module is the only one in the workspace that names the library.
//!
//! A read is typed by what the caller needs, not by what the file stores: integers of any width come as `u64` or `i64`,
//! numbers as `f64`, booleans from int8 enumerations or plain integers, text from every encoding that HDF5 has. A write
//! offers what NWB files and the benchmark's files need, and no more.
//!
//! **Nothing here trusts the file.** Sizes are checked before memory is allocated, the bytes of text are checked, and an
//! error of the library comes back as a sentence (the binding switches the library's own printing to stderr off on every
//! thread). One risk remains: libhdf5 1.10 itself crashes on some corrupted bytes in its heap of variable-length text.

mod dataset;
mod group;
mod text;

pub use dataset::{Dataset, Number};
pub use group::Group;

use hdf5::types::TypeDescriptor;
use hdf5::{H5Type, Location};
use ndarray::ArrayView;
use std::path::Path;

/// Largest number of elements that a dataset may hold: 16 GiB of `f64`, a day of the largest arrays of today at 1 kHz.
/// A damaged header can claim any size, and the claim must not become an allocation.
const ELEMENTS_MAX: usize = 1 << 31;

/// Most bytes that one stored byte can stand for: no more than gzip, the densest of the usual filters, makes of one.
const BYTES_OF_ONE_MAX: usize = 1100;

/// Size up to which a dataset may be read that stores next to nothing, bytes: one of a single repeated value.
const BYTES_OF_NONE_MAX: usize = 64 << 20;

/// Why an HDF5 operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum H5Error {
    /// The library reported an error; `reason` is its own sentence.
    #[error("expected to {action} {object}, found: {reason}")]
    Library {
        /// The operation that failed.
        action: &'static str,
        /// Path of the object in the file, or path of the file.
        object: String,
        /// The library's reason.
        reason: String,
    },
    /// The dataset or attribute stores another kind of value.
    #[error("expected {expected} in {object}, found {found}")]
    Kind {
        /// The kind of value that the caller needs.
        expected: &'static str,
        /// Path of the object in the file.
        object: String,
        /// The stored type.
        found: String,
    },
    /// The dataset claims more elements than any recording has.
    #[error("expected at most {ELEMENTS_MAX} elements in {object}, found {found}")]
    Size {
        /// Path of the object in the file.
        object: String,
        /// Number of elements that the object's header claims.
        found: usize,
    },
    /// The dataset claims far more elements than the bytes that it stores can hold.
    #[error("expected {object} to store its {claimed} elements, found {stored} bytes for them")]
    Hollow {
        /// Path of the object in the file.
        object: String,
        /// Number of elements that the object's header claims.
        claimed: usize,
        /// Bytes that the file stores for the object.
        stored: u64,
    },
}

/// Makes a dataset of numbers that claims a shape and stores nothing, as a damaged file can.
#[cfg(test)]
pub(crate) fn claim(within: &Group, name: &str, shape: &[usize]) {
    within.claim(name, shape).unwrap();
}

/// Kind of the elements of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Floating-point numbers.
    Float,
    /// Integers of any width and sign.
    Int,
    /// The int8 enumeration `FALSE`, `TRUE`.
    Bool,
    /// Text of any encoding, of fixed or variable length.
    Text,
    /// References, compounds, arrays: kinds that no column of a table is read from.
    Other,
}

/// An int8 enumeration `FALSE`, `TRUE`, as h5py and NWB write booleans. Rust's `bool` cannot be used: a file that holds
/// another byte would make it undefined.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
struct Truth(i8);

// SAFETY: HDF5's boolean is an enumeration over int8, and every int8 is a valid `Truth`.
unsafe impl H5Type for Truth {
    fn type_descriptor() -> TypeDescriptor {
        TypeDescriptor::Boolean
    }
}

/// Opens a file for reading and returns its root group.
///
/// # Errors
/// [`H5Error::Library`] if there is no such file, or HDF5 cannot read it.
pub fn open(path: &Path) -> Result<Group, H5Error> {
    let failed = library("open", path.display().to_string());
    let file = hdf5::File::open(path).map_err(&failed)?;
    file.group("/").map(Group::new).map_err(&failed)
}

/// Creates a file (or empties an existing one) and returns its root group. No clock goes into the file's contents.
///
/// The file is not locked, because until it is closed only the caller uses it. libhdf5 leaves its files open in every
/// program that this process starts meanwhile; such a program would hold the lock for as long as it runs, and nobody could
/// open the finished file. (Needs libhdf5 1.10.7, of 2020, or later.)
///
/// # Errors
/// [`H5Error::Library`] if the file cannot be created.
pub fn create(path: &Path) -> Result<Group, H5Error> {
    let failed = library("create", path.display().to_string());
    let file = hdf5::FileBuilder::new().with_fapl(|access| access.file_locking(false)).create(path);
    let file = file.map_err(&failed)?;
    file.group("/").map(Group::new).map_err(&failed)
}

/// Turns the library's errors into ours, for one operation on one object.
fn library(action: &'static str, object: String) -> impl Fn(hdf5::Error) -> H5Error {
    move |error| {
        // The library's own sentences may have line breaks.
        let reason = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        H5Error::Library { action, object: object.clone(), reason }
    }
}

fn kind(descriptor: &TypeDescriptor) -> Kind {
    match descriptor {
        TypeDescriptor::Float(_) => Kind::Float,
        TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) => Kind::Int,
        TypeDescriptor::Boolean => Kind::Bool,
        TypeDescriptor::FixedAscii(_) | TypeDescriptor::FixedUnicode(_) => Kind::Text,
        TypeDescriptor::VarLenAscii | TypeDescriptor::VarLenUnicode => Kind::Text,
        _ => Kind::Other,
    }
}

fn number_attribute(at: &Location, name: &str) -> Option<f64> {
    let attribute = at.attr(name).ok()?;
    let kind = kind(&attribute.dtype().ok()?.to_descriptor().ok()?);
    let is_number = matches!(kind, Kind::Float | Kind::Int) && attribute.size() == 1;
    is_number.then(|| attribute.read_raw::<f64>().ok()).flatten()?.first().copied()
}

fn write_attribute<T: H5Type>(at: &Location, name: &str, data: &[T], shape: &[usize]) -> Result<(), H5Error> {
    let failed = library("write the attribute", format!("{}@{name}", at.name()));
    let view = ArrayView::from_shape(shape, data).map_err(|error| failed(error.into()))?;
    at.new_attr_builder().with_data(view).create(name).map_err(failed)?;
    Ok(())
}
