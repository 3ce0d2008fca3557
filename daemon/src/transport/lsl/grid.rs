//! Numbers the samples of a regular stream by their time stamps, so that lost samples leave a gap. Pure: time is an argument.
//!
//! The places of samples form a grid of the nominal period that begins with the first sample. The grid follows the time stamps
//! slowly, because a nominal rate is never exact. Time stamps are not changed, unless one is more than [`JUMP_S`] off the sender's
//! clock: it is then not used, and its sample takes the place of the time at which it arrived. Stamps that go on to be off are a
//! jump of the clock, which the grid follows. Samples of one stream come in order, over TCP.

use super::stamps::{JUMP_S, OffStamps, is_time};
use ndt_protocol::lsl::CLOCK_DRIFT_MAX as DRIFT;

/// Fraction of a period after its place from which on a sample shows that the sample before it was lost. A lost sample shifts
/// the next one by a whole period; a sender that is late with its time stamp mostly shifts it by less.
const LOST_AT: f64 = 0.75;

/// Fraction of the distance from a sample's place to its time stamp by which the grid is shifted.
const FOLLOW: f64 = 1.0 / 16.0;

/// Numbers the samples of one stream. Owned by the source thread.
#[derive(Debug, Clone)]
pub struct Grid {
    period_s: f64,
    last: Option<Last>,
    off: OffStamps,
    /// Stamps that were not used.
    unused: u64,
}

/// The last sample.
#[derive(Debug, Clone, Copy)]
struct Last {
    index: u64,
    /// Place of the sample on the grid, s by the sender's clock.
    place_s: f64,
    /// Time stamp of the sample, s by the sender's clock.
    stamp_s: f64,
    /// Arrival of the sample, s by our clock.
    arrival_s: f64,
    /// Smallest arrival minus time stamp so far: offset of the clocks plus the fastest transport, s.
    delay_s: f64,
}

/// Place of a sample in its stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Number of the sample, from 0.
    pub index: u64,
    /// Time of the sample by the sender's clock, s: its time stamp, if that can be.
    pub time_s: f64,
    /// Whether the sender's clock jumped before the sample. Numbers then continue by the time that has passed on our clock.
    pub jumped: bool,
}

impl Grid {
    /// A grid with a period of `period_s` seconds.
    pub fn new(period_s: f64) -> Grid {
        Grid { period_s, last: None, off: OffStamps::default(), unused: 0 }
    }

    /// Returns the number of time stamps that were not used.
    pub fn unused(&self) -> u64 {
        self.unused
    }

