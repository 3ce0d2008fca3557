//! A group of an HDF5 file: listing and opening its members, writing new ones.

use super::{Dataset, H5Error, Number, Truth, library, text, write_attribute};
use hdf5::types::VarLenArray;
use hdf5::{H5Type, LocationType, ObjectReference1};
use ndarray::ArrayView;

/// A group, open for reading or writing. Its file stays open as long as any group or dataset of it exists.
#[derive(Debug, Clone)]
pub struct Group(hdf5::Group);

impl Group {
    pub(super) fn new(group: hdf5::Group) -> Group {
        Group(group)
    }

    /// Path of the group in its file.
    pub fn name(&self) -> String {
        self.0.name()
    }

    /// Lists the names of all members, in the order of the file's index of names.
    ///
    /// # Errors
    /// [`H5Error::Library`] if the group is damaged.
    pub fn members(&self) -> Result<Vec<String>, H5Error> {
        self.0.member_names().map_err(library("list", self.name()))
    }

    /// Whether a member called `name` exists. A link that leads nowhere counts as a member.
    pub fn has(&self, name: &str) -> bool {
        self.0.link_exists(name)
    }

    /// Whether the member `name` is a group. Links are followed.
    ///
    /// # Errors
    /// [`H5Error::Library`] if the member is missing or its link leads nowhere.
    pub fn is_group(&self, name: &str) -> Result<bool, H5Error> {
        let kind = self.0.loc_type_by_name(name).map_err(library("open", self.child(name)))?;
        Ok(kind == LocationType::Group)
    }

    /// Opens a member group. Links are followed.
    ///
    /// # Errors
    /// [`H5Error::Library`] if there is no such member or it is no group.
    pub fn group(&self, name: &str) -> Result<Group, H5Error> {
        self.0.group(name).map(Group::new).map_err(library("open the group", self.child(name)))
    }

    /// Opens a member dataset. Links are followed.
    ///
    /// # Errors
    /// [`H5Error::Library`] if there is no such member or it is no dataset.
    pub fn dataset(&self, name: &str) -> Result<Dataset, H5Error> {
        self.0.dataset(name).map(Dataset::new).map_err(library("open the dataset", self.child(name)))
    }

    /// Reads the text in the attribute `name`; `None` if there is no such attribute or it holds no text.
    pub fn text_attribute(&self, name: &str) -> Option<String> {
        text::attribute(&self.0, name)
    }

    /// Reads the number in the attribute `name`, which may be stored as a list of one; `None` if there is no such attribute
    /// or it holds no number.
    pub fn number_attribute(&self, name: &str) -> Option<f64> {
        super::number_attribute(&self.0, name)
    }

    /// Creates a member group.
    ///
    /// # Errors
    /// [`H5Error::Library`] if it already exists or the file cannot be written.
    pub fn create_group(&self, name: &str) -> Result<Group, H5Error> {
        let builder = self.0.create_group_builder().obj_track_times(false);
        builder.create(name).map(Group::new).map_err(library("create the group", self.child(name)))
    }

    /// Writes a dataset of numbers with this shape (row-major; the empty shape makes a scalar).
    ///
    /// # Errors
    /// [`H5Error::Library`] if the shape does not fit the data or the file cannot be written.
    pub fn write<T: Number>(&self, name: &str, data: &[T], shape: &[usize]) -> Result<Dataset, H5Error> {
        self.write_elements(name, data, shape)
    }

    /// Writes a dataset of numbers with this shape (row-major), in chunks compressed with gzip, which every HDF5 reader knows.
    ///
    /// # Errors
    /// [`H5Error::Library`] if the shape does not fit the data or the file cannot be written.
    pub fn write_gzip<T: Number>(&self, name: &str, data: &[T], shape: &[usize]) -> Result<Dataset, H5Error> {
        let failed = library("write", self.child(name));
        let view = ArrayView::from_shape(shape, data).map_err(|error| failed(error.into()))?;
        let builder = self.0.new_dataset_builder().deflate(4);
        builder.with_data(view).create(name).map(Dataset::new).map_err(failed)
    }

