//! The offset between the clock of a stream's host and ours, measured beside the real-time path.
//!
//! The thread `lsl-clock` keeps an inlet of its own on the stream, which receives no samples, and asks it for the offset four
//! times a second. The library measures every two seconds: of several round trips it takes the shortest. Nothing is smoothed.
//! The thread also logs spikes that were lost, because the source thread must not log.

use super::lost_spikes::{LostSpikes, LostSpikesLog};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use ndt_protocol::bin::ClockOffset;
use ndt_protocol::lsl::{Inlet, LslError, StreamInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;
use tracing::warn;

/// Interval between two questions for the offset.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Longest wait for an answer, s. A first measurement takes half a second: eight round trips, 64 ms apart.
const MEASURE_WAIT_S: f64 = 0.25;

/// Uncertainty of an offset that has not been measured.
const UNKNOWN: u64 = u64::MAX;

/// The last measured offset, shared with the source thread, which never waits for it.
#[derive(Debug)]
pub struct Clock {
    stream: AtomicU64,
    offset_ns: AtomicI64,
    uncertainty_ns: AtomicU64,
}

impl Clock {
    fn new() -> Clock {
        Clock {
            stream: AtomicU64::new(0),
            offset_ns: AtomicI64::new(0),
            uncertainty_ns: AtomicU64::new(UNKNOWN),
        }
    }

    /// Returns the offset of the clock of `stream`, or `None` if it has not been measured. Runs on the source thread, once a
    /// bin. Must not block.
    pub fn of(&self, stream: u64) -> Option<ClockOffset> {
        let uncertainty_ns = self.uncertainty_ns.load(SeqCst);
        let offset_ns = self.offset_ns.load(SeqCst);
        // If the uncertainty is the same before and after, it belongs to this offset; the stream tells whose offset it is.
        let is_consistent =
            self.uncertainty_ns.load(SeqCst) == uncertainty_ns && self.stream.load(SeqCst) == stream;
        (uncertainty_ns != UNKNOWN && is_consistent).then_some(ClockOffset { offset_ns, uncertainty_ns })
    }

    fn set(&self, stream: u64, measured: Option<ClockOffset>) {
        self.uncertainty_ns.store(UNKNOWN, SeqCst);
        self.stream.store(stream, SeqCst);
        if let Some(ClockOffset { offset_ns, uncertainty_ns }) = measured {
            self.offset_ns.store(offset_ns, SeqCst);
            self.uncertainty_ns.store(uncertainty_ns.min(UNKNOWN - 1), SeqCst);
        }
    }
}

/// A stream whose clock is to be measured: its number, and how to connect to it.
pub type MeasuredStream = (u64, StreamInfo);

/// Starts the thread `lsl-clock`. It measures the stream that was sent to it last, logs what is `lost` of that stream, and ends
/// when the sender is dropped. Whoever has the handle must join the thread, as the library must not be in use when the
/// process ends.
///
/// # Errors
/// The system's error when it gives no thread.
pub fn start(
    ahead_ns: i64,
    lost: Arc<LostSpikes>,
) -> std::io::Result<(Arc<Clock>, Sender<MeasuredStream>, JoinHandle<()>)> {
    let clock = Arc::new(Clock::new());
    let (to_measure, streams) = bounded(4);
    let shared = clock.clone();
    let measure = move || measure_each(&streams, &shared, &lost, ahead_ns);
    let thread = std::thread::Builder::new().name("lsl-clock".to_owned()).spawn(measure)?;
    Ok((clock, to_measure, thread))
}

/// Measures one stream after the other until the sender of `streams` is dropped.
fn measure_each(streams: &Receiver<MeasuredStream>, clock: &Clock, lost: &Arc<LostSpikes>, ahead_ns: i64) {
    let mut next = streams.recv().ok();
    while let Some((stream, info)) = next {
        clock.set(stream, None);
        next = match Inlet::new(&info, 1) {
            Ok(inlet) => {
                let lost = LostSpikesLog::new(lost.clone());
                measure_one(&inlet, stream, streams, clock, lost, ahead_ns)
            }
            Err(error) => {
                warn!("{error}; the offset of the stream's clock is not known");
                streams.recv().ok()
            }
        };
    }
}

/// Measures one stream until another one is sent, and returns that one; `None` when the sender is dropped.
fn measure_one(
    inlet: &Inlet,
    stream: u64,
    streams: &Receiver<MeasuredStream>,
    clock: &Clock,
    mut lost: LostSpikesLog,
    ahead_ns: i64,
) -> Option<MeasuredStream> {
    loop {
        lost.write();
        match inlet.time_correction(MEASURE_WAIT_S) {
            Ok(correction) => {
                let offset_ns = (correction.offset_s * 1e9).round() as i64 - ahead_ns;
                let uncertainty_ns = (correction.uncertainty_s * 1e9).round().max(0.0) as u64;
                clock.set(stream, Some(ClockOffset { offset_ns, uncertainty_ns }));
            }
            // The last measured offset stays the best one.
            Err(LslError::Timeout) => {}
            Err(_) => return streams.recv().ok(),
        }
        if inlet.was_clock_reset() {
            warn!("the clock of the stream's host was reset");
        }
        match streams.recv_timeout(ASK_EVERY) {
            Ok(next) => return Some(next),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_belongs_to_one_stream() {
        let clock = Clock::new();
        assert_eq!(clock.of(3), None);
        let measured = ClockOffset { offset_ns: -7, uncertainty_ns: 90 };
        clock.set(3, Some(measured));
        assert_eq!((clock.of(3), clock.of(4)), (Some(measured), None));
        clock.set(4, None);
        assert_eq!((clock.of(3), clock.of(4)), (None, None));
    }
}
