//! The guard's promises, case by case, on a clock that the test turns.

use ndt_daemon::guard::policy::{Fade, Policy, VelocityLimits};
use ndt_daemon::guard::{Guard, GuardSettings};
use ndt_daemon::input::Arrival;
use ndt_daemon::input::Velocity;
use ndt_daemon::input::deadline::TimeLimits;
use ndt_protocol::bin::{ClockOffset, Due};
use ndt_protocol::bundle::manifest::Architecture;
use ndt_protocol::{Estimate, Quality, Reasons};
use ndt_tests::{Positions, Shape, weights_only};

const SHAPE: Shape = Shape {
    channels: 2,
    units: 1,
    dims: 2,
    architecture: Architecture {
        width: 4,
        layers: 1,
        heads: 1,
        feedforward: 4,
        window_bins: 3,
        positions: Positions::LagBias,
    },
};

/// One bin is 20 ms; times in these tests are ms.
const MS: u64 = 1_000_000;
const SETTINGS: GuardSettings = GuardSettings {
    time: TimeLimits { deadline_ns: 20 * MS, max_age_ns: 40 * MS },
    stale_after_bins: 3,
    fade: Fade { policy: Policy::Hold, time_constant_bins: 2.5 },
    limits: VelocityLimits { speed_max: None, change_max: None },
};

/// What was published: when (ms), number, quality, x velocity.
type Published = (u64, u64, Quality, f32);

struct Bench {
    guard: Guard,
    now_ms: u64,
    published: Vec<Published>,
    last: Option<Estimate>,
}

/// A velocity in the place of the outputs.
fn outputs(velocity: [f32; 3]) -> Velocity {
    let mut outputs = Velocity::default();
    outputs[..3].copy_from_slice(&velocity);
    outputs
}

impl Bench {
    fn new(settings: GuardSettings) -> Bench {
        let guard = Guard::new(&weights_only(SHAPE, 1), settings);
        Bench { guard, now_ms: 0, published: Vec::new(), last: None }
    }

    /// Turns the clock to `now_ms`, waking the guard at each instant that it asks for.
    fn until(&mut self, now_ms: u64) {
        while let Some(wake_ns) = self.guard.wake_ns().filter(|wake_ns| *wake_ns <= now_ms * MS) {
            self.now_ms = self.now_ms.max(wake_ns / MS);
            let (at_ms, published, last) = (self.now_ms, &mut self.published, &mut self.last);
            self.guard.tick(wake_ns, &mut |estimate| take(at_ms, estimate, published, last));
        }
        self.now_ms = now_ms;
    }

    /// Bin `seq` comes now.
    fn arrive(&mut self, seq: u64) {
        self.arrive_of(1, seq);
    }

    fn arrive_of(&mut self, stream: u64, seq: u64) {
        self.arrive_with(stream, seq, None);
    }

    /// Bin `seq` comes now, and the fallback decoder says `velocity` of it, m/s along x.
    fn arrive_degraded(&mut self, seq: u64, velocity: f32) {
        self.arrive_with(1, seq, Some(outputs([velocity, 0.0, f32::NAN])));
    }

    fn arrive_with(&mut self, stream: u64, seq: u64, velocity: Option<Velocity>) {
        let (source_ns, arrival_ns) = (20 * MS as i64 * (seq as i64 + 1), self.now_ms * MS);
        self.guard.arrived(Arrival { seq, stream, source_ns, arrival_ns, velocity, ..Arrival::default() });
    }

    /// The result of bin `seq` comes now; its velocity is `seq + 1` m/s.
    fn result(&mut self, seq: u64) {
        self.result_of(1, seq, Quality::Good);
    }

    fn result_of(&mut self, stream: u64, seq: u64, quality: Quality) {
        let mut result = Estimate::zero(1, 2);
        (result.seq, result.stream, result.quality) = (seq, stream, quality);
        result.source_ns = 20 * MS as i64 * (seq as i64 + 1);
        result.velocity_mut().copy_from_slice(&[seq as f32 + 1.0, 0.0]);
        let (at_ms, published, last) = (self.now_ms, &mut self.published, &mut self.last);
        let now_ns = self.now_ms * MS;
        self.guard.decoded(&result, now_ns, &mut |estimate| take(at_ms, estimate, published, last));
    }

    /// Bin `seq` comes at its instant, and its result 1 ms later.
    fn bin(&mut self, seq: u64) {
        self.until(20 * (seq + 1));
        self.arrive(seq);
        self.until(20 * (seq + 1) + 1);
        self.result(seq);
    }

    fn published(&mut self) -> Vec<Published> {
        std::mem::take(&mut self.published)
    }

