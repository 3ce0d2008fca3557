//! Records the session: what came, what was computed and what was published, as `protocol/SESSION-LOG.md` describes it.
//!
//! ```text
//!  ndt-decode  ──frames──▶ ring ─┐
//!                                ├─▶ ndtd-record ──▶ DIR/SESSION/000000.ndtlog, ...
//!  ndt-publish ──frames──▶ ring ─┘
//! ```
//!
//! The real-time threads put whole frames into a ring of bytes each ([`handle`]) and never wait: what finds no room is counted, and
//! the log says where it is missing. A thread of normal priority looks into the rings many times a second and appends what it finds
//! to the files ([`files`]). A disk that is full, or fails, ends the log and nothing else.

pub mod files;
pub mod handle;

use super::counters::Counters;
use crate::config::Config;
use crate::engine;
use crate::engine::native::simd::InstructionSet;
use crate::host::machine::Machine;
use crossbeam_channel::{Receiver, Sender, bounded};
use files::{Ended, Files};
use handle::Handle;
use ndt_protocol::Bundle;
use ndt_protocol::clock::{monotonic_ns, utc};
use ndt_protocol::limits::{OUTPUTS_MAX, QUEUE_BINS};
use ndt_protocol::session_log::Header;
use ndt_protocol::session_log::frame::{self, Thread};
use ndt_protocol::wire::{BIN_HEADER_BYTES, Description, ESTIMATE_HEADER_BYTES};
use rtrb::{Consumer, RingBuffer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// How long a frame waits in a ring at most, while the thread is given its time.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Most bytes of a ring: locked memory, where memory is locked.
const RING_BYTES_MAX: usize = 4 << 20;

/// Bytes of a bin's frame beside its counts, and of all other frames of a bin beside its rates, at most.
const BIN_BYTES: usize = 96 + BIN_HEADER_BYTES;
/// Bytes of an order, at most: a path of the usual length.
const ORDER_BYTES: usize = 1024;
const ANSWER_BYTES: usize = 256 + ESTIMATE_HEADER_BYTES + 8 * OUTPUTS_MAX;

/// Sentences that wait for the recorder at most; more are not recorded.
const EVENTS_MAX: usize = 256;

/// A recorder that runs.
pub struct Recorder {
    folder: PathBuf,
    thread: Option<JoinHandle<()>>,
    /// Why the log has ended before the session; `None` while it goes on.
    ended: Arc<Mutex<Option<String>>>,
    events: Sender<(u64, String)>,
}

/// Why a session cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The log cannot be begun.
    #[error("expected to begin a session log in {folder}, found {ended}")]
    Begin {
        /// The folder of the configuration.
        folder: PathBuf,
        /// What went wrong.
        ended: Ended,
    },
    /// The system gives no thread.
    #[error("expected a thread for the session log, found {0}")]
    Thread(std::io::Error),
}

/// Begins the log that `config` asks for, and returns the recorder with the handles of the decode and the publish thread; handles
/// that do nothing where no log is asked for.
///
/// # Errors
/// [`RecordError`] when the folder cannot be written to, or its disk is full already.
pub fn start(
    config: &Config,
    bundle: &Bundle,
    engine: &str,
    counters: &Arc<Counters>,
) -> Result<(Option<Recorder>, [Handle; 2]), RecordError> {
    let Some(folder) = &config.record else { return Ok((None, Default::default())) };
    let header = header(config, bundle, engine);
    let begin = |ended| RecordError::Begin { folder: folder.clone(), ended };
    let files = Files::begin(folder, header, config.record_file_mb << 20, config.record_reserve_mb << 20)
        .map_err(begin)?;
    let manifest = &bundle.manifest;
    let of_bins = |bytes: usize| (QUEUE_BINS * bytes).min(RING_BYTES_MAX);
    let rings = [
        touched(of_bins(BIN_BYTES + 4 * manifest.channels())),
        touched(of_bins(ANSWER_BYTES + 4 * manifest.units())),
    ];
    let [(decode, from_decode), (publish, from_publish)] = rings;
    let width_us = manifest.bin_width_us();
    // The lists of refused channels and the frame about missing ones come on top.
    let bin_bytes = (BIN_BYTES + 8 * manifest.channels()).max(ORDER_BYTES) + 64;
    let answer_bytes = ANSWER_BYTES + 4 * manifest.units() + 64;
    let handles = [
        Handle::new(decode, Thread::Decode, width_us, bin_bytes, counters.clone()),
        Handle::new(publish, Thread::Publish, width_us, answer_bytes, counters.clone()),
    ];
    let (events, told) = bounded(EVENTS_MAX);
    let (folder, ended) = (files.folder().to_owned(), Arc::new(Mutex::new(None)));
    let writer = Writer { files, decode: from_decode, publish: from_publish, told, ended: ended.clone() };
    let thread = std::thread::Builder::new().name("ndtd-record".to_owned()).spawn(move || writer.run());
    let thread = Some(thread.map_err(RecordError::Thread)?);
    Ok((Some(Recorder { folder, thread, ended, events }), handles))
}

