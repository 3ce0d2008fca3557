//! Text in HDF5: six stored forms, all read as `String`; written as variable-length UTF-8.

use super::H5Error;
use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Container, H5Type, Location};

/// Reads the text in the attribute `name`; `None` if there is no such attribute or it holds no text.
pub(super) fn attribute(location: &Location, name: &str) -> Option<String> {
    let attribute = location.attr(name).ok()?;
    read(&attribute)?.ok()?.into_iter().next()
}

/// Reads all texts of a dataset or attribute; `None` if it stores something else. HDF5 converts neither between fixed and
/// variable length nor between character sets, so each pair is read in its own way.
pub(super) fn read(stored: &Container) -> Option<hdf5::Result<Vec<String>>> {
    fn read_as<T: H5Type + AsRef<[u8]>>(stored: &Container) -> hdf5::Result<Vec<String>> {
        let text = |value: &T| String::from_utf8_lossy(value.as_ref()).into_owned();
        stored.read_raw::<T>().map(|values| values.iter().map(text).collect())
    }
    let descriptor = stored.dtype().and_then(|stored| stored.to_descriptor()).ok()?;
    // Longer fixed-length texts are cut: no name in a recording is a page long.
    Some(match descriptor {
        TypeDescriptor::VarLenUnicode => read_as::<VarLenUnicode>(stored),
        TypeDescriptor::VarLenAscii => read_as::<VarLenAscii>(stored),
        TypeDescriptor::FixedAscii(0..=64) => read_as::<FixedAscii<64>>(stored),
        TypeDescriptor::FixedAscii(_) => read_as::<FixedAscii<2048>>(stored),
        TypeDescriptor::FixedUnicode(0..=64) => read_as::<FixedUnicode<64>>(stored),
        TypeDescriptor::FixedUnicode(_) => read_as::<FixedUnicode<2048>>(stored),
        _ => return None,
    })
}

/// Converts texts for writing. The error names the object that `object` returns.
pub(super) fn for_writing(
    texts: &[impl AsRef<str>],
    object: impl Fn() -> String,
) -> Result<Vec<VarLenUnicode>, H5Error> {
    let convert = |text: &str| text.parse::<VarLenUnicode>();
    let refused = |error: hdf5::types::StringError| H5Error::Library {
        action: "write",
        object: object(),
        reason: error.to_string(),
    };
    texts.iter().map(|text| convert(text.as_ref()).map_err(refused)).collect()
}
