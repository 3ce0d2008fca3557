//! The decoder's contract on a scripted engine: order, gaps, duplicates, restarts, warm-up, finite numbers.

use ndt_daemon::decoder::Decoder;
use ndt_daemon::engine::native::Native;
use ndt_daemon::engine::{Engine, Input, Output, StepFailed};
use ndt_daemon::input::Intake;
use ndt_daemon::input::deadline::TimeLimits;
use ndt_protocol::bin::Due;
use ndt_protocol::bundle::manifest::Architecture;
use ndt_protocol::{Bin, Bundle, CountRange, Estimate, Quality, Reasons};
use ndt_tests::{Positions, Shape, weights_only};
use std::sync::{Arc, Mutex};

const SHAPE: Shape = Shape {
    channels: 3,
    units: 4,
    dims: 2,
    architecture: Architecture {
        width: 8,
        layers: 2,
        heads: 2,
        feedforward: 12,
        window_bins: 4,
        positions: Positions::LagBias,
    },
};

const DEADLINE_NS: u64 = 20_000_000;
const LIMITS: TimeLimits = TimeLimits { deadline_ns: DEADLINE_NS, max_age_ns: 2 * DEADLINE_NS };

/// Writes down what it is asked, and answers with the number of bins since the last reset;
/// a count of 9 makes it answer NaN, a count of 8 makes it fail.
#[derive(Clone, Default)]
struct Script {
    seen: usize,
    log: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn take(&mut self, how: &str, input: Input) {
        self.seen += 1;
        let what = if input.missing { "missing".to_owned() } else { format!("{}", input.counts[0]) };
        self.log.lock().unwrap().push(format!("{how}{what}"));
    }
}

impl Engine for Script {
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed> {
        self.take("", input);
        if !input.missing && input.counts[0] == 8.0 {
            return Err(StepFailed);
        }
        let value = if !input.missing && input.counts[0] == 9.0 { f32::NAN } else { self.seen as f32 };
        output.log_rates.fill(value);
        output.velocity.fill(value);
        Ok(())
    }

    fn observe(&mut self, input: Input) -> Result<(), StepFailed> {
        self.take("observe ", input);
        Ok(())
    }

    fn reset(&mut self) {
        self.seen = 0;
        self.log.lock().unwrap().push("reset".to_owned());
    }
}

struct Bench {
    decoder: Decoder,
    log: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new() -> Bench {
        Bench::masked(&[])
    }

    fn masked(channel_ids: &[i64]) -> Bench {
        let script = Script::default();
        let log = script.log.clone();
        let bundle: Bundle = weights_only(SHAPE, 1);
        let decoder = Decoder::new(&bundle, Box::new(script), channel_ids, LIMITS);
        log.lock().unwrap().clear();
        Bench { decoder, log }
    }

