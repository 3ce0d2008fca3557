use super::*;
use crate::play::faults::{Effect, FaultKind, FaultPlan, FaultRow, Sending};
use crate::play::{Channels, Plan};
use crate::simulate::{Recipe, simulate};
use ndt_protocol::limits::COUNT_MAX;
use ndt_protocol::{Bin, CountRange, wire};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::LazyLock;

const WIDTH_NS: u64 = 20_000_000;

/// A plan of 300 bins of four channels.
static PLAN: LazyLock<Plan> = LazyLock::new(|| {
    let session = simulate(&Recipe { trials: 5, units: 4, heldout: 0, seed: 1 });
    let mut plan = Plan::new(&session, None, 20.0, Channels::All).unwrap();
    plan.truncate(300);
    assert_eq!(plan.bins(), 300);
    plan
});

fn drawn(faults: &str, seed: u64) -> FaultPlan {
    FaultPlan::new(&PLAN, &faults.parse().unwrap(), seed)
}

/// What one program publishes. No two of its estimates are equal.
#[derive(Default)]
struct Daemon {
    published: Vec<Estimate>,
    /// Run, next number, and arrival of the last bin.
    at: Option<(u32, u64, u64)>,
    /// Whether it answers no bin that lacks a count; otherwise only a bin without any count is missing to it.
    is_strict: bool,
}

impl Daemon {
    fn publish(&mut self, run: u32, seq: u64, source_ns: i64, quality: Quality) {
        let mut estimate = Estimate::zero(2, 2);
        estimate.stream = 1000 - u64::from(run) * 7;
        estimate.seq = seq;
        estimate.source_ns = source_ns;
        estimate.quality = quality;
        estimate.rates_mut()[0] = self.published.len() as f32;
        self.published.push(estimate);
    }

    /// Publishes until `now_ns`, while no bin arrives: after three periods, one estimate for each period.
    fn wait(&mut self, now_ns: u64) {
        let Some((run, mut next, last_ns)) = self.at else { return };
        let mut published = 0;
        for periods in 3..(now_ns - last_ns).div_ceil(WIDTH_NS) {
            while published < periods {
                self.publish(run, next, -1, Quality::Stale);
                (published, next) = (published + 1, next + 1);
            }
        }
        self.at = Some((run, next, last_ns));
    }

    fn take(&mut self, sending: &Sending) {
        let Sending { run, seq, due_ns, source_ns, .. } = *sending;
        let next = match self.at {
            Some((last_run, next, _)) if last_run == run => next,
            _ => seq,
        };
        for missing in next..seq {
            self.publish(run, missing, -1, Quality::Gap);
        }
        if seq >= next {
            // From what is sent, as a daemon does it, and not from what the plan says about it.
            let (mut counts, mut bin) = (Vec::new(), Bin::empty());
            sending.fill(&PLAN, &mut counts);
            bin.fill(counts.into_iter(), CountRange::new(COUNT_MAX, 20.0));
            let is_missing = if self.is_strict { bin.invalid_channels() > 0 } else { bin.is_missing() };
            self.publish(run, seq, source_ns, if is_missing { Quality::Gap } else { Quality::Good });
        }
        self.at = Some((run, next.max(seq + 1), due_ns));
    }
}

/// What a daemon that keeps its contract publishes for a plan.
fn perfect(plan: &FaultPlan) -> Vec<Estimate> {
    published(plan, Daemon::default())
}

fn published(plan: &FaultPlan, mut daemon: Daemon) -> Vec<Estimate> {
    for sending in plan.sendings.iter().filter(|sending| sending.channels_delta == 0) {
        daemon.wait(sending.due_ns);
        daemon.take(sending);
    }
    daemon.published
}

fn checked<'a>(plan: &FaultPlan, estimates: impl IntoIterator<Item = &'a Estimate>) -> Expectation {
    let mut expectation = Expectation::new(plan);
    estimates.into_iter().for_each(|estimate| expectation.push(estimate));
    expectation
}

