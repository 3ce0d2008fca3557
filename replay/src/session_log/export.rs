//! Makes a recording of a session log: the counts that came, and the rates and behaviour that were published.

use super::bins::{InOrder, SessionLogError, Timeline, width_ns};
use crate::decoded::{DecodedBin, DecodedSession, DecodedUnit};
use crate::nwb::RecordedCounts;
use crate::session::Clock;
use ndt_protocol::clock::utc;
use ndt_protocol::session_log::{Frame, Header, Kind, Reader};
use ndt_protocol::wire::Description;
use std::path::Path;

/// What an export holds, for a report.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Exported {
    /// Name of the session.
    pub session: String,
    /// Bins with their counts.
    pub bins: usize,
    /// Channels of a bin.
    pub channels: usize,
    /// Bins of which a channel has no count. Readers of the file take them as unobserved.
    pub bins_with_nan: usize,
    /// Estimates.
    pub estimates: usize,
    /// Bytes at the end of the log that are no whole frame.
    pub left_out_bytes: u64,
}

impl std::fmt::Display for Exported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Exported { session, bins, channels, bins_with_nan, estimates, left_out_bytes } = self;
        write!(f, "{bins} bins of {channels} channels and {estimates} estimates of session {session}")?;
        if *bins_with_nan > 0 {
            write!(f, "; {bins_with_nan} bins have a channel without a count")?;
        }
        if *left_out_bytes > 0 {
            write!(f, "; {left_out_bytes} bytes at the end of the log are no whole frame")?;
        }
        Ok(())
    }
}

/// Reads the log at `path`. `progress` is told how many bytes of the log are done, and of how many.
///
/// # Errors
/// [`SessionLogError`] when the log cannot be read, or holds fewer than two bins or no estimate.
pub fn recorded(
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(DecodedSession, RecordedCounts, Exported), SessionLogError> {
    let mut reader = Reader::open(path)?;
    let header = reader.header().clone();
    let (mut timeline, mut in_order) = (Timeline::of(&header)?, InOrder::default());
    let mut session = empty(&header)?;
    let mut counts = RecordedCounts { channel_ids: header.channel_ids.clone(), ..RecordedCounts::default() };
    let width_ns = width_ns(&header)?;
    let (mut bins_with_nan, mut frames) = (0, 0u64);
    while let Some(frame) = reader.next_of(&[Kind::Bin, Kind::Estimate])? {
        frames += 1;
        if frames.is_multiple_of(1024) {
            let (read, total) = reader.progress();
            progress(read, total);
        }
        match frame {
            Frame::Bin(taken) if in_order.takes(taken.bin.stream, taken.bin.seq) => {
                let bin = &taken.bin;
                let end_ns = timeline.end_of_bin(bin.stream, bin.source_ns, bin.arrival_ns);
                counts.starts_s.push((end_ns - width_ns) as f64 * 1e-9);
                counts.counts.extend(bin.counts_or_nan());
                bins_with_nan += usize::from(bin.invalid_channels() > 0);
            }
            Frame::Estimate(estimate) => {
                session.bins.push(DecodedBin {
                    seq: estimate.seq,
                    end_ns: timeline.end_of_estimate(
                        estimate.stream,
                        estimate.source_ns,
                        estimate.arrival_ns,
                    ),
                    quality: estimate.quality,
                    reasons: estimate.reasons,
                    trial: None,
                    split: String::new(),
                });
                session.rates.extend_from_slice(estimate.rates());
                session.outputs.extend_from_slice(estimate.outputs());
            }
            _ => {}
        }
    }
    let (bins, estimates) = (counts.starts_s.len(), session.bins.len());
    if bins < 2 || estimates == 0 {
        return Err(SessionLogError::TooFew { bins, estimates });
    }
    let exported = Exported {
        session: header.session,
        bins,
        channels: counts.channel_ids.len(),
        bins_with_nan,
        estimates,
        left_out_bytes: reader.tail().map_or(0, |tail| tail.bytes),
    };
    Ok((session, counts, exported))
}

/// A session without bins yet, and where its numbers come from.
fn empty(header: &Header) -> Result<DecodedSession, SessionLogError> {
    let Description::Estimates { bundle, engine, unit_ids, .. } = &header.description else {
        return Err(SessionLogError::Description);
    };
    let started = utc(header.started_unix_ns / 1_000_000_000);
    let unit = |id: &i64| DecodedUnit { id: *id, is_input: header.channel_ids.contains(id) };
    let commit = header.commit.clone().unwrap_or_else(|| "unknown".to_owned());
    let provenance = vec![
        ("session", header.session.clone()),
        ("bundle", bundle.clone()),
        ("engine", engine.clone()),
        ("program", header.program.clone()),
        ("commit", commit),
        ("cpu", header.cpu.clone()),
        ("configuration", header.configuration.clone()),
    ];
    Ok(DecodedSession {
        identifier: header.session.clone(),
        clock: Clock { session_start: started.clone(), reference: started },
        decoded_unix_s: header.started_unix_ns / 1_000_000_000,
        bin_width_s: width_ns(header)? as f64 * 1e-9,
        bins: Vec::new(),
        units: unit_ids.iter().map(unit).collect(),
        rates: Vec::new(),
        readouts: header.readout.iter().cloned().collect(),
        published: 0,
        outputs: Vec::new(),
        provenance,
    })
}
