//! A second model beside the first in the decode loop, on a clock that the test turns: it takes over with its whole history, comes back,
//! and never costs the first one a bin.

use ndt_daemon::decoder::Decoder;
use ndt_daemon::engine::native::Native;
use ndt_daemon::guard::policy::{Fade, Policy, VelocityLimits};
use ndt_daemon::guard::{Guard, GuardSettings};
use ndt_daemon::input::Arrival;
use ndt_daemon::input::deadline::TimeLimits;
use ndt_daemon::pipeline::counters::Counters;
use ndt_daemon::pipeline::keep_warm::KeepWarm;
use ndt_daemon::pipeline::loops::DecodeLoop;
use ndt_daemon::pipeline::orders::{self, DecodeOrder, ModelOrder, Orders};
use ndt_daemon::pipeline::shadow::{Progress, Shadow, State};
use ndt_daemon::queue::{Queue, Receiver};
use ndt_protocol::{Bin, Bundle, CountRange, Estimate, Reasons};
use ndt_tests::{Positions, Shape, random_counts, weights_only};
use std::sync::Arc;

const CHANNELS: usize = 6;
const WIDTH_NS: u64 = 20_000_000;
/// Of two layers with a window of 4: an answer depends on 7 bins.
const HISTORY: u64 = 7;

fn model(seed: u64) -> Bundle {
    let shape = Shape::new(CHANNELS, CHANNELS + 1, 2, (8, 2, 2, 8, 4), Positions::LagBias);
    let mut bundle = weights_only(shape, seed);
    bundle.manifest.id = seed.to_string().repeat(64);
    bundle
}

fn decoder(bundle: &Bundle, masked: &[i64]) -> Decoder {
    Decoder::new(bundle, Box::new(Native::new(bundle)), masked, TimeLimits::NONE)
}

fn bin(seq: u64) -> Bin {
    let mut bin = Bin::empty();
    bin.fill(random_counts(1, CHANNELS, seq).into_iter(), CountRange::new(50, 20.0));
    (bin.seq, bin.stream, bin.arrival_ns) = (seq, 1, WIDTH_NS * (seq + 1));
    bin.segment_start = seq == SEGMENT;
    bin
}

/// The bin at which both models begin anew, so that their caches lie alike and their answers can be compared to the bit.
const SEGMENT: u64 = 20;

/// What a decoder says that has seen every bin from the first on.
fn alone(mut decoder: Decoder, bins: u64) -> Vec<Estimate> {
    let mut said = Vec::new();
    (0..bins).for_each(|seq| decoder.decode(&bin(seq), 0, 0, &mut |estimate| said.push(estimate.clone())));
    said
}

struct Bench {
    decode: DecodeLoop,
    bins: Queue<Bin>,
    estimates: Receiver<Estimate>,
    orders: Orders<DecodeOrder>,
    now_ns: u64,
}

impl Bench {
    fn new(bundle: &Bundle) -> Bench {
        let (bins, queued) = Queue::untouched();
        let (estimates, decoded) = Queue::untouched();
        let (orders, inbox) = orders::to_thread("decode");
        let counters = Arc::new(Counters::default());
        let decode = DecodeLoop::new(decoder(bundle, &[]), KeepWarm::never(), queued, estimates, counters);
        Bench { decode: decode.obeying(inbox), bins, estimates: decoded, orders, now_ns: 0 }
    }

    /// The bins come one after the other, each when it is due.
    fn play(&mut self, numbers: std::ops::Range<u64>) -> Vec<Estimate> {
        numbers.flat_map(|seq| self.burst(seq..seq + 1)).collect()
    }

    /// The bins come all at once.
    fn burst(&mut self, numbers: std::ops::Range<u64>) -> Vec<Estimate> {
        self.now_ns = WIDTH_NS * numbers.end;
        numbers.for_each(|seq| assert!(!self.bins.push(bin(seq))));
        while let Some(bin) = self.decode.next_bin() {
            let now_ns = &mut self.now_ns;
            self.decode.turn(&bin, &mut || {
                *now_ns += 1_000;
                *now_ns
            });
        }
        self.estimates.drain().collect()
    }

    fn order(&mut self, order: DecodeOrder) {
        self.orders.post(order).unwrap();
    }

    fn shadow(&mut self, bundle: &Bundle, bins_min: u64, step_ns: u64) -> Arc<Progress> {
        let shadow = Shadow::candidate(bundle, decoder(bundle, &[]), bins_min, step_ns);
        let progress = shadow.progress();
        self.order(DecodeOrder::Beside(Some(Box::new(shadow))));
        progress
    }
}

/// Number, bundle and every output and rate, as bits.
fn bits(estimates: &[Estimate]) -> Vec<(u64, u8, Vec<u32>)> {
    let values = |estimate: &Estimate| {
        estimate.outputs().iter().chain(estimate.rates()).map(|value| value.to_bits()).collect()
    };
    estimates.iter().map(|estimate| (estimate.seq, estimate.bundle[0], values(estimate))).collect()
}

#[test]
fn a_model_that_takes_over_says_what_it_would_have_said_from_the_first_bin_on() {
    let [first, second] = [1, 2].map(model);
    let [by_first, by_second] = [&first, &second].map(|bundle| bits(&alone(decoder(bundle, &[]), 60)));
    let mut bench = Bench::new(&first);
    let mut said = bench.play(0..12);
    let progress = bench.shadow(&second, 20, 1_000);
    said.extend(bench.play(12..40));
    // Bins 12 to 31 ran in shadow.
    assert_eq!(progress.state(), State::TookOver { stream: 1, seq: 32 });
    let report = progress.figures.report();
    // Warm-up is not compared: bins before the fifth of the candidate, and of the segment.
    assert_eq!(report.bins, 20 - 4 - 4, "{report:?}");
    assert!(report.rms_difference > 0.0 && report.max_difference >= report.rms_difference, "{report:?}");
    bench.order(DecodeOrder::RollBack);
    said.extend(bench.play(40..50));
    bench.order(DecodeOrder::RollBack);
    said.extend(bench.play(50..60));
    let expected = [&by_first[..32], &by_second[32..40], &by_first[40..50], &by_second[50..]].concat();
    assert_eq!(bits(&said), expected);
}

