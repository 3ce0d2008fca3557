//! `[monitor]` of the configuration: where the monitor listens, and who may see it.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Fewest characters of a token: 16 hexadecimal digits are 64 bits, more than anybody tries over a network.
const TOKEN_CHARACTERS_MIN: usize = 16;

/// Most characters of a token, which has to fit into the head of a request.
const TOKEN_CHARACTERS_MAX: usize = 256;

/// `[monitor]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct MonitorSettings {
    /// Address on which metrics, health and the live page are served. Default: none, and nothing is served.
    pub address: Option<SocketAddr>,
    /// File whose only line is the token that a request must carry. Needed unless the address is on loopback.
    pub token_file: Option<PathBuf>,
    /// Most connections at once.
    pub connections_max: usize,
}

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        error: std::io::Error,
    },
    /// Others may read the file.
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
    /// The file holds no token.
    #[error(
        "expected a token of {TOKEN_CHARACTERS_MIN} to {TOKEN_CHARACTERS_MAX} letters, digits, - and _ in {path}, found {found}; \
         `openssl rand -hex 32` makes one",
        path = path.display()
    )]
    Text {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with the text.
        found: String,
    },
}

impl Default for MonitorSettings {
    fn default() -> MonitorSettings {
        MonitorSettings { address: None, token_file: None, connections_max: 32 }
    }
}

impl MonitorSettings {
    /// Returns one sentence for each setting that cannot be used.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1..=1_000).contains(&self.connections_max) {
            let found = self.connections_max;
            problems.push(format!("expected connections-max in [monitor] from 1 to 1000, found {found}"));
        }
        match self.address {
            Some(address) if self.token_file.is_none() && !address.ip().is_loopback() => {
                problems.push(format!(
                    "expected a token-file in [monitor] for {address}, which is not on this machine alone, found none"
                ));
            }
            _ => problems.extend(self.token().err().map(|error| format!("in [monitor]: {error}"))),
        }
        problems
    }

    /// Reads the token; `None` where none is configured.
    ///
    /// # Errors
    /// [`TokenError`] when the file cannot be read, others may read it, or it holds no token.
    pub fn token(&self) -> Result<Option<String>, TokenError> {
        self.token_file.as_deref().map(read_token).transpose()
    }
}

fn read_token(path: &Path) -> Result<String, TokenError> {
    let failed = |error| TokenError::Io { path: path.to_owned(), error };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TokenError::Open { path: path.to_owned(), mode });
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let token = text.trim();
    let refused = |found| Err(TokenError::Text { path: path.to_owned(), found });
    if !(TOKEN_CHARACTERS_MIN..=TOKEN_CHARACTERS_MAX).contains(&token.len()) {
        return refused(format!("{} characters", token.len()));
    }
    // Such a token is the same in a header and in the query of an address.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match token.chars().find(|c| !is_plain(*c)) {
        Some(other) => refused(format!("{other:?} in it")),
        None => Ok(token.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_other_machines_reach_needs_a_token_that_others_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let at = |address: &str, token_file: Option<&Path>| {
            let (address, token_file) = (Some(address.parse().unwrap()), token_file.map(Path::to_owned));
            MonitorSettings { address, token_file, ..MonitorSettings::default() }.problems().join("; ")
        };
        assert_eq!(MonitorSettings::default().problems(), Vec::<String>::new());
        for local in ["127.0.0.1:9110", "[::1]:9110", "127.8.0.1:0"] {
            assert_eq!(at(local, None), "");
        }
        for open in ["0.0.0.0:9110", "[::]:9110", "192.168.1.2:9110"] {
            assert!(at(open, None).starts_with(&format!("expected a token-file in [monitor] for {open}")));
        }
        let write = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            at("0.0.0.0:9110", Some(&path))
        };
        assert_eq!(write("0123456789abcdef\n", 0o600), "");
        assert!(write("0123456789abcdef\n", 0o640).contains("found mode 640"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(write("0123\n", 0o600).contains("found 4 characters"));
        assert!(write("0123456789abcdef g", 0o600).contains("found ' ' in it"));
        assert!(at("127.0.0.1:1", Some(Path::new("/none"))).starts_with("in [monitor]: /none: "));
    }
}
