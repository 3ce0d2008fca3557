//! What the daemon's ZeroMQ sockets allow their peers.

use ndt_protocol::endpoint::{Endpoint, Role};
use ndt_protocol::limits::QUEUE_BINS;
use ndt_protocol::zeromq::Keys;
use ndt_protocol::zeromq::curve::{KeyError, KeyPair, PublicKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// `[zeromq]` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ZeromqSettings {
    /// Path of libzmq; by default the one beside the executable, or else the system's.
    pub library: Option<PathBuf>,
    /// Estimates that wait for each subscriber; one that does not keep up loses those that find no room. As many as the daemon's own
    /// queues hold may come at once, after a stall.
    pub queue_bins: usize,
    /// Most connections to each address that the daemon binds. Those above it are turned away.
    pub connections_max: u32,
    /// Secret certificate of the daemon (`NAME.key_secret` of `ndtd keygen`). With it, every TCP connection is encrypted.
    pub secret_key: Option<PathBuf>,
    /// Folder with the public certificates (`*.key`) of those who may connect to the addresses that the daemon binds.
    pub permitted_keys: Option<PathBuf>,
    /// Public certificate of the machine that the daemon connects to.
    pub server_key: Option<PathBuf>,
    /// Whether a TCP endpoint that is not on this machine alone may do without encryption.
    pub allow_unencrypted: bool,
}

impl Default for ZeromqSettings {
    fn default() -> ZeromqSettings {
        ZeromqSettings {
            library: None,
            queue_bins: QUEUE_BINS,
            connections_max: 32,
            secret_key: None,
            permitted_keys: None,
            server_key: None,
            allow_unencrypted: false,
        }
    }
}

impl ZeromqSettings {
    /// Returns one sentence for each setting that cannot be used, and for each of `endpoints` that it does not protect. Each comes with the
    /// role that it has.
    pub fn problems(&self, endpoints: &[(Endpoint, Role)]) -> Vec<String> {
        let mut problems = Vec::new();
        let mut expect = |name: &str, found: f64, low: f64, high: f64| {
            if !(low..=high).contains(&found) {
                problems.push(format!("expected {name} in [zeromq] from {low} to {high}, found {found}"));
            }
        };
        expect("queue-bins", self.queue_bins as f64, 1.0, 4096.0);
        expect("connections-max", self.connections_max.into(), 1.0, 10_000.0);
        if let Some(library) = self.library.as_ref().filter(|library| !library.exists()) {
            problems.push(format!("expected libzmq in {}, found no such file", library.display()));
        }
        problems.extend(self.keys().err().map(|error| format!("in [zeromq]: {error}")));
        problems.extend(self.permitted().err().map(|error| format!("in [zeromq]: {error}")));
        problems.extend(endpoints.iter().filter_map(|(endpoint, role)| self.lack(endpoint, *role)));
        problems
    }

    /// What an endpoint with this role lacks, as a sentence. With a secret key, all TCP connections are encrypted; without one, only
    /// those on this machine are made, unless that is waived.
    fn lack(&self, endpoint: &Endpoint, role: Role) -> Option<String> {
        let Endpoint::Zeromq(socket) = endpoint else { return None };
        let (peers, needed) = match role {
            Role::Bind => (&self.permitted_keys, "secret-key and permitted-keys"),
            Role::Connect => (&self.server_key, "secret-key and server-key"),
        };
        if socket.file().is_some() || (self.is_encrypted() && peers.is_some()) {
            return None;
        }
        if self.is_encrypted() {
            return Some(format!("expected {needed} in [zeromq] for {endpoint}, found secret-key alone"));
        }
        (!socket.is_local() && !self.allow_unencrypted).then(|| {
            format!(
                "expected {needed} in [zeromq] for {endpoint}, which is not on this machine alone, found none; \
                 allow-unencrypted = true (--allow-unencrypted) does without encryption"
            )
        })
    }

    /// Whether connections with other machines are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.secret_key.is_some()
    }

    /// Reads the keys of this end; `None` without encryption.
    ///
    /// # Errors
    /// [`KeyError`] when a file cannot be read, or others may read the secret one.
    pub fn keys(&self) -> Result<Option<Keys>, KeyError> {
        let Some(path) = &self.secret_key else { return Ok(None) };
        let own = KeyPair::read(path)?;
        let server = self.server_key.as_deref().map(PublicKey::read).transpose()?;
        Ok(Some(Keys { own, server }))
    }

    /// Reads the keys of the peers that may come in; `None` without encryption.
    ///
    /// # Errors
    /// [`KeyError`] when the folder or a file cannot be read.
    pub fn permitted(&self) -> Result<Option<BTreeSet<PublicKey>>, KeyError> {
        let Some(folder) = self.permitted_keys.as_ref().filter(|_| self.is_encrypted()) else {
            return Ok(None);
        };
        Ok(Some(PublicKey::read_all(folder)?.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(settings: &ZeromqSettings, endpoint: &str, role: Role) -> String {
        settings.problems(&[(endpoint.parse().unwrap(), role)]).join("; ")
    }

    #[test]
    fn an_endpoint_that_other_machines_reach_needs_encryption_or_a_waiver() {
        let none = ZeromqSettings::default();
        for local in ["tcp://127.0.0.1:1", "ipc:///x", "lsl:rig"] {
            assert_eq!(problems(&none, local, Role::Bind), "");
        }
        let found = problems(&none, "tcp://0.0.0.0:1", Role::Bind);
        assert!(found.starts_with("expected secret-key and permitted-keys in [zeromq] for tcp://0.0.0.0:1"));
        let found = problems(&none, "tcp://rig:1", Role::Connect);
        assert!(found.starts_with("expected secret-key and server-key in [zeromq] for tcp://rig:1"));
        let waived = ZeromqSettings { allow_unencrypted: true, ..none };
        assert_eq!(problems(&waived, "tcp://0.0.0.0:1", Role::Bind), "");
        // Encryption that is begun with has to be complete, on this machine too.
        let begun = ZeromqSettings { secret_key: Some("/none".into()), ..waived };
        assert!(problems(&begun, "tcp://127.0.0.1:1", Role::Connect).ends_with("found secret-key alone"));
        assert!(!problems(&begun, "ipc:///x", Role::Bind).contains("alone"));
    }

    #[test]
    fn a_secret_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ndtd.key_secret");
        let key = "0".repeat(40);
        let text = format!("curve\n    public-key = \"{key}\"\n    secret-key = \"{key}\"\n");
        std::fs::write(&path, text).unwrap();
        let permit = |mode| {
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            let settings = ZeromqSettings { secret_key: Some(path.clone()), ..ZeromqSettings::default() };
            problems(&settings, "ipc:///x", Role::Bind)
        };
        assert_eq!(permit(0o600), "");
        let found = permit(0o640);
        assert!(found.contains("to be readable by its owner alone, found mode 640"), "{found}");
    }
}
