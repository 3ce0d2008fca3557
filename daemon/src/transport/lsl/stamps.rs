//! Time stamps that cannot be: they are not used, unless the stamps after them show that the sender's clock has jumped. Pure: time is
//! an argument.

pub use ndt_protocol::lsl::CLOCK_JUMP_S as JUMP_S;

/// Time for which stamps must agree with one another before a jump of the sender's clock is believed, s. What waited on the way comes
/// all at once, and a single stamp may be a mistake.
pub const JUMP_HELD_S: f64 = 0.05;

/// Time after which it no longer matters whether stamps that are off are a jump, s: bins are then closed without them.
const UNDECIDED_S: f64 = 2.0 * JUMP_HELD_S;

/// Fewest stamps that must agree before a jump is believed.
const AGREE_MIN: u32 = 3;

/// Largest time that a stamp can be, s: 30,000 years.
const TIME_S_MAX: f64 = 1e12;

/// Whether a time stamp is a time at all.
pub fn is_time(stamp_s: f64) -> bool {
    stamp_s.abs() < TIME_S_MAX
}

/// The stamps since the last one that was used. Owned by the source thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct OffStamps {
    series: Option<Series>,
}

/// Stamps that agree with one another.
#[derive(Debug, Clone, Copy)]
struct Series {
    /// Arrival of the first stamp that was not used, whether the later ones agree with it or not, s by our clock.
    unused_since_s: f64,
    /// Arrival of the first stamp of the series, s by our clock.
    since_s: f64,
    /// Arrival minus time stamp of the first stamp of the series, s.
    delay_s: f64,
    /// Number of stamps in the series.
    stamps: u32,
}

impl OffStamps {
    /// Takes in a stamp that is off, with its delay (arrival minus time stamp; NaN for what is no time) and its arrival. Returns whether it and those before it
    /// show that the clock has jumped: the stamps are then forgotten.
    pub fn is_jump(&mut self, delay_s: f64, arrival_s: f64) -> bool {
        let unused_since_s = self.series.map_or(arrival_s, |series| series.unused_since_s);
        let agrees = |series: &Series| (delay_s - series.delay_s).abs() <= JUMP_S;
        let new = Series { unused_since_s, since_s: arrival_s, delay_s, stamps: 0 };
        let mut series = self.series.filter(agrees).unwrap_or(new);
        series.stamps = series.stamps.saturating_add(1);
        let is_believed = series.stamps >= AGREE_MIN && arrival_s - series.since_s >= JUMP_HELD_S;
        self.series = Some(series).filter(|_| !is_believed);
        is_believed
    }

    /// Forgets the stamps, after one that is not off.
    pub fn clear(&mut self) {
        self.series = None;
    }

    /// When bins are closed again, whatever the stamps mean, s by our clock. `None` while no stamp is off.
    pub fn undecided_until_s(&self) -> Option<f64> {
        self.series.map(|series| series.unused_since_s + UNDECIDED_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_that_agree_for_long_enough_are_a_jump() {
        let mut off = OffStamps::default();
        let answers = [0.0, 0.02, 0.04, 0.06, 0.08].map(|arrival_s| off.is_jump(3600.0, arrival_s));
        assert_eq!(answers, [false, false, false, true, false]);
        // All at once, or without agreement, they are none.
        assert!((0..1000).all(|_| !off.is_jump(3600.0, 0.08)));
        assert!((0..1000u32).all(|at| !off.is_jump(f64::from(at), 0.1 + f64::from(at))));
        assert_eq!(off.undecided_until_s(), Some(0.08 + UNDECIDED_S));
        off.clear();
        assert_eq!(off.undecided_until_s(), None);
    }

    #[test]
    fn what_is_no_time_is_none() {
        assert!([0.0, -1e9, 1.7e9, 9e11].into_iter().all(is_time));
        assert!(![1e18, -1e18, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].into_iter().any(is_time));
    }
}
