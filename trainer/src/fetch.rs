//! The published MC_Maze recordings, from the DANDI archive (or a mirror that speaks its API) to a folder.
//!
//! The archive says which files a dandiset's version has, how long each is and what its sha256 is. Nothing else of
//! what it says is believed: names are checked before they become paths, bodies are bounded, and a file gets its
//! name only after its length and its sha256 agree. Until then it is `NAME.DIGITS.part`, whose digits are the first
//! of the sha256 that it is to have: so that a part of another version is never continued, and without a note beside
//! it that could be lost. A part outlives broken connections, full disks and kills, and is continued.
//!
//! [`archive`] asks the questions, [`part`] writes the answers down; here is the order of things.
//!
//! **Tested against a server of our own only** (`trainer/tests/fetch.rs`), which follows the archive's documented
//! schema and its published source: the archive itself could not be reached where this was written.

mod archive;
mod part;

use archive::{Archive, Tries, Trouble};
use part::Part;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the archive's API is.
pub const API: &str = "https://api.dandiarchive.org/api";

/// A data set and the version of it that is meant: published versions do not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// What it is called here.
    pub name: &'static str,
    /// Number of the dandiset.
    pub dandiset: &'static str,
    /// Its published version.
    pub version: &'static str,
}

/// The sets that can be fetched; the full one is the benchmark's `mc_maze`.
pub const SETS: [Set; 4] = [
    Set { name: "mc_maze_small", dandiset: "000140", version: "0.220113.0408" },
    Set { name: "mc_maze_medium", dandiset: "000139", version: "0.220113.0408" },
    Set { name: "mc_maze_large", dandiset: "000138", version: "0.220113.0407" },
    Set { name: "mc_maze_full", dandiset: "000128", version: "0.220113.0400" },
];

impl Set {
    /// The set of that name; `mc_maze` is the full one.
    pub fn named(name: &str) -> Result<Set, FetchError> {
        let wanted = if name == "mc_maze" { "mc_maze_full" } else { name };
        let found = SETS.into_iter().find(|set| set.name == wanted);
        found.ok_or_else(|| FetchError::Set { found: name.to_owned() })
    }
}

/// How to fetch.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Base URL of the API. With https every redirect has to be https, too.
    pub api: String,
    /// Tries in a row that may fail without one more byte; at least 1.
    pub tries: u32,
    /// Wait before the second try; it doubles from try to try, up to 30 s.
    pub retry_wait: Duration,
    /// The longest silence within an answer, and the longest way to its headers.
    pub stall: Duration,
    /// Replace a file of the right name and the wrong content, once the right one is there.
    pub force: bool,
}

impl Default for FetchOptions {
    fn default() -> FetchOptions {
        FetchOptions {
            api: API.to_owned(),
            tries: 5,
            retry_wait: Duration::from_millis(500),
            stall: Duration::from_secs(30),
            force: false,
        }
    }
}

/// A file of the archive.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RemoteFile {
    /// File name, without the archive's folders.
    pub name: String,
    /// Length.
    pub bytes: u64,
    /// sha256 of the content, 64 lower-case digits.
    pub sha256: String,
    #[serde(skip)]
    asset: String,
}

/// A file that is in the folder now.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// Length.
    pub bytes: u64,
    /// sha256 of the content, which was computed here.
    pub sha256: String,
    /// It was there before, and nothing was asked for.
    pub already_there: bool,
    /// Bytes of an earlier fetch that were continued; 0 if there were none.
    pub resumed_from_bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// What happens meanwhile, for a progress bar or a log.
#[derive(Debug)]
pub enum Event<'a> {
    /// A file's first `have` bytes are there; comes once at its start and then with each piece.
    Bytes {
        /// Which file.
        file: &'a RemoteFile,
        /// Bytes on disk.
        have: u64,
    },
    /// A try failed and there will be another one.
    Retry {
        /// What was asked for.
        what: &'a str,
        /// Why it failed.
        why: &'a str,
        /// When the next one is.
        wait: Duration,
    },
}

/// Takes the events.
pub type Tell<'a> = dyn FnMut(Event) + 'a;

