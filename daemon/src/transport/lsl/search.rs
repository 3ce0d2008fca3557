//! Looks for the stream, checks it against the bundle, and says what it finds: all that takes its time, or the log.
//!
//! `lsl-search` does nothing until it is asked. Of a stream that was found once it looks for the same source id ever
//! after: a rig that comes back is taken up, and another one is not.

use super::LslSettings;
use super::clock::Measured;
use super::labels::{Layout, LayoutError};
use crossbeam_channel::{Receiver, Sender, bounded};
use ndt_protocol::lsl::{Format, Inlet, Library, LslError, Query, StreamInfo};
use ndt_protocol::{Bundle, limits::CHANNELS_MAX};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long it is waited for a second stream, s, which would make the choice a guess. The library asks by multicast at
/// once, and the peers of its configuration half a second later.
const SECOND_WAIT_S: f64 = 0.75;

/// How long one search for a source id takes, s, where the first answer is enough.
const AGAIN_WAIT_S: f64 = 0.75;

/// How long a stream's host may take to describe it, s.
const DESCRIBE_WAIT_S: f64 = 1.0;

/// How long is waited before a stream that was refused is looked at again.
const REFUSED_WAIT: Duration = Duration::from_millis(250);

/// How the source thread asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// The stream, whichever outlet it is now.
    Any,
    /// Whether it has another outlet than the one that was found last; looked for once.
    Other,
}

/// A stream that fits.
pub struct Found {
    /// What it says of itself.
    pub info: StreamInfo,
    /// Identity of the outlet.
    pub stream: u64,
    /// Where its channels are.
    pub layout: Layout,
    /// What its samples are.
    pub samples: Samples,
}

/// What a stream's samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Samples {
    /// Counts of bins of this width, us.
    Counts {
        /// The model's, or a whole part of it.
        width_us: u32,
    },
    /// A spike each.
    Events,
}

/// Why a stream is not taken.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Its channels.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Its values.
    #[error("expected numbers, found {}", .0.name())]
    Format(Format),
    /// Its rate.
    #[error("expected {model_hz} samples in a second or a whole multiple, found {found_hz}")]
    Rate {
        /// Bins of the model in a second.
        model_hz: f64,
        /// The stream's samples in a second.
        found_hz: f64,
    },
    /// More than one channel of spikes.
    #[error("expected one channel that holds the channel of each spike, found an irregular stream of {0}")]
    Events(usize),
    /// The library.
    #[error(transparent)]
    Lsl(#[from] LslError),
}

/// Asks the searching thread, and hears from it.
pub struct Search {
    asks: Option<Sender<Ask>>,
    /// What was found.
    pub found: Receiver<Found>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Search {
    /// Starts the thread, which tells `clock` of each stream that it finds.
    ///
    /// # Errors
    /// The system's, when it gives no thread.
    pub fn start(
        library: &Library,
        query: &Query,
        settings: &LslSettings,
        bundle: &Bundle,
        clock: Sender<Measured>,
    ) -> std::io::Result<Search> {
        let (asks, asked) = bounded(1);
        let (find, found) = bounded(1);
        let stop = Arc::new(AtomicBool::new(false));
        let searcher = Searcher {
            library: library.clone(),
            query: query.clone(),
            known: None,
            every: Duration::from_secs_f64(settings.resolve_timeout_s),
            allow_unknown: settings.allow_unknown_channels,
            channel_ids: bundle.manifest.channel_ids.clone(),
            model_us: bundle.manifest.bin_width_us(),
            clock,
            stop: stop.clone(),
            said: None,
        };
        let thread = std::thread::Builder::new()
            .name("lsl-search".to_owned())
            .spawn(move || searcher.run(&asked, &find))?;
        Ok(Search { asks: Some(asks), found, stop, thread: Some(thread) })
    }

    /// Asks; while it still looks for what was asked before, nothing. Runs on the source thread while there is no bin;
    /// does not block.
    pub fn ask(&self, ask: Ask) {
        if let Some(asks) = &self.asks {
            _ = asks.try_send(ask);
        }
    }
}

impl Drop for Search {
    /// Waits for the thread: the library must not be in use when the process ends.
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.asks = None;
        while self.found.try_recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Searcher {
    library: Library,
    query: Query,
    /// Source id and uid of the stream that was found last.
    known: Option<(String, String)>,
    every: Duration,
    allow_unknown: bool,
    channel_ids: Vec<i64>,
    model_us: u32,
    clock: Sender<Measured>,
    stop: Arc<AtomicBool>,
    /// What was told last, and when.
    said: Option<(String, Instant)>,
}

impl Searcher {
    fn run(mut self, asked: &Receiver<Ask>, find: &Sender<Found>) {
        while let Ok(ask) = asked.recv() {
            let started = Instant::now();
            self.said = None;
            while !self.stop.load(Relaxed) {
                match self.look(ask) {
                    Ok(Some(found)) => {
                        info!("bins from {}{}", found.info, found.layout.remarks());
                        self.known = Some((found.info.source_id(), found.info.uid()));
                        drop(self.clock.try_send((found.stream, found.info.clone())));
                        drop(find.send(found));
                        break;
                    }
                    Ok(None) if ask == Ask::Any && started.elapsed() > self.every => {
                        let wanted = self.wanted().predicate();
                        self.say(format!("expected a stream with {wanted}, found none yet; looking on"));
                    }
                    Ok(None) => {}
                    Err(refused) => {
                        self.say(refused);
                        std::thread::sleep(REFUSED_WAIT);
                    }
                }
                if ask == Ask::Other {
                    break;
                }
            }
        }
    }

