//! Which bins are due, when they are due, and which of them are measured. A pure function of the bin's number.

use super::load::Load;

/// Warm-up before anything is measured, ns: pages, caches, branch predictors and the CPU's clock rate settle, and the
/// model gets its history.
const WARMUP_NS: u64 = 1_000_000_000;

/// Bins in a burst under [`Load::IdleGap`].
const BURST_BINS: u64 = 25;

/// Shortest silence between two bursts, ns: long enough for a CPU to fall asleep, and for other programs to take its
/// caches.
const GAP_NS: u64 = 500_000_000;

/// The length of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// A number of bins.
    Bins(u64),
    /// All bins that are due within a number of seconds.
    Seconds(u32),
}

/// The periods of a measurement. Each is one bin width long and has the number of its bin. Without gaps a bin is due
/// in every period; in the periods of a gap none is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    width_ns: u64,
    /// Number of periods in a burst, and in a burst with its gap.
    burst: Option<(u64, u64)>,
    warmup: u64,
    periods: u64,
    counted: u64,
}

impl Schedule {
    /// Makes the schedule for bins of `width_ns` nanoseconds.
    pub fn new(width_ns: u64, load: Load, length: Length) -> Schedule {
        let gap = GAP_NS.div_ceil(width_ns);
        let burst = (load == Load::IdleGap).then_some((BURST_BINS, BURST_BINS + gap));
        let warmup = WARMUP_NS.div_ceil(width_ns);
        let mut schedule = Schedule { width_ns, burst, warmup, periods: warmup, counted: 0 };
        let is_enough = |schedule: &Schedule| match length {
            Length::Bins(bins) => schedule.counted >= bins.max(1),
            Length::Seconds(seconds) => {
                let periods = u64::from(seconds) * 1_000_000_000 / width_ns;
                schedule.counted > 0 && schedule.periods - warmup >= periods
            }
        };
        while !is_enough(&schedule) {
            schedule.counted += u64::from(schedule.is_sent(schedule.periods));
            schedule.periods += 1;
        }
        schedule
    }

    /// Width of a bin, ns.
    pub fn width_ns(&self) -> u64 {
        self.width_ns
    }

    /// Number of all periods, warm-up and gaps included.
    pub fn periods(&self) -> u64 {
        self.periods
    }

    /// Number of bins that are measured.
    pub fn counted(&self) -> u64 {
        self.counted
    }

    /// Time from the start to the instant at which a bin is due, ns: the end of its period. Computed for each bin by
    /// itself, so that no drift builds up.
    pub fn due_ns(&self, seq: u64) -> u64 {
        (seq + 1) * self.width_ns
    }

    /// Time from the start to the end of the last period, ns.
    pub fn end_ns(&self) -> u64 {
        self.periods * self.width_ns
    }

    /// Whether a bin is due in this period.
    pub fn is_sent(&self, seq: u64) -> bool {
        self.burst.is_none_or(|(burst, whole)| seq % whole < burst)
    }

    /// Whether a gap ends right before this period.
    pub fn is_after_gap(&self, seq: u64) -> bool {
        self.burst.is_some_and(|(_, whole)| seq > 0 && seq.is_multiple_of(whole))
    }

    /// Whether a period is measured, that is, after the warm-up.
    pub fn is_measured(&self, seq: u64) -> bool {
        (self.warmup..self.periods).contains(&seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(schedule: &Schedule) -> Vec<u64> {
        (0..schedule.periods() + 9)
            .filter(|seq| schedule.is_measured(*seq) && schedule.is_sent(*seq))
            .collect()
    }

    #[test]
    fn a_steady_schedule_is_a_second_of_warm_up_and_then_all_bins() {
        let schedule = Schedule::new(20_000_000, Load::None, Length::Bins(30));
        assert_eq!(counted(&schedule), (50..80).collect::<Vec<_>>());
        assert_eq!(
            (schedule.counted(), schedule.due_ns(0), schedule.end_ns()),
            (30, 20_000_000, 1_600_000_000)
        );
        assert_eq!(schedule, Schedule::new(20_000_000, Load::Stress, Length::Bins(30)));
        // An hour, without drift.
        let schedule = Schedule::new(5_000_000, Load::None, Length::Seconds(3600));
        assert_eq!((schedule.counted(), schedule.periods()), (720_000, 720_200));
        assert_eq!(schedule.due_ns(schedule.periods() - 1), 3_601_000_000_000);
    }

    #[test]
    fn bursts_have_gaps_between_them_and_keep_to_the_grid() {
        let schedule = Schedule::new(20_000_000, Load::IdleGap, Length::Bins(40));
        // 25 bins and 25 periods of silence: the second that warms up ends where the second burst ends.
        let bins: Vec<u64> = (50..75).chain(100..115).collect();
        assert_eq!((counted(&schedule), schedule.counted()), (bins, 40));
        let firsts: Vec<u64> = (0..schedule.periods()).filter(|seq| schedule.is_after_gap(*seq)).collect();
        assert_eq!(firsts, [50, 100]);
        // A second is two half-seconds of bins and of silence.
        let schedule = Schedule::new(20_000_000, Load::IdleGap, Length::Seconds(1));
        assert_eq!((schedule.counted(), schedule.periods()), (25, 100));
    }

    #[test]
    fn there_is_always_a_bin_to_count() {
        for length in [Length::Bins(0), Length::Seconds(0)] {
            assert_eq!(Schedule::new(20_000_000, Load::None, length).counted(), 1);
        }
    }
}
