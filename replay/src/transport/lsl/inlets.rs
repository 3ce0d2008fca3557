//! Open inlets: a daemon's velocity stream as estimates, and a player's behaviour stream as the true velocity.

use super::StreamError;
use crate::listen::Tally;
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::limits::OUTPUTS_MAX;
use ndt_protocol::lsl::{
    self, Inlet, LABEL_BIN, LABEL_QUALITY, LABEL_REASONS, Library, LslError, Query, StreamInfo,
};
use ndt_protocol::{Estimate, Quality, Reasons};
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Number of samples that wait while this program is busy; beyond it, the oldest ones are lost.
const BUFFER_SAMPLES: usize = 65_536;

/// Duration of one search for streams, in seconds: long enough to find a second stream of the same name.
const SEARCH_WAIT_S: f64 = 0.75;

/// How long the host of a stream may take to answer, in seconds.
const ANSWER_WAIT_S: f64 = 2.0;

/// How long one call waits for the next sample, in seconds.
const SAMPLE_WAIT_S: f64 = 0.05;

/// An open inlet, with the offset between the clock of its host and `CLOCK_MONOTONIC`.
struct Opened {
    inlet: Inlet,
    /// Full description of the stream.
    full: StreamInfo,
    uid: String,
    /// Offset to add to stamps, in seconds.
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
        // This comes last: from now on samples arrive and must be read.
        inlet.open(ANSWER_WAIT_S)?;
        let offset_s = correction.offset_s - library.ahead_of_monotonic_ns() as f64 / 1e9;
        let uncertainty_s = correction.uncertainty_s.max(0.0);
        Ok(Opened { inlet, full, uid: info.uid(), offset_s, uncertainty_s })
    }
}

/// The velocity stream of a daemon, read as estimates.
pub(super) struct Estimates {
    opened: Opened,
    sample: Vec<f32>,
    /// Number of outputs, and how many of them are components of a velocity.
    dims: usize,
    velocity_dims: usize,
    velocity_offset_ns: i64,
    bundle: [u8; 32],
    /// Identity of the outlet, and number of restarts of the daemon's source.
    stream: u64,
    restarts: u64,
    /// Number of the last bin. The numbers in the stream wrap around, this one does not.
    seq: Option<u64>,
}

impl Estimates {
    /// Opens the only stream that matches `query`.
    pub fn open(
        library: &Library,
        query: &Query,
        wait: Duration,
        stop: &AtomicBool,
    ) -> Result<Estimates, StreamError> {
        let opened = Opened::open(library, query, wait, stop)?;
        let labels = opened.full.labels();
        let dims = labels.len().saturating_sub(3);
        if labels[dims..] != [LABEL_QUALITY, LABEL_REASONS, LABEL_BIN] || dims > OUTPUTS_MAX {
            return Err(StreamError::Layout(format!("{labels:?}")));
        }
        let is_velocity = |label: &&String| lsl::LABELS_VELOCITY.contains(&label.as_str());
        let velocity_dims = labels.iter().take_while(is_velocity).count();
        let offset_ms: f64 = opened.full.entry("velocity_offset_ms").parse().unwrap_or(0.0);
        let mut stream = [0; 8];
        stream.copy_from_slice(&Sha256::digest(opened.uid.as_bytes())[..8]);
        Ok(Estimates {
            sample: vec![0.0; labels.len()],
            dims,
            velocity_dims,
            velocity_offset_ns: (offset_ms * 1e6).round() as i64,
            bundle: bundle(&opened.full.entry("bundle")),
            stream: u64::from_le_bytes(stream),
            restarts: 0,
            seq: None,
            opened,
        })
    }

    /// Returns the next estimate and the time of its arrival; `None` if none arrives for a short while.
    pub fn next(&mut self) -> Result<Option<(Estimate, u64)>, LslError> {
        let Some(stamp_s) = self.opened.inlet.pull(&mut self.sample, SAMPLE_WAIT_S)? else { return Ok(None) };
        let received_ns = monotonic_ns();
        let (velocity, rest) = self.sample.split_at(self.dims);
        let mut estimate = Estimate::zero(0, self.dims).with_velocity(self.velocity_dims);
        estimate.outputs_mut().copy_from_slice(velocity);
        estimate.quality = Quality::from_number(rest[0] as u8).unwrap_or(Quality::Fault);
        estimate.reasons = Reasons(rest[1] as u32);
        if estimate.reasons.contains(Reasons::SOURCE_RESTART) {
            (self.restarts, self.seq) = (self.restarts + 1, None);
        }
        estimate.seq = unwrapped(self.seq, rest[2] as u64);
        self.seq = Some(estimate.seq);
        estimate.stream = self.stream.wrapping_add(self.restarts);
        estimate.source_ns = (stamp_s * 1e9).round() as i64;
        estimate.clock_offset_ns = (self.opened.offset_s * 1e9).round() as i64;
        estimate.clock_uncertainty_ns = (self.opened.uncertainty_s * 1e9).round() as u64;
        // The true velocity is stamped by our clock, to which the stamps of every host are converted.
        estimate.velocity_for_ns = estimate.source_ns + estimate.clock_offset_ns + self.velocity_offset_ns;
        estimate.bundle = self.bundle;
        Ok(Some((estimate, received_ns)))
    }
}

/// Undoes the wrapping of bin numbers in the stream: returns the number nearest to `last` that is sent as `sent`.
fn unwrapped(last: Option<u64>, sent: u64) -> u64 {
    let Some(last) = last else { return sent };
    let half = lsl::BIN_MODULO / 2;
    let ahead = (sent + lsl::BIN_MODULO - last % lsl::BIN_MODULO) % lsl::BIN_MODULO;
    if ahead <= half { last + ahead } else { (last + ahead).saturating_sub(lsl::BIN_MODULO) }
}

/// Parses the id of a bundle from its hexadecimal digits; bytes that are no digits become 0.
fn bundle(digits: &str) -> [u8; 32] {
    let mut id = [0; 32];
    for (at, byte) in id.iter_mut().enumerate() {
        let pair = digits.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        *byte = pair.unwrap_or(0);
    }
    id
}

/// A player's behaviour stream, which holds the true velocity.
pub(super) struct Truth {
    opened: Opened,
    sample: Vec<f64>,
    /// Instant until which the true velocity is known, in seconds.
    known_s: f64,
}

impl Truth {
    /// Opens the only stream that matches `query`.
    pub fn open(
        library: &Library,
        query: &Query,
        wait: Duration,
        stop: &AtomicBool,
    ) -> Result<Truth, StreamError> {
        let opened = Opened::open(library, query, wait, stop)?;
        Ok(Truth { sample: vec![0.0; opened.full.channels()], known_s: f64::NEG_INFINITY, opened })
    }

    /// Gives all samples that have arrived to `tally`, and returns the instant (in seconds) until which the true velocity is
    /// known. After the end of the stream, this is infinity.
    pub fn take(&mut self, tally: &mut Tally) -> f64 {
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
    fn numbers_go_on_where_the_sent_ones_wrap_around() {
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
            assert_eq!(unwrapped(last, sent), expected, "{last:?} {sent}");
        }
    }

    #[test]
    fn a_bundles_id_is_read_from_its_digits() {
        assert_eq!(bundle(&"ab".repeat(32)), [0xab; 32]);
        assert_eq!((bundle(""), bundle("xy")), ([0; 32], [0; 32]));
    }
}
