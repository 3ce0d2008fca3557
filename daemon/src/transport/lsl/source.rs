//! Bins from a stream of counts or of single spikes.

use super::LslSettings;
use super::clock::{self, Clock};
use super::events::{EventBins, Lost, buffer_spikes};
use super::grid::Grid;
use super::inlets::{Inlets, Opened};
use super::labels::Layout;
use super::lost_spikes::LostSpikes;
use super::search::{Ask, Found, Samples, Search};
use super::stamps::JUMP_S;
use crate::host::realtime::RealtimeSettings;
use crate::input::rebin::Rebin;
use crate::input::{Absence, Received, Source};
use crate::queue::Missing;
use ndt_protocol::bin::ClockOffset;
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::lsl::{Inlet, Library, Query, TYPE_COUNTS};
use ndt_protocol::{Bin, Bundle, CountRange};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest wait for a sample or for a stream, after which the thread can be asked to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// Most values for which liblsl's buffer has room, 256 MB: narrow bins of many channels have a shorter buffer.
const BUFFER_VALUES_MAX: usize = 1 << 26;

/// Interval between two searches for another outlet of a silent stream.
const ASK_EVERY_NS: u64 = 500_000_000;

/// Longest time, ns, that a sample waits in the buffers of liblsl: its outlets keep six minutes unless they are told otherwise.
const BUFFERED_NS_MAX: u64 = 600_000_000_000;

/// Receives a stream of counts or of spikes. Owned by the source thread, which pulls and asks for nothing else: streams are searched,
/// described, opened and closed on other threads.
///
/// Samples are pulled into one buffer that is reused: the source thread does not allocate while the stream is there.
pub struct LslSource {
    /// Handle to the searching thread; `None` while the source is being dropped.
    search: Option<Search>,
    inlets: Inlets,
    /// Whether a stream is being opened.
    is_opening: bool,
    clock: Arc<Clock>,
    lost: Arc<LostSpikes>,
    measuring: Option<JoinHandle<()>>,
    library: Library,
    ahead_ns: i64,
    channels: usize,
    range: CountRange,
    model_us: u32,
    buffer_bins: usize,
    event_wait_s: f64,
    /// Silence after which the source searches for another outlet of the stream, ns.
    silence_ns: u64,
    rebin: Rebin,
    connection: Option<Connection>,
    /// Stream and numbering of the last connection: a stream that is found again continues its numbers.
    kept: Option<(u64, Numbering)>,
    /// Whether a search for the stream is under way.
    is_asked: bool,
}

/// An open stream.
struct Connection {
    inlet: Inlet,
    /// Samples for which the inlet has room.
    room: usize,
    stream: u64,
    layout: Layout,
    sample: Vec<f32>,
    numbering: Numbering,
    /// Arrival of the last sample, `CLOCK_MONOTONIC` ns.
    last_sample_ns: u64,
    /// When the source last searched for another outlet, `CLOCK_MONOTONIC` ns.
    asked_ns: u64,
    /// Offset that was measured before the source's clock jumped, and is therefore wrong.
    before_jump: Option<ClockOffset>,
}

/// How samples become numbered bins.
enum Numbering {
    /// Each sample is a bin, whose number follows from its time stamp.
    Counts { width_us: u32, grid: Grid },
    /// Each sample is a spike, which is counted in its bin.
    Events(EventBins),
}

impl LslSource {
    /// Opens a source for the channels of `bundle` that receives the stream of `query`, or any stream of type `BinnedSpikes` if
    /// the query is empty. The search goes on until the stream is found. After `silent_bins` bins of silence the source
    /// searches for another outlet of the stream.
    ///
    /// # Errors
    /// The system's error when it gives no threads.
    pub fn open(
        library: &Library,
        query: &Query,
        settings: &LslSettings,
        realtime: &RealtimeSettings,
        bundle: &Bundle,
        silent_bins: u64,
    ) -> io::Result<LslSource> {
        let manifest = &bundle.manifest;
        let ahead_ns = library.ahead_of_monotonic_ns();
        let default = Query { content_type: Some(TYPE_COUNTS.to_owned()), ..Query::default() };
        let query = if query.is_any() { &default } else { query };
        let lost = Arc::new(LostSpikes::default());
        let (clock, to_measure, measuring) = clock::start(ahead_ns, lost.clone())?;
        let (channels, range) = (manifest.channels(), manifest.count_range());
        let model_us = manifest.bin_width_us();
        Ok(LslSource {
            search: Some(Search::start(library, query, settings, bundle, to_measure)?),
            inlets: Inlets::start(realtime)?,
            is_opening: false,
            clock,
            lost,
            measuring: Some(measuring),
            library: library.clone(),
            ahead_ns,
            channels,
            range,
            model_us,
            buffer_bins: settings.buffer_bins,
            event_wait_s: settings.event_wait_ms * 1e-3,
            silence_ns: silent_bins.saturating_mul(manifest.bin_width_ns()),
            rebin: Rebin::new(model_us, channels, range),
            connection: None,
            kept: None,
            is_asked: false,
        })
    }

