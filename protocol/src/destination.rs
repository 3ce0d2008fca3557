//! Where a program may write, so that nothing of the user's is lost. Every program and every path that is written to follows
//! this one rule:
//!
//! * A path that is, contains or lies within an input is refused. Paths are compared with all links followed, and also by device
//!   and inode, which finds hard links.
//! * What lies at the path is replaced only if it is of the [`Kind`] that is written and the user allows it (`--overwrite`).
//!   Anything else is refused. An empty folder counts as nothing where a folder is written.
//! * The folder in which the output will lie must be one that can be written to.
//!
//! A command checks its destinations before it begins to work, and again before it writes if the work takes long. The [`Kind`]
//! of a format is defined beside its writer.

use crate::files::{self, FileError};
use std::path::{Component, Path, PathBuf};

/// A kind of file or folder that a program writes.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Name with its article, for messages: `a bundle`.
    pub name: &'static str,
    /// How the kind lies on the disk.
    pub form: Form,
    /// Looks at the file or the folder at a path. Returns `None` if it is of this kind, and otherwise a description of it, with
    /// its article. Called for nothing but a file if the form is a file, and for nothing but a folder that is not empty otherwise.
    pub other: fn(&Path) -> Option<String>,
}

/// How a kind lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One file, which is replaced as a whole.
    File,
    /// A folder, which is replaced as a whole.
    Folder,
    /// A folder to which every run of the command adds files, and which is never replaced: `--overwrite` is not needed.
    Workspace,
}

/// How an output and an input lie to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The output is the input, perhaps by another name.
    Is,
    /// The output is a folder above the input.
    Contains,
    /// The input is a folder above the output.
    Within,
}

impl Relation {
    /// The relation in words, for a message.
    pub fn words(self) -> &'static str {
        match self {
            Relation::Is => "is",
            Relation::Contains => "contains",
            Relation::Within => "lies within",
        }
    }
}

/// Why nothing may be written to a path. What is there has not been touched.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// The path is an input, or not apart from one.
    #[error("expected an output apart from the inputs, found that {path} {} the input {input}", relation.words())]
    Input {
        /// Path of the output, as given.
        path: PathBuf,
        /// How the output lies to the input.
        relation: Relation,
        /// Path of the input, as given.
        input: PathBuf,
    },
    /// Something of another kind is there.
    #[error("expected {path} to be free, or {kind}, found {found}; it was not touched")]
    Occupied {
        /// Path of the output, as given.
        path: PathBuf,
        /// Name of the kind that is written.
        kind: &'static str,
        /// What is there.
        found: String,
    },
    /// Something of the right kind is there, and nothing was said about replacing it.
    #[error("expected {path} to be free, found {kind}; --overwrite replaces it")]
    Exists {
        /// Path of the output, as given.
        path: PathBuf,
        /// Name of the kind.
        kind: &'static str,
    },
    /// The output cannot be placed in its folder.
    #[error("expected a folder that can be written to for {path}, found {found}")]
    Place {
        /// Path of the output, as given.
        path: PathBuf,
        /// What is wrong with the folder.
        found: String,
    },
}

/// A path to which something of a kind may be written.
#[derive(Debug, Clone)]
pub struct Destination {
    path: PathBuf,
    kind: Kind,
    overwrite: bool,
    inputs: Vec<PathBuf>,
}

