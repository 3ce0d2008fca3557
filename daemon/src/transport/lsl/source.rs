//! Bins from a stream.

use super::LslSettings;
use super::clock::{self, Clock};
use super::events::EventBins;
use super::grid::Grid;
use super::labels::Layout;
use super::search::{Ask, Found, Samples, Search};
use crate::input::rebin::Rebin;
use crate::input::{Received, Source};
use crossbeam_channel::RecvTimeoutError;
use ndt_protocol::bin::ClockOffset;
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::lsl::{Inlet, Library, Query, TYPE_COUNTS};
use ndt_protocol::{Bin, Bundle};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a source waits before it looks whether it should stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long a stream's host may take to begin to send, s.
const OPEN_WAIT_S: f64 = 0.5;

/// How often it is asked whether a silent stream has another outlet.
const ASK_EVERY_NS: u64 = 500_000_000;

/// Receives a stream of counts or of spikes. Owned by the source thread, on which the inlet is opened, so that the
/// library's receiving thread inherits its priority.
///
/// A sample is pulled into memory of its own: this thread does not allocate while the stream is there.
pub struct LslSource {
    /// `None` once it ends.
    search: Option<Search>,
    clock: Arc<Clock>,
    measuring: Option<JoinHandle<()>>,
    library: Library,
    ahead_ns: i64,
    channels: usize,
    count_max: f32,
    model_us: u32,
    buffer_bins: usize,
    event_wait_s: f64,
    /// Silence after which another outlet of the stream is looked for, ns.
    silence_ns: u64,
    rebin: Rebin,
    connection: Option<Connection>,
    /// Of the last connection: a stream that is found again goes on where it was.
    kept: Option<(u64, Kind)>,
    is_asked: bool,
}

struct Connection {
    inlet: Inlet,
    stream: u64,
    layout: Layout,
    sample: Vec<f32>,
    samples: Kind,
    heard_ns: u64,
    asked_ns: u64,
    before_jump: Option<ClockOffset>,
}

enum Kind {
    Counts { width_us: u32, grid: Grid },
    Events(EventBins),
}

impl LslSource {
    /// A source for the channels of `bundle` that takes the stream of `query`; without one, any of type `BinnedSpikes`.
    /// It is looked for as long as it takes. A stream is asked for another outlet after `silent_bins` of silence.
    ///
    /// # Errors
    /// The system's, when it gives no threads.
    pub fn open(
        library: &Library,
        query: &Query,
        settings: &LslSettings,
        bundle: &Bundle,
        silent_bins: u64,
    ) -> io::Result<LslSource> {
        let manifest = &bundle.manifest;
        let ahead_ns = library.ahead_of_monotonic_ns();
        let usual = Query { content_type: Some(TYPE_COUNTS.to_owned()), ..Query::default() };
        let query = if query.is_any() { &usual } else { query };
        let (clock, tell, measuring) = clock::start(ahead_ns)?;
        let (channels, count_max) = (manifest.channels(), manifest.count_max as f32);
        let model_us = manifest.bin_width_us();
        Ok(LslSource {
            search: Some(Search::start(library, query, settings, bundle, tell)?),
            clock,
            measuring: Some(measuring),
            library: library.clone(),
            ahead_ns,
            channels,
            count_max,
            model_us,
            buffer_bins: settings.buffer_bins,
            event_wait_s: settings.event_wait_ms * 1e-3,
            silence_ns: silent_bins.saturating_mul(manifest.bin_width_ns()),
            rebin: Rebin::new(model_us, channels, count_max),
            connection: None,
            kept: None,
            is_asked: false,
        })
    }

