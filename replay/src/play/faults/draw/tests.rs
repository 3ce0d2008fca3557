use super::*;
use crate::play::Channels;
use crate::session::{Interval, Session, Trial, Unit};
use proptest::prelude::*;
use std::collections::BTreeMap;

const WIDTH_NS: u64 = 20_000_000;

/// A plan of `bins` 20 ms bins of five channels, in segments of a hundred bins.
fn plan(bins: usize) -> Plan {
    let unit = |id| Unit { id, heldout: false, spike_times: vec![0.01 * id as f64] };
    let trial = |id: usize| Trial {
        id: id as i64,
        interval: Interval { start: 3.0 * id as f64, stop: 3.0 * id as f64 + 2.0 },
        split: None,
        columns: Default::default(),
    };
    let session = Session {
        identifier: "a test".to_owned(),
        units: (0..5).map(unit).collect(),
        observed: Vec::new(),
        trials: (0..bins.div_ceil(100)).map(trial).collect(),
        behavior: Vec::new(),
        source: Default::default(),
    };
    let mut plan = Plan::new(&session, None, 20.0, Channels::All).unwrap();
    plan.truncate(bins);
    assert_eq!(plan.bins(), bins);
    plan
}

fn drawn(bins: usize, faults: &str, seed: u64) -> FaultPlan {
    FaultPlan::new(&plan(bins), &faults.parse().unwrap(), seed)
}

/// Run, first number, last number and amount of each event of a kind.
fn ranges_of(plan: &FaultPlan, kind: FaultKind) -> Vec<(u32, u64, u64, i64)> {
    let events = plan.events.iter().filter(|fault| fault.kind == kind);
    events.map(|fault| (fault.run, fault.first_seq, fault.last_seq, fault.by)).collect()
}

fn due_bins(plan: &FaultPlan) -> Vec<(usize, f64)> {
    plan.sendings.iter().map(|sending| (sending.bin, sending.due_ns as f64 / WIDTH_NS as f64)).collect()
}

#[test]
fn without_faults_each_bin_is_sent_once_in_its_place_at_its_instant() {
    let (plan, drawn) = (plan(250), drawn(250, "none", 3));
    assert!(drawn.events.is_empty());
    assert_eq!(
        (drawn.bins, drawn.bin_width_ns, drawn.channels, drawn.sendings.len()),
        (250, WIDTH_NS, 5, 250)
    );
    let mut counts = Vec::new();
    for (bin, sending) in drawn.sendings.iter().enumerate() {
        let (stamp, planned) = plan.bin(bin);
        assert_eq!(sending.fill(&plan, &mut counts), stamp);
        assert_eq!(
            (&counts[..], sending.due_ns, sending.copy),
            (planned, (bin as u64 + 1) * WIDTH_NS, false)
        );
    }
}

#[test]
fn the_seed_decides_and_no_kind_disturbs_another() {
    let faults = "drop=2%,dup=3%,reorder=4,jitter=3ms,burst=7,nan=1%";
    assert_eq!(drawn(3000, faults, 5), drawn(3000, faults, 5));
    assert_ne!(drawn(3000, faults, 5).events, drawn(3000, faults, 6).events);
    let alone = drawn(3000, "drop=2%", 5);
    let more = drawn(3000, "drop=2%,dup=50%,jitter=3ms,reorder=9,nan=10%,stall=1s@9s,channels=+1@2s", 5);
    assert_eq!(ranges_of(&alone, FaultKind::Drop), ranges_of(&more, FaultKind::Drop));
    let longer = drawn(4000, "drop=2%", 5);
    assert!(
        longer.events.starts_with(&alone.events[..alone.events.len() - 1]),
        "a longer play begins as a shorter one does"
    );
}

#[test]
fn rates_are_near_what_was_asked_for() {
    for seed in 0..5 {
        let bins = 20_000;
        let plan = drawn(bins, "drop=5%,dup=2%,reorder=3,burst=4,nan=1%", seed);
        let count = |kind| -> u64 {
            let events = plan.events.iter().filter(|fault| fault.kind == kind);
            events.map(|fault| fault.last_seq - fault.first_seq + 1).sum()
        };
        let near = |found: u64, expected: f64, what: &str| {
            // Five standard deviations of a binomial count, and the same again for bursts that are cut or joined.
            let slack = 10.0 * expected.sqrt();
            assert!(
                (found as f64 - expected).abs() < slack,
                "seed {seed}: {what} {found}, expected {expected}"
            );
        };
        let bursts = bins as f64 / 500.0;
        near(count(FaultKind::Burst), 4.0 * bursts, "lost in bursts");
        near(count(FaultKind::Drop), 0.05 * (bins as f64 - 4.0 * bursts), "dropped");
        let sent = plan.sendings.iter().filter(|sending| !sending.copy).count();
        assert_eq!(
            sent as u64 + count(FaultKind::Burst) + count(FaultKind::Drop),
            bins as u64,
            "seed {seed}"
        );
        near(count(FaultKind::Dup), 0.02 * sent as f64, "sent twice");
        near(count(FaultKind::Reorder), 0.01 * sent as f64, "reordered");
        let firsts = plan.sendings.iter().filter(|sending| !sending.copy);
        near(firsts.map(|sending| sending.nan_channels.len() as u64).sum(), 0.05 * sent as f64, "NaN counts");
    }
}

