//! The network: one folder for each transport, and the one place that chooses among them.
//!
//! A transport implements [`Source`] and [`Publisher`](crate::output::Publisher). Beside its own folder, a new one needs a variant of
//! [`ndt_protocol::endpoint::Endpoint`] and of the sides that can use it, and an arm of [`Transports::open_input`] or
//! [`Transports::open_output`]; the compiler asks for each of them. No other part of the daemon names a network library.

pub mod lsl;
pub mod peers;
pub mod zeromq;

use self::lsl::LslSettings;
use self::lsl::publisher::LslPublisher;
use self::lsl::source::LslSource;
use self::peers::Peers;
use self::zeromq::ipc::IpcSettings;
use self::zeromq::publisher::ZeromqPublisher;
use self::zeromq::settings::ZeromqSettings;
use self::zeromq::source::ZeromqSource;
use self::zeromq::{SocketError, Sockets};
use crate::config::Config;
use crate::host::realtime::RealtimeSettings;
use crate::input::Source;
use crate::output::Opened;
use ndt_protocol::Bundle;
use ndt_protocol::endpoint::{Input, Output, Role, SocketAddress};
use ndt_protocol::lsl::{Library, LslError};
use ndt_protocol::zeromq::admission::TurnedAway;
use std::io;

/// What the transports share between endpoints: ZeroMQ's sockets and the library of Lab Streaming Layer, each made when the
/// first endpoint asks for it. Must be kept as long as any source or publisher that it opened.
pub struct Transports {
    realtime: RealtimeSettings,
    lsl: LslSettings,
    ipc: IpcSettings,
    zeromq: ZeromqSettings,
    sockets: Option<Sockets>,
    library: Option<Library>,
}

/// Why an endpoint cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// A ZeroMQ socket cannot be opened.
    #[error(transparent)]
    Zeromq(#[from] SocketError),
    /// The library of Lab Streaming Layer is missing, or refuses a stream.
    #[error(transparent)]
    Lsl(#[from] LslError),
    /// The system gives no thread.
    #[error("expected a thread \"{name}\", found {error}")]
    Thread {
        /// Name of the thread.
        name: &'static str,
        /// Error of the system.
        error: io::Error,
    },
}

/// The ZeroMQ sockets that must open before the daemon runs: those that are bound. A socket that connects waits for its peer however
/// long, and streams of Lab Streaming Layer need their library alone.
pub fn bound_sockets<'a>(input: &'a Input, outputs: &'a [Output]) -> Vec<&'a SocketAddress> {
    let input = match input {
        Input::Zeromq(socket) => Some((socket, socket.role_or(Role::Connect))),
        Input::Lsl(_) => None,
    };
    let outputs = outputs.iter().filter_map(|output| match output {
        Output::Zeromq(socket) => Some((socket, socket.role_or(Role::Bind))),
        Output::Lsl { .. } => None,
    });
    let is_bound = |(socket, role)| (role == Role::Bind).then_some(socket);
    input.into_iter().chain(outputs).filter_map(is_bound).collect()
}

/// Binds a ZeroMQ socket as the daemon would, and closes it again.
///
/// # Errors
/// [`TransportError`] when the socket cannot be opened.
pub fn try_bind(
    socket: &SocketAddress,
    zeromq: &ZeromqSettings,
    ipc: &IpcSettings,
) -> Result<(), TransportError> {
    Ok(self::zeromq::try_bind(socket, zeromq, ipc)?)
}

impl Transports {
    /// Keeps the settings for the endpoints that are opened later. Opens and loads nothing.
    pub fn new(config: &Config) -> Transports {
        let Config { realtime, lsl, ipc, zeromq, .. } = config.clone();
        Transports { realtime, lsl, ipc, zeromq, sockets: None, library: None }
    }

    /// ZeroMQ peers that were turned away since the start.
    pub fn turned_away(&self) -> TurnedAway {
        self.sockets.as_ref().map_or_else(TurnedAway::default, Sockets::turned_away)
    }

    /// The sockets that are bound, with the number of connections to each.
    pub fn peers(&self) -> Vec<Peers> {
        self.sockets.as_ref().map_or_else(Vec::new, Sockets::peers)
    }

    /// Opens the source of the bins of `bundle`, and returns its address as bound or as it will be connected. After `silent_bins` bins of
    /// silence, another source is taken, or a stream of Lab Streaming Layer is searched again.
    ///
    /// # Errors
    /// [`TransportError`] when the endpoint cannot be opened. A peer that is not there yet is no error.
    pub fn open_input(
        &mut self,
        input: &Input,
        bundle: &Bundle,
        silent_bins: u64,
    ) -> Result<(Box<dyn Source>, String), TransportError> {
        match input {
            Input::Zeromq(socket) => {
                let (source, address) = ZeromqSource::open(self.sockets()?, socket, bundle, silent_bins)?;
                Ok((Box::new(source), address))
            }
            Input::Lsl(query) => {
                let library = self.library()?;
                let source = LslSource::open(&library, query, &self.lsl, &self.realtime, bundle, silent_bins);
                let source = source.map_err(|error| TransportError::Thread { name: "lsl-search", error })?;
                Ok((Box::new(source), input.to_string()))
            }
        }
    }

    /// Opens one output for the estimates of `bundle`, which `engine` computes.
    ///
    /// # Errors
    /// [`TransportError`] when the endpoint cannot be opened.
    pub fn open_output(
        &mut self,
        output: &Output,
        bundle: &Bundle,
        engine: &str,
    ) -> Result<Opened, TransportError> {
        match output {
            Output::Zeromq(socket) => {
                let settings = self.zeromq.clone();
                let (publisher, address) =
                    ZeromqPublisher::open(self.sockets()?, socket, &settings, bundle, engine)?;
                Ok(Opened { publisher: Box::new(publisher), address, turn: 0 })
            }
            Output::Lsl { name } => {
                let library = self.library()?;
                let publisher = LslPublisher::open(&library, name, bundle, engine, &self.realtime)?;
                Ok(Opened { publisher: Box::new(publisher), address: output.to_string(), turn: 1 })
            }
        }
    }

    fn sockets(&mut self) -> Result<&mut Sockets, SocketError> {
        match &mut self.sockets {
            Some(sockets) => Ok(sockets),
            none => Ok(none.insert(Sockets::start(&self.zeromq, &self.ipc, &self.realtime)?)),
        }
    }

    fn library(&mut self) -> Result<Library, LslError> {
        match &self.library {
            Some(library) => Ok(library.clone()),
            None => Ok(self.library.insert(lsl::load(&self.lsl)?).clone()),
        }
    }
}