/// Checks which violations are found after `change` is made to what a perfect daemon publishes.
fn check(faults: &str, change: impl FnOnce(&mut Vec<Estimate>), expected: &[(&str, u64, &str)]) {
    let plan = drawn(faults, 1);
    let mut published = perfect(&plan);
    change(&mut published);
    let report = checked(&plan, &published).report();
    let found: Vec<(&str, u64, &str)> =
        report.kinds.iter().map(|(kind, found)| (*kind, found.count, &found.first[..])).collect();
    assert_eq!(found, expected, "{faults}");
    assert_eq!(report.violations, expected.iter().map(|(_, count, _)| count).sum::<u64>());
}

#[test]
fn a_perfect_daemon_passes_whatever_goes_wrong() {
    for faults in [
        "none",
        "drop=20%,dup=10%",
        "reorder=5,jitter=35ms",
        "burst=12,nan=60%",
        "stall=1s@1s,restart@1.5s",
        "restart@0s,restart@2s,restart@2.1s,clock=+5s@3s",
        "channels=-1@1s,channels=+2@3s",
        "drop=1%,dup=0.5%,reorder=2,jitter=3ms,burst=10,stall=500ms@2s,nan=0.1%,channels=+1@4s,clock=+5s@3s,\
         restart@5s",
    ] {
        for seed in 0..20 {
            let plan = drawn(faults, seed);
            let expectation = checked(&plan, &perfect(&plan));
            let report = expectation.report();
            assert!(report.violations == 0 && expectation.is_complete(), "{faults} seed {seed}: {report:?}");
        }
    }
}

/// Everything that is sent: for each bin the instant at which it is due, its header and its counts, as bytes.
fn sent(plan: &FaultPlan) -> Vec<(u64, Vec<u8>, Vec<u8>)> {
    let mut counts = Vec::new();
    let bytes = |sending: &Sending| {
        let mut stamp = sending.fill(&PLAN, &mut counts);
        stamp.stream = sending.run.into();
        let mut payload = Vec::new();
        wire::put_f32(&counts, &mut payload);
        (sending.due_ns, wire::bin_header(&stamp, counts.len()).to_vec(), payload)
    };
    plan.sendings.iter().map(bytes).collect()
}

/// Whether a plan differs from the plan without faults in the way that `effect` says.
fn shows(effect: Effect, plan: &FaultPlan, without: &FaultPlan) -> bool {
    let bins = |plan: &FaultPlan| plan.sendings.iter().map(|sending| sending.bin).collect::<Vec<_>>();
    let distinct = |plan: &FaultPlan| bins(plan).into_iter().collect::<BTreeSet<_>>();
    // Pairs of what is sent with the fault and without, where each bin is sent once in its place.
    let (sent, sent_without) = (sent(plan), sent(without));
    let mut pairs = sent.iter().zip(&sent_without);
    let is_same_bins = bins(plan) == bins(without);
    let numbers = |plan: &FaultPlan| plan.sendings.iter().map(|s| (s.run, s.seq)).collect::<Vec<_>>();
    let times = |plan: &FaultPlan| plan.sendings.iter().map(|s| s.source_ns).collect::<Vec<_>>();
    match effect {
        Effect::Loss => distinct(plan).len() < distinct(without).len(),
        Effect::Copies => plan.sendings.len() > distinct(plan).len(),
        Effect::Order => !bins(plan).is_sorted() && distinct(plan) == distinct(without),
        Effect::Instants => {
            let is_later = sent.iter().zip(&sent_without).any(|(with, without)| with.0 > without.0);
            is_later && pairs.all(|(with, without)| (&with.1, &with.2) == (&without.1, &without.2))
        }
        Effect::Counts => {
            let is_as_long =
                sent.iter().zip(&sent_without).all(|(with, without)| with.2.len() == without.2.len());
            is_as_long && is_same_bins && pairs.any(|(with, without)| with.2 != without.2)
        }
        Effect::Channels => pairs.any(|(with, without)| with.2.len() != without.2.len()),
        Effect::SourceTime => is_same_bins && times(plan) != times(without),
        Effect::Numbers => is_same_bins && numbers(plan) != numbers(without),
    }
}

