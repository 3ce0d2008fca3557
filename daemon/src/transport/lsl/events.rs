//! Spikes one by one to bins: by their time stamps, on the sender's clock. Pure.
//!
//! Bins begin at whole multiples of their width by the sender's clock, so that two receivers count alike; the one in
//! which the first spike comes is not whole, and is not made. A bin is closed by the first spike beyond its end, or once
//! one that was sent at its end would have come. What comes after is counted as late and in no bin.

use ndt_protocol::lsl::{CLOCK_DRIFT_MAX as DRIFT, CLOCK_JUMP_S as JUMP_S};

/// Without a spike of any channel for so long, s, no bin is made: it is more likely a lead that is off than a brain, and
/// the guard answers as for any silent source.
const SILENCE_S: f64 = 1.0;

/// Counts spikes.
#[derive(Debug, Clone)]
pub struct EventBins {
    width_s: f64,
    wait_s: f64,
    counts: Vec<f32>,
    open: Option<Open>,
    /// Whether spikes were lost: the bin of the next one is not whole.
    is_interrupted: bool,
    /// A spike beyond the open bin.
    ahead: Option<(f64, usize)>,
    late: u64,
    unknown: u64,
}

/// The bin that is being filled.
#[derive(Debug, Clone, Copy)]
struct Open {
    /// What numbers are counted from, in widths by the sender's clock, less the number there.
    origin: i64,
    index: u64,
    /// The first that is whole.
    first: u64,
    delay_s: f64,
    heard_s: f64,
}

/// A bin that is complete.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Closed {
    /// Its number, from 0.
    pub index: u64,
    /// Its end by the sender's clock, s.
    pub end_s: f64,
}

impl EventBins {
    /// Bins of `width_s` for `channels` channels, whose last spike may come `wait_s` after their end.
    pub fn new(width_s: f64, wait_s: f64, channels: usize) -> EventBins {
        let counts = vec![0.0; channels];
        EventBins {
            width_s,
            wait_s,
            counts,
            open: None,
            is_interrupted: false,
            ahead: None,
            late: 0,
            unknown: 0,
        }
    }

    /// Spikes that came too late for their bin, and those of channels that there are not.
    pub fn refused(&self) -> (u64, u64) {
        (self.late, self.unknown)
    }

    /// Counts of the open bin; of the one that was closed, until the next call of anything else.
    pub fn counts(&self) -> &[f32] {
        &self.counts
    }

    /// Notes that spikes were lost: no bin is made of that time, and the next spike's is the last that is not whole.
    pub fn interrupt(&mut self) {
        self.is_interrupted = true;
        self.ahead = None;
    }

    /// Takes a spike. After it, [`EventBins::close`] is asked until it has nothing more.
    ///
    /// Runs on the source thread, once a spike. Neither allocates nor asks for the time; nor do the others here.
    pub fn push(&mut self, stamp_s: f64, channel: f32, arrival_s: f64) {
        let is_channel = channel >= 0.0 && channel.fract() == 0.0 && (channel as usize) < self.counts.len();
        if !is_channel || !stamp_s.is_finite() {
            self.unknown += 1;
            return;
        }
        let channel = channel as usize;
        let (delay_s, number) = (arrival_s - stamp_s, (stamp_s / self.width_s).floor() as i64);
        let Some(open) = &mut self.open else {
            self.open = Some(Open { origin: number + 1, index: 0, first: 0, delay_s, heard_s: arrival_s });
            return;
        };
        let passed_s = (arrival_s - open.heard_s).max(0.0);
        let begin_s = (open.origin + open.index as i64) as f64 * self.width_s;
        let jumped = stamp_s < begin_s - JUMP_S || delay_s < open.delay_s - passed_s * DRIFT - JUMP_S;
        if jumped {
            // The bin that was open is given up; the first whole one of the new time has the next number.
            let index = open.index + 1 + (passed_s / self.width_s) as u64;
            let origin = number.saturating_add(1).saturating_sub(index as i64);
            *open = Open { origin, index, first: index, delay_s, heard_s: arrival_s };
            self.is_interrupted = false;
            self.counts.fill(0.0);
            return;
        }
        if std::mem::take(&mut self.is_interrupted) {
            open.index = open.index.max(u64::try_from(number + 1 - open.origin).unwrap_or(0));
            (open.first, open.delay_s, open.heard_s) = (open.index, delay_s, arrival_s);
            self.counts.fill(0.0);
            return;
        }
        let was_silent = passed_s > SILENCE_S;
        open.delay_s = delay_s.min(open.delay_s + passed_s * DRIFT);
        open.heard_s = arrival_s;
        let index = number.saturating_sub(open.origin);
        if index < open.index as i64 {
            // Before the first whole bin there is none to be late for.
            self.late += u64::from(index >= open.first as i64);
        } else if index as u64 == open.index {
            self.counts[channel] += 1.0;
        } else if was_silent {
            // No bins were made of the silence.
            open.index = index as u64;
            self.counts.fill(0.0);
            self.counts[channel] = 1.0;
        } else {
            self.ahead = Some((stamp_s, channel));
        }
    }

