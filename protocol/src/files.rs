//! Files that are either complete or absent: they are written beside their final name and then renamed.
//!
//! Also the place beside the program where shared libraries may lie ([`beside_executable`]).

use std::ffi::OsString;
use std::io::{Error, Write};
use std::path::{Path, PathBuf};

/// Path of the file `name` in the folder of the running program, if there is such a file. Shared libraries that a program
/// loads at run time may lie there.
pub fn beside_executable(name: &str) -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    Some(program.parent()?.join(name)).filter(|path| path.exists())
}

/// An error of the system about one file.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}")]
pub struct FileError {
    /// Path of the file.
    pub path: PathBuf,
    /// Error of the system.
    pub error: Error,
}

impl FileError {
    /// Returns a function that adds the path to an error; for `map_err`.
    pub fn at(path: &Path) -> impl FnOnce(Error) -> FileError + use<> {
        let path = path.to_owned();
        move |error| FileError { path, error }
    }
}

/// Writes one file. An existing file is replaced only when all bytes are on the disk. If `path` is a symbolic link, its
/// target is replaced.
///
/// # Errors
/// [`FileError`] with nothing changed at `path`.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    fill_file(path, |part| std::fs::write(part, bytes).map_err(FileError::at(path)))
}

/// As [`write_file`], for a file that `fill` writes under the temporary name that it is given.
///
/// # Errors
/// The error of `fill`, or [`FileError`], with nothing changed at `path`.
pub fn fill_file<E: From<FileError>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let at = |error| FileError { path: path.to_owned(), error };
    let path = &behind_links(path);
    let part = beside(path, "part");
    // The file is created here, because the system's message about a missing folder is plainer than a library's.
    let created = std::fs::File::create_new(&part).map_err(|error| at(error).into());
    let written = created.and_then(|file| {
        fill(&part)?;
        file.sync_all().and_then(|()| std::fs::rename(&part, path)).map_err(|error| at(error).into())
    });
    if written.is_err() {
        // The partial file is of no use, and a failure to remove it changes nothing.
        drop(std::fs::remove_file(&part));
    }
    written
}

/// Writes a folder of files. An existing folder (or file) is replaced as a whole. If `path` is a symbolic link, its target is
/// replaced.
///
/// A folder cannot be renamed over one that is not empty: the two are exchanged, and the old one is removed. Where
/// the file system cannot exchange two names in one step, the old folder is renamed first.
///
/// # Errors
/// [`FileError`] with what was at `path` still there.
pub fn write_folder(path: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), FileError> {
    let path = &behind_links(path);
    let part = beside(path, "part");
    let written = fill(&part, files).and_then(|()| swap(&part, path));
    if written.is_err() {
        drop(std::fs::remove_dir_all(&part));
    }
    written
}

fn fill(folder: &Path, files: &[(&str, Vec<u8>)]) -> Result<(), FileError> {
    std::fs::create_dir_all(folder).map_err(FileError::at(folder))?;
    for (name, bytes) in files {
        let path = folder.join(name);
        let written = std::fs::File::create(&path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(FileError::at(&path))?;
    }
    Ok(())
}

/// Swaps two paths in one step. Returns whether the swap succeeded.
fn exchange(a: &Path, b: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let name = |path: &Path| std::ffi::CString::new(path.as_os_str().as_bytes());
    let (Ok(a), Ok(b)) = (name(a), name(b)) else { return false };
    // SAFETY: both names are strings that end in a zero, and AT_FDCWD is the folder that they are taken from.
    let done = unsafe {
        libc::renameat2(libc::AT_FDCWD, a.as_ptr(), libc::AT_FDCWD, b.as_ptr(), libc::RENAME_EXCHANGE)
    };
    done == 0
}

fn swap(part: &Path, path: &Path) -> Result<(), FileError> {
    let at = FileError::at;
    if !path.exists() {
        return std::fs::rename(part, path).map_err(at(path));
    }
    if exchange(part, path) {
        return remove(part);
    }
    let old = beside(path, "old");
    std::fs::rename(path, &old).map_err(at(path))?;
    if let Err(error) = std::fs::rename(part, path) {
        std::fs::rename(&old, path).map_err(at(path))?;
        return Err(FileError { path: path.to_owned(), error });
    }
    remove(&old)
}

fn remove(path: &Path) -> Result<(), FileError> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    removed.map_err(FileError::at(path))
}

/// Checks that this process may create files in a folder.
///
/// # Errors
/// The system's error: no permission, or a read-only file system.
pub fn check_writable(folder: &Path) -> Result<(), Error> {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: the name is a string that ends in a zero.
    match unsafe { libc::access(name.as_ptr(), libc::W_OK | libc::X_OK) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// The target of a symbolic link; any other path as it is.
fn behind_links(path: &Path) -> PathBuf {
    let is_link = path.symlink_metadata().is_ok_and(|found| found.is_symlink());
    let target = if is_link { path.canonicalize().ok() } else { None };
    target.unwrap_or_else(|| path.to_owned())
}

/// Returns a name in the same folder (a rename must not cross file systems) that nobody uses: neither another process nor one
/// of the same number that was killed.
fn beside(path: &Path, what: &str) -> PathBuf {
    let name = |number: u32| {
        let mut name: OsString = path.file_name().unwrap_or_default().to_owned();
        name.push(match number {
            0 => format!(".{}.{what}", std::process::id()),
            number => format!(".{}-{number}.{what}", std::process::id()),
        });
        path.with_file_name(name)
    };
    (0..).map(name).find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| name(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_and_folders_are_replaced_whole_and_nothing_is_left_beside() {
        let folder = tempfile::tempdir().unwrap();
        let (file, whole) = (folder.path().join("file"), folder.path().join("whole"));
        for bytes in [b"first".as_slice(), b"second"] {
            write_file(&file, bytes).unwrap();
            assert_eq!(std::fs::read(&file).unwrap(), bytes);
        }
        write_folder(&whole, &[("a", b"1".to_vec()), ("b", b"2".to_vec())]).unwrap();
        write_folder(&whole, &[("a", b"3".to_vec())]).unwrap();
        assert_eq!(
            (names(folder.path()), names(&whole)),
            (vec!["file".into(), "whole".into()], vec!["a".into()])
        );
        write_folder(&file, &[("a", b"4".to_vec())]).unwrap();
        assert_eq!(names(&file), ["a"], "a folder can take a file's place");
    }

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("whole");
        write_folder(&whole, &[("a", b"good".to_vec())]).unwrap();
        let error = write_folder(&whole, &[("no/such/folder", b"bad".to_vec())]).unwrap_err();
        assert!(error.to_string().contains("no/such/folder"), "{error}");
        assert_eq!(std::fs::read(whole.join("a")).unwrap(), b"good");
        assert_eq!(names(folder.path()), ["whole"]);
        assert!(write_file(&folder.path().join("missing/file"), b"x").is_err());
    }
}
