//! Spikes of a stream that no bin counts: counted on the source thread, logged on a thread that may log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use tracing::warn;

/// Number of spikes of the present stream that are in no bin. Shared between the source thread, which writes it, and the
/// thread that logs it.
#[derive(Debug, Default)]
pub struct LostSpikes {
    /// Spikes that came after their bin was closed.
    late: AtomicU64,
    /// Spikes of a channel that the model does not have.
    unknown: AtomicU64,
}

/// Logs lost spikes of one stream, each of them once.
#[derive(Debug)]
pub struct LostSpikesLog {
    lost: Arc<LostSpikes>,
    logged: (u64, u64),
}

impl LostSpikes {
    /// Stores the number of late spikes and of spikes of unknown channels, each since the stream was found. Runs on the source
    /// thread, once a bin. Must not block.
    pub fn set(&self, (late, unknown): (u64, u64)) {
        self.late.store(late, SeqCst);
        self.unknown.store(unknown, SeqCst);
    }
}

impl LostSpikesLog {
    /// A log that has written nothing yet.
    pub fn new(lost: Arc<LostSpikes>) -> LostSpikesLog {
        LostSpikesLog { lost, logged: (0, 0) }
    }

    /// Writes one warning if spikes have been lost since the previous call. Must not run on a real-time thread.
    pub fn write(&mut self) {
        if let Some(sentence) = self.sentence() {
            warn!("{sentence}");
        }
    }

    fn sentence(&mut self) -> Option<String> {
        let (late, unknown) = (self.lost.late.load(SeqCst), self.lost.unknown.load(SeqCst));
        let more = (late.saturating_sub(self.logged.0), unknown.saturating_sub(self.logged.1));
        self.logged = (late, unknown);
        (more != (0, 0)).then(|| {
            format!(
                "{} spikes came more than event-wait-ms after their bin, {} were of no channel: in no bin",
                more.0, more.1
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_spike_is_logged_once() {
        let lost = Arc::new(LostSpikes::default());
        let mut log = LostSpikesLog::new(lost.clone());
        assert_eq!(log.sentence(), None);
        lost.set((3, 1));
        assert!(log.sentence().is_some_and(|sentence| sentence.starts_with("3 spikes came more than")));
        assert_eq!(log.sentence(), None);
        // The next stream counts from zero.
        lost.set((0, 0));
        assert_eq!(log.sentence(), None);
    }
}