#[test]
fn a_burst_is_so_many_bins_in_a_row() {
    let plan = drawn(20_000, "burst=10", 1);
    let bursts = ranges_of(&plan, FaultKind::Burst);
    assert!(bursts.len() > 10, "{bursts:?}");
    for (_, first, last, by) in bursts {
        assert!(by % 10 == 0 || last == 19_999, "from {first} to {last} by {by}");
        assert!(plan.sendings.iter().all(|sending| !(first..=last).contains(&sending.seq)));
    }
}

#[test]
fn copies_are_right_behind_and_reordered_bins_behind_later_ones() {
    let plan = drawn(5000, "dup=10%,reorder=3", 2);
    for (at, sending) in plan.sendings.iter().enumerate().filter(|(_, sending)| sending.copy) {
        let original = Sending { copy: false, ..sending.clone() };
        assert_eq!(plan.sendings[at - 1], original);
    }
    let firsts: Vec<&Sending> = plan.sendings.iter().filter(|sending| !sending.copy).collect();
    let late = ranges_of(&plan, FaultKind::Reorder);
    assert!(late.len() > 20 && late.iter().any(|late| late.3 == 3) && late.iter().all(|late| late.3 <= 3));
    let mut passed = 0;
    for (_, first, last, by) in late {
        for seq in first..=last {
            let at = firsts.iter().position(|sending| sending.seq == seq).unwrap();
            assert_eq!(firsts[at].due_ns, (seq + by as u64 + 1) * WIDTH_NS);
            assert!(firsts[..at].iter().all(|sending| sending.seq <= seq + by as u64));
            passed += usize::from(firsts[..at].iter().any(|sending| sending.seq > seq));
        }
    }
    assert!(passed > 20, "only {passed} bins were passed by later ones");
}

#[test]
fn jitter_delays_and_keeps_the_order() {
    for jitter in ["3ms", "50ms"] {
        let plan = drawn(2000, &format!("jitter={jitter}"), 1);
        let jitter_ns = plan.faults.jitter_ns;
        let mut delays_ns = 0;
        for (bin, sending) in plan.sendings.iter().enumerate() {
            let delay_ns = sending.due_ns - (bin as u64 + 1) * WIDTH_NS;
            assert!(sending.bin == bin && delay_ns <= jitter_ns, "bin {bin}: {delay_ns}");
            delays_ns += delay_ns;
        }
        assert!(plan.sendings.is_sorted_by_key(|sending| sending.due_ns));
        assert!(delays_ns / 2000 > jitter_ns * 4 / 10, "uniform up to the limit: {delays_ns}");
        assert_eq!(ranges_of(&plan, FaultKind::Jitter), [(0, 0, 1999, jitter_ns as i64)]);
    }
}

#[test]
fn after_a_stall_all_that_was_due_comes_at_once() {
    // From the instant of bin 3 on for 70 ms: bins 3 to 6 wait, bin 7 is in time.
    let plan = drawn(10, "stall=70ms@60ms", 1);
    let due = [(2, 3.0), (3, 7.5), (4, 7.5), (5, 7.5), (6, 7.5), (7, 8.0)];
    assert_eq!(due_bins(&plan)[2..8], due);
    let [stall] = plan.events[..] else { panic!("{:?}", plan.events) };
    assert_eq!((stall.kind, stall.first_seq, stall.last_seq, stall.by), (FaultKind::Stall, 3, 6, 70_000_000));
    assert_eq!((stall.from_ns, stall.to_ns), (80_000_000, 150_000_000));
    // A stall that begins within another one holds up what the first one would have released.
    let plan = drawn(10, "stall=40ms@100ms,stall=70ms@60ms", 1);
    assert_eq!(due_bins(&plan)[2..9], [(2, 3.0), (3, 8.0), (4, 8.0), (5, 8.0), (6, 8.0), (7, 8.0), (8, 9.0)]);
    // A stall after the end holds up nothing.
    assert!(drawn(10, "stall=40ms@300ms", 1).events.is_empty());
}

