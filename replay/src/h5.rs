//! HDF5 behind a fence: the only file of the workspace that names the library.
//!
//! Reads are typed by what the caller needs, not by what the file happens to store: any integer width as
//! `u64` or `i64`, any number as `f64`, booleans as int8 enums or plain integers, text in every encoding
//! that HDF5 has. Writes are what NWB and the benchmark's files need and no more. **Nothing here trusts the file**: sizes
//! are bounded before memory is taken, bytes of text are checked, and a failure of the library comes back
//! as a sentence; the library's own printing to stderr is off (its binding switches it off on every
//! thread). Beyond our reach: libhdf5 1.10 itself crashes on some changed bytes in its heap of
//! variable-length texts.

use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenArray, VarLenAscii, VarLenUnicode};
use hdf5::{Container, H5Type, Location, LocationType, ObjectReference1};
use ndarray::ArrayView;
use std::path::Path;

/// Elements that one dataset may hold: 16 GiB of `f64`, a day of the largest arrays of today at 1 kHz.
/// A damaged header can claim any size; the claim must not become an allocation.
const ELEMENTS_MAX: usize = 1 << 31;

/// Why HDF5 could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum H5Error {
    /// The library refused; the sentence is its own.
    #[error("expected to {action} {object}, found: {reason}")]
    Library {
        /// What was tried.
        action: &'static str,
        /// The object's path in the file, or the file's.
        object: String,
        /// The library's reason.
        reason: String,
    },
    /// The dataset or attribute stores another kind of value.
    #[error("expected {expected} in {object}, found {found}")]
    Kind {
        /// The kind that is needed.
        expected: &'static str,
        /// The object's path in the file.
        object: String,
        /// The stored type.
        found: String,
    },
    /// The dataset claims more elements than any recording has.
    #[error("expected at most {ELEMENTS_MAX} elements in {object}, found {found}")]
    Size {
        /// The object's path in the file.
        object: String,
        /// Elements that its header claims.
        found: usize,
    },
}

/// What a dataset's elements are.
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
    /// References, compounds, arrays: nothing that a column of a table is read from.
    Other,
}

/// A number that a dataset can be read as or written from.
pub trait Number: H5Type + Copy {}
impl Number for f64 {}
impl Number for f32 {}
impl Number for u64 {}
impl Number for i64 {}
impl Number for u8 {}

/// An int8 enumeration `FALSE`, `TRUE`, as h5py and NWB write booleans. Not Rust's `bool`, which a file that
/// holds another byte would make undefined.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
struct Truth(i8);

// SAFETY: HDF5's boolean is an enumeration over int8, and every int8 is a valid `Truth`.
unsafe impl H5Type for Truth {
    fn type_descriptor() -> TypeDescriptor {
        TypeDescriptor::Boolean
    }
}

/// A group, open for reading or writing. The file stays open as long as anything in it is.
#[derive(Debug, Clone)]
pub struct Group(hdf5::Group);

/// A dataset, open for reading or for adding attributes.
#[derive(Debug, Clone)]
pub struct Dataset(hdf5::Dataset);

/// Opens a file for reading; gives its root group.
///
/// # Errors
/// [`H5Error::Library`] when there is no such file, or none that HDF5 can read.
pub fn open(path: &Path) -> Result<Group, H5Error> {
    let failed = library("open", path.display().to_string());
    let file = hdf5::File::open(path).map_err(&failed)?;
    file.group("/").map(Group).map_err(&failed)
}

/// Creates a file, or empties an existing one; gives its root group. Nothing in it depends on the clock.
/// The file is the caller's alone until it is closed, so it is not locked: libhdf5 leaves its files open in
/// every program that this process starts meanwhile, and such a program would hold the lock for as long as
/// it runs and keep everybody from the finished file. (Version 1.10.7 of the library, of 2020, or a later.)
///
/// # Errors
/// [`H5Error::Library`] when the file cannot be created.
pub fn create(path: &Path) -> Result<Group, H5Error> {
    let failed = library("create", path.display().to_string());
    let file = hdf5::FileBuilder::new().with_fapl(|access| access.file_locking(false)).create(path);
    let file = file.map_err(&failed)?;
    file.group("/").map(Group).map_err(&failed)
}

impl Group {
    /// Path of the group in its file.
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// Names of all members, in the file's order of names.
    ///
    /// # Errors
    /// [`H5Error::Library`] when the group is damaged.
    pub fn members(&self) -> Result<Vec<String>, H5Error> {
        self.0.member_names().map_err(library("list", self.name()))
    }

