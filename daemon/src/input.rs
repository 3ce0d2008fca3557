//! Bins on their way in: what a [`Source`] delivers, and what happens to a bin before anybody else sees it.
//!
//! [`one_source`] keeps to one of several sources, [`runs`] recognises a source that started to count again, [`rebin`] joins narrow bins
//! to the model's, [`clock`] follows the source's clock, and [`deadline`] says by when a bin must be answered.

pub mod clock;
pub mod deadline;
pub mod one_source;
pub mod rebin;
pub mod runs;

use clock::{Reading, SourceClock};
use ndt_protocol::Bin;
use ndt_protocol::bin::ClockOffset;
pub use ndt_protocol::bin::{Arrival, Velocity};
use ndt_protocol::wire::WireError;
use runs::Runs;

/// What one call of [`Source::receive`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The next bin is in `bin`. After any other variant the content of `bin` has no meaning.
    Bin,
    /// Nothing came for a while; the caller asks again.
    Nothing,
    /// Nothing can come.
    Gone(Absence),
    /// A message that was not used.
    Refused(Refusal),
    /// The source has ended; no bin will come.
    Ended,
}

/// Why no bin can come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Absence {
    /// The transport is still looking for the source, and reports its search itself.
    Searching = 1,
    /// The source has not answered yet.
    NoAnswer = 2,
    /// The name of the source's computer is not known.
    UnknownHost = 3,
    /// The connection is lost.
    Lost = 4,
}

impl Absence {
    /// Returns the absence with this number, if there is one.
    pub fn from_number(number: u8) -> Option<Absence> {
        use Absence::{Lost, NoAnswer, Searching, UnknownHost};
        [Searching, NoAnswer, UnknownHost, Lost].into_iter().find(|absence| *absence as u8 == number)
    }
}

/// Why a message was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no bin for this model.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Another source sends to the same input.
    #[error(
        "expected one source, found another one beside it; its messages are not used while bins of the first one come"
    )]
    SecondSource,
    /// The source describes itself, but not its bins.
    #[error(
        "expected a description {{\"bins\": {{\"bin-width-us\": ..., \"channel-ids\": [...]}}}}, found something else than bins"
    )]
    Description,
    /// The source describes another number of channels than the bundle has.
    #[error("expected the bundle's {expected} channels, found a source that describes {found}")]
    ChannelCount {
        /// Number of channels of the bundle.
        expected: usize,
        /// Number of channels of the source.
        found: usize,
    },
    /// The source describes other channels than the bundle has, or another order.
    #[error(
        "expected the bundle's channel ids in the bundle's order, found {found} in place of {expected} at position {position}"
    )]
    Channel {
        /// Position of the first channel that differs, from 0.
        position: usize,
        /// Id that the bundle has there.
        expected: i64,
        /// Id that the source has there.
        found: i64,
    },
}

impl Refusal {
    /// Compares the channel ids that a source describes with the bundle's; `None` where they are the same in the same order.
    pub fn of_channels(found: &[i64], expected: &[i64]) -> Option<Refusal> {
        if found.len() != expected.len() {
            return Some(Refusal::ChannelCount { expected: expected.len(), found: found.len() });
        }
        let position = found.iter().zip(expected).position(|(found, expected)| found != expected)?;
        Some(Refusal::Channel { position, expected: expected[position], found: found[position] })
    }
}

/// A stream of bins. Owned by the source thread, which calls `receive` in a loop.
pub trait Source: Send {
    /// Waits for the next bin, for at most about 100 ms, so that the thread can be asked to stop. Stamps the arrival as early
    /// as it can. May allocate only what the transport's library does.
    fn receive(&mut self, bin: &mut Bin) -> Received;
}

impl Source for Box<dyn Source> {
    fn receive(&mut self, bin: &mut Bin) -> Received {
        self.as_mut().receive(bin)
    }
}

/// Takes a bin in before any other part sees it.
#[derive(Debug, Clone)]
pub struct Intake {
    runs: Runs,
    clock: SourceClock,
}