    /// Waits a moment for the stream to be found, or to be opened after that. The search is asked for once.
    fn connect(&mut self) -> Received {
        if self.is_opening {
            let Ok(opened) = self.inlets.opened.receive(Some(PATIENCE)) else {
                return Received::Gone(Absence::Searching);
            };
            return self.take(opened);
        }
        let Some(search) = &self.search else { return Received::Ended };
        if !self.is_asked {
            search.ask(Ask::Any);
            self.is_asked = true;
        }
        match search.found.receive(Some(PATIENCE)) {
            Ok(found) => {
                self.is_asked = false;
                self.open_stream(found);
            }
            Err(Missing::Late) => {}
            Err(Missing::Closed) => std::thread::sleep(PATIENCE),
        }
        Received::Gone(Absence::Searching)
    }

    /// Asks for the stream to be opened.
    fn open_stream(&mut self, found: Found) {
        let room = match found.samples {
            Samples::Counts { width_us } => (self.model_us / width_us) as usize * self.buffer_bins,
            Samples::Events => buffer_spikes(self.channels, seconds(self.model_us), self.buffer_bins),
        };
        let room = room.min(BUFFER_VALUES_MAX / found.info.channels().max(1));
        self.is_opening = self.inlets.open(found, room);
    }

    /// Switches to the stream that has been opened; `None` if it could not be, and must be searched again.
    fn take(&mut self, opened: Option<Box<Opened>>) -> Received {
        self.is_opening = false;
        let Some(opened) = opened else { return Received::Gone(Absence::Searching) };
        if self.connection.is_some() {
            self.lose();
        }
        let Opened { inlet, found, room, sample } = *opened;
        let now_ns = monotonic_ns();
        let numbering = match self.kept.take() {
            Some((stream, kept)) if stream == found.stream => kept,
            _ => self.new_numbering(found.samples),
        };
        self.connection = Some(Connection {
            inlet,
            room,
            stream: found.stream,
            sample,
            layout: found.layout,
            numbering,
            last_sample_ns: now_ns,
            asked_ns: now_ns,
            before_jump: None,
        });
        Received::Nothing
    }

    fn new_numbering(&self, samples: Samples) -> Numbering {
        match samples {
            Samples::Counts { width_us } => {
                Numbering::Counts { width_us, grid: Grid::new(seconds(width_us)) }
            }
            Samples::Events => {
                Numbering::Events(EventBins::new(seconds(self.model_us), self.event_wait_s, self.channels))
            }
        }
    }

    /// Has the lost connection closed, and keeps its numbering for the return of the stream.
    fn lose(&mut self) -> Received {
        if let Some(Connection { inlet, stream, mut numbering, .. }) = self.connection.take() {
            self.inlets.close(inlet);
            if let Numbering::Events(bins) = &mut numbering {
                bins.interrupt();
            }
            self.kept = Some((stream, numbering));
        }
        Received::Gone(Absence::Lost)
    }

    /// Searches for another outlet of a silent stream, and switches to it when it is found. A program that was killed and started
    /// again offers a new outlet, and nothing reports the end of the old one.
    fn search_other(&mut self) -> Received {
        if let Some(opened) = self.inlets.opened.try_receive() {
            return self.take(opened);
        }
        let (Some(connection), Some(search)) = (&mut self.connection, &self.search) else {
            return Received::Gone(Absence::Searching);
        };
        if let Some(found) = search.found.try_receive()
            && found.stream != connection.stream
        {
            self.open_stream(found);
            return Received::Nothing;
        }
        let now_ns = monotonic_ns();
        if now_ns - connection.last_sample_ns > self.silence_ns && now_ns - connection.asked_ns > ASK_EVERY_NS
        {
            connection.asked_ns = now_ns;
            search.ask(Ask::Other);
        }
        Received::Nothing
    }
}

impl Drop for LslSource {
    /// Ends the searching thread first: it holds the sender that keeps the measuring thread running.
    fn drop(&mut self) {
        self.search = None;
        super::wait_for(self.measuring.take());
    }
}

impl Connection {
    /// The measured offset of the source's clock, unless the clock has jumped since it was measured, or a bin that ended at `source_ns` and has
    /// just come is stamped by another clock than the library's.
    fn clock(&self, clock: &Clock, source_ns: i64, arrival_ns: u64) -> Option<ClockOffset> {
        let measured = clock.of(self.stream).filter(|measured| self.before_jump != Some(*measured))?;
        measures(measured, source_ns, arrival_ns).then_some(measured)
    }