    fn reasons(&self) -> Vec<&'static str> {
        self.last.as_ref().map_or_else(Vec::new, |last| last.reasons.names().collect())
    }
}

fn take(at_ms: u64, estimate: &Estimate, published: &mut Vec<Published>, last: &mut Option<Estimate>) {
    published.push((at_ms, estimate.seq, estimate.quality, estimate.velocity()[0]));
    let mut estimate = estimate.clone();
    estimate.published_at(at_ms * MS);
    *last = Some(estimate);
}

use Quality::{Fault, Gap, Good, Late, Stale};

#[test]
fn nothing_is_said_before_the_first_bin_and_each_result_in_time_as_it_is() {
    let mut bench = Bench::new(SETTINGS);
    bench.until(10_000);
    assert_eq!((bench.published(), bench.guard.wake_ns()), (vec![], None));
    let mut bench = Bench::new(SETTINGS);
    (0..3).for_each(|seq| bench.bin(seq));
    assert_eq!(bench.published(), [(21, 0, Good, 1.0), (41, 1, Good, 2.0), (61, 2, Good, 3.0)]);
}

#[test]
fn a_bin_that_is_too_old_is_answered_at_once_and_its_result_is_not_published() {
    let mut bench = Bench::new(SETTINGS);
    (0..3).for_each(|seq| bench.bin(seq));
    // Bins 3 to 6 were due at 80, 100, 120 and 140 ms, and come at 141 ms.
    bench.now_ms = 141;
    let velocity = Some(outputs([0.5, 0.0, 0.0]));
    for seq in 3..7 {
        let (source_ns, due) = (20 * MS as i64 * (seq as i64 + 1), Due::At(20 * MS * (seq + 1)));
        let offset = Some(ClockOffset { offset_ns: 0, uncertainty_ns: 5 });
        let arrival_ns = bench.now_ms * MS;
        bench.guard.arrived(Arrival { seq, stream: 1, source_ns, arrival_ns, due, offset, velocity });
    }
    bench.published();
    // The decoder gives results for the two that are not too old, and one more by mistake.
    bench.result(4);
    assert_eq!(bench.published(), [(141, 3, Late, 0.5), (141, 4, Late, 0.5)]);
    assert_eq!(bench.reasons(), ["degraded", "old-bin"]);
    let last = bench.last.clone().unwrap();
    assert_eq!((last.age(), last.clock_uncertainty_ns, last.decoded_ns), (Some(41 * MS as i64), 5, 0));
    bench.result(5);
    assert_eq!(bench.published(), [(141, 5, Good, 6.0)]);
    // The newest has its deadline from when it was due.
    bench.until(160);
    assert_eq!(bench.published(), [(160, 6, Late, 0.5)]);
    assert_eq!(bench.reasons(), ["deadline-missed", "degraded"]);
}

#[test]
fn a_missed_deadline_is_answered_at_the_deadline_and_the_late_result_never() {
    let mut bench = Bench::new(SETTINGS);
    bench.bin(0);
    bench.until(40);
    bench.arrive(1);
    bench.until(60);
    bench.arrive(2);
    bench.until(65);
    bench.result(1);
    bench.result(2);
    assert_eq!(bench.published(), [(21, 0, Good, 1.0), (60, 1, Late, 1.0), (65, 2, Good, 3.0)]);
    assert_eq!(bench.guard.counters().late_results, 1);
}

#[test]
fn an_engine_that_hangs_delays_nothing() {
    let mut bench = Bench::new(SETTINGS);
    bench.bin(0);
    for seq in 1..6 {
        bench.until(20 * (seq + 1));
        bench.arrive(seq);
    }
    bench.until(140);
    let late: Vec<Published> = (1..6).map(|seq| (20 * (seq + 2), seq, Late, 1.0)).collect();
    assert_eq!(bench.published()[1..], late);
    assert_eq!(bench.reasons(), ["deadline-missed"]);
    bench.until(140);
    bench.arrive(6);
    (1..7).for_each(|seq| bench.result(seq));
    assert_eq!(bench.published(), [(140, 6, Good, 7.0)]);
}