#[test]
fn a_model_without_a_common_start_takes_over_once_no_earlier_bin_can_change_an_answer() {
    let [first, second] = [1, 2].map(model);
    let by_second = alone(decoder(&second, &[]), 20);
    let mut bench = Bench::new(&first);
    bench.play(0..9);
    let progress = bench.shadow(&second, 0, 1_000);
    let said = bench.play(9..20);
    assert_eq!(progress.state(), State::TookOver { stream: 1, seq: 9 + HISTORY });
    for (found, expected) in said.iter().zip(&by_second[9..]).skip(HISTORY as usize) {
        for (found, expected) in found.outputs().iter().zip(expected.outputs()) {
            // Its cache begins at another place, so that sums are added in another order.
            assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{found} {expected}");
        }
    }
}

#[test]
fn a_burst_is_put_off_and_caught_up_with_before_the_model_takes_over() {
    let [first, second] = [1, 2].map(model);
    let [by_first, by_second] = [&first, &second].map(|bundle| bits(&alone(decoder(bundle, &[]), 60)));
    let mut bench = Bench::new(&first);
    let mut said = bench.play(0..1);
    let progress = bench.shadow(&second, 0, 1_000);
    said.extend(bench.burst(1..30));
    assert_eq!((progress.state(), progress.taken_in()), (State::Following, 29));
    said.extend(bench.play(30..60));
    assert_eq!(bits(&said), [&by_first[..30], &by_second[30..]].concat());
}

#[test]
fn a_model_that_is_too_slow_is_given_up_and_costs_nothing() {
    let [first, second] = [1, 2].map(model);
    let by_first = bits(&alone(decoder(&first, &[]), 300));
    let mut bench = Bench::new(&first);
    let mut said = bench.play(0..2);
    let progress = bench.shadow(&second, 0, WIDTH_NS);
    said.extend(bench.play(2..300));
    assert_eq!((progress.state(), progress.taken_in()), (State::FellBehind, 0));
    assert_eq!(bits(&said), by_first);
}

#[test]
fn masks_and_resets_hold_from_one_bin_on_for_both_models() {
    let [first, second] = [1, 2].map(model);
    let mut bench = Bench::new(&first);
    bench.shadow(&second, 25, 1_000);
    bench.play(0..5);
    let masked = [false, true, false, false, true, false];
    bench.order(DecodeOrder::Model(ModelOrder::Mask(masked.to_vec())));
    bench.order(DecodeOrder::Model(ModelOrder::Reset));
    let said = bench.play(5..40);
    let expected = |bundle: &Bundle| {
        let mut decoder = decoder(bundle, &[1, 4]);
        let mut said = Vec::new();
        (5..40).for_each(|seq| decoder.decode(&bin(seq), 0, 0, &mut |estimate| said.push(estimate.clone())));
        bits(&said)
    };
    let taken_over = 25 - 5;
    assert_eq!(bits(&said)[..taken_over], expected(&first)[..taken_over]);
    assert_eq!(bits(&said)[taken_over..], expected(&second)[taken_over..]);
    // And none is masked again.
    bench.order(DecodeOrder::Model(ModelOrder::Mask(vec![false; CHANNELS])));
    bench.order(DecodeOrder::Model(ModelOrder::Reset));
    let said = bench.play(40..45);
    let mut decoder = decoder(&second, &[]);
    let mut expected = Vec::new();
    (40..45).for_each(|seq| decoder.decode(&bin(seq), 0, 0, &mut |estimate| expected.push(estimate.clone())));
    assert_eq!(bits(&said), bits(&expected));
}

#[test]
fn the_guard_flags_another_bundle_once_even_where_its_first_result_is_late() {
    let [first, second] = [1, 2].map(model);
    let settings = GuardSettings {
        time: TimeLimits::deadline(WIDTH_NS),
        stale_after_bins: 3,
        fade: Fade { policy: Policy::Zero, time_constant_bins: 1.0 },
        limits: VelocityLimits::default(),
    };
    let mut guard = Guard::new(&first, settings);
    let mut said = Vec::new();
    for seq in 0..4 {
        let arrival_ns = WIDTH_NS * seq;
        guard.arrived(Arrival { seq, stream: 1, arrival_ns, ..Arrival::default() });
        let mut result = Estimate::of(&first.manifest);
        (result.seq, result.stream) = (seq, 1);
        result.bundle = if seq == 0 { first.id() } else { second.id() };
        // The second one comes after its deadline.
        let now_ns = if seq == 1 { arrival_ns + WIDTH_NS } else { arrival_ns };
        guard.tick(now_ns, &mut |estimate| said.push(estimate.clone()));
        guard.decoded(&result, now_ns, &mut |estimate| said.push(estimate.clone()));
    }
    assert_eq!(guard.counters().late_results, 1);
    let told = |estimate: &Estimate| (estimate.bundle[0], estimate.reasons.contains(Reasons::SWAPPED));
    let told: Vec<(u8, bool)> = said.iter().map(told).collect();
    assert_eq!(told, [(0x11, false), (0x11, false), (0x22, true), (0x22, false)]);
}
