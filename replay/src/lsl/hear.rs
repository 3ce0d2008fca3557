//! The daemon's velocity stream, counted and scored.

use super::StreamError;
use crate::listen::{ListenError, Tally, Until};
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::lsl::{
    self, Inlet, LABEL_BIN, LABEL_QUALITY, LABEL_REASONS, Library, LslError, Query, StreamInfo,
};
use ndt_protocol::{Estimate, Quality, Reasons};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Samples that wait while this program does something else; beyond that the oldest are lost.
const BUFFER_SAMPLES: usize = 65_536;

/// How long one search takes, s: long enough for a second stream of the name to be found.
const SEARCH_WAIT_S: f64 = 0.75;

/// How long a stream's host may take to answer, s.
const ANSWER_WAIT_S: f64 = 2.0;

/// How long an estimate waits for the truth that it is compared with, s.
const TRUTH_WAIT_NS: u64 = 2_000_000_000;

/// What is heard.
#[derive(Debug, Clone, PartialEq)]
pub struct Sources {
    /// The daemon's velocity stream.
    pub estimates: Query,
    /// A stream of the true velocity.
    pub truth: Option<Query>,
}

impl Sources {
    /// From what stands behind `lsl` in endpoints: a name is that of the daemon's output, and of the player.
    pub fn new(estimates: &Query, truth: Option<&Query>) -> Sources {
        let of = |query: &Query, usual: &str, name: fn(&str) -> String| match query.only_name() {
            Some(given) => Query::of_name(name(given)),
            None if query.is_any() => Query::of_name(name(usual)),
            None => query.clone(),
        };
        Sources {
            estimates: of(estimates, lsl::NAME_DAEMON, lsl::velocity_name),
            truth: truth.map(|truth| of(truth, lsl::NAME_REPLAY, lsl::behavior_name)),
        }
    }
}

