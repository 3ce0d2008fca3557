use super::super::load::Load;
use super::super::schedule::Length;
use super::*;

const MS: u64 = 1_000_000;
const WIDTH_NS: u64 = 20 * MS;
/// Number of the first bin after the benchmark's warm-up, with 20 ms bins.
const FIRST: u64 = 50;

fn tally(load: Load, bins: u64) -> Tally {
    Tally::new(Schedule::new(WIDTH_NS, load, Length::Bins(bins)), WIDTH_NS)
}

/// A bin that arrives 1 ms after it was due, is decoded 2 ms later and published 3 ms after that.
fn good(seq: u64) -> Answer {
    let due_ns = (seq + 1) * WIDTH_NS;
    Answer {
        seq,
        due_ns,
        arrival_ns: due_ns + MS,
        decoded_ns: due_ns + 3 * MS,
        published_ns: due_ns + 6 * MS,
        received_ns: None,
        quality: Quality::Good,
    }
}

/// The answer that the guard gives when no result came.
fn instead(seq: u64, quality: Quality) -> Answer {
    let due_ns = (seq + 1) * WIDTH_NS;
    Answer { decoded_ns: 0, published_ns: due_ns + MS + WIDTH_NS, quality, ..good(seq) }
}

/// Asserts that two latencies, us, agree within 0.2 percent, because the histograms keep three digits.
#[track_caller]
fn assert_us(found: f64, expected: f64) {
    assert!((found - expected).abs() <= expected * 2e-3, "{found} is not {expected}");
}

#[test]
fn each_stage_is_between_its_two_stamps() {
    let mut tally = tally(Load::None, 3);
    for seq in 0..FIRST + 3 {
        tally.take(&Answer { received_ns: Some(good(seq).published_ns + 4 * MS), ..good(seq) });
    }
    let expected_us = [1e3, 2e3, 3e3, 5e3, 6e3, 4e3, 10e3, 0.0];
    for (stage, expected_us) in Stage::ALL.into_iter().zip(expected_us) {
        let found = tally.percentiles(stage, Bins::Steady).unwrap();
        assert_eq!(found.count, 3, "the warm-up does not count: {stage:?}");
        [found.p50, found.p99_9, found.max].iter().for_each(|found| assert_us(*found, expected_us));
        assert_eq!(tally.percentiles(stage, Bins::AfterGap), None);
    }
    assert_eq!(tally.outcomes().qualities, [3, 0, 0, 0, 0, 0]);
    assert!(tally.is_complete());
    assert_eq!(tally.reached_ns(), (FIRST + 3) * WIDTH_NS);
}

#[test]
fn percentiles_are_those_of_known_data() {
    let mut tally = tally(Load::None, 1000);
    for (place, seq) in (FIRST..FIRST + 1000).enumerate() {
        // 1 us to 1 ms, every one once.
        let arrival_ns = good(seq).due_ns + (place as u64 + 1) * 1_000;
        tally.take(&Answer { arrival_ns, ..good(seq) });
    }
    let found = tally.percentiles(Stage::DueToArrival, Bins::Steady).unwrap();
    assert_eq!(found.count, 1000);
    let all = [found.p50, found.p90, found.p99, found.p99_9, found.max];
    all.iter()
        .zip([500.0, 900.0, 990.0, 999.0, 1000.0])
        .for_each(|(found, expected)| assert_us(*found, expected));
}

#[test]
fn a_stall_counts_for_every_bin_behind_it() {
    // The pipeline stands for 10 bins and then answers them all at once: a loop that waits would have seen one.
    let mut tally = tally(Load::None, 100);
    let stalled = FIRST + 20..FIRST + 30;
    let end_ns = good(stalled.end).due_ns;
    for seq in FIRST..FIRST + 100 {
        let answer = good(seq);
        tally.take(&match stalled.contains(&seq) {
            true => Answer { arrival_ns: end_ns, decoded_ns: end_ns, published_ns: end_ns, ..answer },
            false => answer,
        });
    }
    let found = tally.percentiles(Stage::DueToPublished, Bins::Steady).unwrap();
    assert_us(found.p50, 6e3);
    assert_us(found.p99, 180e3);
    assert_us(found.max, 200e3);
    // All but the last, which is published just in time.
    assert_eq!((tally.outcomes().behind, tally.outcomes().missed()), (9, 0));
    // Eleven intervals are not 20 ms: nine of none, one before them, and one after, which is 6 ms too long.
    let jitter = tally.percentiles(Stage::OutputJitter, Bins::Steady).unwrap();
    assert_us(jitter.max, 194e3);
}

#[test]
fn misses_have_no_decoding_and_count_all_the_same() {
    let mut tally = tally(Load::None, 5);
    let (late, stale, gap) = (FIRST, FIRST + 1, FIRST + 2);
    tally.take(&instead(late, Quality::Late));
    tally.take(&instead(stale, Quality::Stale));
    tally.take(&instead(gap, Quality::Gap));
    tally.take(&good(FIRST + 4));
    let outcomes = tally.outcomes();
    assert_eq!((outcomes.missed(), outcomes.answered(), outcomes.unanswered()), (3, 4, 1));
    assert_eq!((outcomes.qualities, outcomes.behind, outcomes.miss_rate()), ([1, 0, 1, 1, 1, 0], 3, 0.75));
    let of = |stage| tally.percentiles(stage, Bins::Steady).unwrap().count;
    // Only the late one and the good one came at all.
    assert_eq!(of(Stage::DueToArrival), 2);
    assert_eq!((of(Stage::ArrivalToDecoded), of(Stage::DueToPublished)), (1, 4));
    // Between the third and the fifth is no interval of two successive ones.
    assert_eq!(of(Stage::OutputJitter), 2);
}

#[test]
fn a_repeated_number_is_no_answer() {
    let mut tally = tally(Load::None, 2);
    for seq in [FIRST, FIRST, FIRST + 1, FIRST] {
        tally.take(&good(seq));
    }
    assert_eq!(
        (tally.outcomes().answered(), tally.outcomes().repeated, tally.outcomes().unanswered()),
        (2, 2, 0)
    );
}

#[test]
fn the_first_bin_after_a_gap_is_told_apart_and_the_gap_is_no_jitter() {
    let mut tally = tally(Load::IdleGap, 50);
    let after_gap = FIRST;
    for seq in FIRST - 1..FIRST + 75 {
        let answer = good(seq);
        tally.take(&match tally.schedule().is_sent(seq) {
            _ if seq == after_gap => Answer { published_ns: answer.due_ns + 9 * MS, ..answer },
            true => answer,
            false => instead(seq, Quality::Stale),
        });
    }
    let due_to_published = |bins| tally.percentiles(Stage::DueToPublished, bins).unwrap();
    assert_eq!((due_to_published(Bins::AfterGap).count, due_to_published(Bins::Steady).count), (2, 48));
    assert_us(due_to_published(Bins::AfterGap).max, 9e3);
    assert_us(due_to_published(Bins::Steady).max, 6e3);
    assert_eq!(tally.outcomes().without_bin, 25);
    assert_eq!(tally.outcomes().qualities, [50, 0, 0, 0, 0, 0]);
    assert_eq!(tally.percentiles(Stage::OutputJitter, Bins::AfterGap), None);
    // Only from the late first one to the second.
    assert_us(tally.percentiles(Stage::OutputJitter, Bins::Steady).unwrap().max, 3e3);
}
