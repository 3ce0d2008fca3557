//! The instants at which bins are due: absolute instants, so that a late bin delays no other and nothing drifts.

/// How fast a plan is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// This many times faster than the recording.
    Times(f64),
    /// As fast as the transport takes the bins.
    Max,
}

/// The timetable of one play. It takes the time as an argument and remembers how late bins were sent.
///
/// *Played time* passes as in the recording, whatever the speed, and counts from the start of the play.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    start_ns: u64,
    speed: Speed,
    late_ns_max: u64,
}

impl Pace {
    /// A play that starts at `start_ns` (`CLOCK_MONOTONIC`, in ns).
    pub fn new(start_ns: u64, speed: Speed) -> Pace {
        Pace { start_ns, speed, late_ns_max: 0 }
    }

    /// Returns the instant (`CLOCK_MONOTONIC`, in ns) that corresponds to `played_ns` of played time. Returns `None` at
    /// [`Speed::Max`], where everything is due at once.
    pub fn due_ns(&self, played_ns: u64) -> Option<u64> {
        match self.speed {
            Speed::Times(times) => Some(self.start_ns + (played_ns as f64 / times).round() as u64),
            Speed::Max => None,
        }
    }

    /// Records that a bin that was due at `due_ns` is sent at `now_ns`.
    pub fn sent(&mut self, due_ns: u64, now_ns: u64) {
        self.late_ns_max = self.late_ns_max.max(now_ns.saturating_sub(due_ns));
    }

    /// Longest delay that was recorded, in us; `None` at [`Speed::Max`].
    pub fn late_us_max(&self) -> Option<u64> {
        matches!(self.speed, Speed::Times(_)).then_some(self.late_ns_max / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_do_not_drift_in_an_hour() {
        let hour = 180_000;
        let due_ns = |start_ns, bin: u64, times| {
            Pace::new(start_ns, Speed::Times(times)).due_ns((bin + 1) * 20_000_000).unwrap()
        };
        assert_eq!(due_ns(5, hour - 1, 1.0), 5 + 3_600_000_000_000);
        assert_eq!(due_ns(5, hour - 1, 2.5), 5 + 1_440_000_000_000);
        // A speed that does not divide a bin evenly is still exact at the end, and each step is that of a bin.
        assert_eq!(due_ns(0, 3 * hour - 1, 3.0), 3_600_000_000_000);
        let steps = (0..100).map(|bin| due_ns(0, bin + 1, 3.0) - due_ns(0, bin, 3.0));
        assert!(steps.into_iter().all(|step| (6_666_666..=6_666_667).contains(&step)));
    }

    #[test]
    fn the_longest_delay_is_remembered_and_full_speed_has_none() {
        let mut pace = Pace::new(100, Speed::Times(1.0));
        pace.sent(5_000, 9_500);
        pace.sent(6_000, 6_100);
        pace.sent(7_000, 6_000);
        assert_eq!(pace.late_us_max(), Some(4));
        let full = Pace::new(100, Speed::Max);
        assert_eq!((full.due_ns(7), full.late_us_max()), (None, None));
    }
}