    /// Whether a member of this name exists (a link that leads nowhere counts).
    pub fn has(&self, name: &str) -> bool {
        self.0.link_exists(name)
    }

    /// Whether the member is a group. Links are followed.
    ///
    /// # Errors
    /// [`H5Error::Library`] when the member is missing or its link leads nowhere.
    pub fn is_group(&self, name: &str) -> Result<bool, H5Error> {
        let kind = self.0.loc_type_by_name(name).map_err(library("open", self.child(name)))?;
        Ok(kind == LocationType::Group)
    }

    /// Opens a member group. Links are followed.
    ///
    /// # Errors
    /// [`H5Error::Library`] when the member is missing or no group.
    pub fn group(&self, name: &str) -> Result<Group, H5Error> {
        self.0.group(name).map(Group).map_err(library("open the group", self.child(name)))
    }

    /// Opens a member dataset. Links are followed.
    ///
    /// # Errors
    /// [`H5Error::Library`] when the member is missing or no dataset.
    pub fn dataset(&self, name: &str) -> Result<Dataset, H5Error> {
        self.0.dataset(name).map(Dataset).map_err(library("open the dataset", self.child(name)))
    }

    /// The text in the attribute `name`; `None` where there is none or it is no text.
    pub fn text_attribute(&self, name: &str) -> Option<String> {
        text_attribute(&self.0, name)
    }

    /// Creates a member group.
    ///
    /// # Errors
    /// [`H5Error::Library`] when it exists or the file cannot be written.
    pub fn create_group(&self, name: &str) -> Result<Group, H5Error> {
        let builder = self.0.create_group_builder().obj_track_times(false);
        builder.create(name).map(Group).map_err(library("create the group", self.child(name)))
    }

    /// Writes a dataset of numbers with this shape (row-major; the empty shape is a scalar).
    ///
    /// # Errors
    /// [`H5Error::Library`] when the shape does not fit the data or the file cannot be written.
    pub fn write<T: Number>(&self, name: &str, data: &[T], shape: &[usize]) -> Result<Dataset, H5Error> {
        self.write_elements(name, data, shape)
    }

    /// Writes numbers with this shape in chunks that are compressed with gzip, which every HDF5 reader has.
    ///
    /// # Errors
    /// [`H5Error::Library`] when the shape does not fit the data or the file cannot be written.
    pub fn write_gzip<T: Number>(&self, name: &str, data: &[T], shape: &[usize]) -> Result<Dataset, H5Error> {
        let failed = library("write", self.child(name));
        let view = ArrayView::from_shape(shape, data).map_err(|error| failed(error.into()))?;
        let builder = self.0.new_dataset_builder().deflate(4);
        builder.with_data(view).create(name).map(Dataset).map_err(failed)
    }

    /// Writes a column of lists of integers, each of its own length.
    ///
    /// # Errors
    /// [`H5Error::Library`] when the file cannot be written.
    pub fn write_lists(&self, name: &str, lists: &[Vec<i64>]) -> Result<Dataset, H5Error> {
        let lists: Vec<VarLenArray<i64>> = lists.iter().map(|list| VarLenArray::from_slice(list)).collect();
        self.write_elements(name, &lists, &[lists.len()])
    }

    /// Writes a column of booleans as the int8 enumeration that h5py knows.
    ///
    /// # Errors
    /// [`H5Error::Library`] when the file cannot be written.
    pub fn write_bools(&self, name: &str, data: &[bool]) -> Result<Dataset, H5Error> {
        let data: Vec<Truth> = data.iter().map(|&value| Truth(i8::from(value))).collect();
        self.write_elements(name, &data, &[data.len()])
    }

    /// Writes a column of variable-length UTF-8 texts.
    ///
    /// # Errors
    /// [`H5Error::Library`] when a text holds a NUL or the file cannot be written.
    pub fn write_texts(&self, name: &str, data: &[impl AsRef<str>]) -> Result<Dataset, H5Error> {
        let data = unicode(data, || self.child(name))?;
        self.write_elements(name, &data, &[data.len()])
    }

    /// Writes one variable-length UTF-8 text.
    ///
    /// # Errors
    /// [`H5Error::Library`] when the text holds a NUL or the file cannot be written.
    pub fn write_text(&self, name: &str, text: &str) -> Result<Dataset, H5Error> {
        self.write_elements(name, &unicode(&[text], || self.child(name))?, &[])
    }