#[test]
fn every_kind_of_fault_has_its_event_and_its_effect_and_a_perfect_daemon_passes_it() {
    for FaultRow { kind, example, effect, .. } in FaultKind::TABLE {
        let mut drawn_plans = 0;
        for seed in 0..20 {
            let (plan, without) = (drawn(example, seed), drawn("none", seed));
            assert!(
                plan.events.iter().all(|event| event.kind == kind),
                "{example} seed {seed}: {:?}",
                plan.events
            );
            // A rare fault may not happen in a plan this short.
            if plan.events.is_empty() {
                continue;
            }
            drawn_plans += 1;
            assert!(
                plan.events.iter().all(|event| event.by != 0 && event.to_ns >= event.from_ns),
                "{example}"
            );
            assert_ne!(sent(&plan), sent(&without), "{example} seed {seed} changes nothing that is sent");
            assert!(shows(effect, &plan, &without), "{example} seed {seed} does not show {effect:?}");
            for is_strict in [false, true] {
                let daemon = Daemon { is_strict, ..Daemon::default() };
                let expectation = checked(&plan, &published(&plan, daemon));
                let report = expectation.report();
                let is_kept = report.violations == 0 && expectation.is_complete();
                assert!(is_kept, "{example} seed {seed}, strict {is_strict}: {report:?}");
            }
        }
        assert!(drawn_plans > 0, "{example} never has an event of its kind");
    }
}

#[test]
fn numbers_that_are_missing_repeated_or_out_of_order_are_found() {
    check("none", |_| (), &[]);
    check("none", |all| drop(all.drain(10..13)), &[("missing", 3, "run 0: expected seq 10, found 13")]);
    check("none", |all| drop(all.drain(..2)), &[("missing", 2, "run 0: expected seq 0, found 2")]);
    let seqs = "run 0: expected seq 11, found 10";
    let twice = |all: &mut Vec<Estimate>| all.insert(11, all[10].clone());
    check("none", twice, &[("frozen", 1, FROZEN), ("repeated", 1, seqs)]);
    // 11 comes before 10: 10 was skipped, and then it arrived late.
    check("none", |all| all.swap(10, 11), &[("out-of-order", 1, "run 0: expected seq 12, found 10")]);
    let late_run = |all: &mut Vec<Estimate>| all.swap(99, 100);
    let found = [
        ("missing", 1, "run 1: expected seq 0, found 1"),
        ("out-of-order", 1, "run 0: expected no estimate once the next run had begun, found seq 99"),
    ];
    check("restart@2s", late_run, &found[1..]);
    check("restart@2s", |all| drop(all.drain(100..101)), &found[..1]);
    let more = |all: &mut Vec<Estimate>| (200..203).for_each(|at| all[at].stream = 5);
    check(
        "none",
        more,
        &[
            ("missing", 3, "run 0: expected seq 200, found 203"),
            ("unknown-stream", 3, "run 1: expected 1 runs of the source, found another stream"),
        ],
    );
    // If the first bins of a play are lost, nothing may be published before the first bin that arrives.
    let invented = |all: &mut Vec<Estimate>| {
        let mut first = all[0].clone();
        (first.seq, first.quality) = (49, Quality::Gap);
        all.insert(0, first);
    };
    let first = "run 0: expected no estimate before seq 50, which came first, found seq 49";
    check("channels=+1@0s", invented, &[("before-first", 1, first)]);
}

const FROZEN: &str = "run 0: expected other numbers than before, found all their bits again at seq 10";

