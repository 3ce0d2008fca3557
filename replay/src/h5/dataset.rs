//! A dataset of an HDF5 file: reading its elements as what the caller needs, and its attributes.

use super::{
    BYTES_OF_NONE_MAX, BYTES_OF_ONE_MAX, ELEMENTS_MAX, H5Error, Kind, Truth, kind, library, text,
    write_attribute,
};
use hdf5::types::{TypeDescriptor, VarLenArray};
use hdf5::{H5Type, ObjectReference1};

/// A dataset, open for reading or for adding attributes.
#[derive(Debug, Clone)]
pub struct Dataset(hdf5::Dataset);

/// A type of number that datasets are read as and written from.
pub trait Number: H5Type + Copy {}
impl Number for f64 {}
impl Number for f32 {}
impl Number for u64 {}
impl Number for i64 {}
impl Number for u8 {}

impl Dataset {
    pub(super) fn new(dataset: hdf5::Dataset) -> Dataset {
        Dataset(dataset)
    }

    /// Path of the dataset in its file.
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// Length of each axis; empty for a scalar.
    pub fn shape(&self) -> Vec<usize> {
        self.0.shape()
    }

    /// Number of elements, if the file can hold so many.
    ///
    /// # Errors
    /// [`H5Error::Size`] or [`H5Error::Hollow`] if it cannot: nothing of that size must be allocated then.
    pub fn elements_stored(&self) -> Result<usize, H5Error> {
        // The product of a damaged header's lengths may not even fit a usize.
        let claimed = self.shape().iter().try_fold(1usize, |product, &length| product.checked_mul(length));
        let claimed = claimed.unwrap_or(usize::MAX);
        if claimed > ELEMENTS_MAX {
            return Err(H5Error::Size { object: self.name(), found: claimed });
        }
        let element_bytes = self.0.dtype().map_or(1, |stored| stored.size());
        let stored = self.0.storage_size();
        let most = (stored as usize).saturating_mul(BYTES_OF_ONE_MAX).max(BYTES_OF_NONE_MAX);
        match claimed.saturating_mul(element_bytes) <= most {
            true => Ok(claimed),
            false => Err(H5Error::Hollow { object: self.name(), claimed, stored }),
        }
    }

    /// Kind of the elements.
    pub fn kind(&self) -> Kind {
        self.descriptor().map_or(Kind::Other, |descriptor| kind(&descriptor))
    }

    /// Reads all elements in row-major order, converted from whichever number type is stored. Floating-point numbers are
    /// never read as integers.
    ///
    /// # Errors
    /// [`H5Error::Kind`] if the dataset stores no such numbers, [`H5Error::Size`], [`H5Error::Hollow`] and
    /// [`H5Error::Library`] if it is damaged.
    pub fn numbers<T: Number>(&self) -> Result<Vec<T>, H5Error> {
        let stored = self.kind();
        let wants_float = matches!(T::type_descriptor(), TypeDescriptor::Float(_));
        match stored {
            Kind::Int => {}
            Kind::Float if wants_float => {}
            _ => return Err(self.other_kind(if wants_float { "numbers" } else { "integers" })),
        }
        self.elements()
    }

    /// Reads all elements as booleans: from the int8 enumeration, or from integers of any width (0 is false).
    ///
    /// # Errors
    /// As [`Dataset::numbers`].
    pub fn bools(&self) -> Result<Vec<bool>, H5Error> {
        match self.kind() {
            Kind::Bool => Ok(self.elements::<Truth>()?.iter().map(|value| value.0 != 0).collect()),
            Kind::Int => Ok(self.elements::<i64>()?.iter().map(|&value| value != 0).collect()),
            _ => Err(self.other_kind("truth values")),
        }
    }

    /// Reads all elements as lists of integers.
    ///
    /// # Errors
    /// As [`Dataset::numbers`].
    pub fn lists(&self) -> Result<Vec<Vec<i64>>, H5Error> {
        match self.descriptor() {
            Some(TypeDescriptor::VarLenArray(item)) if kind(&item) == Kind::Int => {}
            _ => return Err(self.other_kind("lists of integers")),
        }
        Ok(self.elements::<VarLenArray<i64>>()?.iter().map(|list| list.to_vec()).collect())
    }

    /// Reads all elements as text, whatever their encoding. Bytes that are not UTF-8 become `\u{fffd}`.
    ///
    /// # Errors
    /// As [`Dataset::numbers`].
    pub fn texts(&self) -> Result<Vec<String>, H5Error> {
        self.elements_stored()?;
        text::read(&self.0).ok_or_else(|| self.other_kind("text"))?.map_err(library("read", self.name()))
    }

    /// Reads the number in the attribute `name`, which may be stored as a list of one; `None` if there is no such attribute
    /// or it holds no number.
    pub fn number_attribute(&self, name: &str) -> Option<f64> {
        super::number_attribute(&self.0, name)
    }

    /// Reads the text in the attribute `name`; `None` if there is no such attribute or it holds no text.
    pub fn text_attribute(&self, name: &str) -> Option<String> {
        text::attribute(&self.0, name)
    }

    /// Writes a text attribute.
    ///
    /// # Errors
    /// [`H5Error::Library`] if the attribute already exists, the text holds a NUL or the file cannot be written.
    pub fn set_text(&self, name: &str, text: &str) -> Result<(), H5Error> {
        let value = text::for_writing(&[text], || self.name())?;
        write_attribute(&self.0, name, &value, &[])
    }

    /// Writes an attribute of one number.
    ///
    /// # Errors
    /// [`H5Error::Library`] if the attribute already exists or the file cannot be written.
    pub fn set_number<T: Number>(&self, name: &str, number: T) -> Result<(), H5Error> {
        write_attribute(&self.0, name, &[number], &[])
    }

    /// Writes an attribute that refers to the object at `target`, a path from the root.
    ///
    /// # Errors
    /// [`H5Error::Library`] if the target does not exist or the file cannot be written.
    pub fn set_reference(&self, name: &str, target: &str) -> Result<(), H5Error> {
        let reference =
            self.0.reference::<ObjectReference1>(target).map_err(library("refer from", self.name()))?;
        write_attribute(&self.0, name, &[reference], &[])
    }

    fn elements<T: H5Type>(&self) -> Result<Vec<T>, H5Error> {
        self.elements_stored()?;
        self.0.read_raw::<T>().map_err(library("read", self.name()))
    }

    fn descriptor(&self) -> Option<TypeDescriptor> {
        self.0.dtype().and_then(|stored| stored.to_descriptor()).ok()
    }

    fn other_kind(&self, expected: &'static str) -> H5Error {
        let found =
            self.descriptor().map_or("a type of another kind".to_owned(), |stored| stored.to_string());
        H5Error::Kind { expected, object: self.name(), found }
    }
}
