//! Keys of encrypted connections ([CurveZMQ](https://rfc.zeromq.org/spec/26/)), in files as pyzmq's `zmq.auth` and czmq write them: a public
//! certificate `NAME.key`, and a secret one `NAME.key_secret` that holds both keys and that nobody else may read.

use super::library::Library;
use super::{Context, ZeromqError};
use std::ffi::c_char;
use std::fmt;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Characters of a key in [Z85](https://rfc.zeromq.org/spec/32/).
const KEY_CHARACTERS: usize = 40;

/// A public key, as 40 characters of Z85.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(String);

/// A secret key with its public key. It is never printed.
#[derive(Clone)]
pub struct KeyPair {
    /// The key that peers may know.
    pub public: PublicKey,
    secret: String,
}

/// Why keys cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is no key.
    #[error("expected a key of 40 characters (Z85), found {found}")]
    Key {
        /// What is wrong with the text.
        found: String,
    },
    /// The file holds no such key.
    #[error("expected {expected} in {path}, found none; `ndtd keygen` and pyzmq's zmq.auth write such files", path = path.display())]
    Missing {
        /// What should be there.
        expected: &'static str,
        /// Path of the file.
        path: PathBuf,
    },
    /// Others may read the secret key.
    #[error(
        "expected {path} to be readable by its owner alone, found mode {mode:o}; type   chmod 600 {path}",
        path = path.display()
    )]
    Open {
        /// Path of the file.
        path: PathBuf,
        /// Permissions of the file.
        mode: u32,
    },
    /// The file is there, and keys are never overwritten.
    #[error("expected no file at {path}, found one; keys are not overwritten", path = path.display())]
    Exists {
        /// Path of the file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// The library makes no keys.
    #[error(transparent)]
    Zeromq(#[from] ZeromqError),
}

impl PublicKey {
    /// The key as 40 characters.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The key of these 32 bytes; `None` for another number of bytes.
    pub fn of_bytes(library: &Library, bytes: &[u8]) -> Option<PublicKey> {
        if bytes.len() != 32 {
            return None;
        }
        let mut text = [0u8; KEY_CHARACTERS + 1];
        // SAFETY: writes 40 characters and a zero for 32 bytes.
        unsafe {
            (library.functions().zmq_z85_encode)(
                text.as_mut_ptr().cast::<c_char>(),
                bytes.as_ptr(),
                bytes.len(),
            )
        };
        String::from_utf8(text[..KEY_CHARACTERS].to_vec()).ok().map(PublicKey)
    }

    /// Reads the public key of a certificate.
    ///
    /// # Errors
    /// [`KeyError`] when the file cannot be read, or holds no public key.
    pub fn read(path: &Path) -> Result<PublicKey, KeyError> {
        let text = read(path)?;
        let missing = || KeyError::Missing { expected: "a public-key", path: path.to_owned() };
        value_of(&text, "public-key").ok_or_else(missing)?.parse()
    }

    /// Reads the public keys of all certificates `*.key` of a folder.
    ///
    /// # Errors
    /// [`KeyError`] when the folder or one of the files cannot be read, or a file holds no public key.
    pub fn read_all(folder: &Path) -> Result<Vec<PublicKey>, KeyError> {
        let failed = |error| KeyError::Io { path: folder.to_owned(), error };
        let mut keys = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "key") {
                keys.push(PublicKey::read(&path)?);
            }
        }
        Ok(keys)
    }
}

impl std::str::FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<PublicKey, KeyError> {
        check(text).map(|()| PublicKey(text.to_owned()))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("public", &self.public).finish_non_exhaustive()
    }
}

