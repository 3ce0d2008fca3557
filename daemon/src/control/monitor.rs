//! The thread of the monitor. It looks into the taps 30 times a second, sends frames to the open pages, and serves requests.
//!
//! It runs at normal priority on a runtime of its own: what browsers ask for delays neither the real-time threads, which never wait for
//! it, nor the supervisor, which tells systemd's watchdog that all is well.

use super::http::access::Access;
use super::http::{self, Shared};
use super::settings::{MonitorSettings, TokenError};
use super::state::{Facts, State};
use super::summary::summary;
use crate::pipeline::observer::Observer;
use crate::pipeline::taps::Taps;
use ndt_protocol::clock::monotonic_ns;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Name of the thread.
const THREAD: &str = "monitor";

/// Frames a second.
const FRAMES: u32 = 30;

/// A running monitor. It ends when this is dropped.
pub struct Monitor {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Why a monitor cannot start.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The address cannot be bound.
    #[error("expected to bind the address {address} of [monitor], found {error}")]
    Bind {
        /// Address as configured.
        address: SocketAddr,
        /// Error of the system.
        error: io::Error,
    },
    /// The token cannot be read.
    #[error("in [monitor]: {0}")]
    Token(#[from] TokenError),
    /// The system gives no thread, or no runtime.
    #[error("expected a thread \"monitor\", found {0}")]
    Thread(io::Error),
}

impl MonitorError {
    /// Whether the configuration is refused, so that another start with the same files ends in the same way.
    pub fn is_refusal(&self) -> bool {
        matches!(self, MonitorError::Token(_))
    }
}

/// Binds the address of `settings` and lets go of it.
///
/// # Errors
/// [`MonitorError::Bind`].
pub fn try_bind(settings: &MonitorSettings) -> Result<(), MonitorError> {
    settings.address.map_or(Ok(()), |address| bind(address).map(drop))
}

fn bind(address: SocketAddr) -> Result<TcpListener, MonitorError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|error| MonitorError::Bind { address, error })
}

impl Monitor {
    /// Starts the monitor of a pipeline whose `taps` it reads; `None` where the configuration has no address for it.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub fn start(
        settings: &MonitorSettings,
        facts: Facts,
        observer: Observer,
        taps: Option<Taps>,
    ) -> Result<Option<Monitor>, MonitorError> {
        let Some((address, taps)) = settings.address.zip(taps) else { return Ok(None) };
        let access = Access::new(settings.token()?.as_deref());
        let listener = bind(address)?;
        let address = listener.local_addr().map_err(|error| MonitorError::Bind { address, error })?;
        let shared = Arc::new(Shared::new(access, State::new(facts, observer)));
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, connections_max) = (stop.clone(), settings.connections_max);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(MonitorError::Thread)?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(MonitorError::Thread)?
        };
        let run = move || {
            runtime.block_on(async {
                tokio::spawn(http::serve(listener, shared.clone(), connections_max));
                watch(&shared, &taps, &stopping).await;
            });
        };
        let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(run);
        Ok(Some(Monitor { address, stop, thread: Some(thread.map_err(MonitorError::Thread)?) }))
    }

    /// Address as bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Looks into the taps until the monitor is to stop.
async fn watch(shared: &Shared, taps: &Taps, stopping: &AtomicBool) {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / FRAMES);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut turn = 0u32;
    while !stopping.load(Relaxed) {
        tick.tick().await;
        let viewers = shared.viewers();
        let events = {
            let mut state = shared.state();
            state.take(taps);
            state.channels.compare();
            let frame = state.pending.frame();
            let is_summary_due = turn.is_multiple_of(FRAMES) && viewers > 0;
            let summed = is_summary_due.then(|| summary(&state, viewers, monotonic_ns())).flatten();
            [frame.filter(|_| viewers > 0), summed]
        };
        events.into_iter().flatten().for_each(|event| shared.send(event));
        turn = turn.wrapping_add(1);
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has already printed why.
            drop(thread.join());
        }
    }
}
