//! Says how a recorded session went: what came, what was published and how fast, what happened, and what is missing.

use super::bins::SessionLogError;
use crate::listen::{Latency, Summary, Tally};
use ndt_protocol::Quality;
use ndt_protocol::session_log::{Frame, Header, Kind, Reader};
use ndt_protocol::wire::Description;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Most rows of the table of qualities over time.
const ROWS_MAX: usize = 20;

/// Most events that the text shows.
const EVENTS_SHOWN: usize = 20;

/// How a session went.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Name of the session.
    pub session: String,
    /// Program that recorded it.
    pub program: String,
    /// Id of the bundle.
    pub bundle: String,
    /// Engine that computed it.
    pub engine: String,
    /// Time from the first to the last estimate, s.
    pub seconds: f64,
    /// Bins that the decoder took.
    pub bins: u64,
    /// Estimates: qualities, reasons, order and latencies.
    pub estimates: Summary,
    /// Numbers of estimates by quality over time, of which each row is as long as the others.
    pub over_time: Vec<Stretch>,
    /// Frames that are missing because the disk did not keep up.
    pub missing_frames: u64,
    /// Sentences of the daemon's log: seconds since the start, and the sentence.
    pub events: Vec<(f64, String)>,
    /// How the log ends.
    pub ended: String,
    /// Bytes at the end of the log that are no whole frame.
    pub left_out_bytes: u64,
}

/// A stretch of the session.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stretch {
    /// Start, s since the first estimate.
    pub from_s: f64,
    /// Estimates by quality, in the order good, warmup, gap, late, stale, fault.
    pub qualities: [u64; 6],
    /// Longest time from the arrival of a bin to its estimate, ms.
    pub latency_max_ms: f64,
}

/// Reads the log at `path`. `progress` is told how many bytes of the log are done, and of how many.
///
/// # Errors
/// [`SessionLogError`] when the log cannot be read.
pub fn report(path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, SessionLogError> {
    let mut reader = Reader::open(path)?;
    let Header { session, program, started_monotonic_ns, description, .. } = reader.header().clone();
    let Description::Estimates { bundle, engine, .. } = description else {
        return Err(SessionLogError::Description);
    };
    let (mut tally, mut over_time) = (Tally::new(None), OverTime::default());
    let (mut bins, mut missing_frames, mut events) = (0, 0, Vec::new());
    let mut ended = None;
    let kinds = [Kind::Bin, Kind::Estimate, Kind::Dropped, Kind::Event, Kind::End];
    let mut frames = 0u64;
    while let Some(frame) = reader.next_of(&kinds)? {
        frames += 1;
        if frames.is_multiple_of(1024) {
            let (read, total) = reader.progress();
            progress(read, total);
        }
        match frame {
            Frame::Bin(_) => bins += 1,
            Frame::Estimate(estimate) => {
                tally.push(&estimate, estimate.published_ns);
                let waited_ns = estimate.published_ns.saturating_sub(estimate.arrival_ns);
                over_time.push(estimate.published_ns, estimate.quality, waited_ns);
            }
            Frame::Dropped(_, frames) => missing_frames += frames,
            Frame::Event(at_ns, sentence) => {
                events.push((at_ns.saturating_sub(started_monotonic_ns) as f64 * 1e-9, sentence));
            }
            Frame::End(_, why) if why.is_empty() => ended = Some("after an orderly stop".to_owned()),
            Frame::End(_, why) => ended = Some(format!("before the session: {why}")),
            _ => {}
        }
    }
    Ok(Report {
        session,
        program,
        bundle,
        engine,
        seconds: over_time.seconds(),
        bins,
        estimates: tally.summary(),
        over_time: over_time.rows(),
        missing_frames,
        events,
        ended: ended.unwrap_or_else(|| "without an end: the program was killed, or still runs".to_owned()),
        left_out_bytes: reader.tail().map_or(0, |tail| tail.bytes),
    })
}

/// Counts qualities by the second, and joins seconds to rows at the end.
#[derive(Debug, Default)]
struct OverTime {
    first_ns: Option<u64>,
    last_ns: u64,
    /// Of each second since the first estimate.
    seconds: Vec<([u64; 6], u64)>,
}

impl OverTime {
    fn push(&mut self, at_ns: u64, quality: Quality, waited_ns: u64) {
        let first_ns = *self.first_ns.get_or_insert(at_ns);
        self.last_ns = self.last_ns.max(at_ns);
        // A week; later estimates are counted in its last second.
        let second = (at_ns.saturating_sub(first_ns) / 1_000_000_000).min(604_800) as usize;
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, Default::default());
        }
        let (qualities, longest_ns) = &mut self.seconds[second];
        qualities[quality as usize] += 1;
        *longest_ns = waited_ns.max(*longest_ns);
    }

    fn seconds(&self) -> f64 {
        self.first_ns.map_or(0.0, |first_ns| (self.last_ns - first_ns) as f64 * 1e-9)
    }

    fn rows(&self) -> Vec<Stretch> {
        let each = self.seconds.len().div_ceil(ROWS_MAX).max(1);
        let joined = |(row, seconds): (usize, &[([u64; 6], u64)])| {
            let mut qualities = [0; 6];
            for (counts, _) in seconds {
                qualities.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
            let longest_ns = seconds.iter().map(|(_, longest_ns)| *longest_ns).max().unwrap_or(0);
            Stretch { from_s: (row * each) as f64, qualities, latency_max_ms: longest_ns as f64 * 1e-6 }
        };
        self.seconds.chunks(each).enumerate().map(joined).collect()
    }
}