/// Why a fetch ended early. Parts that may still be right are kept.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No such set.
    #[error("expected one of {}, found {found}", SETS.map(|set| set.name).join(", "))]
    Set {
        /// What was asked for.
        found: String,
    },
    /// Not a URL that can be asked.
    #[error("expected the API as https://HOST/PATH or http://HOST/PATH, found {found}")]
    Api {
        /// What was given.
        found: String,
    },
    /// An answer that another try would not change.
    #[error("{what}: expected status 200 or 206, found {found}")]
    Status {
        /// What was asked for.
        what: String,
        /// The HTTP status.
        found: u16,
    },
    /// No answer, or never a whole one.
    #[error("{what}: expected an answer, found none in {tries} tries; the last one: {why}")]
    Connection {
        /// What was asked for.
        what: String,
        /// Tries in a row.
        tries: u32,
        /// How the last one failed.
        why: String,
    },
    /// A redirect away from https.
    #[error("{what}: expected https all the way, found a redirect to {found}")]
    Insecure {
        /// What was asked for.
        what: String,
        /// Where it was to go, without the query: it may hold a signature.
        found: String,
    },
    /// Redirects that do not end.
    #[error("{what}: expected at most {} redirects, found more", archive::REDIRECTS_MAX)]
    Redirects {
        /// What was asked for.
        what: String,
    },
    /// An answer that is not what the API's schema says.
    #[error("{what}: expected {expected}, found {found}")]
    Reply {
        /// What was asked for.
        what: String,
        /// What the schema says.
        expected: &'static str,
        /// What came.
        found: String,
    },
    /// A path that is not made into a file.
    #[error("expected asset paths of plain names like sub-Jenkins/session.nwb, found {found:?}")]
    AssetPath {
        /// The path.
        found: String,
    },
    /// The archive has not computed the digest: nothing could be proved.
    #[error(
        "{name}: expected a sha256 digest from the archive, found none; without it the file is not fetched"
    )]
    NoDigest {
        /// The file.
        name: String,
    },
    /// A file of that name is there and is another one.
    #[error("{path}: expected sha256 {expected}, found {found}; it is left as it is (--force replaces it)")]
    Present {
        /// The file.
        path: PathBuf,
        /// The archive's digest.
        expected: String,
        /// The file's.
        found: String,
    },
    /// Another fetch holds the part.
    #[error("{path}: expected no other fetch of this file, found one that is running")]
    Busy {
        /// The part.
        path: PathBuf,
    },
    /// It would not fit.
    #[error("{folder}: expected {expected} bytes of free space, found {found}")]
    Space {
        /// Where the files go.
        folder: PathBuf,
        /// Bytes that are still to come.
        expected: u64,
        /// Bytes that are free to this user.
        found: u64,
    },
    /// More or fewer bytes than the archive said.
    #[error("{name}: expected {expected} bytes, found {found}; what was fetched is removed")]
    Length {
        /// The file.
        name: String,
        /// `contentSize` of the archive.
        expected: u64,
        /// What the server has.
        found: String,
    },
    /// The bytes are not those of the archive's digest.
    #[error("{name}: expected sha256 {expected}, found {found}; what was fetched is removed")]
    Digest {
        /// The file.
        name: String,
        /// The archive's digest.
        expected: String,
        /// What came.
        found: String,
    },
    /// The disk does not take more.
    #[error("write {path}: {error}; its first {kept} bytes are kept, and the next fetch goes on from there")]
    Write {
        /// The part.
        path: PathBuf,
        /// Its length.
        kept: u64,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file or folder cannot be used.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> FetchError {
    move |error| FetchError::File { path: path.to_owned(), error }
}

/// The NWB files of `set` as the archive lists them, in the order of their names.
pub fn list(set: &Set, options: &FetchOptions, tell: &mut Tell) -> Result<Vec<RemoteFile>, FetchError> {
    Archive::new(options)?.files(set, tell)
}

/// Brings the NWB files of `set` into `folder`, which is made if need be. Files that are there and right are left;
/// parts are continued. On an error the files before it are in place.
pub fn fetch(
    set: &Set,
    folder: &Path,
    options: &FetchOptions,
    tell: &mut Tell,
) -> Result<Vec<Fetched>, FetchError> {
    let archive = Archive::new(options)?;
    let files = archive.files(set, tell)?;
    std::fs::create_dir_all(folder).map_err(at(folder))?;
    check_space(&files, folder, options.force)?;
    files.iter().map(|file| bring(&archive, file, folder, tell)).collect()
}

/// What is still to come has to fit, so that a night's download does not end in a full disk.
fn check_space(files: &[RemoteFile], folder: &Path, force: bool) -> Result<(), FetchError> {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let missing = |file: &RemoteFile| {
        let there = folder.join(&file.name);
        let stays = there.exists() && (!force || length(&there) == file.bytes);
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
    if is_there(&path, file, archive.options.force)? {
        return Ok(fetched(true, 0));
    }
    let mut part = Part::open(folder, file)?;
    // Another fetch may have finished between the look and the lock.
    if is_there(&path, file, archive.options.force)? {
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
            Ok(()) => format!("the answer ended {} bytes early", file.bytes - part.have),
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
    part.finish(&path, archive.options.force)?;
    Ok(fetched(false, resumed))
}

/// Whether the right file is there; a wrong one is an error unless it may be replaced.
fn is_there(path: &Path, file: &RemoteFile, force: bool) -> Result<bool, FetchError> {
    let length = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(at(path)(error)),
        // What a link leads to counts; a link that leads nowhere is an error, not a place to write to.
        Ok(_) => std::fs::metadata(path).map_err(at(path))?.len(),
    };
    let found = part::sha256(path).map_err(at(path))?;
    if length == file.bytes && found == file.sha256 {
        return Ok(true);
    }
    if force {
        return Ok(false);
    }
    Err(FetchError::Present { path: path.to_owned(), expected: file.sha256.clone(), found })
}
