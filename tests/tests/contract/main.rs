//! The daemon's contract on thousands of random fault plans, in virtual time. A failure prints its seed;
//! `CONTRACT_SEED=n` runs that one alone and tells what was published.

mod faults;
mod plan;
mod world;

use ndt_protocol::bin::Due;
use ndt_protocol::limits::QUEUE_BINS;
use ndt_protocol::{Estimate, Quality, Reasons};
use plan::{Fault, Plan};
use std::collections::{BTreeMap, HashMap, HashSet};
use world::{Came, STALE_AFTER_BINS, Trace, WARMUP_BINS};

const SEEDS: u64 = 2_000;

#[test]
fn the_contract_holds_whatever_happens() {
    let only: Option<u64> = std::env::var("CONTRACT_SEED").ok().map(|seed| seed.parse().unwrap());
    let (mut qualities, mut failed) = ([0u64; 6], Vec::new());
    let (mut aged, mut old) = (0u64, 0u64);
    let (mut swaps, mut inhibited) = (0u64, 0u64);
    let seeds = only.map_or(0..SEEDS, |seed| seed..seed + 1);
    for (seed, has_fallback) in seeds.flat_map(|seed| [(seed, false), (seed, true)]) {
        let plan = Plan::random(seed);
        let trace = world::run(&plan, seed, has_fallback);
        if only.is_some() {
            tell(&plan, &trace);
        }
        let broken = check(&plan, &trace);
        if !broken.is_empty() {
            let fallback = if has_fallback { "with" } else { "without" };
            let broken = broken[..broken.len().min(5)].join("\n");
            failed.push(format!("CONTRACT_SEED={seed} {fallback} a fallback, {plan:?}:\n{broken}"));
        }
        swaps += trace.swaps;
        inhibited += trace.guard.inhibited;
        for estimate in &trace.published {
            qualities[estimate.quality as usize] += 1;
            aged += u64::from(estimate.age().is_some());
            old += u64::from(estimate.reasons.contains(Reasons::OLD_BIN));
        }
    }
    let counted: BTreeMap<&str, u64> = Quality::ALL.iter().map(|q| q.name()).zip(qualities).collect();
    println!("{SEEDS} seeds, without and with a fallback decoder: {counted:?}");
    println!("{aged} estimates of a known age, {old} answers to bins that were too old");
    println!("{swaps} times another model took over, {inhibited} answers while the daemon was paused");
    assert!(
        failed.is_empty(),
        "{} seeds fail, such as\n{}",
        failed.len(),
        failed[..failed.len().min(10)].join("\n")
    );
    assert!(
        only.is_some() || qualities.iter().all(|count| *count > 100),
        "a quality is hardly met: {counted:?}"
    );
    assert!(only.is_some() || (swaps > 1_000 && inhibited > 10_000), "orders are hardly met");
    assert!(
        only.is_some() || (aged > 100_000 && old > 1_000),
        "ages are hardly known: {aged}, {old} too old"
    );
}

