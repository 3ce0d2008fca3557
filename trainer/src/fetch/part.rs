//! A file during its download: locked, resumed, hashed while it is written, and renamed once it is verified.

use super::archive::{Content, Trouble};
use super::{Event, FetchError, RemoteFile, Tell, at};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const PIECE_BYTES: usize = 1 << 17;
/// Number of the digest's digits in the part's name: enough to tell versions apart.
const DIGITS: usize = 16;

/// Returns the path of the partial download of `file` in `folder`.
pub fn path(folder: &Path, file: &RemoteFile) -> PathBuf {
    folder.join(format!("{}.{}.part", file.name, &file.sha256[..DIGITS]))
}

/// sha256 of a file's contents, in hexadecimal digits.
pub fn sha256(path: &Path) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    hash_rest(&mut File::open(path)?, &mut hash)?;
    Ok(digits(hash))
}

/// Hashes `file` from its current position to its end; returns the number of bytes.
fn hash_rest(file: &mut File, hash: &mut Sha256) -> std::io::Result<u64> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut bytes = 0;
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(length) => {
                hash.update(&piece[..length]);
                bytes += length as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn digits(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A partial download, open. Its file is locked against other downloads as long as this value lives; the system releases the lock
/// with the process.
pub struct Part<'a> {
    /// Bytes on disk, all of them hashed.
    pub have: u64,
    wanted: &'a RemoteFile,
    path: PathBuf,
    file: File,
    hash: Sha256,
}

impl<'a> Part<'a> {
    /// Opens the partial file of `wanted`, or creates one.
    pub fn open(folder: &Path, wanted: &'a RemoteFile) -> Result<Part<'a>, FetchError> {
        let path = path(folder, wanted);
        let file = lock(&path)?;
        let mut part = Part { have: 0, wanted, path, file, hash: Sha256::new() };
        let length = part.file.metadata().map_err(at(&part.path))?.len();
        if length > wanted.bytes {
            // A part that is longer than the file cannot be a beginning of it.
            part.file.set_len(0).map_err(at(&part.path))?;
        }
        part.have = hash_rest(&mut part.file, &mut part.hash).map_err(at(&part.path))?;
        part.file.seek(SeekFrom::Start(part.have)).map_err(at(&part.path))?;
        Ok(part)
    }

    /// Writes the bytes of a response until it ends or breaks off.
    pub fn take(&mut self, content: Content, tell: &mut Tell) -> Result<(), Trouble> {
        let Content { mut skip, mut body } = content;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let length = match body.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                // The file is complete; how the connection ends does not matter.
                Err(_) if self.have == self.wanted.bytes => return Ok(()),
                Err(error) => return Err(Trouble::Passing(error.to_string())),
            };
            let known = skip.min(length as u64) as usize;
            skip -= known as u64;
            let new = &piece[known..length];
            if self.have + new.len() as u64 > self.wanted.bytes {
                let (name, expected) = (self.wanted.name.clone(), self.wanted.bytes);
                return Err(FetchError::Length { name, expected, found: "more".to_owned() }.into());
            }
            self.file.write_all(new).map_err(|error| self.unwritten(error))?;
            self.hash.update(new);
            self.have += new.len() as u64;
            tell(Event::Bytes { file: self.wanted, have: self.have });
        }
    }

    /// Verifies the file: renames it if its digest is right, and removes it otherwise.
    pub fn finish(self, to: &Path, overwrite: bool) -> Result<(), FetchError> {
        let found = digits(self.hash.clone());
        if found != self.wanted.sha256 {
            let (name, expected) = (self.wanted.name.clone(), self.wanted.sha256.clone());
            self.remove()?;
            return Err(FetchError::Digest { name, expected, found });
        }
        self.file.sync_all().map_err(|error| self.unwritten(error))?;
        if !overwrite && std::fs::symlink_metadata(to).is_ok() {
            let found = "a file that was created meanwhile".to_owned();
            return Err(FetchError::Present {
                path: to.to_owned(),
                expected: self.wanted.sha256.clone(),
                found,
            });
        }
        std::fs::rename(&self.path, to).map_err(at(to))
    }

    /// Removes the partial download.
    pub fn remove(&self) -> Result<(), FetchError> {
        std::fs::remove_file(&self.path).map_err(at(&self.path))
    }

    fn unwritten(&self, error: std::io::Error) -> FetchError {
        let kept = self.file.metadata().map_or(self.have, |file| file.len());
        FetchError::Write { path: self.path.clone(), kept, error }
    }
}

fn lock(path: &Path) -> Result<File, FetchError> {
    loop {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(at(path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FetchError::Busy { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(at(path)(error)),
        }
        // The previous owner of the lock may have renamed or removed the file since it was opened: then this is not the
        // part.
        let id = |file: std::fs::Metadata| (file.dev(), file.ino());
        let opened = id(file.metadata().map_err(at(path))?);
        if std::fs::metadata(path).is_ok_and(|named| id(named) == opened) {
            return Ok(file);
        }
    }
}
