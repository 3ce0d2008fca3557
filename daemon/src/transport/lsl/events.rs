//! Counts single spikes into bins, by their time stamps on the sender's clock. Pure: time is an argument.
//!
//! Bins begin at whole multiples of their width on the sender's clock, so that two receivers make the same bins. The bin of the
//! first spike is incomplete and is left out. A bin is closed by the first spike after its end, or when a spike that was
//! sent at its end would have arrived. A spike that arrives after its bin was closed is late, and is in no bin.
//!
//! **A time stamp that is more than [`JUMP_S`] off the sender's clock is not used.** It is the sender's mistake, or the sender's clock
//! has jumped. For a tenth of a second no bin is closed then, because it would lack spikes. If they agree on the jump by that time, the
//! bins follow the new time.

use super::stamps::{JUMP_S, OffStamps, is_time};
use ndt_protocol::lsl::CLOCK_DRIFT_MAX as DRIFT;

/// Silence of all channels after which no bins are made, s. A lead that is off is then more likely than a silent brain, and the
/// guard answers as for any silent source.
const SILENCE_S: f64 = 1.0;

/// Mean rate of a channel for which a buffer of spikes has room, spikes/s: no population fires faster for as long as a buffer holds.
const RATE_HZ: f64 = 100.0;

/// Most spikes that a buffer has room for, about 60 MB.
const BUFFER_SPIKES_MAX: usize = 1 << 20;

/// Returns the number of spikes that a buffer of `bins` bins has room for: those of all channels at 100 spikes/s, and 100 in a bin at
/// least, so that few channels may burst.
pub fn buffer_spikes(channels: usize, width_s: f64, bins: usize) -> usize {
    let in_bin = (channels as f64 * width_s * RATE_HZ).ceil() as usize;
    in_bin.max(100).saturating_mul(bins).min(BUFFER_SPIKES_MAX)
}

/// Spikes that are in no bin, each since the stream was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lost {
    /// Spikes that came after their bin was closed.
    pub late: u64,
    /// Spikes of a channel that the model does not have.
    pub unknown: u64,
    /// Spikes whose time stamp is off the sender's clock, or no time.
    pub off: u64,
}

/// Counts spikes into bins. Owned by the source thread.
#[derive(Debug, Clone)]
pub struct EventBins {
    width_s: f64,
    wait_s: f64,
    counts: Vec<f32>,
    open: Option<Open>,
    /// Whether spikes were lost on the way: the bin of the next spike is then incomplete.
    is_interrupted: bool,
    /// Time stamp and channel of a spike after the end of the open bin.
    ahead: Option<(f64, usize)>,
    off: OffStamps,
    lost: Lost,
}

/// The bin that is being filled.
#[derive(Debug, Clone, Copy)]
struct Open {
    /// Start of bin 0 on the sender's clock, in bin widths.
    origin: i64,
    /// Number of the open bin.
    index: u64,
    /// Number of the first complete bin.
    first: u64,
    /// Smallest arrival minus time stamp: offset of the clocks plus the fastest transport, s.
    delay_s: f64,
    /// Arrival of the last spike, s by our clock.
    last_s: f64,
}

/// A bin that is complete.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Closed {
    /// Number of the bin, from 0.
    pub index: u64,
    /// End of the bin by the sender's clock, s.
    pub end_s: f64,
}

impl EventBins {
    /// Makes bins of `width_s` seconds for `channels` channels. A bin stays open for `wait_s` seconds after its end.
    pub fn new(width_s: f64, wait_s: f64, channels: usize) -> EventBins {
        let counts = vec![0.0; channels];
        EventBins {
            width_s,
            wait_s,
            counts,
            open: None,
            is_interrupted: false,
            ahead: None,
            off: OffStamps::default(),
            lost: Lost::default(),
        }
    }

    /// Returns the number of spikes that are in no bin.
    pub fn lost(&self) -> Lost {
        self.lost
    }

    /// Counts of the open bin so far, one for each channel.
    pub fn counts(&self) -> &[f32] {
        &self.counts
    }

    /// Notes that spikes were lost on the way: the connection was, or a buffer was full. No bins are made until the next spike, whose
    /// bin is left out, because it is incomplete.
    pub fn interrupt(&mut self) {
        self.is_interrupted = true;
        self.ahead = None;
    }