fn tell(plan: &Plan, trace: &Trace) {
    println!("{plan:#?}");
    let mut came = trace.came.iter().peekable();
    for estimate in &trace.published {
        let before = |bin: &&Came| bin.arrival.arrival_ns <= estimate.published_ns;
        while let Some(Came { arrival, nth, .. }) = came.next_if(before) {
            let at = arrival.arrival_ns as f64 / plan.period_ns as f64;
            println!("{at:8.2} {:x} {} comes, the source's {nth}", arrival.stream % 0x1000, arrival.seq);
        }
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

/// What is known of the bins that came, beside what a trace says.
struct Known<'a> {
    plan: &'a Plan,
    came: &'a [Came],
    /// Where in `came` a stream's number is first.
    first: HashMap<(u64, u64), usize>,
    /// Whether each came in time: no newer one of its stream had come, and no answer was given to its number.
    in_time: Vec<bool>,
}

impl Known<'_> {
    fn new<'a>(plan: &'a Plan, trace: &'a Trace) -> Known<'a> {
        let keys = trace.came.iter().map(|bin| (bin.arrival.stream, bin.arrival.seq));
        let first = keys.zip(0..).collect::<Vec<_>>().into_iter().rev().collect();
        let mut newest: HashMap<u64, u64> = HashMap::new();
        let mut answered: HashMap<u64, u64> = HashMap::new();
        let mut published = trace.published.iter().peekable();
        let mut is_in_time = |Came { arrival, .. }: &Came| {
            while let Some(estimate) = published.next_if(|e| e.published_ns <= arrival.arrival_ns) {
                answered.insert(estimate.stream, estimate.seq);
            }
            let is_after = |of: &HashMap<u64, u64>| of.get(&arrival.stream).is_none_or(|n| arrival.seq > *n);
            let in_time = is_after(&answered) && is_after(&newest);
            let newest = newest.entry(arrival.stream).or_default();
            *newest = arrival.seq.max(*newest);
            in_time
        };
        let in_time = trace.came.iter().map(&mut is_in_time).collect();
        Known { plan, came: &trace.came, first, in_time }
    }

    /// The bin of this number, and its place, if it came before it was answered.
    fn bin(&self, estimate: &Estimate) -> Option<(usize, &Came)> {
        let at = *self.first.get(&(estimate.stream, estimate.seq))?;
        Some((at, &self.came[at])).filter(|(_, bin)| bin.arrival.arrival_ns <= estimate.published_ns)
    }

    /// Those that came from the bin at this place on until the estimate was published.
    fn until(&self, at: usize, estimate: &Estimate) -> &[Came] {
        let until =
            at + self.came[at..].partition_point(|bin| bin.arrival.arrival_ns <= estimate.published_ns);
        &self.came[at..until]
    }

    /// Whether a bin came in time shortly before this stale answer.
    fn is_silent(&self, estimate: &Estimate) -> bool {
        let before = |ns: u64| self.came.partition_point(move |bin| bin.arrival.arrival_ns < ns);
        let from_ns = estimate.published_ns.saturating_sub(STALE_AFTER_BINS * self.plan.period_ns);
        !self.in_time[before(from_ns + 1)..before(estimate.published_ns)].contains(&true)
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
    let known = Known::new(plan, trace);
    for pair in trace.published.windows(2) {
        order(plan, &pair[0], &pair[1], &mut breach);
    }
    // A paused daemon says nothing of its bins: of such a run, order and number are looked at.
    if trace.guard.inhibited > 0 {
        for estimate in &trace.published {
            let is_inhibited = estimate.reasons.contains(Reasons::INHIBITED);
            let is_zero = estimate.velocity().iter().all(|part| *part == 0.0);
            let is_stale = estimate.quality == Quality::Stale;
            breach(
                !is_inhibited || (is_zero && is_stale),
                estimate,
                "an output although the daemon is paused",
            );
        }
        broken.extend(count(plan, trace));
        return broken;
    }
    let mut computed = HashSet::new();
    for estimate in &trace.published {
        let values = estimate.rates().iter().chain(estimate.velocity());
        breach(values.into_iter().all(|value| value.is_finite()), estimate, "not finite");
        explained(&known, estimate, &mut breach);
        stood_in(&known, estimate, &mut breach);
        let Some((_, bin)) = known.bin(estimate) else { continue };
        // One that never came is answered with the next that does, or as stale.
        if !matches!(estimate.quality, Quality::Stale | Quality::Gap) {
            let late_ns = plan.wake_delay_ns + plan.stopped_periods() * plan.period_ns;
            let latest_ns = bin.arrival.arrival_ns + plan.time.deadline_ns + late_ns;
            breach(estimate.published_ns <= latest_ns, estimate, "after its deadline");
        }
        if matches!(estimate.quality, Quality::Good | Quality::Warmup) {
            breach(computed.insert(bin.nth), estimate, "published as new once more");
            young(plan, bin, estimate, &mut breach);
        }
    }
    if trace.guard.skipped > 0 && !jumps(plan) {
        broken.push(format!("{} numbers skipped", trace.guard.skipped));
    }
    broken.extend(made(plan, trace));
    broken.extend(fading(trace));
    broken.extend(count(plan, trace));
    broken.extend(recovery(plan, trace));
    broken
}

/// Whether numbers may be left out: only where the source's jump by more than there can be periods.
fn jumps(plan: &Plan) -> bool {
    plan.has(|fault| matches!(fault, Fault::Jump { .. }))
}

type Breach<'a> = dyn FnMut(bool, &Estimate, &str) + 'a;

fn order(plan: &Plan, before: &Estimate, now: &Estimate, breach: &mut Breach) {
    let restarts = plan.has(|fault| matches!(fault, Fault::Restart { .. }));
    let has = |reason| now.reasons.contains(reason);
    if before.stream != now.stream {
        breach(restarts && has(Reasons::SOURCE_RESTART), now, "an untold new stream");
    } else if now.seq <= before.seq {
        // A source that counts again under its old id before it has sent enough to tell looks like a paused one.
        let paused =
            plan.has(|fault| matches!(fault, Fault::Pause { .. } | Fault::Restart { same_id: true }));
        breach(paused && has(Reasons::RENUMBERED), now, "back in order");
    } else if now.seq != before.seq + 1 {
        let is_far = now.seq - before.seq > QUEUE_BINS as u64;
        breach(jumps(plan) && is_far && has(Reasons::LONG_GAP), now, "out of order");
    }
    breach(before.published_ns <= now.published_ns, now, "before its predecessor");
    // Silence: at most the periods before a source is stale, and the deadline of the first one.
    let silent = STALE_AFTER_BINS + 1 + plan.stopped_periods();
    let silent_ns = silent * plan.period_ns + plan.time.deadline_ns + plan.wake_delay_ns;
    breach(now.published_ns - before.published_ns <= silent_ns + plan.jitter_ns, now, "after a silence");
}

/// Whether the quality is what happened to the bin, and computed values are that bin's own.
fn explained(known: &Known<'_>, estimate: &Estimate, breach: &mut Breach) {
    let plan = known.plan;
    let bin = known.bin(estimate);
    let [count, history] = [estimate.velocity()[0], estimate.velocity()[1]];
    let is_short = estimate.reasons.contains(Reasons::SHORT_HISTORY);
    match estimate.quality {
        Quality::Good | Quality::Warmup => {
            breach(bin.is_some(), estimate, "computed of a bin that never came");
            breach(
                bin.is_none_or(|(_, bin)| !bin.is_implausible),
                estimate,
                "used of values that are no counts",
            );
            breach(is_short == (history < WARMUP_BINS as f32), estimate, "warm for another history");
            breach(is_short == (estimate.quality == Quality::Warmup), estimate, "warmth untold");
            breach(bin.is_none_or(|(_, bin)| bin.count == count), estimate, "the values of another bin");
            breach(estimate.rates() == [1.0], estimate, "a rate that was not computed");
            let is_new =
                [Reasons::LONG_GAP, Reasons::SEGMENT_START].map(|new| estimate.reasons.contains(new));
            breach(!is_new.contains(&true) || history == 1.0, estimate, "history across a gap or a segment");
        }
        Quality::Gap => {
            // A bin that is overtaken is taken as missing, and so is the oldest of more than a queue holds.
            let reordered = plan.has(|fault| matches!(fault, Fault::Reorder { .. }));
            let is_full = |(at, _): (usize, &Came)| known.until(at, estimate).len() > QUEUE_BINS;
            breach(bin.is_none_or(is_full) || reordered, estimate, "a gap where a bin came");
            breach(count < 0.0 || estimate.decoded_ns == 0, estimate, "a gap with a bin's values");
        }
        Quality::Late => {
            let is_old = estimate.reasons.contains(Reasons::OLD_BIN);
            // The deadline counts from the end of the bin at the earliest, and leaves a bin that came late half of it.
            let is_due = |bin: &Came| match is_old {
                true => is_too_old(plan, bin, estimate),
                false => {
                    let late_ns = bin.arrival.arrival_ns + plan.time.deadline_ns / 2;
                    estimate.published_ns >= late_ns.max(bin.ended_ns + plan.time.deadline_ns)
                }
            };
            // The results of a stream that has ended are not waited for.
            let has_ended =
                |at| known.until(at, estimate).iter().any(|bin| bin.arrival.stream != estimate.stream);
            let is_late = bin.is_some_and(|(at, bin)| is_due(bin) || has_ended(at));
            breach(is_late, estimate, "late before its deadline");
        }
        Quality::Stale => breach(known.is_silent(estimate), estimate, "stale although a bin came in time"),
        Quality::Fault => {
            let is_broken = plan.has(|fault| matches!(fault, Fault::Broken { .. }));
            let is_implausible = estimate.reasons.contains(Reasons::IMPLAUSIBLE_COUNTS);
            let has_come = bin.is_some_and(|(_, bin)| bin.is_implausible);
            breach(is_broken || is_implausible, estimate, "a fault of nothing");
            breach(is_implausible == has_come, estimate, "values that are no counts, untold or told of none");
        }
    }
}

/// Whether a bin was older than is allowed when it was answered, or came in a backlog at a time when nothing was known of the
/// source's clock. A clock that does not run at our rate makes no bin old; in one that is wrong by a few hundredths, or whose
/// rate the sending in blocks hides, a backlog is told all the same.
fn is_too_old(plan: &Plan, bin: &Came, estimate: &Estimate) -> bool {
    match bin.arrival.due {
        Due::At(_) => plan.rate == 1.0 && estimate.published_ns > bin.ended_ns + plan.time.max_age_ns,
        Due::Before => plan.says_sent && ((plan.rate - 1.0).abs() < 0.1 || plan.block > 1),
        Due::Unknown => false,
    }
}

/// Whether a computed estimate is as young as is allowed, by its own age and by a clock that is always right.
fn young(plan: &Plan, bin: &Came, estimate: &Estimate, breach: &mut Breach) {
    let Some(age_ns) = estimate.age() else { return };
    let max_age_ns = plan.time.max_age_ns;
    breach(age_ns <= max_age_ns as i64, estimate, "older than it may be");
    breach(plan.rate == 1.0, estimate, "an age by a clock that does not run as ours");
    // Of a delay that every bin had nothing can be known; bins of the model may all end in the middle of a block.
    let block_ns = if plan.parts > 1 && plan.block > 1 { plan.period_ns } else { 0 };
    let young_ns = bin.ended_ns + max_age_ns + plan.jitter_ns / 4 + block_ns;
    breach(estimate.published_ns <= young_ns, estimate, "older than its age");
    let older_ns = (young_ns as i64 - max_age_ns as i64).saturating_add(age_ns);
    breach(estimate.published_ns as i64 <= older_ns, estimate, "an age that is too low");
    breach(
        age_ns >= 0 && bin.ended_ns as i64 + age_ns <= estimate.published_ns as i64,
        estimate,
        "an age that is too high",
    );
}

/// Whether the fallback decoder's velocity is given of a bin that came and has no result, where it has one, and of no other.
fn stood_in(known: &Known<'_>, estimate: &Estimate, breach: &mut Breach) {
    let came = known.bin(estimate).filter(|_| matches!(estimate.quality, Quality::Late | Quality::Fault));
    // The oldest of more than a queue holds is forgotten.
    let came = came.filter(|(at, _)| known.until(*at, estimate).len() <= QUEUE_BINS);
    let said = came.and_then(|(_, bin)| bin.arrival.velocity);
    let is_degraded = estimate.reasons.contains(Reasons::DEGRADED);
    breach(is_degraded == said.is_some(), estimate, "a fallback untold, or told of none");
    breach(
        said.is_none_or(|said| said[..2] == *estimate.velocity()),
        estimate,
        "the fallback of another bin",
    );
}

/// A bin of the model has the sum of its parts and, but for what segments give up, their number.
fn made(plan: &Plan, trace: &Trace) -> Vec<String> {
    let invalid = plan.has(|fault| matches!(fault, Fault::Nan { .. } | Fault::Implausible { .. }));
    let segments = plan.sum(|fault| u64::from(*fault == Fault::Segment));
    let given_up = if plan.parts > 1 { segments } else { 0 };
    let is_wrong = |bin: &&Came| {
        // That of its first part, whose phase is the stream's or its segment's.
        let number = (bin.source_seq + 1).saturating_sub(plan.parts) / plan.parts;
        let is_numbered = (number..=number + given_up).contains(&bin.arrival.seq);
        let is_summed =
            bin.count == plan.count(bin.nth) || (invalid && bin.count == 0.0) || plan.goes_on_untold();
        !is_numbered || !is_summed
    };
    let tell = |Came { arrival, nth, source_seq, count, .. }: &Came| {
        format!("made of others: seq {}, count {count}, the source's {nth}, number {source_seq}", arrival.seq)
    };
    trace.came.iter().filter(is_wrong).map(tell).take(1).collect()
}

/// A velocity that is not computed fades: each answer is slower than the one before, and the tenth is zero.
fn fading(trace: &Trace) -> Vec<String> {
    let mut broken = Vec::new();
    let (mut in_a_row, mut before) = (0, f32::INFINITY);
    for estimate in &trace.published {
        let is_degraded = estimate.reasons.contains(Reasons::DEGRADED);
        let is_computed = (estimate.decoded_ns > 0 && estimate.quality != Quality::Fault) || is_degraded;
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
    let Some(first) = trace.came.first() else { return Vec::new() };
    let deadline = plan.time.deadline_ns.div_ceil(plan.period_ns);
    // A restart may come in the middle of a period, and so may a segment in the middle of a model's bin.
    let restarts = plan.sum(|fault| u64::from(matches!(fault, Fault::Restart { .. })));
    let segments = plan.sum(|fault| u64::from(plan.parts > 1 && *fault == Fault::Segment));
    let delayed = plan.wake_delay_ns.div_ceil(plan.period_ns);
    let mut slack =
        STALE_AFTER_BINS + deadline + delayed + 2 + 9 * restarts + segments + plan.stopped_periods();
    // Bins of a new stream, or of numbers ahead, that come at once after a stall are answered, although periods passed
    // meanwhile.
    let ahead = plan.has(|fault| matches!(fault, Fault::Restart { .. } | Fault::Jump { .. }));
    let stalled = plan.stopped_periods()
        + plan.sum(|fault| if let Fault::Stall { periods } = fault { *periods } else { 0 });
    // Numbers that are left out are answered at once, unless they are more than there can be periods.
    let left_out = plan.sum(|fault| match fault {
        Fault::Jump { bins } if bins / plan.parts <= QUEUE_BINS as u64 => bins.div_ceil(plan.parts),
        _ => 0,
    });
    let more = left_out + if ahead { stalled } else { 0 };
    for (given, estimate) in (1..).zip(&trace.published) {
        // Stale answers come a deadline after their period, those of a source that is followed at once.
        slack += if estimate.reasons.contains(Reasons::RENUMBERED) { deadline + 1 } else { 0 };
        let passed = (estimate.published_ns - first.arrival.arrival_ns) / plan.period_ns + 1;
        if !(passed.saturating_sub(slack)..=passed + slack + more).contains(&given) {
            let seq = estimate.seq;
            return vec![format!("{given} estimates in {passed} periods, slack {slack}, at seq {seq}")];
        }
    }
    Vec::new()
}

/// All is good again soon after the last fault, and nothing waits: after the warm-up, and the periods after which a
/// source that was paused is followed, in which a bin must have come.
fn recovery(plan: &Plan, trace: &Trace) -> Vec<String> {
    let block = plan.block.div_ceil(plan.parts);
    let recovery_bins = WARMUP_BINS + (STALE_AFTER_BINS + block) + STALE_AFTER_BINS * block + 2;
    let calm_ns = plan.calm_ns() + recovery_bins * plan.period_ns;
    let uncalm = |estimate: &&Estimate| {
        let is_calm = estimate.quality == Quality::Good && u64::from(estimate.lag_bins) < block;
        estimate.published_ns > calm_ns && !is_calm
    };
    let tell = |estimate: &Estimate| format!("not recovered at seq {}: {:?}", estimate.seq, estimate.quality);
    trace.published.iter().filter(uncalm).map(tell).take(1).collect()
}
