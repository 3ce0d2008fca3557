//! Reads the frames of a log, from the first to the last one that is whole.
//!
//! A program that was killed, or a full disk, leaves a log whose end is torn. The reader stops there and says how many bytes it left out
//! ([`Reader::tail`]); that is no error.

use super::frame::{CHECKSUM_BYTES, HEAD_BYTES, checksum};
use super::{
    FILE_EXTENSION, Frame, Header, Kind, MAGIC, PAYLOAD_BYTES_MAX, PREFACE_BYTES, VERSION, file_name,
};
use crate::files::FileError;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file or a folder cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no log at the path.
    #[error("expected a session log at {path}, found {found}")]
    NotALog {
        /// The path, as given.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// The log is of another version.
    #[error("expected a session log of version {VERSION} at {path}, found version {found}")]
    Version {
        /// Path of the file.
        path: PathBuf,
        /// Version of the file.
        found: u16,
    },
    /// A whole frame holds what no frame of this version does.
    #[error("expected a frame of a session log at byte {at} of {path}, found {found}")]
    Frame {
        /// Path of the file.
        path: PathBuf,
        /// Where the frame begins in the file, bytes.
        at: u64,
        /// What is there.
        found: String,
    },
}

/// What was left out at the end of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// File in which the last whole frame lies.
    pub path: PathBuf,
    /// Where that frame ends in the file, bytes.
    pub at: u64,
    /// Number of bytes that were left out, of this file and of later ones.
    pub bytes: u64,
    /// What is there in place of a frame.
    pub found: &'static str,
}

/// Reads a log frame by frame.
pub struct Reader {
    folder: PathBuf,
    /// The files that are not begun yet.
    files: VecDeque<PathBuf>,
    open: Option<Open>,
    header: Header,
    tail: Option<Tail>,
    payload: Vec<u8>,
    /// Number of bytes that were read, of all files.
    read_bytes: u64,
    total_bytes: u64,
}

/// A file that is being read.
struct Open {
    path: PathBuf,
    file: BufReader<File>,
    /// Where the next frame begins.
    at: u64,
}

/// The beginning of a file.
enum Begun {
    Whole(Open, Box<Header>),
    Torn(u64),
}

impl Reader {
    /// Opens the log at `path`: its folder, or the folder above it where it is the only one.
    ///
    /// # Errors
    /// [`LogError`] when there is no log of this version whose first header is whole.
    pub fn open(path: &Path) -> Result<Reader, LogError> {
        let folder = folder(path)?;
        let mut files = files(&folder)?;
        let not = |found: String| LogError::NotALog { path: path.to_owned(), found };
        let Some(first) = files.pop_front() else {
            return Err(not(format!("a folder without {}", file_name(0))));
        };
        let total_bytes = size(&first) + files.iter().map(|path| size(path)).sum::<u64>();
        match begin(&first)? {
            Begun::Torn(bytes) => Err(not(format!("{bytes} bytes, which are no whole header"))),
            Begun::Whole(open, header) => {
                let read_bytes = open.at;
                let (tail, payload) = (None, Vec::new());
                let open = Some(open);
                let header = *header;
                Ok(Reader { folder, files, open, header, tail, payload, read_bytes, total_bytes })
            }
        }
    }

    /// Where the log comes from.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Folder of the log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was left out at the end; `None` before the end, and where nothing was.
    pub fn tail(&self) -> Option<&Tail> {
        self.tail.as_ref()
    }

    /// How many bytes have been read, and how many there were when the log was opened.
    pub fn progress(&self) -> (u64, u64) {
        (self.read_bytes, self.total_bytes)
    }

    /// Returns the next frame of one of these kinds; `None` after the last whole one. Headers of later files are passed over.
    ///
    /// # Errors
    /// [`LogError::File`] of the system, and [`LogError::Frame`] for a whole frame that is not of this version.
    pub fn next_of(&mut self, kinds: &[Kind]) -> Result<Option<Frame>, LogError> {
        loop {
            let Some(open) = &mut self.open else {
                if self.tail.is_some() || !self.begin_next()? {
                    return Ok(None);
                }
                continue;
            };
            let found = read_frame(open, &mut self.payload).map_err(FileError::at(&open.path))?;
            match found {
                Found::End => self.open = None,
                Found::Torn(found) => {
                    let (path, at) = (open.path.clone(), open.at);
                    let later: u64 = self.files.iter().map(|path| size(path)).sum();
                    let bytes = size(&path).saturating_sub(at) + later;
                    self.tail = Some(Tail { path, at, bytes, found });
                    self.open = None;
                }
                Found::Frame(number) => {
                    let length = (HEAD_BYTES + self.payload.len() + CHECKSUM_BYTES) as u64;
                    let at = open.at;
                    open.at += length;
                    self.read_bytes += length;
                    let wrong = |found: String| LogError::Frame { path: open.path.clone(), at, found };
                    let kind = Kind::from_number(number).ok_or_else(|| wrong(format!("kind {number}")))?;
                    if kind == Kind::Header || !kinds.contains(&kind) {
                        continue;
                    }
                    let frame = Frame::read(kind, &self.payload);
                    return frame
                        .map(Some)
                        .ok_or_else(|| wrong(format!("other content of kind {}", kind.name())));
                }
            }
        }
    }