    /// Waits for a stream, which is asked for once.
    fn connect(&mut self) -> Received {
        let Some(search) = &self.search else { return Received::Ended };
        if !self.is_asked {
            search.ask(Ask::Any);
            self.is_asked = true;
        }
        match search.found.recv_timeout(PATIENCE) {
            Ok(found) => {
                self.is_asked = false;
                self.open_stream(found)
            }
            Err(RecvTimeoutError::Timeout) => Received::Gone,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(PATIENCE);
                Received::Gone
            }
        }
    }

    fn open_stream(&mut self, found: Found) -> Received {
        let parts = match found.samples {
            Samples::Counts { width_us } => (self.model_us / width_us) as usize,
            // As many as a population of a hundred spikes a bin has.
            Samples::Events => 100,
        };
        let opened = Inlet::new(&found.info, parts * self.buffer_bins)
            .and_then(|inlet| inlet.open(OPEN_WAIT_S).map(|()| inlet));
        let Ok(inlet) = opened else { return Received::Gone };
        // What waited while it was opened is as old as that took.
        inlet.flush();
        let now_ns = monotonic_ns();
        let samples = match self.kept.take() {
            Some((stream, kept)) if stream == found.stream => kept,
            _ => self.samples(found.samples),
        };
        self.connection = Some(Connection {
            inlet,
            stream: found.stream,
            sample: vec![0.0; found.info.channels()],
            layout: found.layout,
            samples,
            heard_ns: now_ns,
            asked_ns: now_ns,
            before_jump: None,
        });
        Received::Nothing
    }

    fn samples(&self, samples: Samples) -> Kind {
        let seconds = |width_us: u32| f64::from(width_us) * 1e-6;
        match samples {
            Samples::Counts { width_us } => Kind::Counts { width_us, grid: Grid::new(seconds(width_us)) },
            Samples::Events => {
                Kind::Events(EventBins::new(seconds(self.model_us), self.event_wait_s, self.channels))
            }
        }
    }

    /// The connection is lost; the stream's numbers are kept for when it comes back.
    fn lose(&mut self) -> Received {
        if let Some(Connection { stream, mut samples, .. }) = self.connection.take() {
            if let Kind::Events(bins) = &mut samples {
                bins.interrupt();
            }
            self.kept = Some((stream, samples));
        }
        Received::Gone
    }

    /// A silent stream may have another outlet: its program was started again, and nothing told of the old one's end.
    fn look_for_other(&mut self) -> Received {
        let (Some(connection), Some(search)) = (&mut self.connection, &self.search) else {
            return Received::Gone;
        };
        if let Ok(found) = search.found.try_recv()
            && found.stream != connection.stream
        {
            self.lose();
            return self.open_stream(found);
        }
        let now_ns = monotonic_ns();
        if now_ns - connection.heard_ns > self.silence_ns && now_ns - connection.asked_ns > ASK_EVERY_NS {
            connection.asked_ns = now_ns;
            search.ask(Ask::Other);
        }
        Received::Nothing
    }
}

impl Drop for LslSource {
    /// The searching thread tells the measuring one of streams, which therefore ends after it.
    fn drop(&mut self) {
        self.search = None;
        if let Some(measuring) = self.measuring.take() {
            drop(measuring.join());
        }
    }
}

impl Connection {
    /// What is known of the source's clock; what was measured before it jumped is not.
    fn clock(&self, clock: &Clock) -> Option<ClockOffset> {
        clock.of(self.stream).filter(|known| self.before_jump != Some(*known))
    }

    /// The bin of spikes that is complete by now, if there is one.
    fn close(&mut self, bin: &mut Bin, count_max: f32, clock: &Clock, arrival_s: f64) -> bool {
        let Kind::Events(bins) = &mut self.samples else { return false };
        let closed = bins.close(arrival_s, &mut |counts| bin.fill(counts.iter().copied(), count_max));
        let Some(closed) = closed else { return false };
        clock.note(bins.refused());
        (bin.seq, bin.stream, bin.segment_start) = (closed.index, self.stream, false);
        (bin.source_ns, bin.arrival_ns) = (nanoseconds(closed.end_s), monotonic_ns());
        bin.clock = self.clock(clock);
        true
    }
}

impl Source for LslSource {
    fn receive(&mut self, bin: &mut Bin) -> Received {
        let Some(connection) = &mut self.connection else { return self.connect() };
        // Bins of spikes end by themselves, and before a spike beyond them is counted.
        if connection.close(bin, self.count_max, &self.clock, self.library.clock_s()) {
            return Received::Bin;
        }
        let patience_s = PATIENCE.as_secs_f64();
        let wait_s = match &connection.samples {
            Kind::Counts { .. } => patience_s,
            Kind::Events(bins) => {
                bins.closes_in_s(self.library.clock_s()).unwrap_or(patience_s).min(patience_s)
            }
        };
        let pulled = connection.inlet.pull(&mut connection.sample, wait_s);
        let arrival_ns = monotonic_ns();
        let arrival_s = (arrival_ns.cast_signed() + self.ahead_ns) as f64 / 1e9;
        let stamp_s = match pulled {
            Ok(Some(stamp_s)) => stamp_s,
            Ok(None) => return self.look_for_other(),
            Err(_) => return self.lose(),
        };
        connection.heard_ns = arrival_ns;
        match &mut connection.samples {
            Kind::Events(bins) => {
                bins.push(stamp_s, connection.sample[0], arrival_s);
                Received::Nothing
            }
            Kind::Counts { width_us, grid } => {
                let (place, width_us) = (grid.place(stamp_s, arrival_s), *width_us);
                if place.jumped {
                    connection.before_jump = self.clock.of(connection.stream);
                }
                bin.fill(connection.layout.counts(&connection.sample), self.count_max);
                bin.segment_start = connection.layout.starts_segment(&connection.sample);
                (bin.seq, bin.stream) = (place.index, connection.stream);
                (bin.source_ns, bin.arrival_ns) = (nanoseconds(stamp_s), arrival_ns);
                bin.clock = connection.clock(&self.clock);
                match self.rebin.push(bin, width_us) {
                    Ok(true) => Received::Bin,
                    Ok(false) => Received::Nothing,
                    Err(error) => Received::Refused(error.into()),
                }
            }
        }
    }
}

fn nanoseconds(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}