/// Listens to streams and counts into `tally`, as [`crate::listen::run_unless`] does to a socket. A daemon that ends and
/// comes back is found again.
///
/// # Errors
/// [`ListenError`] when there is no such stream, more than one, or no estimate comes at first.
pub fn hear(
    stop: &AtomicBool,
    library: &Library,
    sources: &Sources,
    tally: &mut Tally,
    until: Until,
    ready: &mut dyn FnMut(),
    each: &mut dyn FnMut(&Tally, &Estimate) -> bool,
) -> Result<(), ListenError> {
    let begun_ns = monotonic_ns();
    let patience = until.idle.unwrap_or(until.first);
    let mut estimates = Estimates::open(library, &sources.estimates, until.first, stop)?;
    let mut truth = None;
    let mut waiting: VecDeque<(Estimate, u64)> = VecDeque::new();
    let mut last_ns = begun_ns;
    let mut came = 0;
    let mut is_told = false;
    let is_enough = |came: u64| until.count.is_some_and(|count| came >= count);
    while !is_enough(came) && !stop.load(Relaxed) {
        if let (None, Some(query)) = (&truth, &sources.truth) {
            truth = Some(Truth::open(library, query, until.first, stop)?);
        }
        if !is_told {
            is_told = true;
            ready();
        }
        match estimates.next() {
            Ok(Some((estimate, received_ns))) => {
                (last_ns, came) = (received_ns, came + 1);
                waiting.push_back((estimate, received_ns));
            }
            Ok(None) => {}
            Err(LslError::Lost) => match Estimates::open(library, &sources.estimates, patience, stop) {
                Ok(again) => estimates = again,
                // It has ended; whether that is an error, is said below.
                Err(_) if tally.estimates() > 0 || !waiting.is_empty() => break,
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(StreamError::from(error).into()),
        }
        let known_s = truth.as_mut().map_or(f64::INFINITY, |truth| truth.take(tally));
        if !count(&mut waiting, known_s, monotonic_ns(), tally, each) {
            return Ok(());
        }
        let silent = Duration::from_nanos(monotonic_ns().saturating_sub(last_ns));
        if came == 0 && silent > until.first {
            let (address, found) = (sources.estimates.predicate(), "none".to_owned());
            return Err(ListenError::Silence { address, seconds: until.first.as_secs_f64(), found });
        }
        if came > 0 && until.idle.is_some_and(|idle| silent > idle) {
            break;
        }
    }
    // What is still to come of the truth belongs to the last bins.
    let end_ns = monotonic_ns() + TRUTH_WAIT_NS;
    while let Some(truth) = truth.as_mut().filter(|_| !waiting.is_empty() && monotonic_ns() < end_ns) {
        let known_s = truth.take(tally);
        if !count(&mut waiting, known_s, monotonic_ns(), tally, each) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    count(&mut waiting, f64::INFINITY, u64::MAX, tally, each);
    Ok(())
}

/// Counts those that wait for no truth any more; `false` when listening is to end.
fn count(
    waiting: &mut VecDeque<(Estimate, u64)>,
    known_s: f64,
    now_ns: u64,
    tally: &mut Tally,
    each: &mut dyn FnMut(&Tally, &Estimate) -> bool,
) -> bool {
    while let Some((estimate, received_ns)) = waiting.front() {
        let is_known = estimate.velocity_for_ns as f64 / 1e9 <= known_s;
        if !is_known && now_ns < received_ns + TRUTH_WAIT_NS {
            return true;
        }
        tally.push(estimate, *received_ns);
        let go_on = each(tally, estimate);
        waiting.pop_front();
        if !go_on {
            return false;
        }
    }
    true
}

/// An open inlet, and how its host's clock stands to `CLOCK_MONOTONIC`.
struct Opened {
    inlet: Inlet,
    full: StreamInfo,
    uid: String,
    /// What must be added to stamps, s.
    offset_s: f64,
    uncertainty_s: f64,
}

impl Opened {
    fn open(
        library: &Library,
        query: &Query,
        wait: Duration,
        stop: &AtomicBool,
    ) -> Result<Opened, StreamError> {
        let begun_ns = monotonic_ns();
        let not_one = |found: String| StreamError::NotOne { wanted: query.predicate(), wait, found };
        loop {
            let mut infos = library.resolve(query, 2, SEARCH_WAIT_S)?;
            if infos.len() > 1 {
                let found: Vec<String> = infos.iter().map(StreamInfo::to_string).collect();
                return Err(not_one(format!("{}: {}", found.len(), found.join(", "))));
            }
            if let Some(info) = infos.pop()
                && let Ok(opened) = Opened::of(library, &info)
            {
                return Ok(opened);
            }
            if Duration::from_nanos(monotonic_ns() - begun_ns) > wait || stop.load(Relaxed) {
                return Err(not_one("none".to_owned()));
            }
        }
    }

    fn of(library: &Library, info: &StreamInfo) -> Result<Opened, LslError> {
        let inlet = Inlet::new(info, BUFFER_SAMPLES)?;
        let full = inlet.full_info(ANSWER_WAIT_S)?;
        let correction = inlet.time_correction(ANSWER_WAIT_S)?;
        // Last: from here on samples come, and are to be looked at as they do.
        inlet.open(ANSWER_WAIT_S)?;
        let offset_s = correction.offset_s - library.ahead_of_monotonic_ns() as f64 / 1e9;
        let uncertainty_s = correction.uncertainty_s.max(0.0);
        Ok(Opened { inlet, full, uid: info.uid(), offset_s, uncertainty_s })
    }
}

struct Estimates {
    opened: Opened,
    sample: Vec<f32>,
    dims: usize,
    velocity_offset_ns: i64,
    bundle: [u8; 32],
    /// Identity of the outlet, and how often its source began again.
    stream: u64,
    restarts: u64,
    /// The last bin's number, of those that begin again.
    seq: Option<u64>,
}

impl Estimates {
    fn open(
        library: &Library,
        query: &Query,
        wait: Duration,
        stop: &AtomicBool,
    ) -> Result<Estimates, StreamError> {
        let opened = Opened::open(library, query, wait, stop)?;
        let labels = opened.full.labels();
        let dims = labels.len().saturating_sub(3);
        if labels[dims..] != [LABEL_QUALITY, LABEL_REASONS, LABEL_BIN] || dims > lsl::LABELS_VELOCITY.len() {
            return Err(StreamError::Layout(format!("{labels:?}")));
        }
        let offset_ms: f64 = opened.full.entry("velocity_offset_ms").parse().unwrap_or(0.0);
        let mut stream = [0; 8];
        stream.copy_from_slice(&Sha256::digest(opened.uid.as_bytes())[..8]);
        Ok(Estimates {
            sample: vec![0.0; labels.len()],
            dims,
            velocity_offset_ns: (offset_ms * 1e6).round() as i64,
            bundle: bundle(&opened.full.entry("bundle")),
            stream: u64::from_le_bytes(stream),
            restarts: 0,
            seq: None,
            opened,
        })
    }

    /// The next estimate, with the instant that it came; `None` where none comes for a while.
    fn next(&mut self) -> Result<Option<(Estimate, u64)>, LslError> {
        let Some(stamp_s) = self.opened.inlet.pull(&mut self.sample, 0.05)? else { return Ok(None) };
        let received_ns = monotonic_ns();
        let (velocity, rest) = self.sample.split_at(self.dims);
        let mut estimate = Estimate::zero(0, self.dims);
        estimate.velocity_mut().copy_from_slice(velocity);
        estimate.quality = Quality::from_number(rest[0] as u8).unwrap_or(Quality::Fault);
        estimate.reasons = Reasons(rest[1] as u32);
        if estimate.reasons.contains(Reasons::SOURCE_RESTART) {
            (self.restarts, self.seq) = (self.restarts + 1, None);
        }
        estimate.seq = follow(self.seq, rest[2] as u64);
        self.seq = Some(estimate.seq);
        estimate.stream = self.stream.wrapping_add(self.restarts);
        estimate.source_ns = (stamp_s * 1e9).round() as i64;
        estimate.clock_offset_ns = (self.opened.offset_s * 1e9).round() as i64;
        estimate.clock_uncertainty_ns = (self.opened.uncertainty_s * 1e9).round() as u64;
        // Truth is on our clock, as streams of several hosts meet there.
        estimate.velocity_for_ns = estimate.source_ns + estimate.clock_offset_ns + self.velocity_offset_ns;
        estimate.bundle = self.bundle;
        Ok(Some((estimate, received_ns)))
    }
}

/// The number that a sent one stands for: the nearest to the last.
fn follow(last: Option<u64>, sent: u64) -> u64 {
    let Some(last) = last else { return sent };
    let half = lsl::BIN_MODULO / 2;
    let ahead = (sent + lsl::BIN_MODULO - last % lsl::BIN_MODULO) % lsl::BIN_MODULO;
    if ahead <= half { last + ahead } else { (last + ahead).saturating_sub(lsl::BIN_MODULO) }
}

/// A bundle's id from its hexadecimal digits; zeros where they are none.
fn bundle(digits: &str) -> [u8; 32] {
    let mut id = [0; 32];
    for (at, byte) in id.iter_mut().enumerate() {
        let pair = digits.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        *byte = pair.unwrap_or(0);
    }
    id
}

struct Truth {
    opened: Opened,
    sample: Vec<f64>,
    known_s: f64,
}

impl Truth {
    fn open(
        library: &Library,
        query: &Query,
        wait: Duration,
        stop: &AtomicBool,
    ) -> Result<Truth, StreamError> {
        let opened = Opened::open(library, query, wait, stop)?;
        Ok(Truth { sample: vec![0.0; opened.full.channels()], known_s: f64::NEG_INFINITY, opened })
    }

    /// Hands on what has come; the instant until which the truth is known. One that has ended is known for ever.
    fn take(&mut self, tally: &mut Tally) -> f64 {
        loop {
            match self.opened.inlet.pull_f64(&mut self.sample, 0.0) {
                Ok(Some(stamp_s)) => {
                    self.known_s = stamp_s + self.opened.offset_s;
                    tally.learn(self.known_s, &self.sample);
                }
                Ok(None) => return self.known_s,
                Err(_) => return f64::INFINITY,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_where_the_sent_ones_begin_again() {
        let half = lsl::BIN_MODULO / 2;
        for (last, sent, expected) in [
            (None, 5, 5),
            (Some(5), 6, 6),
            (Some(5), 5, 5),
            (Some(9), 3, 3),
            (Some(lsl::BIN_MODULO - 1), 0, lsl::BIN_MODULO),
            (Some(lsl::BIN_MODULO + 1), lsl::BIN_MODULO - 2, lsl::BIN_MODULO - 2),
            (Some(0), half, half),
        ] {
            assert_eq!(follow(last, sent), expected, "{last:?} {sent}");
        }
    }

    #[test]
    fn a_name_is_the_daemons_output_and_the_players() {
        let sources = Sources::new(&Query::of_name("arm"), Some(&Query::default()));
        assert_eq!(sources.estimates, Query::of_name("arm-velocity"));
        assert_eq!(sources.truth, Some(Query::of_name("ndt-replay-behavior")));
        let typed: Query = "type=Velocity".parse().unwrap();
        assert_eq!(Sources::new(&typed, None), Sources { estimates: typed, truth: None });
    }

    #[test]
    fn a_bundles_id_is_read_from_its_digits() {
        assert_eq!(bundle(&"ab".repeat(32)), [0xab; 32]);
        assert_eq!((bundle(""), bundle("xy")), ([0; 32], [0; 32]));
    }
}