#[test]
fn a_silent_source_is_answered_on_its_grid_and_is_followed_when_it_catches_up() {
    let mut bench = Bench::new(GuardSettings {
        fade: Fade { policy: Policy::Decay, time_constant_bins: 2.5 },
        ..SETTINGS
    });
    bench.bin(0);
    bench.until(290);
    let published = bench.published();
    // Silent for three periods at 80 ms: the two whose deadlines have passed are answered, then one each period.
    let at: Vec<(u64, u64)> = published.iter().map(|published| (published.0, published.1)).collect();
    let grid = (3..=12).map(|seq| (20 * (seq + 2), seq));
    assert!(at.into_iter().eq([(21, 0), (80, 1), (80, 2)].into_iter().chain(grid)));
    assert!(published[1..].iter().all(|published| published.2 == Stale));
    assert!(published.windows(2).all(|pair| pair[1].3 < pair[0].3 || pair[1].3 == 0.0));
    assert_eq!(
        (published[9].3 > 0.0, published[10].3),
        (true, 0.0),
        "zero after four time constants, ten bins"
    );
    assert_eq!(bench.reasons(), ["peer-silent"]);
    // All that was missed comes at once; the newest is bin 13.
    (1..=13).for_each(|seq| bench.arrive(seq));
    (1..=13).for_each(|seq| bench.result(seq));
    assert_eq!(bench.published(), [(290, 13, Good, 14.0)]);
    assert_eq!((bench.guard.counters().behind, bench.guard.counters().late_results), (12, 12));
    bench.bin(14);
    assert_eq!(bench.published(), [(301, 14, Good, 15.0)]);
}

#[test]
fn a_lost_connection_and_refused_messages_are_told_from_silence() {
    let mut bench = Bench::new(SETTINGS);
    bench.bin(0);
    bench.guard.silent_because(Reasons::PEER_GONE);
    bench.until(100);
    assert_eq!(bench.reasons(), ["peer-gone"]);
    bench.guard.silent_because(Reasons::REFUSED);
    bench.until(200);
    assert_eq!(bench.reasons(), ["refused"]);
    bench.arrive(9);
    bench.until(400);
    assert_eq!(bench.reasons(), ["peer-silent"]);
}

#[test]
fn a_source_that_was_paused_and_goes_on_where_it_stopped_is_followed() {
    let mut bench = Bench::new(SETTINGS);
    bench.bin(0);
    // Bin 1 comes 400 ms late, and so do all after it.
    for seq in 1..12 {
        bench.until(20 * (seq + 1) + 400);
        bench.arrive(seq);
        bench.result(seq);
    }
    let good: Vec<(u64, u64)> =
        bench.published().iter().filter(|published| published.2 == Good).map(|p| (p.0, p.1)).collect();
    assert_eq!(good[0], (21, 0));
    assert_eq!(good[1..], (4..12).map(|seq| (20 * (seq + 1) + 400, seq)).collect::<Vec<_>>());
    assert_eq!(bench.guard.counters().renumbered, 1);
    assert_eq!(bench.guard.counters().estimates[Stale as usize], 3 + 19);
}

#[test]
fn numbers_that_never_came_are_answered_before_the_next_that_did() {
    let mut bench = Bench::new(SETTINGS);
    bench.bin(0);
    bench.until(60);
    bench.arrive(2);
    bench.result_of(1, 1, Gap);
    bench.result(2);
    // A gap that the decoder did not bridge.
    bench.until(80);
    bench.arrive(9);
    bench.result(9);
    let numbers: Vec<(u64, Quality)> = bench.published().iter().map(|p| (p.1, p.2)).collect();
    let unbridged = (3..9).map(|seq| (seq, Gap));
    let expected = [(0, Good), (1, Gap), (2, Good)].into_iter().chain(unbridged).chain([(9, Good)]);
    assert!(numbers.into_iter().eq(expected));
    // Numbers that jump by more than can be periods are not made up.
    bench.until(100);
    bench.arrive(1_000_000);
    bench.result(1_000_000);
    assert_eq!(bench.published(), [(100, 1_000_000, Good, 1_000_001.0)]);
    assert_eq!((bench.guard.counters().skipped, bench.reasons()), (999_990, vec!["long-gap"]));
}

#[test]
fn a_new_stream_begins_after_the_old_one_is_answered() {
    let mut bench = Bench::new(SETTINGS);
    bench.bin(0);
    bench.until(40);
    bench.arrive(1);
    bench.arrive_of(2, 0);
    bench.until(45);
    bench.result_of(2, 0, Good);
    assert_eq!(bench.published()[1..], [(45, 1, Late, 1.0), (45, 0, Good, 1.0)]);
    bench.result(1);
    assert_eq!(bench.published(), [], "a late result of the old stream");
    // Or at its deadline, without a result of either.
    bench.until(60);
    bench.arrive_of(3, 7);
    bench.until(80);
    assert_eq!(bench.published(), [(80, 7, Late, 1.0)]);
    assert_eq!(bench.reasons(), ["source-restart", "deadline-missed"]);
}

