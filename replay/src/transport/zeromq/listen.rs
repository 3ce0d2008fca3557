//! Listens to a daemon's ZeroMQ socket.

use super::{Receiver, Security, ZeromqError};
use crate::listen::{Silence, Tally, Until};
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::endpoint::SocketAddress;
use ndt_protocol::wire;
use ndt_protocol::{Estimate, Quality};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Interval at which the loop looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why listening to a socket failed.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The socket cannot be opened.
    #[error(transparent)]
    Socket(#[from] ZeromqError),
    /// No estimate arrived in time.
    #[error(transparent)]
    Silence(#[from] Silence),
}

/// Listens to `endpoint` (connects by default) and counts into `tally`, until `until` or the tally's fault plan ends it, or
/// 100 ms after `stop` is set. The daemon need not run yet, and may end and come back.
///
/// `ready` is called once, when the first message has arrived and no later one can be missed. `each` is called after every
/// estimate; if it returns `false`, listening ends.
///
/// # Errors
/// [`ListenError`] if the socket cannot be opened, or no first estimate arrives in time.
pub fn listen(
    endpoint: &SocketAddress,
    tally: &mut Tally,
    until: Until,
    stop: &AtomicBool,
    ready: &mut dyn FnMut(),
    each: &mut dyn FnMut(&Tally, &Estimate) -> bool,
) -> Result<(), ListenError> {
    listen_with((endpoint, &Security::default()), tally, until, stop, ready, each)
}

/// Like [`listen`], to an endpoint with keys.
///
/// # Errors
/// Those of [`listen`].
pub fn listen_with(
    (endpoint, security): (&SocketAddress, &Security),
    tally: &mut Tally,
    until: Until,
    stop: &AtomicBool,
    ready: &mut dyn FnMut(),
    each: &mut dyn FnMut(&Tally, &Estimate) -> bool,
) -> Result<(), ListenError> {
    let mut receiver = Receiver::open_with(endpoint, security)?;
    // Arrival of the last estimate that is not stale; before the first one, the start.
    let mut last_ns = monotonic_ns();
    let mut is_ready = false;
    while until.count.is_none_or(|count| tally.estimates() < count) && !stop.load(Ordering::Relaxed) {
        let message = receiver.receive(LOOK_EVERY);
        if let Some(message) = message {
            if !is_ready {
                is_ready = true;
                ready();
            }
            let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
            if frames.first() != Some(&wire::TOPIC_DESCRIPTION) {
                match wire::read_estimate(&frames) {
                    Ok(estimate) => {
                        if estimate.quality != Quality::Stale || tally.estimates() == 0 {
                            last_ns = message.received_ns;
                        }
                        tally.push(&estimate, message.received_ns);
                        if !each(tally, &estimate) || tally.is_complete() {
                            return Ok(());
                        }
                    }
                    Err(error) => tally.refuse(error),
                }
            }
        }
        let silent = Duration::from_nanos(monotonic_ns().saturating_sub(last_ns));
        if tally.estimates() == 0 && silent > until.first {
            return Err(silence(receiver.address(), tally, until.first).into());
        }
        if tally.estimates() > 0 && until.idle.is_some_and(|idle| silent > idle) {
            return Ok(());
        }
    }
    Ok(())
}

fn silence(address: &str, tally: &Tally, waited: Duration) -> Silence {
    let found = match tally.refused() {
        Some((refused, error)) => format!("{refused} other messages, the last refused with \"{error}\""),
        None => "none".to_owned(),
    };
    Silence { address: address.to_owned(), seconds: waited.as_secs_f64(), found }
}
