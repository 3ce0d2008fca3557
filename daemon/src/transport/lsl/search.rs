//! Searches for the stream, checks it against the bundle, and logs the result: all the work that blocks or logs.
//!
//! The thread `lsl-search` sleeps until the source thread asks it. Once a stream has been found, it searches for the same source
//! id first, so that a rig that comes back is used again and not another one. Where that id is gone, it takes the one stream that
//! answers the configured query, unless `pin-source-id` is set: programs that set no source id get another one at each start.

use super::LslSettings;
use super::clock::MeasuredStream;
use super::labels::{Allowed, Layout, LayoutError};
use crate::queue::{self, Queue};
use crossbeam_channel::{Receiver, Sender, bounded};
use ndt_protocol::lsl::{Format, Inlet, Library, LslError, Query, StreamInfo};
use ndt_protocol::{Bundle, limits::CHANNELS_MAX};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Seconds to wait for a second matching stream, so that an ambiguous name is reported and not guessed. The library asks by
/// multicast at once, and asks the peers of its configuration half a second later.
const SECOND_WAIT_S: f64 = 0.75;

/// Longest search for a known source id, s. The first answer ends it.
const AGAIN_WAIT_S: f64 = 0.75;

/// Longest time that a stream's host may take to describe the stream, s.
const DESCRIBE_WAIT_S: f64 = 1.0;

/// Pause before a refused stream is checked again.
const REFUSED_WAIT: Duration = Duration::from_millis(250);

/// Which outlets the source thread wants the search to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// The stream, whichever outlet offers it. The search goes on until the stream is found.
    Any,
    /// Search once for another outlet of the stream than the one that was found last. The search may find nothing.
    Other,
}

/// A stream that fits the bundle.
pub struct Found {
    /// Description of the stream, and how to connect to it.
    pub info: StreamInfo,
    /// Number of the outlet: another outlet has another number.
    pub stream: u64,
    /// Positions of the model's channels in a sample.
    pub layout: Layout,
    /// Meaning of a sample.
    pub samples: Samples,
}

/// Meaning of a stream's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Samples {
    /// A sample is one bin: a count for each channel.
    Counts {
        /// Width of a bin, us: that of the model, or a whole fraction of it.
        width_us: u32,
    },
    /// A sample is one spike, whose value is the channel.
    Events,
}

/// Why a stream is refused.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The channels do not fit the bundle.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The values of the stream are not numbers.
    #[error("expected numbers, found {}", .0.name())]
    Format(Format),
    /// The sample rate of the stream is not a whole multiple of the model's bin rate.
    #[error("expected {model_hz} samples in a second or a whole multiple, found {found_hz}")]
    Rate {
        /// Bins of the model in one second.
        model_hz: f64,
        /// Samples of the stream in one second.
        found_hz: f64,
    },
    /// A stream of single spikes has more than one channel.
    #[error("expected one channel that holds the channel of each spike, found an irregular stream of {0}")]
    Events(usize),
    /// The library failed, or the stream went away.
    #[error(transparent)]
    Lsl(#[from] LslError),
}

/// The source thread's handle to the searching thread.
pub struct Search {
    asks: Option<Sender<Ask>>,
    /// Receives the streams that were found. The source thread looks at every turn, so that it must not wait for the searching thread.
    pub found: queue::Receiver<Found>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Search {
    /// Starts the thread `lsl-search`, which sends each stream that it finds to `clock` too.
    ///
    /// # Errors
    /// The system's error when it gives no thread.
    pub fn start(
        library: &Library,
        query: &Query,
        settings: &LslSettings,
        bundle: &Bundle,
        clock: Sender<MeasuredStream>,
    ) -> std::io::Result<Search> {
        let (asks, asked) = bounded(1);
        let (find, found) = Queue::untouched();
        let stop = Arc::new(AtomicBool::new(false));
        let searcher = Searcher {
            library: library.clone(),
            query: query.clone(),
            known: None,
            warn_every: Duration::from_secs_f64(settings.resolve_timeout_s),
            allowed: Allowed {
                unknown: settings.allow_unknown_channels,
                unlabelled: settings.allow_unlabelled_channels,
            },
            pin_source_id: settings.pin_source_id,
            channel_ids: bundle.manifest.channel_ids.clone(),
            model_us: bundle.manifest.bin_width_us(),
            clock,
            stop: stop.clone(),
            warned: None,
        };
        let thread = std::thread::Builder::new()
            .name("lsl-search".to_owned())
            .spawn(move || searcher.answer_each(&asked, &find))?;
        Ok(Search { asks: Some(asks), found, stop, thread: Some(thread) })
    }

    /// Asks for a stream. Does nothing while the search for an earlier question goes on. Runs on the source thread while there
    /// is no bin. Must not block.
    pub fn ask(&self, ask: Ask) {
        if let Some(asks) = &self.asks {
            _ = asks.try_send(ask);
        }
    }
}

impl Drop for Search {
    /// Waits for the thread, but not for ever: the library should not be in use when the process ends.
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.asks = None;
        super::wait_for(self.thread.take());
    }
}