    /// Fills `bin` with the bin of spikes that is complete by now, and returns whether there is one.
    fn close(&mut self, bin: &mut Bin, range: CountRange, clock: &Clock, now_s: f64) -> bool {
        let Numbering::Events(bins) = &mut self.numbering else { return false };
        let closed = bins.close(now_s, &mut |counts| bin.fill(counts.iter().copied(), range));
        let Some(closed) = closed else { return false };
        (bin.seq, bin.stream, bin.segment_start) = (closed.index, self.stream, false);
        bin.undescribed = !self.layout.is_described();
        (bin.source_ns, bin.arrival_ns) = (nanoseconds(closed.end_s), monotonic_ns());
        bin.clock = self.clock(clock, bin.source_ns, bin.arrival_ns);
        true
    }
}

impl Source for LslSource {
    fn receive(&mut self, bin: &mut Bin) -> Received {
        let Some(connection) = &mut self.connection else { return self.connect() };
        // A bin of spikes is complete when its time has passed and no spike waits to be read, or by a later spike, before which it must
        // be closed.
        let now_s = if connection.inlet.waiting() == 0 { self.library.clock_s() } else { f64::NEG_INFINITY };
        if connection.close(bin, self.range, &self.clock, now_s) {
            return Received::Bin;
        }
        let patience_s = PATIENCE.as_secs_f64();
        let wait_s = match &connection.numbering {
            Numbering::Counts { .. } => patience_s,
            Numbering::Events(bins) => {
                bins.closes_in_s(self.library.clock_s()).unwrap_or(patience_s).min(patience_s)
            }
        };
        let pulled = connection.inlet.pull(&mut connection.sample, wait_s);
        let arrival_ns = monotonic_ns();
        let arrival_s = (arrival_ns.cast_signed() + self.ahead_ns) as f64 / 1e9;
        let stamp_s = match pulled {
            Ok(Some(stamp_s)) => stamp_s,
            Ok(None) => return self.search_other(),
            Err(_) => return self.lose(),
        };
        connection.last_sample_ns = arrival_ns;
        match &mut connection.numbering {
            Numbering::Events(bins) => {
                // The oldest spikes are dropped from a full buffer: the spikes of a bin would then lack some.
                if connection.inlet.waiting() + 1 >= connection.room {
                    bins.interrupt();
                    self.lost.was_full();
                }
                bins.push(stamp_s, connection.sample[0], arrival_s);
                self.lost.set(bins.lost());
                Received::Nothing
            }
            Numbering::Counts { width_us, grid } => {
                let (place, width_us) = (grid.place(stamp_s, arrival_s), *width_us);
                if place.jumped {
                    connection.before_jump = self.clock.of(connection.stream);
                }
                self.lost.set(Lost { off: grid.unused(), ..Lost::default() });
                bin.fill(connection.layout.counts(&connection.sample), self.range);
                bin.segment_start = connection.layout.starts_segment(&connection.sample);
                bin.undescribed = !connection.layout.is_described();
                (bin.seq, bin.stream) = (place.index, connection.stream);
                (bin.source_ns, bin.arrival_ns) = (nanoseconds(place.time_s), arrival_ns);
                bin.clock = connection.clock(&self.clock, bin.source_ns, arrival_ns);
                match self.rebin.push(bin, width_us) {
                    Ok(true) => Received::Bin,
                    Ok(false) => Received::Nothing,
                    Err(error) => Received::Refused(error.into()),
                }
            }
        }
    }
}

/// Whether an offset of the library's clock can be that of the clock by which a bin is stamped: the bin has not ended later than it came, and
/// not longer ago than any stream is buffered.
fn measures(offset: ClockOffset, source_ns: i64, arrival_ns: u64) -> bool {
    let end_ns = i128::from(source_ns) + i128::from(offset.offset_ns);
    let waited_ns = i128::from(arrival_ns) - end_ns;
    let (least_ns, most_ns) = ((-1e9 * JUMP_S) as i128, i128::from(BUFFERED_NS_MAX));
    (least_ns..=most_ns).contains(&waited_ns)
}

fn seconds(microseconds: u32) -> f64 {
    f64::from(microseconds) * 1e-6
}

fn nanoseconds(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_that_is_stamped_by_another_clock_has_no_measured_offset() {
        let offset = ClockOffset { offset_ns: 2_000_000_000, uncertainty_ns: 20_000 };
        let arrival_ns = 16_532_130_000_000;
        let measured = |source_ns| measures(offset, source_ns, arrival_ns);
        let here_ns = arrival_ns.cast_signed() - offset.offset_ns;
        assert!([0, 5_000_000, -300_000_000, 60_000_000_000].iter().all(|ago_ns| measured(here_ns - ago_ns)));
        // time.time(), a device that counts from its start, and what is hardly a time.
        assert!(![1_795_962_896_670_000_000, 3_000_000_000, i64::MAX, i64::MIN].into_iter().any(measured));
    }
}