    /// Makes a dataset of numbers that stores nothing.
    #[cfg(test)]
    pub(super) fn claim(&self, name: &str, shape: &[usize]) -> hdf5::Result<()> {
        let chunk: Vec<usize> = shape.iter().map(|_| 16).collect();
        let builder = self.0.new_dataset_builder().empty::<f64>().chunk(chunk).shape(shape);
        builder.create(name).map(drop)
    }

    /// Writes a column of lists of integers. The lists may differ in length.
    ///
    /// # Errors
    /// [`H5Error::Library`] if the file cannot be written.
    pub fn write_lists(&self, name: &str, lists: &[Vec<i64>]) -> Result<Dataset, H5Error> {
        let lists: Vec<VarLenArray<i64>> = lists.iter().map(|list| VarLenArray::from_slice(list)).collect();
        self.write_elements(name, &lists, &[lists.len()])
    }

    /// Writes a column of booleans as the int8 enumeration that h5py knows.
    ///
    /// # Errors
    /// [`H5Error::Library`] if the file cannot be written.
    pub fn write_bools(&self, name: &str, data: &[bool]) -> Result<Dataset, H5Error> {
        let data: Vec<Truth> = data.iter().map(|&value| Truth(i8::from(value))).collect();
        self.write_elements(name, &data, &[data.len()])
    }

    /// Writes a column of variable-length UTF-8 texts.
    ///
    /// # Errors
    /// [`H5Error::Library`] if a text holds a NUL or the file cannot be written.
    pub fn write_texts(&self, name: &str, data: &[impl AsRef<str>]) -> Result<Dataset, H5Error> {
        let data = text::for_writing(data, || self.child(name))?;
        self.write_elements(name, &data, &[data.len()])
    }

    /// Writes one variable-length UTF-8 text.
    ///
    /// # Errors
    /// [`H5Error::Library`] if the text holds a NUL or the file cannot be written.
    pub fn write_text(&self, name: &str, text: &str) -> Result<Dataset, H5Error> {
        self.write_elements(name, &text::for_writing(&[text], || self.child(name))?, &[])
    }

    /// Writes a column of object references. A target is a path, relative to this group or from the root.
    ///
    /// # Errors
    /// [`H5Error::Library`] if a target does not exist or the file cannot be written.
    pub fn write_references(&self, name: &str, targets: &[&str]) -> Result<Dataset, H5Error> {
        let data: Result<Vec<_>, _> = targets.iter().map(|target| self.0.reference(target)).collect();
        let data: Vec<ObjectReference1> = data.map_err(library("refer from", self.child(name)))?;
        self.write_elements(name, &data, &[data.len()])
    }

    /// Makes the member `name` a soft link to the path `target`.
    ///
    /// # Errors
    /// [`H5Error::Library`] if the member exists.
    pub fn link(&self, name: &str, target: &str) -> Result<(), H5Error> {
        self.0.link_soft(target, name).map_err(library("link", self.child(name)))
    }

    /// Writes a text attribute.
    ///
    /// # Errors
    /// [`H5Error::Library`] if the attribute already exists, the text holds a NUL or the file cannot be written.
    pub fn set_text(&self, name: &str, text: &str) -> Result<(), H5Error> {
        let value = text::for_writing(&[text], || self.child(name))?;
        write_attribute(&self.0, name, &value, &[])
    }

    /// Writes an attribute that is a list of texts.
    ///
    /// # Errors
    /// [`H5Error::Library`] if the attribute already exists, a text holds a NUL or the file cannot be written.
    pub fn set_texts(&self, name: &str, texts: &[impl AsRef<str>]) -> Result<(), H5Error> {
        let texts = text::for_writing(texts, || self.child(name))?;
        write_attribute(&self.0, name, &texts, &[texts.len()])
    }

    /// Hands everything that was written to the file system.
    ///
    /// # Errors
    /// [`H5Error::Library`] if the file system refuses it (no space left).
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
        self.0.new_dataset_builder().with_data(view).create(name).map(Dataset::new).map_err(failed)
    }
}