struct Searcher {
    library: Library,
    query: Query,
    /// Source id and uid of the stream that was found last.
    known: Option<(String, String)>,
    /// Interval after which the same warning is logged again.
    warn_every: Duration,
    allowed: Allowed,
    pin_source_id: bool,
    channel_ids: Vec<i64>,
    model_us: u32,
    clock: Sender<MeasuredStream>,
    stop: Arc<AtomicBool>,
    /// Last warning, and the instant of its log line.
    warned: Option<(String, Instant)>,
}

impl Searcher {
    /// Answers each request for a search, on the searching thread, until the source is dropped.
    fn answer_each(mut self, asked: &Receiver<Ask>, find: &Queue<Found>) {
        while let Ok(ask) = asked.recv() {
            let started = Instant::now();
            self.warned = None;
            while !self.stop.load(Relaxed) {
                match self.look(ask) {
                    Ok(Some(found)) => {
                        let (info, remarks) = (&found.info, found.layout.remarks());
                        match found.layout.is_described() {
                            true => info!("bins from {info}{remarks}"),
                            false => warn!("bins from {info}{remarks}"),
                        }
                        self.warn_of_other(&found.info.source_id());
                        self.known = Some((found.info.source_id(), found.info.uid()));
                        drop(self.clock.try_send((found.stream, found.info.clone())));
                        find.push(found);
                        break;
                    }
                    Ok(None) if ask == Ask::Any && started.elapsed() > self.warn_every => {
                        let wanted = self.wanted().predicate();
                        let pinned = self.pinned();
                        self.warn_again(format!(
                            "expected a stream with {wanted}, found none yet; still searching{pinned}"
                        ));
                    }
                    Ok(None) => {}
                    Err(refused) => {
                        self.warn_again(refused);
                        std::thread::sleep(REFUSED_WAIT);
                    }
                }
                if ask == Ask::Other {
                    break;
                }
            }
        }
    }

    /// Warns of a stream that takes the place of one with another source id.
    fn warn_of_other(&self, source_id: &str) {
        if let Some((known, _)) = self.known.as_ref().filter(|(known, _)| known != source_id) {
            warn!(
                "source id \"{source_id}\" takes the place of \"{known}\", which is gone; pin-source-id in [lsl] forbids it"
            );
        }
    }

    /// Says what `pin-source-id` forbids, if it is set and a stream was found before. Asks the network which streams there are.
    fn pinned(&self) -> String {
        let Some(known) = self.known_source().filter(|_| self.pin_source_id) else { return String::new() };
        let others = self.library.resolve(&self.query, 1, SECOND_WAIT_S).unwrap_or_default();
        let others = others.iter().filter(|info| Some(info.source_id()) != known.source_id);
        let others: Vec<String> = others.map(StreamInfo::to_string).collect();
        match &others[..] {
            [] => "; pin-source-id in [lsl] allows no other source id".to_owned(),
            others => format!("; pin-source-id in [lsl] forbids {}", others.join(" and ")),
        }
    }

    /// Logs a warning, unless the last one was the same and is younger than `warn_every`.
    fn warn_again(&mut self, sentence: String) {
        let is_due = |(last, at): &(String, Instant)| *last != sentence || at.elapsed() > self.warn_every;
        if self.warned.as_ref().is_none_or(is_due) {
            warn!("{sentence}");
            self.warned = Some((sentence, Instant::now()));
        }
    }

    /// The configured query with the source id of the stream that was found last, if it had one.
    fn known_source(&self) -> Option<Query> {
        let (source_id, _) = self.known.as_ref().filter(|(source_id, _)| !source_id.is_empty())?;
        Some(Query { source_id: Some(source_id.clone()), ..self.query.clone() })
    }