impl KeyPair {
    /// Makes a new pair.
    ///
    /// # Errors
    /// [`KeyError::Zeromq`] when the library was built without encryption.
    pub fn generate(library: &Library) -> Result<KeyPair, KeyError> {
        // The library's random numbers need a context.
        let _context = Context::new(library, 1)?;
        let (mut public, mut secret) = ([0u8; KEY_CHARACTERS + 1], [0u8; KEY_CHARACTERS + 1]);
        // SAFETY: writes 40 characters and a zero to each.
        let made = unsafe {
            (library.functions().zmq_curve_keypair)(public.as_mut_ptr().cast(), secret.as_mut_ptr().cast())
        };
        if made != 0 {
            return Err(library.refused("make keys").into());
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..KEY_CHARACTERS]).into_owned();
        Ok(KeyPair { public: text(&public).parse()?, secret: text(&secret) })
    }

    /// Reads a secret certificate.
    ///
    /// # Errors
    /// [`KeyError`] when others may read the file, or it holds no secret key.
    pub fn read(path: &Path) -> Result<KeyPair, KeyError> {
        let failed = |error| KeyError::Io { path: path.to_owned(), error };
        let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open { path: path.to_owned(), mode });
        }
        let text = read(path)?;
        let missing = |expected| KeyError::Missing { expected, path: path.to_owned() };
        let secret = value_of(&text, "secret-key").ok_or_else(|| missing("a secret-key"))?;
        check(secret)?;
        let public = value_of(&text, "public-key").ok_or_else(|| missing("a public-key"))?.parse()?;
        Ok(KeyPair { public, secret: secret.to_owned() })
    }

    /// Writes the pair to `NAME.key` and `NAME.key_secret` and returns both paths. The second can be read by its owner alone.
    ///
    /// # Errors
    /// [`KeyError::Exists`] when one of the files is there; [`KeyError::Io`].
    pub fn write(&self, name: &Path) -> Result<[PathBuf; 2], KeyError> {
        let with = |extension: &str| {
            let mut path = name.as_os_str().to_owned();
            path.push(extension);
            PathBuf::from(path)
        };
        let paths = [with(".key"), with(".key_secret")];
        if let Some(path) = paths.iter().find(|path| path.symlink_metadata().is_ok()) {
            return Err(KeyError::Exists { path: path.clone() });
        }
        let public = format!("metadata\ncurve\n    public-key = \"{}\"\n", self.public);
        let secret = format!("{public}    secret-key = \"{}\"\n", self.secret);
        let about = "# A key of ZeroMQ's encryption (CURVE), written by ndtd.";
        // The secret file comes first: a public key alone would be of no use.
        let secret = format!("{about}\n# SECRET: do not give this file to anybody.\n{secret}");
        create(&paths[1], 0o600, &secret)?;
        create(
            &paths[0],
            0o644,
            &format!("{about}\n# Public: give this file to those who connect.\n{public}"),
        )?;
        Ok(paths)
    }

    pub(super) fn secret_text(&self) -> &str {
        &self.secret
    }
}

/// Writes a new file of these permissions; one that could not be finished is removed.
fn create(path: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let failed = |error| KeyError::Io { path: path.to_owned(), error };
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    let written = io::Write::write_all(&mut file, text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        drop(std::fs::remove_file(path));
        failed(error)
    })
}

fn read(path: &Path) -> Result<String, KeyError> {
    std::fs::read_to_string(path).map_err(|error| KeyError::Io { path: path.to_owned(), error })
}

/// The value of `name = "value"` in a line of a certificate.
fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        let value = value.trim().strip_prefix('"')?.strip_suffix('"')?;
        (key.trim() == name).then_some(value)
    })
}

fn check(text: &str) -> Result<(), KeyError> {
    const Z85: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
    if text.chars().count() != KEY_CHARACTERS {
        return Err(KeyError::Key { found: format!("{} characters", text.chars().count()) });
    }
    match text.chars().find(|character| !Z85.contains(*character)) {
        Some(character) => Err(KeyError::Key { found: format!("{character:?} in it") }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(secret: char) -> KeyPair {
        let key = |first: char| format!("{first}{}", "0".repeat(KEY_CHARACTERS - 1));
        KeyPair { public: key('a').parse().unwrap(), secret: key(secret) }
    }

    #[test]
    fn keys_are_their_owners_alone_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("rig.2");
        let [public, secret] = pair('b').write(&name).unwrap();
        assert_eq!(public, folder.path().join("rig.2.key"));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&public) & 0o444, mode(&secret)), (0o444, 0o600));
        let read = KeyPair::read(&secret).unwrap();
        assert_eq!((read.public.clone(), read.secret_text()), (pair('b').public, pair('b').secret_text()));
        assert_eq!(PublicKey::read(&public).unwrap(), read.public);
        assert!(!format!("{read:?}").contains(read.secret_text()));

        for left in [&public, &secret] {
            let before = std::fs::read(left).unwrap();
            let error = pair('c').write(&name).unwrap_err().to_string();
            assert!(error.ends_with("found one; keys are not overwritten"), "{error}");
            assert_eq!(std::fs::read(left).unwrap(), before);
            std::fs::remove_file(left).unwrap();
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused_with_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.key_secret");
        let refused = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            KeyPair::read(&path).unwrap_err().to_string()
        };
        assert!(refused("", 0o600).contains("expected a secret-key in "));
        assert!(refused("", 0o644).contains("found mode 644; type   chmod 600 "));
        let short = refused("secret-key = \"abc\"\n", 0o600);
        assert_eq!(short, "expected a key of 40 characters (Z85), found 3 characters");
        let odd = refused(&format!("secret-key = \"{}~\"\n", "0".repeat(39)), 0o600);
        assert_eq!(odd, "expected a key of 40 characters (Z85), found '~' in it");
        std::fs::write(folder.path().join("a.key"), "nothing").unwrap();
        let error = PublicKey::read_all(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("expected a public-key in "), "{error}");
    }
}