    /// Begins the next file, and returns whether there is one that belongs to the log.
    fn begin_next(&mut self) -> Result<bool, LogError> {
        let Some(path) = self.files.pop_front() else { return Ok(false) };
        let left = |files: &VecDeque<PathBuf>| size(&path) + files.iter().map(|path| size(path)).sum::<u64>();
        let found = match begin(&path)? {
            Begun::Whole(open, header) if header.session == self.header.session => {
                self.read_bytes += open.at;
                self.open = Some(open);
                return Ok(true);
            }
            Begun::Whole(..) => "the header of another session",
            Begun::Torn(_) => "a part of a header",
        };
        let bytes = left(&self.files);
        self.tail = Some(Tail { path, at: 0, bytes, found });
        Ok(false)
    }
}

/// The folder of the log at `path`.
fn folder(path: &Path) -> Result<PathBuf, LogError> {
    let not = |found: String| LogError::NotALog { path: path.to_owned(), found };
    if path.extension().is_some_and(|extension| extension == FILE_EXTENSION) && path.is_file() {
        return Ok(path.parent().unwrap_or(Path::new(".")).to_owned());
    }
    if !path.is_dir() {
        return Err(not((if path.exists() { "a file" } else { "nothing" }).to_owned()));
    }
    if path.join(file_name(0)).exists() {
        return Ok(path.to_owned());
    }
    let entries = std::fs::read_dir(path).map_err(FileError::at(path))?.flatten();
    let mut logs: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|entry| entry.join(file_name(0)).exists()).collect();
    logs.sort();
    match (logs.len(), logs.pop()) {
        (1, Some(log)) => Ok(log),
        (0, _) | (_, None) => Err(not(format!("a folder without {}", file_name(0)))),
        (several, Some(last)) => {
            Err(not(format!("a folder of {several} logs, of which the last is {}", last.display())))
        }
    }
}

/// Whether a session log lies at `path`, for programs that take other files too.
pub fn is_log(path: &Path) -> bool {
    folder(path).is_ok()
}

/// The files of a log in their order, up to the first number that is missing.
fn files(folder: &Path) -> Result<VecDeque<PathBuf>, LogError> {
    let entries = std::fs::read_dir(folder).map_err(FileError::at(folder))?.flatten();
    let names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    let there = |number: &u32| names.iter().any(|name| *name == *file_name(*number));
    Ok((0..).take_while(there).map(|number| folder.join(file_name(number))).collect())
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Reads the beginning of a file.
fn begin(path: &Path) -> Result<Begun, LogError> {
    let file = File::open(path).map_err(FileError::at(path))?;
    let mut open = Open { path: path.to_owned(), file: BufReader::new(file), at: PREFACE_BYTES as u64 };
    let torn = || Ok(Begun::Torn(size(path)));
    let mut preface = [0; PREFACE_BYTES];
    if fill(&mut open.file, &mut preface).map_err(FileError::at(path))? < PREFACE_BYTES {
        return torn();
    }
    let (magic, version) = preface.split_at(MAGIC.len());
    if magic != MAGIC {
        let found = format!("other bytes in {}", path.display());
        return Err(LogError::NotALog { path: path.to_owned(), found });
    }
    let version = u16::from_le_bytes([version[0], version[1]]);
    if version != VERSION {
        return Err(LogError::Version { path: path.to_owned(), found: version });
    }
    let mut payload = Vec::new();
    let Found::Frame(number) = read_frame(&mut open, &mut payload).map_err(FileError::at(path))? else {
        return torn();
    };
    let header = if number == Kind::Header as u16 { Frame::read(Kind::Header, &payload) } else { None };
    let Some(Frame::Header(header)) = header else {
        let found = "something else than a header".to_owned();
        return Err(LogError::Frame { path: path.to_owned(), at: PREFACE_BYTES as u64, found });
    };
    open.at += (HEAD_BYTES + payload.len() + CHECKSUM_BYTES) as u64;
    Ok(Begun::Whole(open, header))
}

/// What lies at a place of a file.
enum Found {
    /// A whole frame with this number of its kind.
    Frame(u16),
    /// The end of the file.
    End,
    /// Something else.
    Torn(&'static str),
}

/// Reads the next frame into `payload`.
fn read_frame(open: &mut Open, payload: &mut Vec<u8>) -> std::io::Result<Found> {
    let mut head = [0; HEAD_BYTES];
    match fill(&mut open.file, &mut head)? {
        0 => return Ok(Found::End),
        HEAD_BYTES => {}
        _ => return Ok(Found::Torn("a part of a frame")),
    }
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length > PAYLOAD_BYTES_MAX || head[6..] != [0; 2] {
        return Ok(Found::Torn("bytes that begin no frame"));
    }
    payload.clear();
    payload.extend_from_slice(&head);
    payload.resize(HEAD_BYTES + length + CHECKSUM_BYTES, 0);
    if fill(&mut open.file, &mut payload[HEAD_BYTES..])? < length + CHECKSUM_BYTES {
        return Ok(Found::Torn("a part of a frame"));
    }
    let (bytes, sum) = payload.split_at(HEAD_BYTES + length);
    if checksum(bytes).to_le_bytes() != sum {
        return Ok(Found::Torn("a frame with another checksum"));
    }
    payload.truncate(HEAD_BYTES + length);
    payload.drain(..HEAD_BYTES);
    Ok(Found::Frame(u16::from_le_bytes([head[4], head[5]])))
}

/// Reads until `bytes` are full or the file ends, and returns how many were read.
fn fill(file: &mut impl Read, bytes: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
