//! The description of a stream: name, type, rate, number format, and the metadata of its channels as XDF names them.

use super::LslError;
use super::library::{Handle, Library, read, text};
use std::marker::PhantomData;

/// The format in which values are sent. The numbers are the library's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Format {
    /// 32-bit floating point: exact for integers up to 2^24.
    Float32 = 1,
    /// 64-bit floating point.
    Double64 = 2,
    /// Text, for streams of markers.
    String = 3,
    /// 32-bit integers.
    Int32 = 4,
    /// 16-bit integers.
    Int16 = 5,
    /// 8-bit integers.
    Int8 = 6,
    /// 64-bit integers.
    Int64 = 7,
    /// A format that this program does not know.
    Unknown = 0,
}

impl Format {
    /// Returns the name of the sample format, as used in documents and messages.
    pub fn name(self) -> &'static str {
        match self {
            Format::Float32 => "float32",
            Format::Double64 => "double64",
            Format::String => "string",
            Format::Int32 => "int32",
            Format::Int16 => "int16",
            Format::Int8 => "int8",
            Format::Int64 => "int64",
            Format::Unknown => "unknown",
        }
    }

    /// Whether values are numbers. Counts in any of these formats fit into a `float32` without loss.
    pub fn is_number(self) -> bool {
        !matches!(self, Format::String | Format::Unknown)
    }
}

/// The metadata of one channel, as XDF names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Channel {
    /// Label, which identifies the channel: a unit's id.
    pub label: String,
    /// Unit of the values, such as `m/s`.
    pub unit: String,
    /// Type of the channel, such as `Rate`.
    pub kind: String,
}

impl Channel {
    /// Makes a channel of this label, unit and type.
    pub fn new(label: impl ToString, unit: &str, kind: &str) -> Channel {
        Channel { label: label.to_string(), unit: unit.to_owned(), kind: kind.to_owned() }
    }
}

/// The metadata of an outlet besides the library's own fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// Metadata of each channel.
    pub channels: Vec<Channel>,
    /// Metadata entries besides the channels, as pairs of name and value.
    pub entries: Vec<(&'static str, String)>,
}

/// The fields of an outlet that the library defines.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind<'a> {
    /// Name of the stream; not empty.
    pub name: &'a str,
    /// Content type of the stream.
    pub content_type: &'a str,
    /// Nominal rate, samples/s; 0 for an irregular stream.
    pub rate_hz: f64,
    /// Format in which values are sent.
    pub format: Format,
    /// Source id, which stays the same when the program is restarted, so that a receiver finds the stream again.
    pub source_id: &'a str,
}

/// The description of a stream. May move between threads; only one thread may use it at a time.
pub struct StreamInfo {
    library: Library,
    handle: Handle,
    /// A description must not be read by two threads at once.
    _not_shared: PhantomData<*mut ()>,
}

// SAFETY: plain data on the heap without any tie to a thread; it is used through one owner.
unsafe impl Send for StreamInfo {}

impl StreamInfo {
    /// Makes the description of a stream to be offered.
    ///
    /// # Errors
    /// [`LslError::Refused`] for an empty name or a negative rate, [`LslError::Text`] for a zero byte in a text.
    pub fn new(
        library: &Library,
        kind: &Kind<'_>,
        description: &Description,
    ) -> Result<StreamInfo, LslError> {
        let (name, content_type) = (text("a name", kind.name)?, text("a type", kind.content_type)?);
        let source_id = text("a source id", kind.source_id)?;
        let (channels, format) = (description.channels.len() as i32, kind.format as i32);
        // SAFETY: all strings end with a zero.
        let handle = unsafe {
            let create = library.functions().lsl_create_streaminfo;
            create(name.as_ptr(), content_type.as_ptr(), channels, kind.rate_hz, format, source_id.as_ptr())
        };
        if handle.is_null() {
            return Err(library.refused("describe a stream"));
        }
        let info = StreamInfo::own(library.clone(), handle);
        info.describe(description)?;
        Ok(info)
    }

    fn describe(&self, description: &Description) -> Result<(), LslError> {
        let functions = self.library.functions();
        // SAFETY: the nodes live as long as the description, which is not used elsewhere; all strings end with a zero.
        unsafe {
            let desc = (functions.lsl_get_desc)(self.handle);
            let add = |node: Handle, name: &str, value: &str| -> Result<(), LslError> {
                let (name, value) = (text("a name", name)?, text("a description", value)?);
                (functions.lsl_append_child_value)(node, name.as_ptr(), value.as_ptr());
                Ok(())
            };
            for (name, value) in &description.entries {
                add(desc, name, value)?;
            }
            let channels = (functions.lsl_append_child)(desc, c"channels".as_ptr());
            for Channel { label, unit, kind } in &description.channels {
                let channel = (functions.lsl_append_child)(channels, c"channel".as_ptr());
                add(channel, "label", label)?;
                add(channel, "unit", unit)?;
                add(channel, "type", kind)?;
            }
        }
        Ok(())
    }