    /// Places the next sample, with time stamp `stamp_s` by the sender's clock and arrival `arrival_s` by ours.
    ///
    /// Runs on the source thread, once a sample. Neither allocates nor reads a clock.
    pub fn place(&mut self, stamp_s: f64, arrival_s: f64) -> Place {
        let Some(last) = self.last else {
            self.unused += u64::from(!is_time(stamp_s));
            let stamp_s = if is_time(stamp_s) { stamp_s } else { arrival_s };
            let delay_s = arrival_s - stamp_s;
            self.last = Some(Last { index: 0, place_s: stamp_s, stamp_s, arrival_s, delay_s });
            return Place { index: 0, time_s: stamp_s, jumped: false };
        };
        let passed_s = (arrival_s - last.arrival_s).max(0.0);
        let (delay_s, drift_s) = (arrival_s - stamp_s, passed_s * DRIFT);
        // No sample takes less time from its stamp to its arrival than the fastest one so far.
        let is_off = stamp_s < last.stamp_s - JUMP_S || delay_s < last.delay_s - drift_s - JUMP_S;
        // Samples that were held up here arrive all at once, so that at least one period counts for each.
        let periods = (passed_s / self.period_s).round().max(1.0);
        let index = last.index + periods as u64;
        let (next, jumped) = if !is_time(stamp_s) || is_off && !self.off.is_jump(delay_s, arrival_s) {
            self.unused += 1;
            let place_s = last.place_s + periods * self.period_s;
            (Last { index, place_s, stamp_s: place_s, arrival_s, delay_s: last.delay_s + drift_s }, false)
        } else if is_off {
            (Last { index, place_s: stamp_s, stamp_s, arrival_s, delay_s }, true)
        } else {
            self.off.clear();
            let late = (stamp_s - last.place_s) / self.period_s - 1.0;
            let lost = (late + 1.0 - LOST_AT).floor().max(0.0);
            let place_s = last.place_s + (1.0 + lost) * self.period_s;
            let next = Last {
                index: last.index + 1 + lost as u64,
                place_s: place_s + FOLLOW * (stamp_s - place_s),
                stamp_s,
                arrival_s,
                delay_s: delay_s.min(last.delay_s + drift_s),
            };
            (next, false)
        };
        self.last = Some(next);
        Place { index: next.index, time_s: next.stamp_s, jumped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PERIOD_S: f64 = 0.02;

    /// Places samples of these stamps, which come a millisecond later by a clock that is 100 s ahead.
    fn numbers(stamps_s: impl IntoIterator<Item = f64>) -> Vec<u64> {
        let mut grid = Grid::new(PERIOD_S);
        stamps_s.into_iter().map(|stamp_s| grid.place(stamp_s, stamp_s + 100.001).index).collect()
    }

    #[test]
    fn lost_samples_leave_a_gap_and_late_stamps_do_not() {
        let stamps = [0, 1, 2, 5, 6, 16].map(|number| f64::from(number) * PERIOD_S);
        assert_eq!(numbers(stamps), [0, 1, 2, 5, 6, 16]);
        // Stamped when it was sent: the fourth is 14 ms late.
        assert_eq!(numbers([0.0, 0.02, 0.04, 0.074, 0.08, 0.1, 0.12]), [0, 1, 2, 3, 4, 5, 6]);
        // Two at once, as a sender that was held up sends them: no number twice.
        assert_eq!(numbers([0.0, 0.02, 0.02, 0.04, 0.06]), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_rate_that_is_not_quite_the_nominal_one_is_followed() {
        for off in [0.999, 1.001] {
            let found = numbers((0..100_000).map(|number| f64::from(number) * PERIOD_S * off));
            assert!(found.iter().enumerate().all(|(at, number)| *number == at as u64), "{off}");
        }
    }

    #[test]
    fn a_clock_that_jumps_moves_no_number_and_a_burst_after_a_stall_is_no_jump() {
        for jump_s in [3600.0, -3600.0, 0.8, -0.8] {
            let mut grid = Grid::new(PERIOD_S);
            let mut place = |number: u32| {
                let here_s = f64::from(number) * PERIOD_S;
                grid.place(here_s + if number < 50 { 0.0 } else { jump_s }, here_s + 7.0)
            };
            let places: Vec<Place> = (0..100).map(&mut place).collect();
            assert!(places.iter().enumerate().all(|(at, place)| place.index == at as u64), "{jump_s}");
            let jumps: Vec<usize> = (0..100).filter(|at| places[*at].jumped).collect();
            // Believed when the stamps of 50 ms agree.
            assert_eq!(jumps, [53], "{jump_s}");
            assert_eq!(grid.unused(), 3);
        }
        // For two seconds nothing is read, then all of it at once.
        let mut grid = Grid::new(PERIOD_S);
        let mut place = |number: u32| {
            let stamp_s = f64::from(number) * PERIOD_S;
            grid.place(stamp_s, if (50..150).contains(&number) { 3.0 } else { stamp_s })
        };
        let places: Vec<Place> = (0..300).map(&mut place).collect();
        assert!(places.iter().enumerate().all(|(at, place)| place.index == at as u64 && !place.jumped));
    }

    #[test]
    fn an_absurd_stamp_takes_the_place_of_its_arrival() {
        for absurd_s in [f64::NAN, f64::INFINITY, 1e18, -1e300, 1.7e9, -3600.0, 3600.0] {
            let mut grid = Grid::new(PERIOD_S);
            let mut place = |number: u32| {
                let here_s = f64::from(number) * PERIOD_S;
                grid.place(if number == 50 { absurd_s } else { here_s }, here_s + 7.0)
            };
            let places: Vec<Place> = (0..100).map(&mut place).collect();
            for (at, place) in places.iter().enumerate() {
                assert!(place.index == at as u64 && !place.jumped, "{absurd_s}: {at}: {place:?}");
                assert!((place.time_s - at as f64 * PERIOD_S).abs() < 1e-6, "{absurd_s}: {at}: {place:?}");
            }
            assert_eq!(grid.unused(), 1);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_lost_the_rest_keep_their_numbers(
            lost in proptest::collection::vec(any::<bool>(), 300),
            jitter in proptest::collection::vec(0.0..0.2f64, 300),
        ) {
            let kept: Vec<u64> = (0..300).filter(|at| *at == 0 || !lost[*at as usize]).collect();
            let stamps = kept.iter().map(|at| (*at as f64 + jitter[*at as usize]) * PERIOD_S);
            prop_assert_eq!(numbers(stamps), kept);
        }

        #[test]
        fn numbers_rise_whatever_the_stamps(
            stamps in proptest::collection::vec((any::<f64>(), 0.0..1.0f64), 1..60),
        ) {
            let mut grid = Grid::new(PERIOD_S);
            let mut arrival_s = 0.0;
            let mut last = None;
            for (stamp_s, passed_s) in stamps {
                arrival_s += passed_s;
                let place = grid.place(stamp_s, arrival_s);
                prop_assert!(last.is_none_or(|last| place.index > last));
                prop_assert!(place.index < ndt_protocol::limits::SEQ_MAX);
                last = Some(place.index);
            }
        }
    }
}