    fn decode(&mut self, bin: &Bin) -> Vec<Estimate> {
        let mut estimates = Vec::new();
        self.decoder.decode(bin, 0, bin.arrival_ns, &mut |estimate| estimates.push(estimate.clone()));
        estimates
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

fn bin(seq: u64, count: f32) -> Bin {
    let mut bin = Bin::empty();
    bin.fill([count, 0.0, 1.0].into_iter(), CountRange::new(50, 20.0));
    bin.seq = seq;
    bin.stream = 1;
    bin.source_ns = 20_000_000 * (seq as i64 + 1);
    bin.arrival_ns = 1_000 + seq;
    bin
}

fn told(estimates: &[Estimate]) -> Vec<(u64, Quality, Vec<&'static str>)> {
    estimates.iter().map(|e| (e.seq, e.quality, e.reasons.names().collect())).collect()
}

#[test]
fn warm_up_ends_with_the_history_that_the_bundle_asks_for() {
    let mut bench = Bench::new();
    let all: Vec<Estimate> = (0..6).flat_map(|seq| bench.decode(&bin(seq, 0.0))).collect();
    let qualities: Vec<Quality> = all.iter().map(|estimate| estimate.quality).collect();
    assert_eq!(qualities[..4], [Quality::Warmup; 4]);
    assert_eq!(qualities[4..], [Quality::Good; 2]);
    assert!(all[0].reasons.contains(Reasons::SHORT_HISTORY) && all[5].reasons == Reasons(0));
    assert_eq!(all[5].velocity(), [6.0, 6.0]);
    assert!((all[5].rates()[0] - 6.0f32.exp()).abs() < 1e-3);
    // The velocity is for the bin's centre: half a bin before its end.
    assert_eq!(all[5].velocity_for_ns, all[5].source_ns - 10_000_000);
}

#[test]
fn missing_bins_enter_as_missing_and_are_answered_in_order() {
    let mut bench = Bench::new();
    bench.decode(&bin(0, 1.0));
    let estimates = bench.decode(&bin(3, 2.0));
    assert_eq!(
        told(&estimates),
        [
            (1, Quality::Gap, vec!["short-history", "missing-bin"]),
            (2, Quality::Gap, vec!["short-history", "missing-bin"]),
            (3, Quality::Warmup, vec!["short-history"]),
        ]
    );
    assert_eq!(bench.asked(), ["1", "missing", "missing", "2"]);
    assert_eq!(
        estimates.iter().map(|e| e.source_ns).collect::<Vec<_>>(),
        [40_000_000, 60_000_000, 80_000_000]
    );
}

#[test]
fn a_gap_beyond_the_limit_resets_and_warms_up() {
    let mut bench = Bench::new();
    for seq in 0..6 {
        bench.decode(&bin(seq, 1.0));
    }
    bench.asked();
    let estimates = bench.decode(&bin(6 + 11, 2.0));
    assert_eq!(told(&estimates), [(17, Quality::Warmup, vec!["short-history", "long-gap"])]);
    assert_eq!(bench.asked(), ["reset", "2"]);
    assert_eq!(bench.decoder.counters().unbridged, 11);
    assert_eq!(bench.decode(&bin(17 + 11, 2.0)).len(), 11, "a gap of the limit itself is bridged");
}

#[test]
fn nothing_of_a_source_that_has_not_described_its_channels_is_called_usable() {
    let mut bench = Bench::new();
    let undescribed = |seq| {
        let mut bin = bin(seq, 1.0);
        bin.undescribed = true;
        bin
    };
    (0..6).for_each(|seq| drop(bench.decode(&undescribed(seq))));
    let estimates = bench.decode(&undescribed(8));
    let expected = [
        (6, Quality::Fault, vec!["missing-bin", "undescribed"]),
        (7, Quality::Fault, vec!["missing-bin", "undescribed"]),
        (8, Quality::Fault, vec!["undescribed"]),
    ];
    assert_eq!(told(&estimates), expected);
    // The bins were those of the model after all: their history counts.
    assert_eq!(told(&bench.decode(&bin(9, 1.0))), [(9, Quality::Good, vec![])]);
    assert_eq!(bench.decoder.counters().undescribed, 7);
}

#[test]
fn bins_that_come_twice_and_bins_out_of_order_are_dropped_and_counted_apart() {
    let mut bench = Bench::new();
    bench.decode(&bin(5, 1.0));
    bench.asked();
    for (seq, duplicates, reordered) in [(5, 1, 0), (2, 1, 1), (2, 2, 1)] {
        assert!(bench.decode(&bin(seq, 1.0)).is_empty());
        let counters = bench.decoder.counters();
        assert_eq!((counters.duplicates, counters.reordered), (duplicates, reordered), "bin {seq}");
    }
    assert!(bench.asked().is_empty());
    // 8 comes after 9, when it has been taken as missing.
    for seq in [6, 7, 9, 8, 7, 10] {
        bench.decode(&bin(seq, 1.0));
    }
    let counters = bench.decoder.counters();
    assert_eq!((counters.duplicates, counters.reordered), (3, 2));
}

#[test]
fn a_segment_start_and_a_new_stream_forget_what_was_before() {
    let mut bench = Bench::new();
    bench.decode(&bin(0, 1.0));
    let mut start = bin(1, 2.0);
    start.segment_start = true;
    assert_eq!(told(&bench.decode(&start)), [(1, Quality::Warmup, vec!["segment-start", "short-history"])]);
    let mut restarted = bin(0, 3.0);
    restarted.stream = 2;
    assert_eq!(
        told(&bench.decode(&restarted)),
        [(0, Quality::Warmup, vec!["short-history", "source-restart"])]
    );
    assert_eq!(bench.asked(), ["1", "reset", "2", "reset", "3"]);
    assert_eq!(bench.decoder.counters().restarts, 1);
}

#[test]
fn what_is_not_finite_never_leaves_and_spoils_nothing() {
    let mut bench = Bench::new();
    for seq in 0..5 {
        bench.decode(&bin(seq, 1.0));
    }
    bench.asked();
    for (seq, count, reason) in [(5, 9.0, "not-finite"), (6, 8.0, "engine-failed")] {
        let estimates = bench.decode(&bin(seq, count));
        assert_eq!(told(&estimates), [(seq, Quality::Fault, vec![reason])]);
        assert_eq!(estimates[0].velocity(), [5.0, 5.0], "the last finite values, flagged");
        assert!(estimates[0].rates().iter().all(|rate| rate.is_finite()));
        assert_eq!(bench.asked(), [format!("{count}"), "reset".to_owned()]);
    }
    assert_eq!(told(&bench.decode(&bin(7, 1.0))), [(7, Quality::Warmup, vec!["short-history"])]);
}

#[test]
fn invalid_channels_are_silent_and_told() {
    let mut bench = Bench::new();
    let mut bad = bin(0, f32::NAN);
    assert_eq!(told(&bench.decode(&bad))[0].2, ["short-history", "invalid-channels"]);
    bad = bin(1, 0.0);
    bad.fill([f32::NAN; 3].into_iter(), CountRange::new(50, 20.0));
    assert_eq!(told(&bench.decode(&bad))[0].1, Quality::Gap, "a bin without any count is a missing bin");
    assert_eq!(bench.asked(), ["0", "missing"]);
}

#[test]
fn a_value_that_no_spike_count_can_be_makes_its_bin_a_fault_and_spoils_no_other() {
    let mut bench = Bench::new();
    (0..5).for_each(|seq| drop(bench.decode(&bin(seq, 1.0))));
    let of_bytes = |seq, bytes| {
        let mut bin = bin(seq, 0.0);
        bin.fill([f32::from_le_bytes(bytes), 0.0, 1.0].into_iter(), CountRange::new(50, 20.0));
        bin
    };
    let wrong = [2i32.to_le_bytes(), 2f32.to_be_bytes(), (-1f32).to_le_bytes(), 1e9f32.to_le_bytes()];
    for (seq, bytes) in (5..).zip(wrong) {
        let expected = [(seq, Quality::Fault, vec!["invalid-channels", "implausible-counts"])];
        assert_eq!(told(&bench.decode(&of_bytes(seq, bytes))), expected, "{bytes:?}");
    }
    // More than the bundle accepts, and not more than an electrode can give: the channel has no count.
    let high = 90f32.to_le_bytes();
    assert_eq!(told(&bench.decode(&of_bytes(9, high))), [(9, Quality::Good, vec!["invalid-channels"])]);
    let mut all = bin(10, 0.0);
    all.fill([-1.0; 3].into_iter(), CountRange::new(50, 20.0));
    let expected = [(10, Quality::Fault, vec!["invalid-channels", "implausible-counts"])];
    assert_eq!(told(&bench.decode(&all)), expected);
    assert_eq!(told(&bench.decode(&bin(11, 1.0))), [(11, Quality::Good, vec![])]);
    assert_eq!(bench.decoder.counters().implausible, 5);
    // What a masked channel carries matters to nobody.
    let mut masked = Bench::masked(&[0]);
    assert_eq!(told(&masked.decode(&of_bytes(0, wrong[0])))[0].1, Quality::Warmup);
    assert_eq!(masked.decoder.counters().implausible, 0);
}

#[test]
fn a_bin_of_too_few_channels_is_a_fault_that_enters_the_state() {
    let of = |seq, counts: [f32; 3]| {
        let mut bin = bin(seq, 0.0);
        bin.fill(counts.into_iter(), CountRange::new(50, 20.0));
        bin
    };
    let none = f32::NAN;
    // Of three channels, one may be masked or have no count: NaN, too high, or no count at all.
    let mut bench = Bench::new();
    bench.decoder = bench.decoder.limiting_masked(0.5);
    (0..5).for_each(|seq| drop(bench.decode(&of(seq, [1.0, 0.0, 1.0]))));
    bench.asked();
    let good = (Quality::Good, vec!["invalid-channels"]);
    let fault = (Quality::Fault, vec!["invalid-channels", "too-few-channels"]);
    for (seq, counts, expected) in [
        (5, [1.0, none, 1.0], &good),
        (6, [2.0, none, none], &fault),
        (7, [3.0, none, 51.0], &fault),
        (8, [4.0, 60.0, 1.0], &good),
        (9, [none, 5.0, none], &fault),
    ] {
        let found = told(&bench.decode(&of(seq, counts)));
        assert_eq!(found, [(seq, expected.0, expected.1.clone())], "{counts:?}");
    }
    assert_eq!(bench.asked(), ["1", "2", "3", "4", "0"], "all of them enter the state");
    assert_eq!(told(&bench.decode(&of(10, [1.0; 3]))), [(10, Quality::Good, vec![])]);
    assert_eq!(bench.decoder.counters().too_few_channels, 3);
    // The channels that the configuration masks count, and one that is both counts once.
    let mut masked = Bench::masked(&[0]);
    masked.decoder = masked.decoder.limiting_masked(0.5);
    let quality = |bench: &mut Bench, seq, counts| bench.decode(&of(seq, counts))[0].quality;
    assert_eq!(quality(&mut masked, 0, [none, 1.0, 1.0]), Quality::Warmup);
    assert_eq!(quality(&mut masked, 1, [1.0, none, 1.0]), Quality::Fault);
    // No channel at all may lack its count, or all but one.
    for (share, expected) in [(0.0, Quality::Fault), (1.0, Quality::Warmup)] {
        let mut bench = Bench::new();
        bench.decoder = bench.decoder.limiting_masked(share);
        assert_eq!(quality(&mut bench, 0, [1.0; 3]), Quality::Warmup);
        assert_eq!(quality(&mut bench, 1, [none, 1.0, none]), expected, "{share}");
    }
}

#[test]
fn a_second_without_a_spike_is_flagged_where_the_bundle_expects_spikes() {
    let mut bundle = weights_only(SHAPE, 1);
    bundle.golden.insert("counts".to_owned(), (vec![2, 3], vec![1.0, 0.0, 0.0, 9.0, 9.0, 9.0]));
    bundle.golden.insert("missing".to_owned(), (vec![2], vec![0.0, 1.0]));
    let mut decoder = Decoder::new(&bundle, Box::new(Script::default()), &[], LIMITS);
    let mut flagged = Vec::new();
    for seq in 0..200 {
        let mut bin = bin(seq, 0.0);
        // One spike in bin 100; a missing bin neither ends a silence nor counts.
        bin.fill([0.0, f32::from(seq == 100), 0.0].into_iter(), CountRange::new(50, 20.0));
        if seq % 10 == 5 {
            continue;
        }
        decoder.decode(&bin, 0, bin.arrival_ns, &mut |estimate| {
            let is_computed = matches!(estimate.quality, Quality::Good | Quality::Warmup | Quality::Gap);
            assert!(is_computed, "zeros are legal: {estimate:?}");
            flagged.extend(estimate.reasons.contains(Reasons::NO_SPIKES).then_some(estimate.seq));
        });
    }
    // Fifty bins of 20 ms, and as many spikes that were expected.
    let expected: Vec<u64> = (54..100).chain(156..200).filter(|seq| seq % 10 != 5).collect();
    assert_eq!(flagged, expected);
    assert_eq!(decoder.counters().no_spikes, expected.len() as u64);
}

#[test]
fn a_masked_channel_is_silent_and_no_fault_of_the_bin() {
    let mut bench = Bench::masked(&[0]);
    assert_eq!(told(&bench.decode(&bin(0, 7.0)))[0].2, ["short-history"]);
    assert_eq!(bench.asked(), ["0"]);
}

#[test]
fn a_bin_that_is_too_late_enters_the_state_alone_while_newer_ones_wait() {
    let mut bench = Bench::new();
    let mut decode = |seq, waiting, late_ns| {
        let mut given = Vec::new();
        let bin = bin(seq, 1.0);
        let now_ns = bin.arrival_ns + DEADLINE_NS + late_ns;
        bench
            .decoder
            .decode(&bin, waiting, now_ns, &mut |estimate| given.push((estimate.seq, estimate.lag_bins)));
        given
    };
    assert_eq!(decode(0, 2, 1), []);
    assert_eq!(decode(3, 1, 1), [], "nor do the bins missing before it");
    assert_eq!(decode(4, 1, 0), [(4, 1)], "in time");
    assert_eq!(decode(5, 0, 1), [(5, 0)], "the newest");
    assert_eq!(bench.asked(), ["observe 1", "observe missing", "observe missing", "observe 1", "1", "1"]);
    assert_eq!(bench.decoder.counters().observed, 4);
}

#[test]
fn a_bin_that_is_too_old_enters_the_state_alone_even_if_none_waits_behind_it() {
    let mut bench = Bench::new();
    let mut decode = |seq, due, age_ns| {
        let mut given = Vec::new();
        let mut bin = bin(seq, 1.0);
        bin.due = due;
        let now_ns = bin.arrival_ns + age_ns;
        bench
            .decoder
            .decode(&bin, 0, now_ns, &mut |estimate| given.push((estimate.seq, estimate.age().is_some())));
        given
    };
    let due = |seq: u64| Due::At(1_000 + seq);
    assert_eq!(decode(0, due(0), 40_000_000), [(0, true)], "as old as it may be");
    assert_eq!(decode(1, due(1), 40_000_001), []);
    assert_eq!(decode(3, Due::Before, 0), [], "nor the bin missing before it");
    assert_eq!(decode(4, Due::Unknown, u64::MAX / 2), [(4, false)], "of no age");
    assert_eq!(bench.asked(), ["1", "observe 1", "observe missing", "observe 1", "1"]);
}

#[test]
fn the_sources_clock_is_told_beside_its_time_and_its_jumps_are_flagged() {
    let mut bench = Bench::new();
    let mut intake = Intake::new(20_000_000);
    let mut last = None;
    for seq in 0..40 {
        let mut bin = bin(seq, 1.0);
        bin.source_ns += if seq >= 20 { 5_000_000_000 } else { 0 };
        bin.arrival_ns = 20_000_000 * (seq + 1) + 300_000;
        intake.take(&mut bin).unwrap();
        let estimate = bench.decode(&bin).remove(0);
        assert_eq!(estimate.reasons.contains(Reasons::CLOCK_JUMP), seq == 20, "{seq}");
        assert_eq!(estimate.source_ns, bin.source_ns, "the source's own time, never mended");
        last = Some(estimate);
    }
    let last = last.unwrap();
    assert_eq!((last.clock_offset_ns, last.clock_uncertainty_ns), (300_000 - 5_000_000_000, 0));
    assert_eq!(bench.decoder.counters().clock_jumps, 1);
}

#[test]
fn one_estimate_for_each_bin_on_a_real_engine_and_equal_from_run_to_run() {
    let bundle = weights_only(SHAPE, 7);
    let run = || {
        let mut decoder = Decoder::new(&bundle, Box::new(Native::new(&bundle)), &[], LIMITS);
        let mut estimates = Vec::new();
        let counts = ndt_tests::random_counts(200, 3, 9);
        for (seq, counts) in counts.chunks(3).enumerate().filter(|(seq, _)| seq % 17 != 3) {
            let mut bin = bin(seq as u64, 0.0);
            bin.fill(counts.iter().copied(), CountRange::new(50, 20.0));
            decoder.decode(&bin, 0, 0, &mut |estimate| estimates.push(estimate.clone()));
        }
        estimates
    };
    let (first, second) = (run(), run());
    assert_eq!(first.iter().map(|e| e.seq).collect::<Vec<_>>(), (0..200).collect::<Vec<u64>>());
    assert!(first.iter().all(|e| (e.quality == Quality::Gap) == (e.seq % 17 == 3)));
    let bits = |estimates: &[Estimate]| -> Vec<u32> {
        estimates
            .iter()
            .flat_map(|e| e.rates().iter().chain(e.velocity()).map(|v| v.to_bits()).collect::<Vec<_>>())
            .collect()
    };
    assert_eq!(bits(&first), bits(&second));
}