#[test]
fn a_fault_is_published_with_the_policys_values() {
    let mut bench = Bench::new(GuardSettings {
        fade: Fade { policy: Policy::Zero, time_constant_bins: 1.0 },
        ..SETTINGS
    });
    bench.bin(4);
    bench.until(120);
    bench.arrive(5);
    bench.result_of(1, 5, Fault);
    assert_eq!(bench.published(), [(101, 4, Good, 5.0), (120, 5, Fault, 0.0)]);
}

#[test]
fn velocity_is_limited_in_size_and_change_and_it_is_said() {
    let limits = VelocityLimits { speed_max: Some(5.0), change_max: Some(2.5) };
    let mut bench = Bench::new(GuardSettings { limits, ..SETTINGS });
    [1, 2, 3, 9].into_iter().for_each(|seq| bench.bin(seq));
    let velocities: Vec<f32> = bench
        .published()
        .iter()
        .filter(|published| published.2 == Good)
        .map(|published| published.3)
        .collect();
    assert_eq!(velocities, [2.0, 3.0, 4.0, 5.0]);
    assert_eq!(bench.reasons(), ["velocity-limited"]);
}

#[test]
fn the_policys_answers_are_limited_too_and_a_new_stream_has_a_clock_of_its_own() {
    let limits = VelocityLimits { speed_max: None, change_max: Some(2.0) };
    let zero = Fade { policy: Policy::Zero, time_constant_bins: 1.0 };
    let mut bench = Bench::new(GuardSettings { limits, fade: zero, ..SETTINGS });
    (0..3).for_each(|seq| bench.bin(seq));
    bench.until(160);
    let velocities: Vec<f32> = bench.published().iter().map(|published| published.3).collect();
    assert_eq!(velocities, [1.0, 2.0, 3.0, 1.0, 0.0, 0.0, 0.0], "a stop that is no jump");
    bench.arrive_of(2, 0);
    bench.until(180);
    let last = bench.last.unwrap();
    assert_eq!((last.stream, last.quality, last.clock_uncertainty_ns), (2, Late, Estimate::CLOCK_UNKNOWN));
}

#[test]
fn a_source_that_sends_two_bins_at_once_is_followed_after_a_pause_too() {
    let mut bench = Bench::new(SETTINGS);
    bench.bin(0);
    for seq in 1..30 {
        // Bins 1 and 2 come with bin 2, and so on; all of them 400 ms late.
        bench.until(20 * (seq + seq % 2 + 1) + 400);
        bench.arrive(seq);
        bench.result(seq);
    }
    let published = bench.published();
    let good = published.iter().filter(|published| published.2 == Good).count();
    assert_eq!(bench.guard.counters().renumbered, 1);
    assert!(good > 20, "{published:?}");
}

#[test]
fn a_publish_thread_that_was_stopped_for_an_hour_does_not_answer_an_hour() {
    let mut bench = Bench::new(SETTINGS);
    bench.bin(0);
    let hour_ns = 3_600_000 * MS;
    let mut given = Vec::new();
    let mut first = Vec::new();
    bench.guard.tick(hour_ns, &mut |estimate| {
        if given.is_empty() {
            first = estimate.reasons.names().collect();
        }
        given.push((estimate.seq, estimate.quality));
    });
    assert_eq!(given.len(), ndt_protocol::limits::QUEUE_BINS);
    // Bin 179,999 is due at the hour and has a deadline to come.
    assert_eq!(given.last(), Some(&(179_998, Stale)));
    assert!(bench.guard.counters().skipped > 179_000);
    assert_eq!(first, ["long-gap", "peer-silent"], "the first after the jump says so");
}