#[test]
fn the_end_is_expected_up_to_the_last_bin_that_is_sent() {
    let unheard = ("unheard", 10, "run 0: expected estimates up to seq 299, found 289");
    check("none", |all| all.truncate(290), &[unheard]);
    let never = [("unheard", 300, "run 0: expected estimates up to seq 299, found none")];
    check("none", Vec::clear, &never);
    check(
        "restart@2s",
        |all| all.truncate(99),
        &[("unheard", 201, "run 0: expected estimates up to seq 99, found 98")],
    );
    let goes_on = |all: &mut Vec<Estimate>| {
        for seq in 300..310 {
            let mut more = all[0].clone();
            (more.seq, more.quality, more.source_ns) = (seq, Quality::Stale, -1);
            all.push(more);
        }
    };
    check("none", goes_on, &[]);
    let plan = drawn("none", 1);
    let mut expectation = checked(&plan, &perfect(&plan)[..299]);
    assert!(!expectation.is_complete());
    expectation.push(&perfect(&plan)[299]);
    assert!(expectation.is_complete());
    assert!(!checked(&drawn("drop=100%", 1), []).is_complete());
}

#[test]
fn no_number_is_too_strange_to_be_counted() {
    let plan = drawn("restart@2s", 1);
    let mut published = perfect(&plan);
    for at in [20, 30, 120, 130] {
        published[at].seq = u64::MAX - at as u64 % 2;
    }
    let report = checked(&plan, &published).report();
    assert_eq!((report.violations, report.kinds["missing"].count), (u64::MAX, u64::MAX));
}

/// Changes the quality of one estimate of a run.
fn becomes(run: u64, seq: u64, quality: Quality) -> impl FnOnce(&mut Vec<Estimate>) {
    move |all| {
        let found = all.iter_mut().find(|estimate| estimate.stream == 1000 - 7 * run && estimate.seq == seq);
        found.unwrap().quality = quality;
    }
}

#[test]
fn qualities_need_a_reason_in_the_plan() {
    let gap =
        "run 0: expected an estimate from the bin, which was sent in time and whole, found gap at seq 150";
    check("none", becomes(0, 150, Quality::Gap), &[("unexplained-gap", 1, gap)]);
    check("nan=80%", becomes(0, 150, Quality::Gap), &[]);
    let stale = "run 0: expected no stale estimate where the source is not silent, found stale at seq 150";
    check("none", becomes(0, 150, Quality::Stale), &[("unexplained-stale", 1, stale)]);
    let fault = "run 0: expected an estimate that can be used, found fault at seq 150";
    check("none", becomes(0, 150, Quality::Fault), &[("fault", 1, fault)]);
    let too_few = |all: &mut Vec<Estimate>| {
        let found = all.iter_mut().find(|estimate| estimate.seq == 150).unwrap();
        (found.quality, found.reasons) = (Quality::Fault, Reasons::TOO_FEW_CHANNELS);
    };
    check("nan=80%", too_few, &[]);
    check("none", too_few, &[("fault", 1, fault)]);
    for quality in [Quality::Warmup, Quality::Late] {
        check("none", becomes(0, 150, quality), &[]);
    }
    let good = |seq| {
        format!(
            "run 0: expected no good estimate for a bin that did not come with its counts, found good at seq {seq}"
        )
    };
    // From seq 100 to 149 the bins are refused, which counts as lost.
    check("channels=+1@2s", becomes(0, 120, Quality::Good), &[("unexplained-good", 1, &good(120))]);
    check("nan=100%", becomes(0, 150, Quality::Good), &[("unexplained-good", 1, &good(150))]);
    // Near a silence, a stall or a restart it does not matter whether the bin was in time; further away it does.
    for (faults, near, far) in
        [("stall=200ms@2s", [96, 113], [93, 116]), ("channels=+1@2s", [96, 153], [93, 156])]
    {
        for quality in [Quality::Gap, Quality::Stale] {
            let kind = if quality == Quality::Gap { "unexplained-gap" } else { "unexplained-stale" };
            for seq in near {
                check(faults, becomes(0, seq, quality), &[]);
            }
            for seq in far {
                let plan = drawn(faults, 1);
                let mut published = perfect(&plan);
                becomes(0, seq, quality)(&mut published);
                let report = checked(&plan, &published).report();
                assert_eq!(report.kinds.keys().collect::<Vec<_>>(), [&kind], "{faults} {seq}");
            }
        }
    }
    check("restart@2s", becomes(0, 97, Quality::Stale), &[]);
    check("restart@2s", becomes(1, 2, Quality::Stale), &[]);
}