    /// Counts a spike with time stamp `stamp_s` by the sender's clock and arrival `arrival_s` by ours. The caller then calls
    /// [`EventBins::close`] until it returns `None`.
    ///
    /// Runs on the source thread, once a spike. Neither this nor any other method here allocates or reads a clock.
    pub fn push(&mut self, stamp_s: f64, channel: f32, arrival_s: f64) {
        let is_channel = channel >= 0.0 && channel.fract() == 0.0 && (channel as usize) < self.counts.len();
        if !is_channel {
            self.lost.unknown += 1;
            return;
        }
        if !is_time(stamp_s) {
            self.off.is_jump(f64::NAN, arrival_s);
            self.lost.off += 1;
            return;
        }
        let channel = channel as usize;
        let (delay_s, number) = (arrival_s - stamp_s, (stamp_s / self.width_s).floor() as i64);
        let Some(open) = &mut self.open else {
            self.open = Some(Open { origin: number + 1, index: 0, first: 0, delay_s, last_s: arrival_s });
            return;
        };
        let passed_s = (arrival_s - open.last_s).max(0.0);
        let begin_s = (open.origin + open.index as i64) as f64 * self.width_s;
        let is_off = stamp_s < begin_s - JUMP_S || delay_s < open.delay_s - passed_s * DRIFT - JUMP_S;
        if is_off && !self.off.is_jump(delay_s, arrival_s) {
            self.lost.off += 1;
            return;
        }
        if is_off {
            // The open bin is dropped. The first complete bin on the new time gets the next number.
            let index = open.index + 1 + (passed_s / self.width_s) as u64;
            let origin = number.saturating_add(1).saturating_sub(index as i64);
            *open = Open { origin, index, first: index, delay_s, last_s: arrival_s };
            (self.is_interrupted, self.ahead) = (false, None);
            self.counts.fill(0.0);
            return;
        }
        self.off.clear();
        if std::mem::take(&mut self.is_interrupted) {
            open.index = open.index.max(u64::try_from(number + 1 - open.origin).unwrap_or(0));
            (open.first, open.delay_s, open.last_s) = (open.index, delay_s, arrival_s);
            self.counts.fill(0.0);
            return;
        }
        let was_silent = passed_s > SILENCE_S;
        open.delay_s = delay_s.min(open.delay_s + passed_s * DRIFT);
        open.last_s = arrival_s;
        let index = number.saturating_sub(open.origin);
        if index < open.index as i64 {
            // Bins before the first complete one were never made, so that no spike is late for them.
            self.lost.late += u64::from(index >= open.first as i64);
        } else if index as u64 == open.index {
            self.counts[channel] += 1.0;
        } else if was_silent {
            // No bins were made during the silence.
            open.index = index as u64;
            self.counts.fill(0.0);
            self.counts[channel] = 1.0;
        } else {
            self.ahead = Some((stamp_s, channel));
        }
    }

