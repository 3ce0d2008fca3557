//! The options that encrypt a ZeroMQ connection.

use clap::Args;
use ndt_protocol::zeromq::curve::KeyError;
use ndt_replay::transport::zeromq::Security;
use std::path::PathBuf;

#[derive(Args)]
pub struct Keys {
    /// Secret certificate of this end (NAME.key_secret of `ndtd keygen`): the ZeroMQ connection is encrypted.
    #[arg(long, value_name = "FILE")]
    secret_key: Option<PathBuf>,
    /// Public certificate of the end that this one connects to.
    #[arg(long, value_name = "FILE", requires = "secret_key")]
    server_key: Option<PathBuf>,
    /// Folder with the public certificates (*.key) of those who may connect to this end [default: everybody who knows its key].
    #[arg(long, value_name = "FOLDER", requires = "secret_key")]
    permitted_keys: Option<PathBuf>,
}

impl Keys {
    /// Reads the keys.
    pub fn read(&self) -> Result<Security, KeyError> {
        let [secret, server, permitted] =
            [&self.secret_key, &self.server_key, &self.permitted_keys].map(Option::as_deref);
        Security::read(secret, server, permitted)
    }
}