/// Counts with their names.
fn named(counts: &BTreeMap<&'static str, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { reasons, missing, repeated, out_of_order, streams, .. } = &self.estimates;
        writeln!(f, "session              {}, recorded by {}", self.session, self.program)?;
        writeln!(f, "bundle               {}, engine {}", self.bundle.get(..12).unwrap_or(""), self.engine)?;
        writeln!(f, "length               {:.1} s, {} bins", self.seconds, self.bins)?;
        let qualities = named(&self.estimates.quality);
        writeln!(f, "estimates            {} ({qualities})", self.estimates.estimates)?;
        if !reasons.is_empty() {
            let reasons = named(reasons);
            writeln!(f, "reasons              {reasons}")?;
        }
        writeln!(
            f,
            "order                {missing} missing, {repeated} repeated, {out_of_order} out of order, {streams} streams"
        )?;
        let mut latency = |name: &str, latency: &Latency| writeln!(f, "{name:<20} {latency}");
        latency("arrival to decoded", &self.estimates.arrival_to_decoded_us)?;
        latency("arrival to published", &self.estimates.arrival_to_published_us)?;
        self.estimates.age_us.iter().try_for_each(|age| latency("age", age))?;
        if self.missing_frames > 0 {
            writeln!(f, "missing in the log   {} frames: the disk did not keep up", self.missing_frames)?;
        }
        writeln!(f, "ended                {}", self.ended)?;
        if self.left_out_bytes > 0 {
            writeln!(f, "left out             {} bytes at the end, no whole frame", self.left_out_bytes)?;
        }
        write!(f, "\n{:>8}", "from s")?;
        Quality::ALL.iter().try_for_each(|quality| write!(f, "{:>8}", quality.name()))?;
        write!(f, "{:>11}", "longest ms")?;
        for Stretch { from_s, qualities, latency_max_ms } in &self.over_time {
            write!(f, "\n{from_s:>8.0}")?;
            qualities.iter().try_for_each(|count| write!(f, "{count:>8}"))?;
            write!(f, "{latency_max_ms:>11.2}")?;
        }
        if !self.events.is_empty() {
            write!(f, "\n\nevents")?;
        }
        for (at_s, sentence) in self.events.iter().take(EVENTS_SHOWN) {
            write!(f, "\n{at_s:>8.1} {sentence}")?;
        }
        match self.events.len().saturating_sub(EVENTS_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n         and {more} more, which --json shows"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_joined_to_rows_of_equal_length() {
        let mut over_time = OverTime::default();
        for second in 0..41u64 {
            over_time.push(7 + second * 1_000_000_000, Quality::Good, second * 1_000_000);
        }
        over_time.push(7, Quality::Late, 5);
        let rows = over_time.rows();
        assert_eq!((rows.len(), rows[1].from_s, over_time.seconds()), (14, 3.0, 40.0));
        assert_eq!((rows[0].qualities, rows[0].latency_max_ms), ([3, 0, 0, 1, 0, 0], 2.0));
        assert_eq!(rows[13].qualities, [2, 0, 0, 0, 0, 0]);
    }
}
