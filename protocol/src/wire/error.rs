//! Why a message is refused.

use super::VERSION;

/// Why a message is refused. Copied on the real-time path, so that it owns no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The message has too few or too many frames.
    #[error("expected {expected} frames, found {found}")]
    Frames {
        /// Number of frames that a message of this kind has.
        expected: usize,
        /// Number of frames of this message.
        found: usize,
    },
    /// The first frame is another topic.
    #[error("expected the topic {}, found another", String::from_utf8_lossy(expected))]
    Topic {
        /// Topic of such a message.
        expected: &'static [u8],
    },
    /// A frame is too short or too long.
    #[error("expected a {frame} of {expected} bytes, found {found}")]
    Length {
        /// Name of the frame.
        frame: &'static str,
        /// Length that the header asks for, bytes.
        expected: usize,
        /// Length of the frame, bytes.
        found: usize,
    },
    /// The frame is not the header of a message of this project.
    #[error("expected magic \"NDTW\", found bytes {found:02x?}")]
    Magic {
        /// The first four bytes of the frame.
        found: [u8; 4],
    },
    /// The message has a wire version other than [`VERSION`].
    #[error("expected wire version {VERSION}, found {found}{}", about(*found))]
    Version {
        /// Version of the message.
        found: u16,
    },
    /// The message is of another kind.
    #[error("expected message kind {expected}, found {found}")]
    Kind {
        /// Kind that belongs to this topic.
        expected: u16,
        /// Kind of the message.
        found: u16,
    },
    /// The bin does not have the model's number of channels.
    #[error("expected {expected} channels, found {found}")]
    Channels {
        /// Number of channels of the model.
        expected: usize,
        /// Number of channels of the bin.
        found: usize,
    },
    /// The bin's width is neither the model's nor a whole part of it.
    #[error("expected bins of {expected} us or a whole part of it, found {found} us")]
    BinWidth {
        /// Width of the model's bin, us.
        expected: u32,
        /// Width of the bin, us.
        found: u32,
    },
    /// A number is above its limit, or a quality is unknown.
    #[error("expected {what} of at most {max}, found {found}")]
    Limit {
        /// Name of the number that is too large.
        what: &'static str,
        /// Largest value that the number may have.
        max: usize,
        /// Value of the number.
        found: usize,
    },
}

/// What is known of another version, and what to do about it, as the end of a sentence.
fn about(version: u16) -> &'static str {
    match version {
        1 => {
            ", which ndtd 0.1 used before bins could be narrower than the model's; update the program that sent it (WIRE.md)"
        }
        2 => {
            ", which ndtd 0.1 used before estimates carried their age; update the program that sent it (WIRE.md)"
        }
        _ if version > VERSION => ", which a newer program has sent; update this one",
        _ => "",
    }
}