    /// The query that the log names: what is searched for now.
    fn wanted(&self) -> Query {
        let known = self.known_source().filter(|_| self.pin_source_id);
        known.unwrap_or_else(|| self.query.clone())
    }

    /// Searches once: for the known source, and where it is gone for any that answers the configured query. An error is the
    /// sentence for the log.
    fn look(&self, ask: Ask) -> Result<Option<Found>, String> {
        let Some(known) = self.known_source() else { return self.look_for(&self.query, ask) };
        match self.look_for(&known, ask)? {
            None if !self.pin_source_id => self.look_for(&self.query, ask),
            found => Ok(found),
        }
    }

    /// Searches the network once for a stream that answers `wanted`.
    fn look_for(&self, wanted: &Query, ask: Ask) -> Result<Option<Found>, String> {
        // One answer is enough for a source id. While the known outlet is there, it answers too: only a second answer can be
        // another outlet.
        let (minimum, wait_s) = match ask {
            Ask::Any if wanted.source_id.is_some() => (1, AGAIN_WAIT_S),
            _ => (2, SECOND_WAIT_S),
        };
        let mut infos = self.library.resolve(wanted, minimum, wait_s).map_err(|error| error.to_string())?;
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
            // The stream went away while it was checked.
            Err(StreamError::Lsl(LslError::Lost | LslError::Timeout)) => Ok(None),
            Err(error) => Err(format!("{error}, in the stream {info}")),
        }
    }

    /// Checks a stream against the bundle.
    fn check(&self, info: &StreamInfo) -> Result<Found, StreamError> {
        if !info.format().is_number() {
            return Err(StreamError::Format(info.format()));
        }
        let samples = samples(info.rate_hz(), self.model_us)?;
        // An inlet has memory for its samples from the start: nothing is opened before their size is known to be sane.
        let channels = info.channels();
        match samples {
            Samples::Events if channels != 1 => return Err(StreamError::Events(channels)),
            // A stream may have channels that are left out, beside those of the bundle.
            Samples::Counts { .. } if channels > 2 * CHANNELS_MAX => {
                let expected = self.channel_ids.len();
                return Err(LayoutError::Channels { expected, found: channels }.into());
            }
            Samples::Events | Samples::Counts { .. } => {}
        }
        let full = Inlet::new(info, 1)?.full_info(DESCRIBE_WAIT_S)?;
        let layout = match samples {
            // The value of a sample is the channel, so that the stream needs no labels.
            Samples::Events => Layout::in_order(self.channel_ids.len()),
            Samples::Counts { .. } => Layout::new(&full.labels(), channels, &self.channel_ids, self.allowed)?,
        };
        // Only the resolved description holds the host's address; the full one, from the host itself, does not.
        Ok(Found { stream: identity(&info.uid()), info: info.clone(), layout, samples })
    }
}

/// Meaning of the samples of a stream with this nominal rate; 0 is an irregular stream.
fn samples(rate_hz: f64, model_us: u32) -> Result<Samples, StreamError> {
    if rate_hz == 0.0 {
        return Ok(Samples::Events);
    }
    let model_hz = 1e6 / f64::from(model_us);
    let parts = (rate_hz / model_hz).round();
    // Programs round nominal rates to few digits.
    let is_multiple = parts >= 1.0 && (rate_hz / model_hz - parts).abs() < 1e-3 * parts;
    match parts as u32 {
        parts if is_multiple && model_us.is_multiple_of(parts) => {
            Ok(Samples::Counts { width_us: model_us / parts })
        }
        _ => Err(StreamError::Rate { model_hz, found_hz: rate_hz }),
    }
}

/// Number of an outlet, from its uid.
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
        let absurd = [1e300, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, 1e-310, 1e9, 4_294_967_296.0 * 50.0];
        assert_eq!(absurd.map(width), [None; 7]);
        // 15 ms bins: 66.6667 Hz.
        assert!(matches!(samples(66.6667, 15_000), Ok(Samples::Counts { width_us: 15_000 })));
        let error = samples(30.0, 20_000).unwrap_err().to_string();
        assert_eq!(error, "expected 50 samples in a second or a whole multiple, found 30");
    }
}