    /// Warns, of the same thing only every so often.
    fn say(&mut self, sentence: String) {
        if self.said.as_ref().is_none_or(|(said, at)| *said != sentence || at.elapsed() > self.every) {
            warn!("{sentence}");
            self.said = Some((sentence, Instant::now()));
        }
    }

    fn wanted(&self) -> Query {
        match &self.known {
            Some((source_id, _)) if !source_id.is_empty() => {
                Query { source_id: Some(source_id.clone()), ..self.query.clone() }
            }
            _ => self.query.clone(),
        }
    }

    /// Looks once.
    fn look(&self, ask: Ask) -> Result<Option<Found>, String> {
        let is_known = self.known.as_ref().is_some_and(|(source_id, _)| !source_id.is_empty());
        // While the one that is known is there, it answers too.
        let (minimum, wait_s) = match ask {
            Ask::Any if is_known => (1, AGAIN_WAIT_S),
            _ => (2, SECOND_WAIT_S),
        };
        let wanted = self.wanted();
        let mut infos = self.library.resolve(&wanted, minimum, wait_s).map_err(|error| error.to_string())?;
        if ask == Ask::Other {
            infos.retain(|info| self.known.as_ref().is_none_or(|(_, uid)| info.uid() != *uid));
        }
        if infos.len() > 1 {
            let found: Vec<String> = infos.iter().map(StreamInfo::to_string).collect();
            return Err(format!(
                "expected one stream with {}, found {}: {}; lsl:source-id=... tells them apart",
                wanted.predicate(),
                found.len(),
                found.join(", ")
            ));
        }
        let Some(info) = infos.pop() else { return Ok(None) };
        match self.check(&info) {
            Ok(found) => Ok(Some(found)),
            // It went away while it was looked at.
            Err(StreamError::Lsl(LslError::Lost | LslError::Timeout)) => Ok(None),
            Err(error) => Err(format!("{error}, in the stream {info}")),
        }
    }

    fn check(&self, info: &StreamInfo) -> Result<Found, StreamError> {
        if !info.format().is_number() {
            return Err(StreamError::Format(info.format()));
        }
        let samples = samples(info.rate_hz(), self.model_us)?;
        let full = Inlet::new(info, 1)?.full_info(DESCRIBE_WAIT_S)?;
        let channels = info.channels();
        let layout = match samples {
            Samples::Events if channels != 1 => return Err(StreamError::Events(channels)),
            // The value tells the channel.
            Samples::Events => Layout::new(&[], self.channel_ids.len(), &self.channel_ids, false)?,
            // Beside the bundle's own there may be some that are left out.
            Samples::Counts { .. } if channels > 2 * CHANNELS_MAX => {
                return Err(
                    LayoutError::Channels { expected: self.channel_ids.len(), found: channels }.into()
                );
            }
            Samples::Counts { .. } => {
                Layout::new(&full.labels(), channels, &self.channel_ids, self.allow_unknown)?
            }
        };
        // The description of the host itself does not say where the host is; what was resolved does.
        Ok(Found { stream: identity(&info.uid()), info: info.clone(), layout, samples })
    }
}

/// What a stream of this rate has in its samples.
fn samples(rate_hz: f64, model_us: u32) -> Result<Samples, StreamError> {
    if rate_hz == 0.0 {
        return Ok(Samples::Events);
    }
    let model_hz = 1e6 / f64::from(model_us);
    let parts = (rate_hz / model_hz).round();
    // Rates are written with few digits.
    let is_multiple = parts >= 1.0 && (rate_hz / model_hz - parts).abs() < 1e-3 * parts;
    match parts as u32 {
        parts if is_multiple && model_us.is_multiple_of(parts) => {
            Ok(Samples::Counts { width_us: model_us / parts })
        }
        _ => Err(StreamError::Rate { model_hz, found_hz: rate_hz }),
    }
}

/// A number for an outlet's uid.
fn identity(uid: &str) -> u64 {
    let digest = Sha256::digest(uid.as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_the_models_or_whole_multiples() {
        let width = |rate_hz| match samples(rate_hz, 20_000) {
            Ok(Samples::Counts { width_us }) => Some(width_us),
            Ok(Samples::Events) => Some(0),
            Err(_) => None,
        };
        assert_eq!([50.0, 200.0, 1000.0, 0.0].map(width), [Some(20_000), Some(5_000), Some(1_000), Some(0)]);
        assert_eq!([25.0, 30.0, 75.0, 50.2, -1.0, f64::NAN].map(width), [None; 6]);
        // 15 ms bins: 66.6667 Hz.
        assert!(matches!(samples(66.6667, 15_000), Ok(Samples::Counts { width_us: 15_000 })));
        let error = samples(30.0, 20_000).unwrap_err().to_string();
        assert_eq!(error, "expected 50 samples in a second or a whole multiple, found 30");
    }
}
