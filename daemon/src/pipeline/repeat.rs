//! Computes a recorded session again, by the code that ran in it, and compares every estimate to the bit.
//!
//! Decoder and guard take time as an argument, and the log holds the arguments of each of their calls. So two readers go through the
//! log: one repeats the calls of the guard, in their order, and the other those of the decoder, as far as the guard needs its results.

use crate::config::{Config, ConfigError, ReadBundleError};
use crate::decoder::Decoder;
use crate::engine::native::simd::InstructionSet;
use crate::engine::{self, EngineError};
use crate::guard::Guard;
use crate::pipeline::orders::{ALONE, BESIDE, MASK, ModelOrder, PAUSE, RESUME, TAKE_OVER};
use ndt_protocol::bundle::precision::Precision;
use ndt_protocol::session_log::{Frame, Header, Kind, LogError, Reader, ResultTaken, Tail, Thread};
use ndt_protocol::wire::Description;
use ndt_protocol::{Bundle, Estimate};
use serde::Serialize;
use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};

/// Frames that the decoder's reader looks at.
const OF_DECODER: &[Kind] = &[Kind::Bin, Kind::Dropped, Kind::Order];

/// Frames that the guard's reader looks at.
const OF_GUARD: &[Kind] = &[
    Kind::Arrival,
    Kind::Silence,
    Kind::Result,
    Kind::Tick,
    Kind::Estimate,
    Kind::Dropped,
    Kind::Order,
    Kind::End,
];

/// Why a session cannot be computed again.
#[derive(Debug, thiserror::Error)]
pub enum RepeatError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The configuration in the log is not one of this version.
    #[error("expected a configuration of this version in the log, found {0}")]
    Configuration(String),
    /// The configuration does not fit the bundle.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The bundle cannot be read.
    #[error("bundle {path}: {error}")]
    Bundle {
        /// Path of the bundle.
        path: PathBuf,
        /// What is wrong with it.
        error: ReadBundleError,
    },
    /// Another bundle lies at the path.
    #[error(
        "expected the bundle {expected} at {path}, found {found}; --bundle names the place of the other one"
    )]
    OtherBundle {
        /// Path of the bundle.
        path: PathBuf,
        /// Id in the log.
        expected: String,
        /// Id of the bundle.
        found: String,
    },
    /// The engine of the session cannot be had.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine is not the one of the session.
    #[error("expected the engine \"{expected}\" of the session, found \"{found}\" on this computer")]
    OtherEngine {
        /// Engine in the log.
        expected: String,
        /// Engine that could be had.
        found: String,
    },
}

/// What came out of a session that was computed again.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Repeated {
    /// Name of the session.
    pub session: String,
    /// Program that recorded it.
    pub program: String,
    /// Engine that computed it, then and now.
    pub engine: String,
    /// Bins that the decoder took again.
    pub bins: u64,
    /// Estimates that were compared.
    pub estimates: u64,
    /// Whether all of them are equal to the bit.
    pub equal: bool,
    /// The first one that is not.
    pub first_difference: Option<Difference>,
    /// Where the comparison ended.
    pub ended: String,
    /// Bytes at the end of the log that are no whole frame.
    pub left_out_bytes: u64,
}

/// A difference between an estimate in the log and the one that was computed again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    /// Number of the bin.
    pub seq: u64,
    /// Stream of the bin.
    pub stream: u64,
    /// What differs, such as `rates[3]`.
    pub what: String,
    /// What the log holds.
    pub logged: String,
    /// What was computed again.
    pub repeated: String,
}

impl fmt::Display for Repeated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "session    {}, recorded by {}, engine {}", self.session, self.program, self.engine)?;
        writeln!(f, "repeated   {} bins, {} estimates compared", self.bins, self.estimates)?;
        match &self.first_difference {
            None => writeln!(f, "result     equal to the bit")?,
            Some(Difference { seq, stream, what, logged, repeated }) => writeln!(
                f,
                "result     different from bin {seq} of stream {stream} on: {what} was {logged}, is now {repeated}"
            )?,
        }
        write!(f, "ended      {}", self.ended)
    }
}