#[test]
fn a_restart_numbers_anew_and_starts_no_segment() {
    let plan = drawn(300, "restart@0s,restart@100ms,restart@110ms,restart@111ms,restart@5s,reorder=8", 1);
    let numbers: Vec<(u32, u64)> = plan.sendings.iter().map(|sending| (sending.run, sending.seq)).collect();
    let runs: Vec<usize> = (0..4).map(|run| numbers.iter().filter(|(of, _)| *of == run).count()).collect();
    // Two restarts between two bins count as one, and no restart comes before the first bin.
    assert_eq!(runs, [5, 1, 244, 50]);
    assert!(numbers.is_sorted_by_key(|(run, _)| *run), "no run sends after the next has begun");
    assert_eq!(ranges_of(&plan, FaultKind::Restart), [(1, 0, 0, 1), (2, 0, 0, 2), (3, 0, 0, 3)]);
    let (plan300, mut counts) = (self::plan(300), Vec::new());
    let stamp = |at: usize, counts: &mut Vec<f32>| plan.sendings[at].fill(&plan300, counts);
    assert!(stamp(0, &mut counts).segment_start && !stamp(5, &mut counts).segment_start);
}

#[test]
fn channels_are_wrong_for_a_second() {
    let (plan, drawn) = (plan(200), drawn(200, "channels=+3@1s,channels=-9@1.5s", 1));
    let mut counts = Vec::new();
    let sizes: Vec<usize> = drawn
        .sendings
        .iter()
        .map(|sending| {
            sending.fill(&plan, &mut counts);
            counts.len()
        })
        .collect();
    let of = |range: std::ops::Range<usize>, size| sizes[range].iter().all(|found| *found == size);
    assert!(of(0..50, 5) && of(50..75, 8) && of(75..125, 0) && of(125..200, 5), "{sizes:?}");
    assert_eq!(ranges_of(&drawn, FaultKind::Channels), [(0, 50, 74, 3), (0, 75, 124, -9)]);
}

#[test]
fn a_clock_jumps_for_good_and_nan_takes_counts() {
    let (plan, faults) = (plan(100), drawn(100, "clock=+5s@100ms,clock=-1ms@1s,nan=20%", 1));
    let mut counts = Vec::new();
    for (bin, sending) in faults.sendings.iter().enumerate() {
        let shift = if bin >= 50 { 4_999_000_000 } else { 5_000_000_000 } * i64::from(bin >= 5);
        let stamp = sending.fill(&plan, &mut counts);
        assert_eq!(stamp.source_ns, plan.bin(bin).0.source_ns + shift);
        let nan = (0..5u32).filter(|channel| counts[*channel as usize].is_nan());
        assert!(nan.eq(sending.nan_channels.iter().copied()));
    }
    assert_eq!(ranges_of(&faults, FaultKind::Clock), [(0, 5, 5, 5_000_000_000), (0, 50, 50, -1_000_000)]);
    assert!(drawn(20, "nan=100%", 1).sendings.iter().all(|sending| sending.nan_channels == [0, 1, 2, 3, 4]));
    assert!(drawn(20, "drop=100%,dup=100%", 1).sendings.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_plan_accounts_for_every_bin(
        seed in 0u64..1000, drop in 0u32..60, dup in 0u32..60, reorder in 0usize..8, jitter in 0u32..90,
        burst in 0usize..30, stall in 1u32..900, restart in 0u32..6000,
    ) {
        let faults = format!(
            "drop={drop}%,dup={dup}%,reorder={reorder},jitter={jitter}ms,burst={burst},stall={stall}ms@2s,\
             restart@{restart}ms"
        );
        let plan = drawn(300, &faults, seed);
        let mut sent = BTreeMap::new();
        for sending in &plan.sendings {
            *sent.entry(sending.bin).or_insert(0) += 1;
            prop_assert!(sending.due_ns > sending.bin as u64 * WIDTH_NS, "never before its instant");
        }
        let lost: u64 = plan.events.iter()
            .filter(|fault| matches!(fault.kind, FaultKind::Drop | FaultKind::Burst))
            .map(|fault| fault.last_seq - fault.first_seq + 1).sum();
        prop_assert_eq!(sent.len() as u64 + lost, 300);
        prop_assert!(plan.sendings.is_sorted_by_key(|sending| (sending.due_ns, sending.run)));
        prop_assert!(plan.events.is_sorted_by_key(|fault| fault.from_ns));
        let copies = plan.sendings.iter().filter(|sending| sending.copy).count();
        prop_assert_eq!(sent.len() + copies, plan.sendings.len());
    }
}
