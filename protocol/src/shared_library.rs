//! Shared libraries that are loaded at run time, so that nobody needs them to build: where they are looked for, and their functions.
//! The only file that names `libloading`.

use crate::files::beside_executable;
use std::path::{Path, PathBuf};

/// Why no path led to a library.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NotLoaded {
    /// Path that was tried first, which is that of the usual file.
    pub looked_for: String,
    /// What the loader said of it.
    pub found: String,
}

/// Paths at which a library is looked for, in this order: the configured one alone, or the first of `names` beside the executable
/// alone, or all `names`, which the system's loader searches for.
pub fn paths(configured: Option<&Path>, names: &[&str]) -> Vec<PathBuf> {
    let beside = || names.first().and_then(|name| beside_executable(name));
    match configured.map(Path::to_owned).or_else(beside) {
        Some(path) => vec![path],
        None => names.iter().map(PathBuf::from).collect(),
    }
}

/// Functions of a library, which the macro `functions!` declares.
pub trait Functions: Sized {
    /// Finds all of them.
    ///
    /// # Safety
    /// `library` must be the one whose header they are declared after, and must never be unloaded.
    ///
    /// # Errors
    /// The loader's, for a library without one of them.
    unsafe fn find(library: &libloading::Library) -> Result<Self, libloading::Error>;
}

/// Loads the first of `paths` that loads and has all the functions. It is never unloaded, because the threads of a library run until the
/// process ends.
///
/// # Errors
/// What was found at the first path.
pub fn load<F: Functions>(paths: &[PathBuf]) -> Result<F, NotLoaded> {
    let mut failed = None;
    for path in paths {
        match load_from(path) {
            Ok(functions) => return Ok(functions),
            Err(found) => {
                _ = failed.get_or_insert(NotLoaded { looked_for: path.display().to_string(), found });
            }
        }
    }
    Err(failed.unwrap_or_default())
}

fn load_from<F: Functions>(path: &Path) -> Result<F, String> {
    let one_line =
        |error: libloading::Error| error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    // SAFETY: what the library does when it is loaded is what its user asked for.
    let library = unsafe { libloading::Library::new(path) }.map_err(one_line)?;
    // SAFETY: it has the functions of its header or is refused, and it is never unloaded.
    let functions = unsafe { F::find(&library) }.map_err(one_line)?;
    std::mem::forget(library);
    Ok(functions)
}

/// Declares the functions of a library as its header does.
macro_rules! functions {
    ($(#[$about:meta])* $($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        $(#[$about])*
        pub(super) struct Functions {
            $(pub $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl $crate::shared_library::Functions for Functions {
            unsafe fn find(library: &libloading::Library) -> Result<Functions, libloading::Error> {
                Ok(Functions {
                    // SAFETY: guaranteed by the caller; the types are those of the header.
                    $($name: unsafe { *library.get(stringify!($name))? },)*
                })
            }
        }
    };
}

pub(crate) use functions;
