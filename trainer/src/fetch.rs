//! Downloads of the published MC_Maze recordings from the DANDI archive, or from a mirror with the same API.
//!
//! The archive lists the files of a dandiset's version with their lengths and sha256 digests. Nothing else that the
//! archive says is trusted: names are checked before they become paths, responses are bounded, and a file gets its name
//! only after its length and its digest have been verified. Until then it is named `NAME.DIGITS.part`, after the first
//! digits of the expected digest, so that a part of another version is never continued. A part survives broken
//! connections, full disks and kills, and is resumed.
//!
//! `archive` sends the requests and `part` writes the files; this file brings the two together.
//!
//! **This has been tested against a server of our own only** (`trainer/tests/fetch`), which follows the archive's
//! documented schema and its published source: the archive itself could not be reached where this was written.

mod archive;
mod part;

use archive::{Archive, Tries, Trouble};
use ndt_protocol::destination::{Destination, DestinationError};
use ndt_replay::nwb;
use part::Part;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Base URL of the archive's API.
pub const API: &str = "https://api.dandiarchive.org/api";

/// A data set in a published version, which never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Name of the data set.
    pub name: &'static str,
    /// Number of the dandiset.
    pub dandiset: &'static str,
    /// The published version.
    pub version: &'static str,
}

/// The data sets that can be fetched. The full one is the benchmark's `mc_maze`.
pub const SETS: [Set; 4] = [
    Set { name: "mc_maze_small", dandiset: "000140", version: "0.220113.0408" },
    Set { name: "mc_maze_medium", dandiset: "000139", version: "0.220113.0408" },
    Set { name: "mc_maze_large", dandiset: "000138", version: "0.220113.0407" },
    Set { name: "mc_maze_full", dandiset: "000128", version: "0.220113.0400" },
];

impl Set {
    /// The data set of this name; `mc_maze` is the full one.
    ///
    /// # Errors
    /// [`FetchError::Set`] when no data set has the name.
    pub fn named(name: &str) -> Result<Set, FetchError> {
        let wanted = if name == "mc_maze" { "mc_maze_full" } else { name };
        let found = SETS.into_iter().find(|set| set.name == wanted);
        found.ok_or_else(|| FetchError::Set { found: name.to_owned() })
    }
}

/// The options of a download.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Base URL of the API. If it is https, every redirect must be https, too.
    pub api: String,
    /// Number of tries in a row that may fail without receiving a byte; at least 1.
    pub tries: u32,
    /// Wait before the second try. It doubles from try to try, up to 30 s.
    pub retry_wait: Duration,
    /// Longest silence within a response, and longest wait for its headers.
    pub stall: Duration,
    /// Whether an existing recording with other contents is replaced, once the right one has been downloaded. Any other file is
    /// left as it is.
    pub overwrite: bool,
}

impl Default for FetchOptions {
    fn default() -> FetchOptions {
        FetchOptions {
            api: API.to_owned(),
            tries: 5,
            retry_wait: Duration::from_millis(500),
            stall: Duration::from_secs(30),
            overwrite: false,
        }
    }
}

/// A file in the archive.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RemoteFile {
    /// File name, without the archive's folders.
    pub name: String,
    /// Length, bytes.
    pub bytes: u64,
    /// sha256 of the contents, as 64 lower-case hexadecimal digits.
    pub sha256: String,
    #[serde(skip)]
    asset: String,
}

/// A file that is in the folder after a download.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Fetched {
    /// Path of the file.
    pub path: PathBuf,
    /// Length, bytes.
    pub bytes: u64,
    /// sha256 of the contents, computed from the file on disk.
    pub sha256: String,
    /// Whether the file was there before, so that nothing was downloaded.
    pub already_there: bool,
    /// Bytes of an earlier download that was resumed; 0 if there was none.
    pub resumed_from_bytes: u64,
    /// Duration of the download, s.
    pub seconds: f64,
}

/// An event during a download, for a progress bar or a log.
#[derive(Debug)]
pub enum Event<'a> {
    /// The first `have` bytes of a file are on disk. This event comes once at the file's start and then with each piece.
    Bytes {
        /// File to be downloaded.
        file: &'a RemoteFile,
        /// Number of bytes on disk.
        have: u64,
    },
    /// A try failed and another one follows.
    Retry {
        /// Dandiset or file that was requested.
        what: &'a str,
        /// Why the try failed.
        why: &'a str,
        /// Wait until the next try.
        wait: Duration,
    },
}

