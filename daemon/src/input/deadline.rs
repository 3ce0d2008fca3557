//! When a bin must be answered, and from when on it is too old for its result to be published.

use ndt_protocol::bin::Due;

/// Limits on the time that the answer to a bin may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// Longest time from when a bin was due to its answer, ns; from its arrival where it is not known when it was due.
    pub deadline_ns: u64,
    /// Age above which the result of a bin is not published, ns. At least the deadline.
    pub max_age_ns: u64,
}

impl TimeLimits {
    /// No limits: no bin is ever late or too old.
    pub const NONE: TimeLimits = TimeLimits::deadline(u64::MAX);

    /// A deadline alone, in nanoseconds.
    pub const fn deadline(deadline_ns: u64) -> TimeLimits {
        TimeLimits { deadline_ns, max_age_ns: u64::MAX }
    }

    /// Returns when a bin is answered without a result, ns. That is the deadline, counted from when the bin was due. A bin that
    /// came late has half of the deadline from its arrival on, because an answer of the policy would come no earlier than a
    /// result that is nearly there; but it is answered at once when it is too old.
    pub fn answer_by_ns(&self, due: Due, arrival_ns: u64) -> u64 {
        match due {
            Due::Unknown => arrival_ns.saturating_add(self.deadline_ns),
            Due::Before if self.max_age_ns == u64::MAX => arrival_ns.saturating_add(self.deadline_ns),
            Due::Before => arrival_ns,
            Due::At(due_ns) => {
                let deadline_ns = due_ns.saturating_add(self.deadline_ns);
                let late_ns = arrival_ns.saturating_add(self.deadline_ns / 2);
                deadline_ns.max(late_ns).min(due_ns.saturating_add(self.max_age_ns).saturating_add(1))
            }
        }
    }

    /// Whether a bin is too old at `now_ns` for its result to be published.
    pub fn is_too_old(&self, due: Due, now_ns: u64) -> bool {
        match due {
            Due::Unknown => false,
            Due::Before => self.max_age_ns != u64::MAX,
            Due::At(due_ns) => now_ns > due_ns.saturating_add(self.max_age_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_counts_from_when_the_bin_was_due_and_leaves_a_late_one_half_of_it() {
        let limits = TimeLimits { deadline_ns: 20, max_age_ns: 40 };
        let answer_by = |arrival_ns| limits.answer_by_ns(Due::At(100), arrival_ns);
        assert_eq!([100, 105, 110].map(answer_by), [120, 120, 120]);
        assert_eq!([115, 125, 135, 150].map(answer_by), [125, 135, 141, 141]);
        assert_eq!(limits.answer_by_ns(Due::Unknown, 115), 135);
        assert_eq!(limits.answer_by_ns(Due::Before, 115), 115);
        assert!(!limits.is_too_old(Due::At(100), 140) && limits.is_too_old(Due::At(100), 141));
        assert!(!limits.is_too_old(Due::Unknown, u64::MAX) && limits.is_too_old(Due::Before, 0));
        let none = TimeLimits::NONE;
        assert!(!none.is_too_old(Due::Before, u64::MAX) && !none.is_too_old(Due::At(0), u64::MAX));
        assert_eq!(TimeLimits::deadline(20).answer_by_ns(Due::Before, 115), 135);
    }
}