impl Destination {
    /// Checks that something of this kind may be written to `path`. `overwrite` says whether one that is there may be replaced;
    /// `inputs` are all files and folders that the command reads, whether or not they exist.
    ///
    /// # Errors
    /// [`DestinationError`].
    pub fn check<'a>(
        path: &Path,
        kind: Kind,
        overwrite: bool,
        inputs: impl IntoIterator<Item = &'a PathBuf>,
    ) -> Result<Destination, DestinationError> {
        let inputs = inputs.into_iter().cloned().collect();
        let destination = Destination { path: path.to_owned(), kind, overwrite, inputs };
        destination.check_again()?;
        Ok(destination)
    }

    /// Checks the path once more: after long work something else may lie there.
    ///
    /// # Errors
    /// [`DestinationError`].
    pub fn check_again(&self) -> Result<(), DestinationError> {
        let resolved = resolved(&self.path);
        for input in &self.inputs {
            if let Some(relation) = relation(&resolved, &self::resolved(input)) {
                let (path, input) = (self.path.clone(), input.clone());
                return Err(DestinationError::Input { path, relation, input });
            }
        }
        self.check_folder(&resolved)?;
        self.check_contents(&resolved)
    }

    /// The path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one file, after checking the path once more. A file that is there is replaced only when all bytes are on the disk.
    ///
    /// # Errors
    /// [`WriteError`]; what was at the path is then unchanged.
    pub fn write(&self, bytes: &[u8]) -> Result<(), WriteError> {
        self.check_again()?;
        Ok(files::write_file(&self.path, bytes)?)
    }

    /// Checks the folder in which the output will lie. Folders above another folder are created when it is written.
    fn check_folder(&self, resolved: &Path) -> Result<(), DestinationError> {
        let place = |found: String| Err(DestinationError::Place { path: self.path.clone(), found });
        let folder = match self.kind.form {
            Form::File => resolved.parent(),
            Form::Folder if resolved.exists() => resolved.parent(),
            Form::Folder => resolved.ancestors().skip(1).find(|above| above.exists()),
            Form::Workspace => resolved.ancestors().find(|above| above.exists()),
        };
        let Some(folder) = folder else { return place("no folder above it".to_owned()) };
        match std::fs::metadata(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                place(format!("no folder {}", folder.display()))
            }
            Err(error) => place(format!("{} ({error})", folder.display())),
            // A file where a workspace should be is described with what lies at the path.
            Ok(found) if !found.is_dir() && folder == resolved => Ok(()),
            Ok(found) if !found.is_dir() => place(format!("a file, {}", folder.display())),
            Ok(_) => match files::check_writable(folder) {
                Err(error) => place(format!("{} ({error})", folder.display())),
                Ok(()) => Ok(()),
            },
        }
    }

    /// Checks what lies at the path.
    fn check_contents(&self, resolved: &Path) -> Result<(), DestinationError> {
        let (path, kind) = (&self.path, self.kind.name);
        let occupied = |found: String| DestinationError::Occupied { path: path.clone(), kind, found };
        let metadata = match std::fs::metadata(resolved) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(occupied(error.to_string()));
            }
            Err(_) if std::fs::symlink_metadata(resolved).is_ok() => {
                return Err(occupied("a link that leads nowhere".to_owned()));
            }
            Err(_) => return Ok(()),
        };
        let form = self.kind.form;
        match (form == Form::File, metadata.is_dir()) {
            (true, true) => return Err(occupied("a folder".to_owned())),
            (false, false) => return Err(occupied("a file".to_owned())),
            (true, false) if !metadata.is_file() => return Err(occupied("no regular file".to_owned())),
            _ => {}
        }
        if form == Form::Folder
            && let Some(found) = unmovable(resolved)
        {
            return Err(occupied(found));
        }
        if form != Form::File && is_empty(resolved) {
            return Ok(());
        }
        match (self.kind.other)(resolved) {
            Some(found) => Err(occupied(found)),
            None if self.overwrite || form == Form::Workspace => Ok(()),
            None => Err(DestinationError::Exists { path: path.clone(), kind }),
        }
    }
}

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The path may not be written to (any more).
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// For [`Kind::other`] of a folder: describes a folder that holds any entry other than `files`, or that has no file `marker`.
pub fn other_folder(folder: &Path, files: &[&str], marker: &str) -> Option<String> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return Some(error.to_string()),
    };
    let names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let is_ours = |name: &&String| name.as_str() == marker || files.contains(&name.as_str());
    if let Some(foreign) = names.iter().find(|name| !is_ours(name)) {
        return Some(format!("a folder that holds {foreign}"));
    }
    (!names.iter().any(|name| name == marker)).then(|| format!("a folder without {marker}"))
}

/// For [`Kind::other`] of a file: the first bytes of a file, at most `count`; empty if it cannot be read.
pub fn first_bytes(path: &Path, count: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What was read before an error does not begin as the format does, or is enough.
    let _ = std::fs::File::open(path)
        .and_then(|file| std::io::Read::read_to_end(&mut std::io::Read::take(file, count), &mut bytes));
    bytes
}

/// Why a folder that exists cannot be replaced by a rename.
fn unmovable(folder: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
    if device(folder) != device(folder.parent()?) {
        return Some("a mount point".to_owned());
    }
    let here = std::env::current_dir().ok()?;
    here.ancestors()
        .any(|above| is_same(above, folder))
        .then(|| "the folder in which this program runs, or one above it".to_owned())
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// The path with all links followed. Its last names need not exist; `..` among them is taken away as it stands.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = absolute.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let Some((above, mut resolved)) = found else { return absolute };
    for component in absolute.strip_prefix(above).into_iter().flat_map(Path::components) {
        match component {
            Component::ParentDir => drop(resolved.pop()),
            component => resolved.push(component),
        }
    }
    resolved
}

/// How a resolved output lies to a resolved input; `None` if they are apart.
fn relation(output: &Path, input: &Path) -> Option<Relation> {
    if is_same(output, input) {
        return Some(Relation::Is);
    }
    if input.ancestors().skip(1).any(|above| is_same(above, output)) {
        return Some(Relation::Contains);
    }
    output.ancestors().skip(1).any(|above| is_same(above, input)).then_some(Relation::Within)
}

/// Whether two paths name the same file or folder.
fn is_same(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    a == b || id(a).is_some_and(|a| id(b) == Some(a))
}

#[cfg(test)]
mod tests;