    /// Writes a column of object references, each to a path relative to this group or from the root.
    ///
    /// # Errors
    /// [`H5Error::Library`] when a target does not exist or the file cannot be written.
    pub fn write_references(&self, name: &str, targets: &[&str]) -> Result<Dataset, H5Error> {
        let data: Result<Vec<_>, _> = targets.iter().map(|target| self.0.reference(target)).collect();
        let data: Vec<ObjectReference1> = data.map_err(library("refer from", self.child(name)))?;
        self.write_elements(name, &data, &[data.len()])
    }

    /// Makes the member `name` a soft link to the path `target`.
    ///
    /// # Errors
    /// [`H5Error::Library`] when the member exists.
    pub fn link(&self, name: &str, target: &str) -> Result<(), H5Error> {
        self.0.link_soft(target, name).map_err(library("link", self.child(name)))
    }

    /// Writes a text attribute.
    ///
    /// # Errors
    /// [`H5Error::Library`] when it exists, the text holds a NUL or the file cannot be written.
    pub fn set_text(&self, name: &str, text: &str) -> Result<(), H5Error> {
        let text = unicode(&[text], || self.child(name))?;
        write_attribute(&self.0, name, &text, &[])
    }

    /// Writes an attribute that is a list of texts.
    ///
    /// # Errors
    /// [`H5Error::Library`] when it exists, a text holds a NUL or the file cannot be written.
    pub fn set_texts(&self, name: &str, texts: &[impl AsRef<str>]) -> Result<(), H5Error> {
        let texts = unicode(texts, || self.child(name))?;
        write_attribute(&self.0, name, &texts, &[texts.len()])
    }

    /// Sends everything that was written to the file system.
    ///
    /// # Errors
    /// [`H5Error::Library`] when the file system refuses (no space left).
    pub fn flush(&self) -> Result<(), H5Error> {
        let failed = library("write", self.0.filename());
        self.0.file().and_then(|file| file.flush()).map_err(failed)
    }

    fn child(&self, name: &str) -> String {
        if name.starts_with('/') {
            name.to_owned()
        } else {
            format!("{}/{name}", self.name().trim_end_matches('/'))
        }
    }

    fn write_elements<T: H5Type>(&self, name: &str, data: &[T], shape: &[usize]) -> Result<Dataset, H5Error> {
        let failed = library("write", self.child(name));
        let view = ArrayView::from_shape(shape, data).map_err(|error| failed(error.into()))?;
        self.0.new_dataset_builder().with_data(view).create(name).map(Dataset).map_err(failed)
    }
}

impl Dataset {
    /// Path of the dataset in its file.
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// Length of each axis; empty for a scalar.
    pub fn shape(&self) -> Vec<usize> {
        self.0.shape()
    }

    /// What the elements are.
    pub fn kind(&self) -> Kind {
        self.descriptor().map_or(Kind::Other, |descriptor| kind(&descriptor))
    }

    /// All elements in row-major order, converted from whichever number type is stored. Integers are never
    /// taken from floating-point numbers.
    ///
    /// # Errors
    /// [`H5Error::Kind`] when the dataset stores no such numbers, [`H5Error::Size`] and [`H5Error::Library`]
    /// when it is damaged.
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

    /// All elements as truth values: the int8 enumeration, or integers of any width (0 is false).
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

    /// All elements as lists of integers.
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

    /// All elements as texts, whatever their encoding; bytes that are not UTF-8 become `\u{fffd}`.
    ///
    /// # Errors
    /// As [`Dataset::numbers`].
    pub fn texts(&self) -> Result<Vec<String>, H5Error> {
        self.bounded()?;
        texts(&self.0).ok_or_else(|| self.other_kind("text"))?.map_err(library("read", self.name()))
    }

    /// The first number in the attribute `name` (some writers store scalars as lists of one); `None` where
    /// there is none or it is no number.
    pub fn number_attribute(&self, name: &str) -> Option<f64> {
        let attribute = self.0.attr(name).ok()?;
        let kind = kind(&attribute.dtype().ok()?.to_descriptor().ok()?);
        let is_number = matches!(kind, Kind::Float | Kind::Int) && attribute.size() == 1;
        is_number.then(|| attribute.read_raw::<f64>().ok()).flatten()?.first().copied()
    }

    /// The text in the attribute `name`; `None` where there is none or it is no text.
    pub fn text_attribute(&self, name: &str) -> Option<String> {
        text_attribute(&self.0, name)
    }

