//! How the clock of a stream's host stands to ours, measured beside the real-time path; and what is told of the stream
//! while it goes on.
//!
//! `lsl-clock` keeps an inlet of its own on the stream, which receives no samples, and asks it four times a second; the
//! library measures every two seconds, by the shortest of several ways there and back. Nothing is smoothed.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use ndt_protocol::bin::ClockOffset;
use ndt_protocol::lsl::{Inlet, LslError, StreamInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;
use tracing::warn;

/// How often the library is asked for what it has measured.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// How long it is waited for, s. A first measurement takes half a second: eight ways there and back, 64 ms apart.
const MEASURE_WAIT_S: f64 = 0.25;

/// An uncertainty that means that nothing is known.
const UNKNOWN: u64 = u64::MAX;

/// What is known of the clock, for the source thread, which waits for nobody; and what that thread has to tell.
#[derive(Debug)]
pub struct Clock {
    stream: AtomicU64,
    offset_ns: AtomicI64,
    uncertainty_ns: AtomicU64,
    /// Spikes that came too late for their bin, and those of no channel.
    late: AtomicU64,
    unknown: AtomicU64,
}

impl Clock {
    fn new() -> Clock {
        Clock {
            stream: AtomicU64::new(0),
            offset_ns: AtomicI64::new(0),
            uncertainty_ns: AtomicU64::new(UNKNOWN),
            late: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
        }
    }

    /// Notes how many spikes of the stream were in no bin. Runs on the source thread, once a bin; must not block.
    pub fn note(&self, (late, unknown): (u64, u64)) {
        self.late.store(late, SeqCst);
        self.unknown.store(unknown, SeqCst);
    }

    /// What has been noted, and is more than `told`.
    fn news(&self, told: &mut (u64, u64)) -> Option<String> {
        let (late, unknown) = (self.late.load(SeqCst), self.unknown.load(SeqCst));
        let more = (late.saturating_sub(told.0), unknown.saturating_sub(told.1));
        *told = (late, unknown);
        (more != (0, 0)).then(|| {
            format!(
                "{} spikes came more than event-wait-ms after their bin, {} were of no channel: in no bin",
                more.0, more.1
            )
        })
    }

    /// What is known of a stream's clock. Runs on the source thread, once a bin; must not block.
    pub fn of(&self, stream: u64) -> Option<ClockOffset> {
        let uncertainty_ns = self.uncertainty_ns.load(SeqCst);
        let offset_ns = self.offset_ns.load(SeqCst);
        // Unchanged, it belongs to the offset; another's is known by its stream.
        let is_whole =
            self.uncertainty_ns.load(SeqCst) == uncertainty_ns && self.stream.load(SeqCst) == stream;
        (uncertainty_ns != UNKNOWN && is_whole).then_some(ClockOffset { offset_ns, uncertainty_ns })
    }

    fn set(&self, stream: u64, known: Option<ClockOffset>) {
        self.uncertainty_ns.store(UNKNOWN, SeqCst);
        self.stream.store(stream, SeqCst);
        if let Some(ClockOffset { offset_ns, uncertainty_ns }) = known {
            self.offset_ns.store(offset_ns, SeqCst);
            self.uncertainty_ns.store(uncertainty_ns.min(UNKNOWN - 1), SeqCst);
        }
    }
}

/// A stream to be measured, by its number.
pub type Measured = (u64, StreamInfo);

/// Starts the thread. It measures the stream that it was told of last, and ends when nobody can tell it of any more: whoever
/// has its handle waits for that, as the library must not be in use when the process ends.
///
/// # Errors
/// The system's, when it gives no thread.
pub fn start(ahead_ns: i64) -> std::io::Result<(Arc<Clock>, Sender<Measured>, JoinHandle<()>)> {
    let clock = Arc::new(Clock::new());
    let (tell, told) = bounded(4);
    let shared = clock.clone();
    let measure = move || run(&told, &shared, ahead_ns);
    let thread = std::thread::Builder::new().name("lsl-clock".to_owned()).spawn(measure)?;
    Ok((clock, tell, thread))
}

fn run(told: &Receiver<Measured>, clock: &Clock, ahead_ns: i64) {
    let mut next = told.recv().ok();
    while let Some((stream, info)) = next {
        clock.set(stream, None);
        next = match Inlet::new(&info, 1) {
            Ok(inlet) => measure(&inlet, stream, told, clock, ahead_ns),
            Err(error) => {
                warn!("{error}; how the stream's clock stands to ours is not known");
                told.recv().ok()
            }
        };
    }
}

/// Measures until there is another stream, which it gives.
fn measure(
    inlet: &Inlet,
    stream: u64,
    told: &Receiver<Measured>,
    clock: &Clock,
    ahead_ns: i64,
) -> Option<Measured> {
    let mut spikes = (0, 0);
    loop {
        if let Some(news) = clock.news(&mut spikes) {
            warn!("{news}");
        }
        match inlet.time_correction(MEASURE_WAIT_S) {
            Ok(correction) => {
                let offset_ns = (correction.offset_s * 1e9).round() as i64 - ahead_ns;
                let uncertainty_ns = (correction.uncertainty_s * 1e9).round().max(0.0) as u64;
                clock.set(stream, Some(ClockOffset { offset_ns, uncertainty_ns }));
            }
            // What was measured is still the best that is known.
            Err(LslError::Timeout) => {}
            Err(_) => return told.recv().ok(),
        }
        if inlet.was_clock_reset() {
            warn!("the clock of the stream's host has begun anew");
        }
        match told.recv_timeout(ASK_EVERY) {
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
    fn spikes_in_no_bin_are_told_once() {
        let (clock, mut told) = (Clock::new(), (0, 0));
        assert_eq!(clock.news(&mut told), None);
        clock.note((3, 1));
        assert!(clock.news(&mut told).is_some_and(|news| news.starts_with("3 spikes came more than")));
        assert_eq!(clock.news(&mut told), None);
        // Another stream counts anew.
        clock.note((0, 0));
        assert_eq!(clock.news(&mut told), None);
    }

    #[test]
    fn what_is_known_belongs_to_one_stream() {
        let clock = Clock::new();
        assert_eq!(clock.of(3), None);
        let known = ClockOffset { offset_ns: -7, uncertainty_ns: 90 };
        clock.set(3, Some(known));
        assert_eq!((clock.of(3), clock.of(4)), (Some(known), None));
        clock.set(4, None);
        assert_eq!((clock.of(3), clock.of(4)), (None, None));
    }
}
