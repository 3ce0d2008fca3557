//! The daemon's contract on thousands of random fault plans, in virtual time. A failure prints its seed;
//! `CONTRACT_SEED=n` runs that one alone and tells what was published.

mod plan;
mod world;

use ndt_protocol::{Estimate, Quality, Reasons};
use plan::{CALM_FROM, Fault, Plan};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, HashMap};
use world::{STALE_AFTER_BINS, Trace, WARMUP_BINS};

const SEEDS: u64 = 2_000;

/// Bins after the last fault within which all is good again and nothing waits: the warm-up, and the periods after
/// which a source that was paused is followed.
const RECOVERY_BINS: u64 = WARMUP_BINS + 2 * STALE_AFTER_BINS + 2;

#[test]
fn the_contract_holds_whatever_happens() {
    let only: Option<u64> = std::env::var("CONTRACT_SEED").ok().map(|seed| seed.parse().unwrap());
    let mut qualities = [0u64; 6];
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let plan = Plan::random(&mut ChaCha8Rng::seed_from_u64(seed));
        let trace = world::run(&plan, seed);
        if only.is_some() {
            tell(&plan, &trace);
        }
        let broken = check(&plan, &trace);
        assert!(broken.is_empty(), "CONTRACT_SEED={seed}, {plan:?}:\n{}", broken.join("\n"));
        trace.published.iter().for_each(|estimate| qualities[estimate.quality as usize] += 1);
    }
    let counted: BTreeMap<&str, u64> = Quality::ALL.iter().map(|q| q.name()).zip(qualities).collect();
    println!("{SEEDS} seeds: {counted:?}");
    assert!(
        only.is_some() || qualities.iter().all(|count| *count > 100),
        "a quality is hardly met: {counted:?}"
    );
}

fn tell(plan: &Plan, trace: &Trace) {
    println!("{plan:#?}");
    for estimate in &trace.published {
        let at = estimate.published_ns as f64 / plan.period_ns as f64;
        let reasons: Vec<&str> = estimate.reasons.names().collect();
        println!(
            "{at:8.2} {:x} {} {} {reasons:?} {:?}",
            estimate.stream % 0x1000,
            estimate.seq,
            estimate.quality.name(),
            estimate.velocity()
        );
    }
}

/// Every breach of the contract, one sentence each.
fn check(plan: &Plan, trace: &Trace) -> Vec<String> {
    let mut broken = Vec::new();
    let mut breach = |holds: bool, estimate: &Estimate, what: &str| {
        if !holds {
            let Estimate { stream, seq, quality, published_ns, .. } = estimate;
            let at = *published_ns as f64 / plan.period_ns as f64;
            broken
                .push(format!("{what}: seq {seq} of {:x}, {quality:?} at {at:.2} periods", stream % 0x1000));
        }
    };
    let arrived: HashMap<(u64, u64), u64> =
        trace.arrivals.iter().rev().map(|a| ((a.stream, a.seq), a.arrival_ns)).collect();
    for pair in trace.published.windows(2) {
        order(plan, &pair[0], &pair[1], &mut breach);
    }
    for estimate in &trace.published {
        let values = estimate.rates().iter().chain(estimate.velocity());
        breach(values.into_iter().all(|value| value.is_finite()), estimate, "not finite");
        let arrival_ns = arrived.get(&(estimate.stream, estimate.seq)).copied();
        explained(plan, estimate, arrival_ns, &mut breach);
        // One that never came is answered with the next that does, or as stale.
        if !matches!(estimate.quality, Quality::Stale | Quality::Gap) {
            let latest_ns = arrival_ns.unwrap_or(0) + plan.deadline_ns + plan.wake_delay_ns;
            breach(estimate.published_ns <= latest_ns, estimate, "after its deadline");
        }
    }
    broken.extend(fading(trace));
    broken.extend(count(plan, trace));
    broken.extend(recovery(plan, trace));
    broken
}

type Breach<'a> = dyn FnMut(bool, &Estimate, &str) + 'a;

fn order(plan: &Plan, before: &Estimate, now: &Estimate, breach: &mut Breach) {
    let restarts = plan.has(|fault| matches!(fault, Fault::Restart { .. }));
    if before.stream != now.stream {
        breach(restarts && now.reasons.contains(Reasons::SOURCE_RESTART), now, "an untold new stream");
    } else if now.seq != before.seq + 1 {
        // A source that counts again under its old id before it has sent enough to tell looks like a paused one.
        let paused =
            plan.has(|fault| matches!(fault, Fault::Pause { .. } | Fault::Restart { same_id: true }));
        let told =
            [Reasons::RENUMBERED, Reasons::LONG_GAP].iter().any(|reason| now.reasons.contains(*reason));
        breach(paused && told, now, "out of order");
    }
    breach(before.published_ns <= now.published_ns, now, "before its predecessor");
    // Silence: at most the periods before a source is stale, and the deadline of the first one.
    let silent_ns = (STALE_AFTER_BINS + 1) * plan.period_ns + plan.deadline_ns + plan.wake_delay_ns;
    breach(now.published_ns - before.published_ns <= silent_ns + plan.jitter_ns, now, "after a silence");
}