    /// The open bin, if it is complete at `now_s` by our clock; `take` is shown its counts.
    pub fn close(&mut self, now_s: f64, take: &mut dyn FnMut(&[f32])) -> Option<Closed> {
        let open = self.open.as_mut().filter(|_| !self.is_interrupted)?;
        let end_s = (open.origin + open.index as i64 + 1) as f64 * self.width_s;
        let is_passed = self.ahead.is_some_and(|(stamp_s, _)| stamp_s >= end_s);
        if !is_passed && (now_s < end_s + open.delay_s + self.wait_s || now_s > open.heard_s + SILENCE_S) {
            return None;
        }
        take(&self.counts);
        self.counts.fill(0.0);
        let closed = Closed { index: open.index, end_s };
        open.index += 1;
        if let Some((_, channel)) = self.ahead.take_if(|(stamp_s, _)| *stamp_s < end_s + self.width_s) {
            self.counts[channel] += 1.0;
        }
        Some(closed)
    }

    /// How long until the open bin is complete if no spike comes, s; `None` where it never would be.
    pub fn closes_in_s(&self, now_s: f64) -> Option<f64> {
        let open = self.open.filter(|_| !self.is_interrupted)?;
        let end_s = (open.origin + open.index as i64 + 1) as f64 * self.width_s;
        if self.ahead.is_some_and(|(stamp_s, _)| stamp_s >= end_s) {
            return Some(0.0);
        }
        let at_s = end_s + open.delay_s + self.wait_s;
        (now_s.max(at_s) <= open.heard_s + SILENCE_S).then_some((at_s - now_s).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDTH_S: f64 = 0.02;
    /// Our clock is so far ahead; a spike takes a millisecond.
    const AHEAD_S: f64 = 500.001;

    /// Plays spikes (stamp, channel), looking at the bins every millisecond until `until_s`.
    fn play(bins: &mut EventBins, spikes: &[(f64, f32)], until_s: f64) -> Vec<(u64, f64, Vec<f32>)> {
        let mut spikes = spikes.iter().peekable();
        let mut made = Vec::new();
        for tick in 0..(until_s * 1e3) as u32 {
            let now_s = f64::from(tick) * 1e-3;
            let look = |bins: &mut EventBins, made: &mut Vec<_>| {
                let mut counts = Vec::new();
                while let Some(closed) = bins.close(now_s + AHEAD_S, &mut |found| counts = found.to_vec()) {
                    made.push((closed.index, closed.end_s, counts.clone()));
                }
            };
            while let Some((stamp_s, channel)) = spikes.next_if(|spike| spike.0 <= now_s) {
                bins.push(*stamp_s, *channel, stamp_s + AHEAD_S);
                look(bins, &mut made);
            }
            look(bins, &mut made);
        }
        made
    }

    #[test]
    fn spikes_are_counted_in_the_bin_of_their_stamp_and_silence_is_bins_of_none() {
        let mut bins = EventBins::new(WIDTH_S, 0.002, 2);
        let spikes = [(0.005, 0.0), (0.025, 0.0), (0.026, 1.0), (0.0399, 0.0), (0.041, 1.0), (0.125, 1.0)];
        let made = play(&mut bins, &spikes, 0.15);
        let counts: Vec<Vec<f32>> = made.iter().map(|made| made.2.clone()).collect();
        assert_eq!(counts[..2], [[2.0, 1.0], [0.0, 1.0]]);
        assert_eq!(counts[2..], [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1.0]][..counts.len() - 2]);
        assert!(made.iter().enumerate().all(|(at, made)| made.0 == at as u64));
        assert!((made[0].1 - 0.04).abs() < 1e-9);
    }

    #[test]
    fn late_spikes_and_those_of_no_channel_are_counted_as_such() {
        let mut bins = EventBins::new(WIDTH_S, 0.002, 2);
        for (stamp_s, channel, arrival_s) in [(0.0, 0.0, 0.0), (0.021, 0.0, 0.021)] {
            bins.push(stamp_s, channel, arrival_s);
        }
        assert!(bins.close(0.0421, &mut |_| {}).is_some());
        bins.push(0.039, 1.0, 0.0425);
        for channel in [2.0, -1.0, 0.5, f32::NAN] {
            bins.push(0.045, channel, 0.045);
        }
        assert_eq!(bins.refused(), (1, 4));
        assert_eq!(bins.counts(), [0.0, 0.0]);
    }

    #[test]
    fn a_long_silence_makes_no_bins_and_the_next_spike_has_the_number_of_its_time() {
        let mut bins = EventBins::new(WIDTH_S, 0.002, 1);
        let made = play(&mut bins, &[(0.0, 0.0), (0.03, 0.0), (5.01, 0.0), (5.03, 0.0)], 5.1);
        let numbers: Vec<u64> = made.iter().map(|made| made.0).collect();
        let (before, after): (Vec<u64>, Vec<u64>) = numbers.iter().partition(|number| **number < 100);
        assert!(
            before.len() > 40
                && before.len() < 55
                && before.iter().enumerate().all(|(at, n)| at as u64 == *n)
        );
        // 5.00 to 5.02 is bin 249, as bin 0 begins at 0.02.
        assert_eq!(after[..2], [249, 250]);
    }

    #[test]
    fn what_was_lost_is_no_silence_and_numbers_go_on_by_time() {
        let mut bins = EventBins::new(WIDTH_S, 0.002, 1);
        let before = play(&mut bins, &[(0.005, 0.0), (0.03, 0.0)], 0.1);
        assert!(!before.is_empty() && before.len() < 5);
        bins.interrupt();
        assert_eq!((bins.close(0.2 + AHEAD_S, &mut |_| {}), bins.closes_in_s(0.2 + AHEAD_S)), (None, None));
        for (stamp_s, arrival_s) in [(0.311, 0.311), (0.325, 0.325)] {
            bins.push(stamp_s, 0.0, arrival_s + AHEAD_S);
        }
        let mut counts = Vec::new();
        let closed = bins.close(0.343 + AHEAD_S, &mut |found| counts = found.to_vec()).unwrap();
        // 0.32 to 0.34: bin 15, as bin 0 begins at 0.02.
        assert_eq!((closed.index, counts), (15, vec![1.0]));
    }

    #[test]
    fn a_clock_that_jumps_does_not_flood() {
        for jump_s in [3600.0, -3600.0] {
            let mut bins = EventBins::new(WIDTH_S, 0.002, 1);
            let mut made = 0;
            for number in 0..200u32 {
                let here_s = f64::from(number) * 0.01;
                bins.push(here_s + if number < 100 { 0.0 } else { jump_s }, 0.0, here_s);
                while bins.close(here_s, &mut |_| {}).is_some() {
                    made += 1;
                }
            }
            assert!((95..=100).contains(&made), "{jump_s}: {made}");
        }
    }

    proptest! {
        #[test]
        fn every_spike_in_time_is_in_exactly_one_bin(gaps in proptest::collection::vec(0.0..0.1f64, 1..200)) {
            let mut at_s = 0.0;
            let mut spike = |gap: &f64| {
                at_s += gap;
                (at_s, 0.0)
            };
            let spikes: Vec<(f64, f32)> = gaps.iter().map(&mut spike).collect();
            let mut bins = EventBins::new(WIDTH_S, 0.002, 1);
            let made = play(&mut bins, &spikes, at_s + 0.2);
            let begin_s = ((spikes[0].0 / WIDTH_S).floor() + 1.0) * WIDTH_S;
            let whole = spikes.iter().filter(|spike| spike.0 >= begin_s + 1e-9).count();
            let counted: f32 = made.iter().map(|made| made.2[0]).sum();
            prop_assert_eq!(bins.refused(), (0, 0));
            prop_assert!((counted - whole as f32).abs() <= 1.0, "{} of {}", counted, whole);
            prop_assert!(made.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1));
        }
    }
}