    /// Closes the open bin if it is complete at `now_s` by our clock, and calls `take` with its counts.
    pub fn close(&mut self, now_s: f64, take: &mut dyn FnMut(&[f32])) -> Option<Closed> {
        if self.off.undecided_until_s().is_some_and(|until_s| now_s < until_s) {
            return None;
        }
        let open = self.open.as_mut().filter(|_| !self.is_interrupted)?;
        let end_s = (open.origin + open.index as i64 + 1) as f64 * self.width_s;
        let is_passed = self.ahead.is_some_and(|(stamp_s, _)| stamp_s >= end_s);
        if !is_passed && (now_s < end_s + open.delay_s + self.wait_s || now_s > open.last_s + SILENCE_S) {
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

    /// Seconds until the open bin is complete if no spike comes. `None` if it would not be complete without a spike.
    pub fn closes_in_s(&self, now_s: f64) -> Option<f64> {
        let open = self.open.filter(|_| !self.is_interrupted)?;
        let end_s = (open.origin + open.index as i64 + 1) as f64 * self.width_s;
        let decided_s = self.off.undecided_until_s().unwrap_or(now_s);
        if self.ahead.is_some_and(|(stamp_s, _)| stamp_s >= end_s) {
            return Some((decided_s - now_s).max(0.0));
        }
        let at_s = (end_s + open.delay_s + self.wait_s).max(decided_s);
        (now_s.max(at_s) <= open.last_s + SILENCE_S).then_some((at_s - now_s).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDTH_S: f64 = 0.02;
    /// How far our clock is ahead, plus the millisecond that a spike takes.
    const AHEAD_S: f64 = 500.001;

    /// Plays spikes (stamp, channel), closing complete bins every millisecond until `until_s`.
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
        assert_eq!(bins.lost(), Lost { late: 1, unknown: 4, off: 0 });
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

    /// Counts of 200 spikes of channel 0, one in 10 ms, whose stamps are `stamp` of their time; closes bins as they are complete.
    fn counted(bins: &mut EventBins, stamp: impl Fn(u32, f64) -> f64) -> Vec<(u64, f32)> {
        let mut made = Vec::new();
        for number in 0..200u32 {
            let here_s = f64::from(number) * 0.01 + 0.001;
            bins.push(stamp(number, here_s), 0.0, here_s + AHEAD_S);
            let mut count = 0.0;
            while let Some(closed) = bins.close(here_s + AHEAD_S, &mut |counts| count = counts[0]) {
                made.push((closed.index, count));
            }
        }
        made
    }

    #[test]
    fn a_clock_that_jumps_is_followed_without_a_bin_that_lacks_spikes() {
        for jump_s in [3600.0, -3600.0] {
            let mut bins = EventBins::new(WIDTH_S, 0.002, 1);
            let made = counted(&mut bins, |number, here_s| here_s + if number < 100 { 0.0 } else { jump_s });
            // 50 ms until the jump is believed, and the bins in which it begins and ends.
            assert!((92..=96).contains(&made.len()), "{jump_s}: {}", made.len());
            assert!(made.iter().all(|(_, count)| *count == 2.0), "{jump_s}: {made:?}");
            assert!(made.windows(2).all(|pair| pair[1].0 > pair[0].0));
            assert!((96..=98).contains(&made.last().unwrap().0), "numbers go on by the time that passed");
            assert!((5..=6).contains(&bins.lost().off));
        }
    }

    #[test]
    fn one_absurd_stamp_costs_its_spike_and_nothing_else() {
        let unix_ns = 1.8e18;
        for absurd_s in
            [unix_ns, 1e18, -1e18, 1e300, -1e300, f64::NAN, f64::INFINITY, 1.7e9, -5.0, 3600.0, 1e11, -1e11]
        {
            let mut bins = EventBins::new(WIDTH_S, 0.002, 1);
            let made = counted(&mut bins, |number, here_s| if number == 100 { absurd_s } else { here_s });
            // Bins 0 to 97, two spikes in each but one.
            assert!(made.iter().enumerate().all(|(at, made)| made.0 == at as u64), "{absurd_s}: {made:?}");
            let total: f32 = made.iter().map(|made| made.1).sum();
            assert_eq!((made.len(), total), (98, 195.0), "{absurd_s}: {made:?}");
            assert_eq!(bins.lost(), Lost { off: 1, ..Lost::default() }, "{absurd_s}");
            // The first of all is no different, as far as it is a time.
            let mut bins = EventBins::new(WIDTH_S, 0.002, 1);
            let made = counted(&mut bins, |number, here_s| if number == 0 { absurd_s } else { here_s });
            assert!(made.len() >= 90 && made.iter().all(|made| made.1 <= 2.0), "{absurd_s}: {made:?}");
        }
    }

    #[test]
    fn absurd_stamps_alone_are_silence_and_beside_a_stream_nothing() {
        let mut bins = EventBins::new(WIDTH_S, 0.002, 1);
        let made = counted(&mut bins, |number, here_s| if number == 0 { here_s } else { 1e18 });
        assert!(
            made.len() <= 50 && made.iter().all(|made| made.1 == 0.0),
            "those of a silent second: {made:?}"
        );
        // Each of its own, beside a stream that is right: the bins are those of the stream.
        let mut bins = EventBins::new(WIDTH_S, 0.002, 1);
        let made = counted(&mut bins, |number, here_s| match number % 2 {
            0 => here_s,
            _ => f64::from(number) * 1e6,
        });
        assert!(made.len() >= 97 && made.iter().all(|made| made.1 == 1.0), "{made:?}");
    }

    #[test]
    fn spikes_that_waited_on_the_way_are_no_jump() {
        // Nothing is read from 0.5 s to 2.5 s, then all of it at once.
        let mut bins = EventBins::new(WIDTH_S, 0.002, 1);
        let mut last = None;
        for number in 0..400u32 {
            let stamp_s = f64::from(number) * 0.01 + 0.001;
            let now_s = if (50..250).contains(&number) { 2.5 } else { stamp_s };
            let waited_ms = if number == 50 { 500..2500 } else { 0..0 };
            let mut close = |bins: &mut EventBins, now_s: f64| {
                while let Some(closed) = bins.close(now_s + AHEAD_S, &mut |_| {}) {
                    assert!(last.is_none_or(|last| closed.index > last), "{last:?} {closed:?}");
                    // Bin 0 begins at 0.02.
                    assert!((closed.end_s - (closed.index + 2) as f64 * WIDTH_S).abs() < 1e-9, "{closed:?}");
                    last = Some(closed.index);
                }
            };
            waited_ms.for_each(|now_ms| close(&mut bins, f64::from(now_ms) * 1e-3));
            bins.push(stamp_s, 0.0, now_s + AHEAD_S);
            close(&mut bins, now_s);
        }
        assert_eq!(last, Some(197));
    }

    #[test]
    fn a_buffer_has_room_for_every_channel() {
        assert_eq!(buffer_spikes(1, WIDTH_S, 16), 1600);
        assert_eq!(buffer_spikes(96, WIDTH_S, 16), 96 * 2 * 16);
        assert_eq!(buffer_spikes(4096, WIDTH_S, 16), 131_072);
        assert_eq!(buffer_spikes(4096, 10.0, 512), BUFFER_SPIKES_MAX);
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
            prop_assert_eq!(bins.lost(), Lost::default());
            prop_assert!((counted - whole as f32).abs() <= 1.0, "{} of {}", counted, whole);
            prop_assert!(made.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1));
        }
    }
}
