//! Spikes of a stream that no bin counts, and time stamps that were not used: counted on the source thread, logged on a thread that may
//! log.

use super::events::Lost;
use super::stamps::JUMP_S;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use tracing::warn;

/// Calls between two warnings of a loss that goes on: ten seconds, as the log is asked four times a second.
const CALLS_BETWEEN: u32 = 40;

/// What was lost of the present stream. Shared between the source thread, which writes it, and the thread that logs it.
#[derive(Debug, Default)]
pub struct LostSpikes {
    late: AtomicU64,
    unknown: AtomicU64,
    off: AtomicU64,
    full: AtomicU64,
}

/// Logs what was lost of one stream, each spike once: at once, and while more is lost every ten seconds.
#[derive(Debug)]
pub struct LostSpikesLog {
    lost: Arc<LostSpikes>,
    logged: (Lost, u64),
    /// Calls in which nothing is logged.
    quiet_calls: u32,
}

impl LostSpikes {
    /// Stores what was lost since the stream was found. Runs on the source thread, once a sample. Must not block.
    pub fn set(&self, lost: Lost) {
        let Lost { late, unknown, off } = lost;
        self.late.store(late, SeqCst);
        self.unknown.store(unknown, SeqCst);
        self.off.store(off, SeqCst);
    }

    /// Notes that the buffer of spikes was found full, so that the oldest were lost. Runs on the source thread. Must not block.
    pub fn was_full(&self) {
        self.full.fetch_add(1, SeqCst);
    }

    /// What was lost since the stream was found, and how often the buffer has been found full since the start.
    fn get(&self) -> (Lost, u64) {
        let get = |number: &AtomicU64| number.load(SeqCst);
        let lost = Lost { late: get(&self.late), unknown: get(&self.unknown), off: get(&self.off) };
        (lost, get(&self.full))
    }
}

impl LostSpikesLog {
    /// A log that has written nothing yet.
    pub fn new(lost: Arc<LostSpikes>) -> LostSpikesLog {
        let logged = (Lost::default(), lost.get().1);
        LostSpikesLog { lost, logged, quiet_calls: 0 }
    }

    /// Writes one warning of each kind of loss that has occurred since the last warning. Called four times a second. Must not run on a
    /// real-time thread.
    pub fn write(&mut self) {
        self.sentences().iter().for_each(|sentence| warn!("{sentence}"));
    }

    fn sentences(&mut self) -> Vec<String> {
        self.quiet_calls = self.quiet_calls.saturating_sub(1);
        if self.quiet_calls > 0 {
            return Vec::new();
        }
        let (before, now) = (self.logged, self.lost.get());
        self.logged = now;
        let (late, unknown) =
            (now.0.late.saturating_sub(before.0.late), now.0.unknown.saturating_sub(before.0.unknown));
        let (off, full) = (now.0.off.saturating_sub(before.0.off), now.1.saturating_sub(before.1));
        let mut sentences = Vec::new();
        if (late, unknown) != (0, 0) {
            sentences.push(format!(
                "{late} spikes came more than event-wait-ms after their bin, {unknown} were of no channel: in no bin"
            ));
        }
        if off > 0 {
            sentences.push(format!(
                "expected time stamps within {JUMP_S} s of the stream's clock, found {off} others, which are not used: a spike with such \
                 a stamp is in no bin, a sample of counts has the time of its arrival"
            ));
        }
        if full > 0 {
            sentences.push(format!(
                "expected every spike to be read in time, found the buffer full {full} times, and bins that lack spikes left out; \
                 buffer-bins in [lsl] makes it larger"
            ));
        }
        if !sentences.is_empty() {
            self.quiet_calls = CALLS_BETWEEN;
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_logged_once() {
        let lost = Arc::new(LostSpikes::default());
        let mut log = LostSpikesLog::new(lost.clone());
        assert_eq!(log.sentences(), Vec::<String>::new());
        lost.set(Lost { late: 3, unknown: 1, off: 0 });
        assert!(log.sentences()[0].starts_with("3 spikes came more than"));
        lost.set(Lost { late: 3, unknown: 1, off: 2 });
        lost.was_full();
        // What goes on is said again after ten seconds, and then whole.
        assert!((1..CALLS_BETWEEN).all(|_| log.sentences().is_empty()));
        let found = log.sentences();
        assert!(found[0].contains("found 2 others") && found[1].contains("full 1 times"), "{found:?}");
        // The next stream counts from zero.
        lost.set(Lost::default());
        assert!((0..2 * CALLS_BETWEEN).all(|_| log.sentences().is_empty()));
    }
}