#[test]
fn numbers_must_be_finite_new_and_of_their_time() {
    let nan = |all: &mut Vec<Estimate>| all[20].velocity_mut()[1] = f32::NAN;
    check("none", nan, &[("not-finite", 1, "run 0: expected finite numbers, found NaN at seq 20")]);
    let infinite = |all: &mut Vec<Estimate>| all[20].rates_mut()[1] = f32::INFINITY;
    check("none", infinite, &[("not-finite", 1, "run 0: expected finite numbers, found inf at seq 20")]);
    let same = |all: &mut Vec<Estimate>| all[10].rates_mut()[0] = 9.0;
    check("none", same, &[("frozen", 1, FROZEN)]);
    // Zero and minus zero differ in their bits, and an estimate that is flagged as late may repeat the one before.
    let nearly = |all: &mut Vec<Estimate>| {
        same(all);
        all[10].velocity_mut()[0] = -0.0;
    };
    check("none", nearly, &[]);
    let flagged = |all: &mut Vec<Estimate>| {
        same(all);
        all[10].quality = Quality::Late;
    };
    check("none", flagged, &[]);
    let expected = PLAN.bin(30).0.source_ns;
    let sentence = |plus: i64| {
        format!("run 0: expected the source time {} ns, found {expected} ns at seq 30", expected + plus)
    };
    let shifted = |all: &mut Vec<Estimate>| all[30].source_ns = expected;
    check("clock=+5s@600ms", shifted, &[("source-time", 1, &sentence(5_000_000_000))]);
    check("clock=+5s@620ms", shifted, &[]);
}

#[test]
fn a_report_is_printed_in_a_few_lines() {
    let plan = drawn("none", 1);
    let report = checked(&plan, &perfect(&plan)[..290]).report();
    assert_eq!(
        report.to_string(),
        "contract             10 violations in 290 estimates of 1 runs\n  unheard            10, the first in run 0: \
         expected estimates up to seq 299, found 289"
    );
    assert_eq!(
        serde_json::to_string(&report).unwrap(),
        "{\"checked\":290,\"runs\":1,\"violations\":10,\"kinds\":{\"unheard\":{\"count\":10,\"first-run\":0,\
         \"first-seq\":290,\"first\":\"run 0: expected estimates up to seq 299, found 289\"}}}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_perfect_daemon_passes_and_one_that_leaves_out_an_estimate_does_not(
        seed in 0u64..1000, drop in 0u32..60, dup in 0u32..60, reorder in 0usize..8, jitter in 0u32..90,
        burst in 0usize..30, stall in 1u32..900, restart in 0u32..6000, left_out in 0usize..300,
    ) {
        let faults = format!(
            "drop={drop}%,dup={dup}%,reorder={reorder},jitter={jitter}ms,burst={burst},stall={stall}ms@2s,\
             restart@{restart}ms,channels=+1@5.5s"
        );
        let plan = drawn(&faults, seed);
        let mut published = perfect(&plan);
        let report = checked(&plan, &published).report();
        prop_assert_eq!(report.violations, 0, "{:?}", report);
        let left_out = left_out.min(published.len() - 1);
        // After the last bin of a run the daemon may publish or not, so that the last of it is not missed.
        let Estimate { stream, seq, .. } = published[left_out];
        let is_last = published.get(left_out + 1).is_none_or(|next| next.stream != stream);
        let of_run = |sent: &&Sending| 1000 - 7 * u64::from(sent.run) == stream;
        let comes = |sent: &Sending| sent.channels_delta == 0 && sent.seq >= seq;
        prop_assume!(!is_last || plan.sendings.iter().filter(of_run).any(comes));
        published.remove(left_out);
        prop_assert!(checked(&plan, &published).report().violations > 0);
    }
}
