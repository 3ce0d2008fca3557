//! ZeroMQ: a player publishes bins on a socket, a listener subscribes to a daemon's estimates.

mod listen;
mod play;
mod receiver;
mod sender;

pub use listen::{ListenError, listen, listen_with};
pub use play::{PlayError, play, play_with};
pub use receiver::{Message, Receiver};
pub use sender::Sender;

use ndt_protocol::endpoint::{Role, SocketAddress};
use ndt_protocol::zeromq::admission::{Admission, Rules};
use ndt_protocol::zeromq::curve::{KeyError, KeyPair, PublicKey};
use ndt_protocol::zeromq::{Context, Keys, Library, Options};
use std::collections::BTreeSet;
use std::path::Path;

/// Number of messages that wait for each subscriber, or for a listener: five seconds of 5 ms bins.
const QUEUE_MESSAGES: usize = 1024;

/// Most connections to a socket of a player or listener that binds.
const CONNECTIONS_MAX: u32 = 256;

/// Why a socket cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum ZeromqError {
    /// The library is missing, or the address is in use or not on this machine.
    #[error(transparent)]
    Zeromq(#[from] ndt_protocol::zeromq::ZeromqError),
    /// The system gives no thread.
    #[error("expected a thread for ZeroMQ, found {0}")]
    Thread(std::io::Error),
    /// Nobody subscribes in time.
    #[error("expected a subscriber on {address} within {seconds} s, found none")]
    NoSubscriber {
        /// Address of the socket.
        address: String,
        /// Time waited, in seconds.
        seconds: f64,
    },
    /// A subscriber does not read.
    #[error("expected the subscriber on {address} to read, found it stuck for {seconds} s")]
    Stuck {
        /// Address of the socket.
        address: String,
        /// Time waited, in seconds.
        seconds: f64,
    },
}

/// Keys of encrypted connections; without any, connections are not encrypted.
#[derive(Debug, Clone, Default)]
pub struct Security {
    keys: Option<Keys>,
    permitted: Option<BTreeSet<PublicKey>>,
}

impl Security {
    /// Reads this end's secret certificate, the public certificate of the end that it connects to, and the folder with those of the
    /// peers that may connect to it. Without such a folder, an end that binds lets in everybody who knows its public key.
    ///
    /// # Errors
    /// [`KeyError`] when a file cannot be read, or others may read the secret one.
    pub fn read(
        secret: Option<&Path>,
        server: Option<&Path>,
        permitted: Option<&Path>,
    ) -> Result<Security, KeyError> {
        let Some(secret) = secret else { return Ok(Security::default()) };
        let server = server.map(PublicKey::read).transpose()?;
        let permitted = permitted.map(PublicKey::read_all).transpose()?;
        let keys = Keys { own: KeyPair::read(secret)?, server };
        Ok(Security { keys: Some(keys), permitted: permitted.map(|keys| keys.into_iter().collect()) })
    }
}

/// A context for one socket, what admits its peers, and the options of the socket.
fn context(
    endpoint: &SocketAddress,
    default: Role,
    security: &Security,
) -> Result<(Context, Option<Admission>, Options), ZeromqError> {
    let context = Context::new(&Library::load(None)?, 1)?;
    let mut options =
        Options { queue_messages: QUEUE_MESSAGES, keys: security.keys.clone(), ..Options::default() };
    let mut admission = None;
    if let Some(permitted) = security.permitted.clone().filter(|_| endpoint.role_or(default) == Role::Bind) {
        let rules = Rules { connections_max: CONNECTIONS_MAX, permitted: Some(permitted) };
        let started = admission.insert(Admission::start(&context, rules)?);
        options.domain = Some(started.next_domain());
    }
    Ok((context, admission, options))
}

#[cfg(test)]
mod tests;