    /// Writes a text attribute.
    ///
    /// # Errors
    /// [`H5Error::Library`] when it exists, the text holds a NUL or the file cannot be written.
    pub fn set_text(&self, name: &str, text: &str) -> Result<(), H5Error> {
        let text = unicode(&[text], || self.name())?;
        write_attribute(&self.0, name, &text, &[])
    }

    /// Writes an attribute of one number.
    ///
    /// # Errors
    /// [`H5Error::Library`] when it exists or the file cannot be written.
    pub fn set_number<T: Number>(&self, name: &str, number: T) -> Result<(), H5Error> {
        write_attribute(&self.0, name, &[number], &[])
    }

    /// Writes an attribute that refers to the object at `target`, a path from the root.
    ///
    /// # Errors
    /// [`H5Error::Library`] when the target does not exist or the file cannot be written.
    pub fn set_reference(&self, name: &str, target: &str) -> Result<(), H5Error> {
        let reference =
            self.0.reference::<ObjectReference1>(target).map_err(library("refer from", self.name()))?;
        write_attribute(&self.0, name, &[reference], &[])
    }

    fn elements<T: H5Type>(&self) -> Result<Vec<T>, H5Error> {
        self.bounded()?;
        self.0.read_raw::<T>().map_err(library("read", self.name()))
    }

    fn bounded(&self) -> Result<(), H5Error> {
        // The product of a damaged header's lengths may not even fit a usize.
        let claimed = self.shape().iter().try_fold(1usize, |product, &length| product.checked_mul(length));
        match claimed {
            Some(elements) if elements <= ELEMENTS_MAX => Ok(()),
            _ => Err(H5Error::Size { object: self.name(), found: claimed.unwrap_or(usize::MAX) }),
        }
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

fn library(action: &'static str, object: String) -> impl Fn(hdf5::Error) -> H5Error {
    move |error| H5Error::Library { action, object: object.clone(), reason: error.to_string() }
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

fn text_attribute(location: &Location, name: &str) -> Option<String> {
    let attribute = location.attr(name).ok()?;
    texts(&attribute)?.ok()?.into_iter().next()
}

/// Texts of a dataset or attribute; `None` when it stores something else. HDF5 converts neither between
/// fixed and variable length nor between character sets, so each pair has its own way.
fn texts(stored: &Container) -> Option<hdf5::Result<Vec<String>>> {
    fn read<T: H5Type + AsRef<[u8]>>(stored: &Container) -> hdf5::Result<Vec<String>> {
        let text = |value: &T| String::from_utf8_lossy(value.as_ref()).into_owned();
        stored.read_raw::<T>().map(|values| values.iter().map(text).collect())
    }
    let descriptor = stored.dtype().and_then(|stored| stored.to_descriptor()).ok()?;
    // Longer fixed-length texts are cut: no name in a recording is a page long.
    Some(match descriptor {
        TypeDescriptor::VarLenUnicode => read::<VarLenUnicode>(stored),
        TypeDescriptor::VarLenAscii => read::<VarLenAscii>(stored),
        TypeDescriptor::FixedAscii(0..=64) => read::<FixedAscii<64>>(stored),
        TypeDescriptor::FixedAscii(_) => read::<FixedAscii<2048>>(stored),
        TypeDescriptor::FixedUnicode(0..=64) => read::<FixedUnicode<64>>(stored),
        TypeDescriptor::FixedUnicode(_) => read::<FixedUnicode<2048>>(stored),
        _ => return None,
    })
}

fn unicode(texts: &[impl AsRef<str>], object: impl Fn() -> String) -> Result<Vec<VarLenUnicode>, H5Error> {
    let convert = |text: &str| text.parse::<VarLenUnicode>();
    let refused = |error: hdf5::types::StringError| H5Error::Library {
        action: "write",
        object: object(),
        reason: error.to_string(),
    };
    texts.iter().map(|text| convert(text.as_ref()).map_err(refused)).collect()
}

fn write_attribute<T: H5Type>(at: &Location, name: &str, data: &[T], shape: &[usize]) -> Result<(), H5Error> {
    let failed = library("write the attribute", format!("{}@{name}", at.name()));
    let view = ArrayView::from_shape(shape, data).map_err(|error| failed(error.into()))?;
    at.new_attr_builder().with_data(view).create(name).map_err(failed)?;
    Ok(())
}
