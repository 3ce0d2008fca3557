//! Plays a plan to a ZeroMQ socket.

use super::{Security, Sender, ZeromqError};
use crate::play::faults::{FaultPlan, Faults, OtherPlan};
use crate::play::{Pace, Plan, PlayReport, Progress, Speed};
use crate::transport::wait_until_due;
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::endpoint::SocketAddress;
use std::time::Duration;

/// Interval at which the stream is described again, for subscribers that arrive late.
const DESCRIBE_EVERY_NS: u64 = 1_000_000_000;

/// Why a plan could not be played to a socket.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The faults were drawn for another plan.
    #[error(transparent)]
    OtherPlan(#[from] OtherPlan),
    /// The socket cannot be opened, nobody subscribes in time, or a subscriber does not read.
    #[error(transparent)]
    Socket(#[from] ZeromqError),
}

/// Sends a plan to `endpoint` (binds by default) and reports what was sent. First waits up to `wait` for a subscriber, so that
/// no bin is sent to nobody. `faults` are those drawn for this plan.
///
/// Bin `k` is sent at `start + (k + 1) * bin width / speed`: absolute instants, so that a late bin delays no other and nothing
/// drifts. Like a rig, the player waits for nobody: bins that a subscriber does not read are dropped and counted. At
/// [`Speed::Max`] the subscriber sets the pace, nothing is dropped, and of the faults only the order matters, not the
/// instants. Each run of the source is a stream of its own. Runs on the caller's thread.
///
/// # Errors
/// [`PlayError::Socket`] if the endpoint cannot be opened, nobody subscribes in time, or the subscriber is stuck;
/// [`PlayError::OtherPlan`] if the faults belong to another plan.
pub fn play(
    plan: &Plan,
    faults: Option<&FaultPlan>,
    endpoint: &SocketAddress,
    speed: Speed,
    wait: Duration,
    progress: &mut dyn FnMut(Progress),
) -> Result<PlayReport, PlayError> {
    play_with(plan, faults, (endpoint, &Security::default()), speed, wait, progress)
}

/// Like [`play`], to an endpoint with keys.
///
/// # Errors
/// Those of [`play`].
pub fn play_with(
    plan: &Plan,
    faults: Option<&FaultPlan>,
    (endpoint, security): (&SocketAddress, &Security),
    speed: Speed,
    wait: Duration,
    progress: &mut dyn FnMut(Progress),
) -> Result<PlayReport, PlayError> {
    let schedule = match faults {
        Some(faults) => faults,
        None => &FaultPlan::new(plan, &Faults::default(), 0),
    };
    schedule.check_is_for(plan)?;
    let mut sender = Sender::open_with(endpoint, security)?;
    sender.wait_for_subscriber(wait)?;
    let start_ns = monotonic_ns();
    let mut pace = Pace::new(start_ns, speed);
    let first_stream = start_ns ^ u64::from(std::process::id()) << 48;
    let description = plan.description();
    // Time and run of the last description.
    let mut described = None;
    let (mut dropped, mut segment) = (0, 0);
    let mut counts = Vec::new();
    for (at, sending) in schedule.sendings.iter().enumerate() {
        wait_until_due(&mut pace, sending.due_ns);
        let mut stamp = sending.fill(plan, &mut counts);
        stamp.stream = first_stream.wrapping_add(sending.run.into());
        stamp.sent_ns = monotonic_ns();
        if described
            .is_none_or(|(at_ns, run)| stamp.sent_ns > at_ns + DESCRIBE_EVERY_NS || run != sending.run)
        {
            sender.describe(stamp.stream, &description);
            described = Some((stamp.sent_ns, sending.run));
        }
        match speed {
            Speed::Times(_) => dropped += usize::from(!sender.offer(&stamp, &counts)),
            Speed::Max => sender.send(&stamp, &counts)?,
        }
        segment += usize::from(stamp.segment_start && !sending.copy);
        progress(Progress { sent: at + 1, bins: schedule.sendings.len(), segment });
    }
    let seconds = (monotonic_ns() - start_ns) as f64 * 1e-9;
    sender.finish()?;
    Ok(PlayReport {
        bins: schedule.sendings.len(),
        dropped,
        segments: segment,
        channels: plan.channel_ids().len(),
        seconds,
        late_us_max: pace.late_us_max(),
    })
}
