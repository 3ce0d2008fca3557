//! Whether every number of a sequence arrived, once and in order.
//!
//! Skipped numbers are remembered as ranges, so that a late number can be distinguished from a repeated one, however large
//! the gap was.

use std::collections::BTreeMap;

/// Largest number of ranges of missing numbers that is remembered. Beyond it, the oldest range stays missing for good.
const RANGES_MAX: usize = 65_536;

/// Counts missing, repeated and late numbers of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// Lowest and highest bin number that arrived.
    ends: Option<(u64, u64)>,
    /// Ranges of missing numbers: the first number of each, and the number after the last.
    missing: BTreeMap<u64, u64>,
    missing_numbers: u64,
    repeated: u64,
    out_of_order: u64,
}

impl Order {
    /// Counts the bin number of the next estimate. The first number may be any, because a listener may start late.
    pub fn push(&mut self, seq: u64) {
        let Some((first, last)) = self.ends else {
            self.ends = Some((seq, seq));
            return;
        };
        self.ends = Some((first.min(seq), last.max(seq)));
        if seq > last {
            self.miss(last + 1, seq);
        } else if seq < first {
            self.out_of_order += 1;
            self.miss(seq + 1, first);
        } else {
            self.fill(seq);
        }
    }

    /// Lowest and highest bin number that arrived.
    pub fn ends(&self) -> Option<(u64, u64)> {
        self.ends
    }

    /// Count of numbers between the lowest and the highest that have not arrived.
    pub fn missing(&self) -> u64 {
        self.missing_numbers
    }

    /// Count of bin numbers that arrived again.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Count of numbers that arrived after a higher one.
    pub fn out_of_order(&self) -> u64 {
        self.out_of_order
    }

    fn miss(&mut self, from: u64, to: u64) {
        if from < to {
            self.missing_numbers += to - from;
            self.missing.insert(from, to);
            if self.missing.len() > RANGES_MAX {
                self.missing.pop_first();
            }
        }
    }

    fn fill(&mut self, seq: u64) {
        let range = self.missing.range(..=seq).next_back().map(|(from, to)| (*from, *to));
        match range {
            Some((from, to)) if seq < to => {
                self.out_of_order += 1;
                self.missing.remove(&from);
                self.missing_numbers -= to - from;
                self.miss(from, seq);
                self.miss(seq + 1, to);
            }
            _ => self.repeated += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(numbers: &[u64], missing: u64, repeated: u64, out_of_order: u64) {
        let mut order = Order::default();
        numbers.iter().for_each(|seq| order.push(*seq));
        let found = (order.missing(), order.repeated(), order.out_of_order());
        assert_eq!(found, (missing, repeated, out_of_order), "{numbers:?}");
    }

    #[test]
    fn gaps_repeats_and_late_numbers_are_distinguished() {
        check(&[], 0, 0, 0);
        check(&[5, 6, 7], 0, 0, 0);
        check(&[0, 1, 4, 5], 2, 0, 0);
        check(&[0, 1, 1, 2, 0], 0, 2, 0);
        check(&[0, 3, 1, 2], 0, 0, 2);
        check(&[0, 9, 4, 4], 7, 1, 1);
        check(&[9, 5, 6], 2, 0, 2);
        check(&[0, u64::MAX, 7, u64::MAX], u64::MAX - 2, 1, 1);
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(numbers in proptest::collection::vec(0u64..40, 1..120)) {
            let mut order = Order::default();
            let (mut seen, mut repeated) = (std::collections::BTreeSet::new(), 0);
            for seq in &numbers {
                order.push(*seq);
                repeated += u64::from(!seen.insert(*seq));
            }
            let (first, last) = (*seen.first().unwrap(), *seen.last().unwrap());
            prop_assert_eq!(order.missing(), last - first + 1 - seen.len() as u64);
            prop_assert_eq!(order.repeated(), repeated);
        }
    }
}
