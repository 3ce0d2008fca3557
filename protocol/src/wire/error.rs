//! Why a message is refused.

use super::{TOPIC_BIN, TOPIC_DESCRIPTION, TOPIC_ESTIMATE, VERSION};
use std::fmt;

/// Most bytes of a refused topic that are kept.
const TOPIC_BYTES: usize = 24;

/// The first bytes of a topic that was found in place of another. Stored inline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundTopic {
    bytes: [u8; TOPIC_BYTES],
    /// Length of the whole topic, bytes.
    length: usize,
}

impl FoundTopic {
    /// Keeps the beginning of `topic`.
    pub fn of(topic: &[u8]) -> FoundTopic {
        let mut bytes = [0; TOPIC_BYTES];
        bytes.iter_mut().zip(topic).for_each(|(kept, byte)| *kept = *byte);
        FoundTopic { bytes, length: topic.len() }
    }
}

/// The topic in quotation marks, with bytes that are no printable ASCII escaped.
impl fmt::Display for FoundTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.length > TOPIC_BYTES { "..." } else { "" };
        write!(f, "\"{}{more}\"", self.bytes[..self.length.min(TOPIC_BYTES)].escape_ascii())
    }
}

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
    #[error("expected the topic {}, found {found}", topics(expected))]
    Topic {
        /// Topic of such a message.
        expected: &'static [u8],
        /// Topic of this message.
        found: FoundTopic,
    },
    /// A description of bins does not say what it should.
    #[error("expected {key} of the description to be {expected}, found {found}")]
    Description {
        /// Name of the entry.
        key: &'static str,
        /// What the entry holds.
        expected: &'static str,
        /// What is there.
        found: &'static str,
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

/// Says which topic a message should have, and which one its descriptions have.
fn topics(expected: &[u8]) -> String {
    let name = String::from_utf8_lossy(expected);
    let what = match expected {
        TOPIC_BIN => "a bin",
        TOPIC_ESTIMATE => "an estimate",
        _ => return name.into_owned(),
    };
    format!("{name} of {what} or {} of a description", String::from_utf8_lossy(TOPIC_DESCRIPTION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_topic_is_shown_beside_those_that_there_are() {
        let sentence =
            |expected, found: &[u8]| WireError::Topic { expected, found: FoundTopic::of(found) }.to_string();
        assert_eq!(
            sentence(TOPIC_BIN, b"ndt.descriptions"),
            "expected the topic ndt.bin of a bin or ndt.description of a description, found \"ndt.descriptions\""
        );
        let long = sentence(TOPIC_ESTIMATE, b"ndt.a\x00\"topic of more than 24 bytes");
        assert!(long.ends_with("found \"ndt.a\\x00\\\"topic of more tha...\""), "{long}");
        assert!(long.contains("the topic ndt.estimate of an estimate or "), "{long}");
        assert_eq!(sentence(TOPIC_DESCRIPTION, b""), "expected the topic ndt.description, found \"\"");
    }
}