#[test]
fn a_late_bin_and_a_fault_are_answered_with_the_fallback_decoders_velocity() {
    let zero = Fade { policy: Policy::Zero, time_constant_bins: 1.0 };
    let mut bench = Bench::new(GuardSettings { fade: zero, ..SETTINGS });
    bench.bin(0);
    bench.until(40);
    bench.arrive_degraded(1, 0.25);
    bench.until(60);
    assert_eq!(bench.published()[1..], [(60, 1, Late, 0.25)]);
    assert_eq!(bench.reasons(), ["deadline-missed", "degraded"]);
    assert_eq!(bench.last.as_ref().unwrap().decoded_ns, 0);
    bench.arrive_degraded(2, 0.5);
    bench.result_of(1, 2, Fault);
    assert_eq!((bench.published(), bench.reasons()), (vec![(60, 2, Fault, 0.5)], vec!["degraded"]));
    // A result is published as it is, whatever the other decoder says.
    bench.until(80);
    bench.arrive_degraded(3, 0.75);
    bench.result(3);
    assert_eq!((bench.published(), bench.reasons()), (vec![(80, 3, Good, 4.0)], vec![]));
    // Where it says nothing, and of bins that never came, the policy does.
    bench.until(100);
    bench.arrive(4);
    bench.result_of(1, 4, Fault);
    bench.until(150);
    bench.arrive_degraded(7, 0.75);
    bench.result_of(1, 5, Fault);
    bench.until(170);
    let expected = [(100, 4, Fault, 0.0), (150, 5, Fault, 0.0), (170, 6, Gap, 0.0), (170, 7, Late, 0.75)];
    assert_eq!(bench.published(), expected);
    bench.until(300);
    assert!(bench.published().iter().all(|published| (published.2, published.3) == (Stale, 0.0)));
    assert_eq!(bench.reasons(), ["peer-silent"]);
    // A stream that ends before its last bin has a result.
    bench.arrive_degraded(30, 0.125);
    bench.arrive_of(2, 0);
    bench.result_of(2, 0, Good);
    let published = bench.published();
    assert_eq!(published[published.len() - 2..], [(300, 30, Late, 0.125), (300, 0, Good, 1.0)]);
}

#[test]
fn the_policy_goes_on_from_the_fade_decoders_velocity() {
    let fade = Fade { policy: Policy::Decay, time_constant_bins: 2.5 };
    let mut bench = Bench::new(GuardSettings { fade, ..SETTINGS });
    bench.bin(4);
    bench.until(120);
    bench.arrive_degraded(5, -2.0);
    bench.until(140);
    bench.arrive_degraded(6, -3.0);
    bench.until(250);
    let published = bench.published();
    assert_eq!(published[..3], [(101, 4, Good, 5.0), (140, 5, Late, -2.0), (160, 6, Late, -3.0)]);
    for (bins, stale) in published[3..].iter().enumerate() {
        assert_eq!((stale.2, stale.3), (Stale, -3.0 * fade.factor(bins as u64 + 1)), "{published:?}");
    }
    assert!(published.len() > 5);
}

#[test]
fn the_fallback_decoders_velocity_is_limited_like_any_other() {
    let limits = VelocityLimits { speed_max: Some(5.0), change_max: Some(2.0) };
    let mut bench = Bench::new(GuardSettings { limits, ..SETTINGS });
    bench.bin(0);
    for (seq, velocity) in [(1, 9.0), (2, 9.0), (3, 9.0), (4, 4.5)] {
        bench.until(20 * (seq + 1));
        bench.arrive_degraded(seq, velocity);
    }
    bench.until(119);
    let velocities: Vec<f32> = bench.published().iter().map(|published| published.3).collect();
    assert_eq!(velocities, [1.0, 3.0, 5.0, 5.0], "as the first, then two changes to the highest speed");
    assert_eq!(bench.reasons(), ["deadline-missed", "velocity-limited", "degraded"]);
    // What is held is what was said.
    bench.until(181);
    assert_eq!(bench.published()[..2], [(120, 4, Late, 4.5), (160, 5, Stale, 4.5)]);
}

#[test]
fn a_paused_guard_answers_each_bin_on_time_with_zeros_and_moves_on_from_there() {
    let limits = VelocityLimits { speed_max: None, change_max: Some(2.0) };
    let mut bench = Bench::new(GuardSettings { limits, ..SETTINGS });
    assert_eq!(bench.guard.inhibit(false), None, "before the first bin");
    bench.bin(0);
    assert_eq!(bench.guard.inhibit(true), Some((1, 1)));
    bench.bin(1);
    assert_eq!(bench.reasons(), ["inhibited"]);
    // One is late, and then the source is silent.
    bench.until(60);
    bench.arrive(2);
    bench.until(80);
    assert_eq!(bench.reasons(), ["deadline-missed", "inhibited"]);
    bench.until(141);
    assert_eq!(bench.reasons(), ["peer-silent", "inhibited"]);
    let stale = [(41, 1), (80, 2), (120, 3), (120, 4), (140, 5)];
    let zeros = stale.map(|(at_ms, seq)| (at_ms, seq, Stale, 0.0));
    let published = bench.published();
    assert_eq!((published[0], &published[1..]), ((21, 0, Good, 1.0), &zeros[..]));
    let counters = bench.guard.counters();
    assert_eq!((counters.inhibited, counters.estimates[Stale as usize]), (5, 5));
    assert_eq!(bench.guard.inhibit(false), Some((1, 6)));
    bench.until(150);
    bench.arrive(6);
    bench.result(6);
    assert_eq!(bench.published(), [(150, 6, Good, 2.0)], "from zero, by the largest change");
}
