//! The session log: what came, what was computed and what was published, on disk. `SESSION-LOG.md` in this crate documents every byte.
//!
//! A log is a folder with files `000000.ndtlog`, `000001.ndtlog` and so on. Each begins with [`MAGIC`], the version and a header
//! ([`Header`]), and goes on with frames ([`Frame`]), which are only ever appended. The frames hold the arguments of each call of the
//! decoder and of the guard, so that the calls can be repeated, and each estimate that was published.
//!
//! | module | what it defines |
//! |---|---|
//! | [`frame`] | the frames and their bytes |
//! | [`header`] | where a log comes from |
//! | [`reader`] | reads the frames of a log up to the last one that is whole |

pub mod frame;
pub mod header;
mod payload;
pub mod reader;

pub use frame::{BinTaken, Frame, Kind, ResultTaken, Thread};
pub use header::Header;
pub use reader::{LogError, Reader, Tail};

/// The first bytes of every file of a log.
pub const MAGIC: [u8; 6] = *b"NDTLOG";

/// Version of the log's bytes.
///
/// **When it rises:** with every change of a frame, an added field or kind included, and with every new
/// [`crate::wire::VERSION`], because bins and estimates are stored with the headers of the wire.
///
/// **What must be done then:** the same as for the wire: a row in the table of `SESSION-LOG.md`, a golden file and its digest.
pub const VERSION: u16 = 1;

/// Length of what precedes the first frame of a file, bytes: the magic and the version.
pub const PREFACE_BYTES: usize = MAGIC.len() + 2;

/// Largest payload of a frame, bytes. A header of the most channels and units, with its configuration, is far smaller.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// The first bytes of a file of this version.
pub fn preface() -> [u8; PREFACE_BYTES] {
    let mut bytes = [0; PREFACE_BYTES];
    bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
    bytes[MAGIC.len()..].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

/// Name of the file with this number in the folder of a log.
pub fn file_name(number: u32) -> String {
    format!("{number:06}.{FILE_EXTENSION}")
}

/// How the name of each file of a log ends.
pub const FILE_EXTENSION: &str = "ndtlog";
