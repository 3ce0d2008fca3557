//! ZeroMQ: bins in ([`source`]), estimates out ([`publisher`]). [`settings`] says what peers may do, and [`ipc`] who can reach the sockets
//! that are files.
//!
//! The source thread receives and the publish thread sends, without a runtime between them and the sockets. libzmq moves the bytes on two
//! threads of its own, one for the input and one for the outputs, and `zeromq-admit` answers it who may come in. libzmq allocates for
//! messages of more than 33 bytes; our own code allocates nothing.

mod flood;
mod host_name;
pub mod ipc;
pub mod publisher;
pub mod settings;
pub mod source;

use self::ipc::IpcSettings;
use self::settings::ZeromqSettings;
use crate::host::realtime::{self, RealtimeSettings};
use crate::transport::peers::Peers;
use ndt_protocol::endpoint::{Role, SocketAddress};
use ndt_protocol::zeromq::admission::{Admission, Rules, TurnedAway};
use ndt_protocol::zeromq::curve::KeyError;
use ndt_protocol::zeromq::{Context, Keys, Kind, Library, Monitor, Options, ZeromqError};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

/// I/O thread of libzmq that serves the input.
const INPUT_THREAD: u32 = 0;
/// Name that libzmq gives that thread.
const INPUT_THREAD_NAME: &str = "ZMQbg/IO/0";
/// I/O thread of libzmq that serves the outputs, so that what happens at the input delays no estimate.
const OUTPUT_THREAD: u32 = 1;

/// Why a socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The library is missing, or refuses.
    #[error(transparent)]
    Zeromq(#[from] ZeromqError),
    /// A key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The file of a socket does not get the configured mode or group.
    #[error(
        "expected to give {address} the mode and the group of [ipc], found {error}; a service is made a member by SupplementaryGroups="
    )]
    Access {
        /// Address as the configuration gives it.
        address: String,
        /// Error of the system.
        error: io::Error,
    },
}

/// What the sockets of a daemon share. Must be kept as long as any of them.
pub struct Sockets {
    context: Context,
    ipc: IpcSettings,
    keys: Option<Keys>,
    admission: Admission,
    peers: Vec<Peers>,
}

impl Sockets {
    /// Loads the library, and starts its threads with the same real-time settings as the pipeline's own, because every bin and every
    /// estimate passes through them. What the system refuses them it refuses those too, which report it.
    ///
    /// # Errors
    /// [`SocketError`] when the library or a key cannot be used.
    pub fn start(
        settings: &ZeromqSettings,
        ipc: &IpcSettings,
        realtime: &RealtimeSettings,
    ) -> Result<Sockets, SocketError> {
        let keys = settings.keys()?;
        let permitted = settings.permitted()?;
        raise_open_files_limit();
        let context = Context::new(&Library::load(settings.library.as_deref())?, 2)?;
        start_io_threads(&context, realtime)?;
        let rules = Rules { connections_max: settings.connections_max, permitted };
        let admission = Admission::start(&context, rules)?;
        Ok(Sockets { context, ipc: ipc.clone(), keys, admission, peers: Vec::new() })
    }

    /// Peers that were turned away.
    pub fn turned_away(&self) -> TurnedAway {
        self.admission.turned_away()
    }

    fn options(&mut self, io_thread: u32, endpoint: &SocketAddress, role: Role) -> Options {
        let is_bound = endpoint.role_or(role) == Role::Bind;
        Options {
            io_thread,
            domain: is_bound.then(|| self.admission.next_domain()),
            // A socket that is a file is protected by the file's permissions.
            keys: self.keys.clone().filter(|_| endpoint.file().is_none()),
            ..Options::default()
        }
    }

    /// The sockets that are bound, with the number of connections to each.
    pub fn peers(&self) -> Vec<Peers> {
        self.peers.clone()
    }

    /// Counts the connections of a socket that was opened with `options` and is bound to `address`.
    fn watch(
        &mut self,
        options: &Options,
        address: &str,
        connections: Arc<AtomicI64>,
        monitor: Option<Monitor>,
    ) {
        if let Some(domain) = &options.domain {
            self.peers.push(Peers { address: address.to_owned(), connections: connections.clone() });
            self.admission.watch(domain.clone(), connections, monitor);
        }
    }

    /// Gives the file of a socket that was bound its mode and its group.
    fn grant(&self, endpoint: &SocketAddress, role: Role) -> Result<(), SocketError> {
        match endpoint.file().filter(|_| role == Role::Bind) {
            None => Ok(()),
            // The file goes with its socket, which the caller then lets go of.
            Some(file) => self
                .ipc
                .apply(file)
                .map_err(|error| SocketError::Access { address: endpoint.address.clone(), error }),
        }
    }
}

/// Binds a socket as the daemon would, and lets go of it.
///
/// # Errors
/// [`SocketError`] when the socket cannot be opened.
pub fn try_bind(
    endpoint: &SocketAddress,
    settings: &ZeromqSettings,
    ipc: &IpcSettings,
) -> Result<(), SocketError> {
    let mut sockets = Sockets::start(settings, ipc, &RealtimeSettings::default())?;
    let options = sockets.options(OUTPUT_THREAD, endpoint, Role::Bind);
    let opened = ndt_protocol::zeromq::Publisher::open(&sockets.context, endpoint, Kind::Pub, &options)?;
    let granted = sockets.grant(endpoint, Role::Bind);
    drop(opened);
    granted
}

/// Opens the first socket of `context` on a thread that has the real-time settings: libzmq starts its own threads then, and they inherit
/// them. The one that serves the input gets a priority of its own, so that a flood of messages keeps no other thread waiting.
fn start_io_threads(context: &Context, settings: &RealtimeSettings) -> Result<(), ZeromqError> {
    let opened = std::thread::scope(|scope| {
        let open = || {
            drop(realtime::enter(&settings.below(realtime::PUBLISH)));
            realtime::start_threads(INPUT_THREAD_NAME, &settings.below(realtime::RECEIVE), || {
                context.socket(Kind::Pair, &Options::default()).map(drop)
            })
        };
        scope.spawn(open).join()
    });
    let panicked = |_| ZeromqError::Refused { what: "start its threads", found: "a panic".to_owned() };
    opened.map_err(panicked)?
}

/// Lets the process have as many open files as the system allows it. At the limit, libzmq's thread would try to accept a connection
/// again and again; the usual limit of 1,024 is within reach of any peer, and the highest is not.
fn raise_open_files_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