/// Whether the quality is what happened to the bin, and computed values are that bin's own.
fn explained(plan: &Plan, estimate: &Estimate, arrival_ns: Option<u64>, breach: &mut Breach) {
    let came = arrival_ns.is_some_and(|at_ns| at_ns <= estimate.published_ns);
    let [count, history] = [estimate.velocity()[0], estimate.velocity()[1]];
    let is_short = estimate.reasons.contains(Reasons::SHORT_HISTORY);
    match estimate.quality {
        Quality::Good | Quality::Warmup => {
            breach(came, estimate, "computed of a bin that never came");
            breach(is_short == (history < WARMUP_BINS as f32), estimate, "warm for another history");
            breach(is_short == (estimate.quality == Quality::Warmup), estimate, "warmth untold");
            breach(count >= 0.0, estimate, "the values of a missing bin");
            breach(estimate.rates() == [1.0], estimate, "a rate that was not computed");
            let is_long = estimate.reasons.contains(Reasons::LONG_GAP);
            breach(!is_long || history == 1.0, estimate, "history across a long gap");
        }
        Quality::Gap => {
            // A bin that is overtaken is taken as missing.
            let reordered = plan.jitter_ns > 0
                || plan.has(|f| matches!(f, Fault::Reordered { .. } | Fault::Stall { .. }));
            breach(!came || reordered, estimate, "a gap where a bin came");
            breach(count < 0.0 || estimate.decoded_ns == 0, estimate, "a gap with a bin's values");
        }
        Quality::Late => {
            let due_ns = arrival_ns.unwrap_or(u64::MAX).saturating_add(plan.deadline_ns);
            let ended = plan.has(|fault| matches!(fault, Fault::Restart { .. }));
            let slow = plan.has(|fault| matches!(fault, Fault::Slow { .. }));
            let skipped = slow || plan.decode_ns * 40 > plan.deadline_ns;
            breach(
                came && (estimate.published_ns >= due_ns || ended || skipped),
                estimate,
                "late before its deadline",
            );
        }
        Quality::Stale => {
            let silence_ns = plan.period_ns * STALE_AFTER_BINS - plan.jitter_ns.min(plan.period_ns);
            breach(estimate.published_ns >= silence_ns, estimate, "stale at once");
            breach(
                !came || arrival_ns == Some(estimate.published_ns),
                estimate,
                "stale although the bin came",
            );
        }
        Quality::Fault => {
            breach(plan.has(|fault| matches!(fault, Fault::Broken { .. })), estimate, "a fault of nothing");
        }
    }
}

/// A velocity that is not computed fades: each answer is slower than the one before, and the tenth is zero.
fn fading(trace: &Trace) -> Vec<String> {
    let mut broken = Vec::new();
    let (mut in_a_row, mut before) = (0, f32::INFINITY);
    for estimate in &trace.published {
        let is_computed = estimate.decoded_ns > 0 && estimate.quality != Quality::Fault;
        in_a_row = if is_computed { 0 } else { in_a_row + 1 };
        let speed = estimate.velocity().iter().map(|part| part.abs()).sum::<f32>();
        let fades = if in_a_row < 10 { speed < before || speed == 0.0 } else { speed == 0.0 };
        if in_a_row > 0 && !fades {
            broken.push(format!("no fading at seq {}: {speed} after {before}", estimate.seq));
        }
        before = speed;
    }
    broken
}

/// One for each period: at no time fewer than periods have passed (but for those that may yet come), nor more.
fn count(plan: &Plan, trace: &Trace) -> Vec<String> {
    let Some(first) = trace.arrivals.first() else { return Vec::new() };
    let restarts =
        plan.faults.iter().filter(|(_, fault)| matches!(fault, Fault::Restart { .. })).count() as i64;
    let mut broken = Vec::new();
    for (given, estimate) in (1i64..).zip(&trace.published) {
        let passed = ((estimate.published_ns - first.arrival_ns) / plan.period_ns) as i64 + 1;
        let deadline = plan.deadline_ns.div_ceil(plan.period_ns) as i64;
        // A restart may come in the middle of a period, and each kind of delay takes up one.
        let slack = STALE_AFTER_BINS as i64 + deadline + 2 + 9 * restarts;
        // Bins of a new stream that come at once after a stall are answered, although periods passed meanwhile.
        let stalled = |(_, fault): &(u64, Fault)| {
            if let Fault::Stall { periods } = fault { *periods as i64 } else { 0 }
        };
        let more = if restarts > 0 { plan.faults.iter().map(stalled).sum() } else { 0 };
        if !(passed - slack..=passed + slack + more).contains(&given) {
            let seq = estimate.seq;
            broken.push(format!("{given} estimates in {passed} periods, slack {slack}, at seq {seq}"));
            break;
        }
    }
    broken
}

/// All is good again soon after the last fault, and nothing waits.
fn recovery(plan: &Plan, trace: &Trace) -> Vec<String> {
    // Pauses shift the source's time; what is calm is told by when the first calm bin came.
    let paused: u64 = plan
        .faults
        .iter()
        .map(|(_, fault)| if let Fault::Pause { periods } = fault { *periods } else { 0 })
        .sum();
    let calm_ns = (CALM_FROM + paused + RECOVERY_BINS) * plan.period_ns;
    let uncalm = |estimate: &&Estimate| {
        let is_calm = estimate.quality == Quality::Good && estimate.lag_bins == 0;
        estimate.published_ns > calm_ns && !is_calm
    };
    let tell = |estimate: &Estimate| format!("not recovered at seq {}: {:?}", estimate.seq, estimate.quality);
    trace.published.iter().filter(uncalm).map(tell).take(1).collect()
}