/// A callback that takes the events of a download.
pub type Tell<'a> = dyn FnMut(Event) + 'a;

/// Why a download failed. Parts that may still be right are kept.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no data set of this name.
    #[error("expected one of {}, found {found}", SETS.map(|set| set.name).join(", "))]
    Set {
        /// The name that was asked for.
        found: String,
    },
    /// The API's URL cannot be used.
    #[error("expected the API as https://HOST/PATH or http://HOST/PATH, found {found}")]
    Api {
        /// The URL that was given.
        found: String,
    },
    /// The server refused, and another try would not change that.
    #[error("{what}: expected status 200 or 206, found {found}")]
    Status {
        /// Dandiset or file that was requested.
        what: String,
        /// The HTTP status.
        found: u16,
    },
    /// The server gave no response, or never a complete one.
    #[error("{what}: expected a response, found none in {tries} tries; the last one: {why}")]
    Connection {
        /// Dandiset or file that was requested.
        what: String,
        /// Number of tries in a row.
        tries: u32,
        /// Why the last try failed.
        why: String,
    },
    /// A redirect leads away from https.
    #[error("{what}: expected https all the way, found a redirect to {found}")]
    Insecure {
        /// Dandiset or file that was requested.
        what: String,
        /// Target of the redirect without its query, which may hold a signature.
        found: String,
    },
    /// There were too many redirects.
    #[error("{what}: expected at most {} redirects, found more", archive::REDIRECTS_MAX)]
    Redirects {
        /// Dandiset or file that was requested.
        what: String,
    },
    /// A response does not follow the API's schema.
    #[error("{what}: expected {expected}, found {found}")]
    Reply {
        /// Dandiset or file that was requested.
        what: String,
        /// What the schema asks for.
        expected: &'static str,
        /// What was received.
        found: String,
    },
    /// The path of an asset is unsafe as a file name.
    #[error("expected asset paths of plain names like sub-Jenkins/session.nwb, found {found:?}")]
    AssetPath {
        /// The asset's path.
        found: String,
    },
    /// The archive has no digest for a file, so that its contents could not be verified.
    #[error(
        "{name}: expected a sha256 digest from the archive, found none; without it the file is not fetched"
    )]
    NoDigest {
        /// File to be downloaded.
        name: String,
    },
    /// A file with the name of the download exists and has other contents.
    #[error(
        "{path}: expected sha256 {expected}, found {found}; it is left as it is (--overwrite replaces a recording)"
    )]
    Present {
        /// File to be downloaded.
        path: PathBuf,
        /// Digest in the archive.
        expected: String,
        /// Digest of the existing file.
        found: String,
    },
    /// A file of the same name exists and is not a recording, or the folder cannot be written to.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// Another download uses the partial file.
    #[error("{path}: expected no other fetch of this file, found one that is running")]
    Busy {
        /// Path of the partial download.
        path: PathBuf,
    },
    /// The disk has too little free space.
    #[error("{folder}: expected {expected} bytes of free space, found {found}")]
    Space {
        /// Folder for the files.
        folder: PathBuf,
        /// Bytes that are still to be downloaded.
        expected: u64,
        /// Bytes that are free for this user.
        found: u64,
    },
    /// A file has another length than the archive says.
    #[error("{name}: expected {expected} bytes, found {found}; what was fetched is removed")]
    Length {
        /// File to be downloaded.
        name: String,
        /// Length of the file that the archive states (`contentSize`), in bytes.
        expected: u64,
        /// Length of the file on the server, in bytes, or `more`.
        found: String,
    },
    /// The downloaded bytes do not have the archive's digest.
    #[error("{name}: expected sha256 {expected}, found {found}; what was fetched is removed")]
    Digest {
        /// File to be downloaded.
        name: String,
        /// Digest in the archive.
        expected: String,
        /// What was received.
        found: String,
    },
    /// A partial download cannot be written.
    #[error("write {path}: {error}; its first {kept} bytes are kept, and the next fetch goes on from there")]
    Write {
        /// Path of the partial download.
        path: PathBuf,
        /// Length of the partial download, in bytes.
        kept: u64,
        /// The system's error.
        error: std::io::Error,
    },
    /// A file or folder cannot be used.
    #[error("{path}: {error}")]
    File {
        /// Path of the file or folder.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> FetchError {
    move |error| FetchError::File { path: path.to_owned(), error }
}

