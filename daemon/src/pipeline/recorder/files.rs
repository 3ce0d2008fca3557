//! The files of a session log: appending, rotation, and the end of the disk.

use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::files::{FileError, write_file};
use ndt_protocol::session_log::{Header, file_name, frame, preface};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Why a log ends before its session.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The disk has as little room as shall be left free.
    #[error("expected more than {reserve_mb} MB of free disk (record-reserve-mb), found {free_mb} MB")]
    Reserve {
        /// Room that shall be left free, MB.
        reserve_mb: u64,
        /// Room that is free, MB.
        free_mb: u64,
    },
    /// The system refused to write.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The files of one log. Owned by the recorder's thread.
pub struct Files {
    folder: PathBuf,
    header: Header,
    file: File,
    /// Bytes in the present file.
    length: u64,
    file_bytes_max: u64,
    reserve_bytes: u64,
}

impl Files {
    /// Creates the folder of the session in `folder`, and its first file with the header. A file of more than `file_bytes_max` is
    /// followed by another one; `reserve_bytes` of the disk are left free.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn begin(
        folder: &Path,
        header: Header,
        file_bytes_max: u64,
        reserve_bytes: u64,
    ) -> Result<Files, Ended> {
        std::fs::create_dir_all(folder).map_err(FileError::at(folder))?;
        let folder = folder.join(&header.session);
        std::fs::create_dir(&folder).map_err(FileError::at(&folder))?;
        let begun = create(&folder, &header).map_err(Ended::from).and_then(|(file, length)| {
            let folder = folder.clone();
            let files = Files { folder, header, file, length, file_bytes_max, reserve_bytes };
            files.check_room(0).map(|()| files)
        });
        if begun.is_err() {
            // A folder of this name was not there before, and nobody misses an empty log.
            drop(std::fs::remove_dir_all(&folder));
        }
        begun
    }

    /// Folder of the log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Appends whole frames, which may be cut into two parts anywhere. They are in the file when this returns: a program that is
    /// killed does not lose them.
    ///
    /// # Errors
    /// [`Ended`]; the file then ends with the frame before.
    pub fn append(&mut self, parts: [&[u8]; 2]) -> Result<(), Ended> {
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if bytes == 0 {
            return Ok(());
        }
        if self.length > self.file_bytes_max {
            self.rotate()?;
        }
        self.check_room(bytes)?;
        let written = parts.iter().try_for_each(|part| self.file.write_all(part));
        if let Err(error) = written {
            // What cannot be cut off is told by the reader.
            drop(self.file.set_len(self.length));
            return Err(self.at(error).into());
        }
        self.length += bytes;
        Ok(())
    }

    /// Appends the end of the log.
    ///
    /// # Errors
    /// [`FileError`] when there is no room even for that.
    pub fn end(&mut self, why: &str) -> Result<(), FileError> {
        let mut bytes = Vec::new();
        frame::put_end(monotonic_ns(), why, &mut bytes);
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        if written.is_err() {
            drop(self.file.set_len(self.length));
        }
        written.map_err(|error| self.at(error))
    }

    fn at(&self, error: std::io::Error) -> FileError {
        FileError { path: self.folder.join(file_name(self.header.file)), error }
    }

    fn rotate(&mut self) -> Result<(), Ended> {
        self.check_room(0)?;
        self.file.sync_data().map_err(|error| self.at(error))?;
        self.header.file += 1;
        (self.file, self.length) = create(&self.folder, &self.header)?;
        Ok(())
    }

    /// Checks that the reserve is still free when so many bytes more are written.
    fn check_room(&self, bytes: u64) -> Result<(), Ended> {
        // A file system that does not say how much is free is written to until it refuses.
        let Ok(disk) = rustix::fs::fstatvfs(&self.file) else { return Ok(()) };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free.saturating_sub(bytes) >= self.reserve_bytes {
            return Ok(());
        }
        Err(Ended::Reserve { reserve_mb: self.reserve_bytes >> 20, free_mb: free >> 20 })
    }
}

/// Creates a file with its header, which is whole from the first instant, and opens it to append. Returns its length too.
fn create(folder: &Path, header: &Header) -> Result<(File, u64), FileError> {
    let path = folder.join(file_name(header.file));
    let mut bytes = preface().to_vec();
    frame::put_header(header, &mut bytes);
    write_file(&path, &bytes)?;
    let file = OpenOptions::new().append(true).open(&path).map_err(FileError::at(&path))?;
    Ok((file, bytes.len() as u64))
}