    /// Takes ownership of a handle that the library has given away.
    pub(super) fn own(library: Library, handle: Handle) -> StreamInfo {
        StreamInfo { library, handle, _not_shared: PhantomData }
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle
    }

    pub(super) fn library(&self) -> &Library {
        &self.library
    }

    /// Name of the stream.
    pub fn name(&self) -> String {
        // SAFETY: the handle is a description's; the string lives as long as it does.
        unsafe { read((self.library.functions().lsl_get_name)(self.handle)) }
    }

    /// Content type of the stream.
    pub fn content_type(&self) -> String {
        // SAFETY: as above.
        unsafe { read((self.library.functions().lsl_get_type)(self.handle)) }
    }

    /// Source id of the stream, which stays the same when the source is restarted; may be empty.
    pub fn source_id(&self) -> String {
        // SAFETY: as above.
        unsafe { read((self.library.functions().lsl_get_source_id)(self.handle)) }
    }

    /// Identity of the outlet: a new one each time an outlet is made.
    pub fn uid(&self) -> String {
        // SAFETY: as above.
        unsafe { read((self.library.functions().lsl_get_uid)(self.handle)) }
    }

    /// Name of the computer that sends the stream.
    pub fn hostname(&self) -> String {
        // SAFETY: as above.
        unsafe { read((self.library.functions().lsl_get_hostname)(self.handle)) }
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        // SAFETY: the handle is a description's.
        let channels = unsafe { (self.library.functions().lsl_get_channel_count)(self.handle) };
        usize::try_from(channels).unwrap_or(0)
    }

    /// Nominal rate, samples/s; 0 for an irregular stream.
    pub fn rate_hz(&self) -> f64 {
        // SAFETY: the handle is a description's.
        unsafe { (self.library.functions().lsl_get_nominal_srate)(self.handle) }
    }

    /// Format in which values are sent.
    pub fn format(&self) -> Format {
        // SAFETY: the handle is a description's.
        match unsafe { (self.library.functions().lsl_get_channel_format)(self.handle) } {
            1 => Format::Float32,
            2 => Format::Double64,
            3 => Format::String,
            4 => Format::Int32,
            5 => Format::Int16,
            6 => Format::Int8,
            7 => Format::Int64,
            _ => Format::Unknown,
        }
    }

    /// Returns an entry of the metadata; empty when there is none. Only a description from
    /// [`super::Inlet::full_info`] has entries.
    pub fn entry(&self, name: &str) -> String {
        let functions = self.library.functions();
        let Ok(name) = text("a name", name) else { return String::new() };
        // SAFETY: the node lives as long as the description; the name ends with a zero.
        unsafe { read((functions.lsl_child_value_n)((functions.lsl_get_desc)(self.handle), name.as_ptr())) }
    }

    /// Returns the labels in the description, one for each channel that it lists; one more than there are channels at the most,
    /// whatever the sender wrote. Only a description from [`super::Inlet::full_info`] has labels.
    pub fn labels(&self) -> Vec<String> {
        let functions = self.library.functions();
        let mut labels = Vec::new();
        // SAFETY: the nodes live as long as the description; a node that is not there is empty, and so are its children.
        unsafe {
            let channels = (functions.lsl_child)((functions.lsl_get_desc)(self.handle), c"channels".as_ptr());
            let mut channel = (functions.lsl_child)(channels, c"channel".as_ptr());
            while (functions.lsl_empty)(channel) == 0 && labels.len() <= self.channels() {
                labels.push(read((functions.lsl_child_value_n)(channel, c"label".as_ptr())));
                channel = (functions.lsl_next_sibling_n)(channel, c"channel".as_ptr());
            }
        }
        labels
    }
}

impl Clone for StreamInfo {
    fn clone(&self) -> StreamInfo {
        // SAFETY: the handle is a description's; the copy is ours.
        let copy = unsafe { (self.library.functions().lsl_copy_streaminfo)(self.handle) };
        StreamInfo::own(self.library.clone(), copy)
    }
}

impl Drop for StreamInfo {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, and nobody has it any more.
        unsafe { (self.library.functions().lsl_destroy_streaminfo)(self.handle) };
    }
}

impl std::fmt::Display for StreamInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rate = match self.rate_hz() {
            rate if rate > 0.0 => format!("{rate} Hz"),
            _ => "irregular".to_owned(),
        };
        write!(
            f,
            "\"{}\" (type \"{}\", {} channels, {}, {rate}, source id \"{}\", on {})",
            self.name(),
            self.content_type(),
            self.channels(),
            self.format().name(),
            self.source_id(),
            self.hostname()
        )
    }
}