/// Lists the NWB files of `set` in the archive, in the order of their names.
///
/// # Errors
/// [`FetchError`] when the archive does not respond as expected.
pub fn list(set: &Set, options: &FetchOptions, tell: &mut Tell) -> Result<Vec<RemoteFile>, FetchError> {
    Archive::new(options)?.files(set, tell)
}

/// Downloads the NWB files of `set` into `folder`, which is created if it does not exist. Existing files with the right
/// contents are kept, and parts are resumed.
///
/// # Errors
/// [`FetchError`]; the files before the one that failed are then in the folder.
pub fn fetch(
    set: &Set,
    folder: &Path,
    options: &FetchOptions,
    tell: &mut Tell,
) -> Result<Vec<Fetched>, FetchError> {
    let archive = Archive::new(options)?;
    let files = archive.files(set, tell)?;
    std::fs::create_dir_all(folder).map_err(at(folder))?;
    check_space(&files, folder, options.overwrite)?;
    files.iter().map(|file| bring(&archive, file, folder, tell)).collect()
}

/// Checks that the rest of the download fits on the disk, so that a long download does not end with a full disk.
fn check_space(files: &[RemoteFile], folder: &Path, overwrite: bool) -> Result<(), FetchError> {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let missing = |file: &RemoteFile| {
        let there = folder.join(&file.name);
        let stays = there.exists() && (!overwrite || length(&there) == file.bytes);
        if stays { 0 } else { file.bytes.saturating_sub(length(&part::path(folder, file))) }
    };
    let expected = files.iter().map(missing).fold(0, u64::saturating_add);
    let disk = rustix::fs::statvfs(folder).map_err(|error| at(folder)(error.into()))?;
    let found = disk.f_bavail.saturating_mul(disk.f_frsize);
    if expected > found {
        return Err(FetchError::Space { folder: folder.to_owned(), expected, found });
    }
    Ok(())
}

/// Downloads one file, or resumes its partial download.
fn bring(
    archive: &Archive,
    file: &RemoteFile,
    folder: &Path,
    tell: &mut Tell,
) -> Result<Fetched, FetchError> {
    let started = Instant::now();
    let path = folder.join(&file.name);
    let fetched = |already_there, resumed_from_bytes| Fetched {
        path: path.clone(),
        bytes: file.bytes,
        sha256: file.sha256.clone(),
        already_there,
        resumed_from_bytes,
        seconds: started.elapsed().as_secs_f64(),
    };
    if is_there(&path, file, archive.options.overwrite)? {
        return Ok(fetched(true, 0));
    }
    let mut part = Part::open(folder, file)?;
    // Another download may have finished between the check and the lock.
    if is_there(&path, file, archive.options.overwrite)? {
        part.remove()?;
        return Ok(fetched(true, 0));
    }
    let resumed = part.have;
    tell(Event::Bytes { file, have: part.have });
    let mut tries = Tries::new(archive.options);
    while part.have < file.bytes {
        let before = part.have;
        let done = archive.content(file, before).and_then(|content| part.take(content, tell));
        let why = match done {
            Ok(()) if part.have == file.bytes => break,
            Ok(()) => format!("the response ended {} bytes early", file.bytes - part.have),
            Err(Trouble::Passing(why)) => why,
            Err(Trouble::Lasting(error @ FetchError::Length { .. })) => {
                part.remove()?;
                return Err(error);
            }
            Err(Trouble::Lasting(error)) => return Err(error),
        };
        if part.have > before {
            tries.progressed();
        }
        tries.failed(&file.name, &why, tell)?;
    }
    part.finish(&path, archive.options.overwrite)?;
    Ok(fetched(false, resumed))
}

/// Whether a file with the right contents exists. A file with other contents is an error
/// unless it is a recording that may be replaced.
fn is_there(path: &Path, file: &RemoteFile, overwrite: bool) -> Result<bool, FetchError> {
    let length = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(at(path)(error)),
        // A link counts as the file that it leads to; a link that leads nowhere is an error.
        Ok(_) => std::fs::metadata(path).map_err(at(path))?.len(),
    };
    let found = part::sha256(path).map_err(at(path))?;
    if length == file.bytes && found == file.sha256 {
        return Ok(true);
    }
    if overwrite {
        Destination::check(path, nwb::RECORDING, true, [])?;
        return Ok(false);
    }
    Err(FetchError::Present { path: path.to_owned(), expected: file.sha256.clone(), found })
}