impl Recorder {
    /// Folder of the log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Why the log has ended before the session; `None` while it goes on.
    pub fn ended(&self) -> Option<String> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records a sentence about what happened. Never waits; not for real-time threads.
    pub fn note(&self, sentence: &str) {
        // A recorder that does not keep up has lost more than this sentence, and says so.
        drop(self.events.try_send((monotonic_ns(), sentence.to_owned())));
    }

    /// Waits until all is written. The threads with the handles must have ended.
    pub fn finish(mut self) {
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A thread that panicked has already printed why.
            drop(thread.join());
        }
    }
}

/// Makes a ring whose memory is known to the kernel.
fn touched(bytes: usize) -> (rtrb::Producer<u8>, Consumer<u8>) {
    let (mut producer, mut consumer) = RingBuffer::new(bytes);
    if let Ok(chunk) = producer.write_chunk(bytes) {
        chunk.commit_all();
    }
    if let Ok(chunk) = consumer.read_chunk(bytes) {
        chunk.commit_all();
    }
    (producer, consumer)
}

/// Says where a log comes from.
fn header(config: &Config, bundle: &Bundle, engine: &str) -> Header {
    let choice = config.engine();
    let set = choice.instruction_set.unwrap_or_else(InstructionSet::best);
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let date = utc(since_1970.as_secs()).replace(':', "-");
    let (date, milliseconds) = (date.get(..19).unwrap_or_default(), since_1970.subsec_millis());
    let sets = InstructionSet::ALL.into_iter().filter(|set| set.is_available());
    Header {
        session: format!("{date}.{milliseconds:03}Z-{}", std::process::id()),
        file: 0,
        program: format!("ndtd {}", env!("CARGO_PKG_VERSION")),
        commit: option_env!("NDTD_COMMIT").map(str::to_owned),
        started_unix_ns: u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX),
        started_monotonic_ns: monotonic_ns(),
        bundle_path: std::path::absolute(&config.bundle).unwrap_or_else(|_| config.bundle.clone()),
        channel_ids: bundle.manifest.channel_ids.clone(),
        description: Description::of_estimates(bundle, engine),
        readout: bundle.manifest.velocity().cloned(),
        instruction_set: set.name().to_owned(),
        precision: engine::precision(&choice, bundle).name().to_owned(),
        cpu: Machine::read().cpu,
        cpu_features: sets.map(|set| set.name().to_owned()).collect(),
        // Every value has a place in TOML; the configuration was read from it.
        configuration: toml::to_string(config).unwrap_or_default(),
    }
}

/// What the recorder's thread owns.
struct Writer {
    files: Files,
    decode: Consumer<u8>,
    publish: Consumer<u8>,
    told: Receiver<(u64, String)>,
    ended: Arc<Mutex<Option<String>>>,
}

impl Writer {
    /// Appends what comes until both threads have ended, or the disk takes no more.
    fn run(mut self) {
        loop {
            // Looked at first: what was pushed before is in the rings then.
            let is_over = self.decode.is_abandoned() && self.publish.is_abandoned();
            let appended = self.append();
            let why = appended.as_ref().err().map_or_else(String::new, Ended::to_string);
            if is_over || appended.is_err() {
                // Without room for the last frame, the reader says that there is none.
                drop(self.files.end(&why));
            }
            if appended.is_err() {
                *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
            }
            if is_over || appended.is_err() {
                return;
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    /// Appends all frames that are there. A result of the decoder is in the log after the bin that it follows from: what the publish
    /// thread has pushed is counted before the bins are taken.
    fn append(&mut self) -> Result<(), Ended> {
        let answers = self.publish.slots();
        let bins = self.decode.slots();
        copy(&mut self.decode, bins, &mut self.files)?;
        copy(&mut self.publish, answers, &mut self.files)?;
        let mut bytes = Vec::new();
        self.told.try_iter().for_each(|(at_ns, sentence)| frame::put_event(at_ns, &sentence, &mut bytes));
        self.files.append([&bytes, &[]])
    }
}

/// Moves bytes from a ring to the files. Threads push whole frames only.
fn copy(ring: &mut Consumer<u8>, bytes: usize, files: &mut Files) -> Result<(), Ended> {
    let Ok(chunk) = ring.read_chunk(bytes) else { return Ok(()) };
    let (first, second) = chunk.as_slices();
    files.append([first, second])?;
    chunk.commit_all();
    Ok(())
}