/// Computes the session of the log at `path` again. The bundle is the one that the log names, or the one at `bundle`. `progress` is
/// told how many bytes of the log are done, and of how many.
///
/// # Errors
/// [`RepeatError`] when the log cannot be read, or its model or engine cannot be had. A difference is no error.
pub fn repeat(
    path: &Path,
    bundle: Option<&Path>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Repeated, RepeatError> {
    let reader = Reader::open(path)?;
    let header = reader.header().clone();
    let (mut decoding, guard, engine) = session(path, &header, bundle)?;
    let mut guarding = Guarding { guard, published: VecDeque::new(), estimates: 0, difference: None };
    let mut reader = reader;
    let mut frames = 0u64;
    let ended = loop {
        let Some(frame) = reader.next_of(OF_GUARD)? else {
            break tail(reader.tail()).unwrap_or_else(|| "with the last frame of the log".to_owned());
        };
        frames += 1;
        if frames.is_multiple_of(1024) {
            let (read, total) = reader.progress();
            progress(read, total);
        }
        if let Some(ended) = guarding.take(frame, &mut decoding)? {
            break ended;
        }
    };
    Ok(Repeated {
        session: header.session,
        program: header.program,
        engine,
        bins: decoding.bins,
        estimates: guarding.estimates,
        equal: guarding.difference.is_none(),
        first_difference: guarding.difference,
        ended,
        left_out_bytes: reader.tail().map_or(0, |tail| tail.bytes),
    })
}

fn tail(tail: Option<&Tail>) -> Option<String> {
    let Tail { path, at, bytes, found } = tail?;
    Some(format!(
        "with the last whole frame: {bytes} bytes from byte {at} of {} on are {found}",
        path.display()
    ))
}

/// Decoder and guard as they were at the start of the session, and the name of the engine.
fn session(
    path: &Path,
    header: &Header,
    bundle: Option<&Path>,
) -> Result<(Decoding, Guard, String), RepeatError> {
    let mut config: Config = toml::from_str(&header.configuration)
        .map_err(|error| RepeatError::Configuration(error.to_string()))?;
    config.bundle = bundle.unwrap_or(&header.bundle_path).to_owned();
    config.instruction_set = InstructionSet::named(&header.instruction_set).ok();
    // A model that takes over has the precision that is asked for, or its own.
    let asked = std::mem::replace(&mut config.precision, Precision::named(&header.precision).ok());
    let Description::Estimates { bundle: expected, engine: expected_engine, .. } = &header.description else {
        return Err(RepeatError::Configuration("a description of bins".to_owned()));
    };
    let place = config.bundle.clone();
    let bundle: Bundle =
        config.read_bundle().map_err(|error| RepeatError::Bundle { path: place.clone(), error })?;
    if bundle.manifest.id != *expected {
        let (expected, found) = (expected.clone(), bundle.manifest.id.clone());
        return Err(RepeatError::OtherBundle { path: place, expected, found });
    }
    let engine = engine::load(&config.engine(), &bundle)?;
    let name = engine.name();
    if name != *expected_engine {
        return Err(RepeatError::OtherEngine { expected: expected_engine.clone(), found: name });
    }
    let settings = config.guard(&bundle.manifest)?;
    let decoder = super::decoder(&config, &bundle, engine, settings.time);
    let mut guard = Guard::new(&bundle, settings);
    guard.inhibit(config.start_paused);
    let reader = Reader::open(path)?;
    let (results, beside, masked) = (VecDeque::new(), None, None);
    config.precision = asked;
    let decoding = Decoding { reader, config, decoder, beside, masked, results, bins: 0 };
    Ok((decoding, guard, name))
}

/// The decoder, and the results that the guard has not taken yet.
struct Decoding {
    reader: Reader,
    config: Config,
    decoder: Decoder,
    /// The model that takes in the same bins.
    beside: Option<Decoder>,
    /// The last order to mask channels.
    masked: Option<ModelOrder>,
    results: VecDeque<Box<Estimate>>,
    bins: u64,
}

impl Decoding {
    /// Returns the result that the guard took, or why there is none. Results before it were dropped from a full queue.
    fn result(&mut self, taken: &ResultTaken) -> Result<Result<Box<Estimate>, String>, LogError> {
        loop {
            while let Some(mut result) = self.results.pop_front() {
                if (result.stream, result.seq) == (taken.stream, taken.seq) {
                    result.decoded_ns = taken.decoded_ns;
                    return Ok(Ok(result));
                }
            }
            let Decoding { reader, decoder, beside, results, bins, .. } = self;
            match reader.next_of(OF_DECODER)? {
                Some(Frame::Bin(bin)) => {
                    *bins += 1;
                    let waiting = bin.waiting as usize;
                    decoder.decode(&bin.bin, waiting, bin.now_ns, &mut |estimate| {
                        results.push_back(Box::new(estimate.clone()));
                    });
                    beside.iter_mut().for_each(|beside| beside.decode(&bin.bin, 0, bin.now_ns, &mut |_| ()));
                }
                Some(Frame::Dropped(Thread::Decode, frames)) => {
                    return Ok(Err(dropped(Thread::Decode, frames)));
                }
                Some(Frame::Order(_, Thread::Decode, order)) => {
                    if let Err(why) = self.carry_out(&order) {
                        return Ok(Err(format!("{}: {why}", ordered(&order))));
                    }
                }
                Some(_) => {}
                None => {
                    let ResultTaken { stream, seq, .. } = taken;
                    return Ok(Err(format!("the log holds no bin for the result {seq} of stream {stream}")));
                }
            }
        }
    }
}

impl Decoding {
    /// Carries out an order to the decode thread, or says why it cannot be.
    fn carry_out(&mut self, order: &str) -> Result<(), String> {
        if let Some(model) = model_order(order) {
            let models = std::iter::once(&mut self.decoder).chain(&mut self.beside);
            models.for_each(|decoder| model.apply_to(decoder));
            if matches!(model, ModelOrder::Mask(_)) {
                self.masked = Some(model);
            }
            return Ok(());
        }
        match (order, &mut self.beside) {
            (TAKE_OVER, Some(beside)) => std::mem::swap(&mut self.decoder, beside),
            (ALONE, beside) => *beside = None,
            _ => {
                let origin = order.strip_prefix(BESIDE).ok_or("no order that is known")?;
                self.beside = Some(self.candidate(origin)?);
            }
        }
        Ok(())
    }

    /// The decoder of a bundle, by its id and path.
    fn candidate(&self, origin: &str) -> Result<Decoder, String> {
        let (id, path) = origin.split_once(' ').ok_or("the path of its bundle is not known")?;
        let config = Config { bundle: PathBuf::from(path), ..self.config.clone() };
        let bundle = config.read_bundle().map_err(|error| format!("bundle {path}: {error}"))?;
        let found = &bundle.manifest.id;
        if found != id {
            return Err(format!("expected the bundle {id} at {path}, found {found}"));
        }
        let engine = engine::load(&config.engine(), &bundle).map_err(|error| error.to_string())?;
        let time = config.guard(&bundle.manifest).map_err(|error| error.to_string())?.time;
        let mut decoder = super::decoder(&config, &bundle, engine, time);
        self.masked.iter().for_each(|masked| masked.apply_to(&mut decoder));
        Ok(decoder)
    }
}

/// The order to all models with this text, if it is one.
fn model_order(text: &str) -> Option<ModelOrder> {
    if text == ModelOrder::Reset.to_string() {
        return Some(ModelOrder::Reset);
    }
    let digits = text.strip_prefix(MASK)?;
    Some(ModelOrder::Mask(digits.bytes().map(|digit| digit == b'1').collect()))
}

fn dropped(thread: Thread, frames: u64) -> String {
    format!("where {frames} frames of the {} thread are missing: the disk did not keep up", thread.name())
}

fn ordered(order: &str) -> String {
    format!("at an order that cannot be repeated: {order}")
}

/// The guard, and what it published that was not compared yet.
struct Guarding {
    guard: Guard,
    published: VecDeque<Box<Estimate>>,
    estimates: u64,
    difference: Option<Difference>,
}

impl Guarding {
    /// Repeats one call, or compares one estimate. Returns where the comparison ends, if it does.
    fn take(&mut self, frame: Frame, decoding: &mut Decoding) -> Result<Option<String>, LogError> {
        let is_call =
            !matches!(frame, Frame::Estimate(_) | Frame::End(..) | Frame::Dropped(..) | Frame::Order(..));
        if is_call && let Some(more) = self.published.pop_front() {
            return Ok(Some(self.differs(&more, "the estimate", "none".to_owned(), "published".to_owned())));
        }
        let Guarding { guard, published, .. } = self;
        let mut emit = |estimate: &mut Estimate| published.push_back(Box::new(estimate.clone()));
        match frame {
            Frame::Arrival(arrival) => guard.arrived(arrival),
            Frame::Silence(reasons) => guard.silent_because(reasons),
            Frame::Tick(now_ns) => guard.tick(now_ns, &mut emit),
            Frame::Result(taken) => match decoding.result(&taken)? {
                Ok(result) => guard.decoded(&result, taken.now_ns, &mut emit),
                Err(why) => return Ok(Some(why)),
            },
            Frame::Estimate(logged) => return Ok(self.compare(&logged)),
            Frame::Dropped(Thread::Publish, frames) => return Ok(Some(dropped(Thread::Publish, frames))),
            Frame::Order(_, Thread::Publish, order) if order == PAUSE => drop(guard.inhibit(true)),
            Frame::Order(_, Thread::Publish, order) if order == RESUME => drop(guard.inhibit(false)),
            Frame::Order(_, Thread::Publish, order) => return Ok(Some(ordered(&order))),
            Frame::End(_, why) if why.is_empty() => {
                return Ok(Some("with the end of the session".to_owned()));
            }
            Frame::End(_, why) => return Ok(Some(format!("with the end of the log: {why}"))),
            Frame::Header(_) | Frame::Bin(_) | Frame::Event(..) | Frame::Dropped(..) | Frame::Order(..) => {}
        }
        Ok(None)
    }

    /// Compares an estimate of the log with the next one that was published again.
    fn compare(&mut self, logged: &Estimate) -> Option<String> {
        let Some(mut repeated) = self.published.pop_front() else {
            return Some(self.differs(logged, "the estimate", "published".to_owned(), "none".to_owned()));
        };
        // The clock that publishing reads is an input too.
        repeated.published_at(logged.published_ns);
        self.estimates += 1;
        let (what, [was, is]) = first_difference(logged, &repeated)?;
        Some(self.differs(logged, &what, was, is))
    }

    fn differs(&mut self, estimate: &Estimate, what: &str, logged: String, repeated: String) -> String {
        let Estimate { seq, stream, .. } = *estimate;
        self.difference = Some(Difference { seq, stream, what: what.to_owned(), logged, repeated });
        "with the first difference".to_owned()
    }
}

/// What differs first between two estimates, compared by their bits, and the two values.
fn first_difference(logged: &Estimate, repeated: &Estimate) -> Option<(String, [String; 2])> {
    let names = |estimate: &Estimate| estimate.reasons.names().collect::<Vec<_>>().join(" ");
    let stamps = |estimate: &Estimate| {
        [
            ("seq", estimate.seq.to_string()),
            ("stream", estimate.stream.to_string()),
            ("quality", estimate.quality.name().to_owned()),
            ("reasons", format!("{:#x} ({})", estimate.reasons.0, names(estimate))),
            ("source_ns", estimate.source_ns.to_string()),
            ("arrival_ns", estimate.arrival_ns.to_string()),
            ("decoded_ns", estimate.decoded_ns.to_string()),
            ("published_ns", estimate.published_ns.to_string()),
            ("velocity_for_ns", estimate.velocity_for_ns.to_string()),
            ("clock_offset_ns", estimate.clock_offset_ns.to_string()),
            ("clock_uncertainty_ns", estimate.clock_uncertainty_ns.to_string()),
            ("age_ns", estimate.age_ns.to_string()),
            ("lag_bins", estimate.lag_bins.to_string()),
            ("bundle", format!("{:02x?}", &estimate.bundle[..6])),
            ("number of rates", estimate.rates().len().to_string()),
            ("number of outputs", estimate.outputs().len().to_string()),
        ]
    };
    let pairs = stamps(logged).into_iter().zip(stamps(repeated));
    if let Some(((name, was), (_, is))) = pairs.into_iter().find(|((_, was), (_, is))| was != is) {
        return Some((name.to_owned(), [was, is]));
    }
    let values = |name, logged: &[f32], repeated: &[f32]| {
        let differ = |(_, (was, is)): &(usize, (&f32, &f32))| was.to_bits() != is.to_bits();
        let (at, (was, is)) = logged.iter().zip(repeated).enumerate().find(differ)?;
        Some((format!("{name}[{at}]"), [was, is].map(|value| format!("{value} (0x{:08x})", value.to_bits()))))
    };
    values("rates", logged.rates(), repeated.rates())
        .or_else(|| values("outputs", logged.outputs(), repeated.outputs()))
}