impl Intake {
    /// Takes in bins of `bin_width_ns`, the model's.
    pub fn new(bin_width_ns: u64) -> Intake {
        Intake { runs: Runs::default(), clock: SourceClock::new(bin_width_ns) }
    }

    /// Takes a bin in, gives it the stream of its run, and notes when it was due. Returns `None` for a bin without a count in any channel: it is
    /// treated as if it had not come, so that it cannot keep the stale timer quiet. A bin of values that no spike count can be
    /// has come, and is answered as a fault.
    ///
    /// Runs on the source thread, once a bin. Must not allocate, block, lock or log.
    pub fn take(&mut self, bin: &mut Bin) -> Option<Arrival> {
        if bin.is_missing() && bin.implausible.is_none() {
            return None;
        }
        self.runs.assign(bin);
        let Reading { offset_ns, uncertainty_ns, jumped, due } = self.clock.read(bin);
        (bin.due, bin.clock_jumped) = (due, jumped);
        bin.offset = Some(ClockOffset { offset_ns, uncertainty_ns });
        let Bin { seq, stream, source_ns, arrival_ns, offset, .. } = *bin;
        Some(Arrival { seq, stream, source_ns, arrival_ns, due, offset, velocity: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndt_protocol::CountRange;

    fn streams(bins: &[(u64, u64)]) -> Vec<u64> {
        let mut intake = Intake::new(20_000_000);
        let mut bin = Bin::empty();
        bin.fill([0.0].into_iter(), CountRange::new(1, 20.0));
        let mut stream = |&(seq, stream): &(u64, u64)| {
            (bin.seq, bin.stream) = (seq, stream);
            intake.take(&mut bin).unwrap().stream
        };
        bins.iter().map(&mut stream).collect()
    }

    #[test]
    fn a_source_that_counts_again_is_a_new_stream_and_a_late_bin_is_not() {
        let late = [(900, 5), (899, 5), (3, 5), (901, 5), (885, 5)];
        assert_eq!(streams(&late), [5; 5]);
        let found = streams(&[(900, 5), (0, 5), (1, 5), (2, 5), (40, 5), (0, 5), (1, 5), (0, 9)]);
        let (again, third) = (found[2], found[6]);
        assert!(again != 5 && third != 5 && third != again);
        assert_eq!(found, [5, 5, again, again, again, again, third, 9]);
        // A source that had only sent ten bins: after eight late ones it is believed.
        let bins: Vec<(u64, u64)> = (0..10).chain(0..10).map(|seq| (seq, 5)).collect();
        let found = streams(&bins);
        assert!(found[..19].iter().all(|stream| *stream == 5) && found[19] != 5);
        // One that repeats a bin for ever has not begun again.
        assert_eq!(streams(&[(7, 5); 40]), [5; 40]);
    }

    #[test]
    fn the_offset_of_the_clock_is_told_anew_with_each_bin_in_the_same_place() {
        let mut intake = Intake::new(20_000_000);
        let mut bin = Bin::empty();
        bin.fill([0.0].into_iter(), CountRange::new(1, 20.0));
        let mut offset_ns = |seq: u64, delay_ns: u64| {
            (bin.seq, bin.source_ns) = (seq, 20_000_000 * seq as i64);
            bin.arrival_ns = 20_000_000 * seq + delay_ns;
            let offset = intake.take(&mut bin).unwrap().offset.unwrap();
            assert_eq!(bin.offset, Some(offset));
            offset.offset_ns
        };
        assert_eq!(
            [(0, 500), (1, 300), (2, 400)].map(|(seq, delay_ns)| offset_ns(seq, delay_ns)),
            [500, 300, 300]
        );
    }

    #[test]
    fn a_bin_without_any_count_is_not_taken_in() {
        let mut bin = Bin::empty();
        bin.fill([f32::NAN, 11.0].into_iter(), CountRange::new(10, 20.0));
        assert_eq!(Intake::new(20_000_000).take(&mut bin), None);
        bin.fill([f32::NAN, 1e-40].into_iter(), CountRange::new(10, 20.0));
        assert!(Intake::new(20_000_000).take(&mut bin).is_some());
    }
}
