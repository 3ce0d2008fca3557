use super::*;
use crate::play::faults::{FaultPlan, Sending};
use crate::play::{Channels, Plan};
use crate::simulate::{Recipe, simulate};
use proptest::prelude::*;
use std::sync::LazyLock;

const WIDTH_NS: u64 = 20_000_000;

/// 300 bins of four channels.
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

/// What one program publishes; no two of its estimates are the same.
#[derive(Default)]
struct Daemon {
    published: Vec<Estimate>,
    /// The run, the next number, when the last bin came.
    at: Option<(u32, u64, u64)>,
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

    /// Published until `now_ns`, with nothing coming: after three periods, one answer for each.
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
            let has_counts = sending.nan_channels.len() < 4;
            self.publish(run, seq, source_ns, if has_counts { Quality::Good } else { Quality::Gap });
        }
        self.at = Some((run, next.max(seq + 1), due_ns));
    }
}

/// What a daemon that keeps its contract makes of a plan.
fn perfect(plan: &FaultPlan) -> Vec<Estimate> {
    let mut daemon = Daemon::default();
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

/// What is found when `change` is made to what a perfect daemon publishes.
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

#[test]
fn numbers_that_are_missing_repeated_or_out_of_order_are_found() {
    check("none", |_| (), &[]);
    check("none", |all| drop(all.drain(10..13)), &[("missing", 3, "run 0: expected seq 10, found 13")]);
    check("none", |all| drop(all.drain(..2)), &[("missing", 2, "run 0: expected seq 0, found 2")]);
    let seqs = "run 0: expected seq 11, found 10";
    let twice = |all: &mut Vec<Estimate>| all.insert(11, all[10].clone());
    check("none", twice, &[("frozen", 1, FROZEN), ("repeated", 1, seqs)]);
    // 11 comes before 10: it was left out, and then it came after all.
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
    // Of a play whose first bins are lost, nothing is to be said before the first that comes.
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

/// Gives the estimate of a run another quality.
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
    for quality in [Quality::Warmup, Quality::Late] {
        check("none", becomes(0, 150, quality), &[]);
    }
    let good = |seq| {
        format!(
            "run 0: expected no good estimate for a bin that did not come with its counts, found good at seq {seq}"
        )
    };
    // From seq 100 to 149 the bins are refused, as good as lost.
    check("channels=+1@2s", becomes(0, 120, Quality::Good), &[("unexplained-good", 1, &good(120))]);
    check("nan=100%", becomes(0, 150, Quality::Good), &[("unexplained-good", 1, &good(150))]);
    // Near a silence, a stall or a restart it is all the same whether the bin was in time; further off it is not.
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
    // Zero and minus zero are not the same bits; nor is what was said to be no answer of the model.
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
fn a_report_is_told_in_a_few_lines() {
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
        // What comes after a run's last bin is up to the daemon: nobody misses the last of it.
        let Estimate { stream, seq, .. } = published[left_out];
        let is_last = published.get(left_out + 1).is_none_or(|next| next.stream != stream);
        let of_run = |sent: &&Sending| 1000 - 7 * u64::from(sent.run) == stream;
        let comes = |sent: &Sending| sent.channels_delta == 0 && sent.seq >= seq;
        prop_assume!(!is_last || plan.sendings.iter().filter(of_run).any(comes));
        published.remove(left_out);
        prop_assert!(checked(&plan, &published).report().violations > 0);
    }
}
