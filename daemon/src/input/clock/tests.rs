//! Clocks that run as ours, faster, slower, or not evenly, and bins that come in time or all at once.

use super::*;

const WIDTH_NS: u64 = 20_000_000;
/// Our time at which the source's is 0, ns.
const AHEAD_NS: u64 = 1_000_000_000;

/// Our time at which bin `seq` ends.
fn end_ns(seq: u64) -> u64 {
    (seq + 1) * WIDTH_NS + AHEAD_NS
}

/// Bin `seq` of a source whose clock is 1 s behind ours and that is at 0 when `seq` is; it comes `delay_ns` after its end.
fn bin(seq: u64, shift_ns: i64, delay_ns: u64) -> Bin {
    let mut bin = Bin::empty();
    bin.seq = seq;
    bin.source_ns = ((seq + 1) * WIDTH_NS) as i64 + shift_ns;
    bin.arrival_ns = end_ns(seq) + delay_ns;
    bin.sent_ns = end_ns(seq);
    bin
}

fn read(clock: &mut SourceClock, seq: u64, shift_ns: i64, delay_ns: u64) -> Reading {
    clock.read(&bin(seq, shift_ns, delay_ns))
}

/// Reads bins that come on time, with a delay of up to a tenth of their width.
fn read_calm(clock: &mut SourceClock, seqs: std::ops::Range<u64>) {
    for seq in seqs {
        read(clock, seq, 0, seq * 7 % 10 * WIDTH_NS / 100);
    }
}

/// How far a reading says that a bin was due after the bin's end, ns.
fn error_ns(reading: &Reading, seq: u64) -> Option<i64> {
    match reading.due {
        Due::At(due_ns) => Some(due_ns as i64 - end_ns(seq) as i64),
        Due::Unknown | Due::Before => None,
    }
}

#[test]
fn the_shortest_delay_gives_the_offset_and_the_others_its_uncertainty() {
    let mut clock = SourceClock::new(WIDTH_NS);
    assert_eq!(read(&mut clock, 0, 0, 70_000).uncertainty_ns, Estimate::CLOCK_UNKNOWN);
    let last = (1..1000).map(|seq| read(&mut clock, seq, 0, 50_000 + 10_000 * (seq % 5))).last().unwrap();
    assert_eq!((last.offset_ns, last.jumped), (1_000_050_000, false));
    assert!((19_000..21_000).contains(&last.uncertainty_ns), "{last:?}");
    assert_eq!(last.due, Due::At(end_ns(999) + 50_000));
}

#[test]
fn an_offset_that_was_measured_is_told() {
    let mut clock = SourceClock::new(WIDTH_NS);
    let mut bin = bin(0, 0, 0);
    bin.clock = Some(ClockOffset { offset_ns: -5, uncertainty_ns: 20_000 });
    let reading = clock.read(&bin);
    assert_eq!((reading.offset_ns, reading.uncertainty_ns, reading.jumped), (-5, 20_000, false));
}

#[test]
fn an_old_offset_is_forgotten_when_the_clocks_drift() {
    let mut clock = SourceClock::new(WIDTH_NS);
    // 100 us a bin, half of what is taken for another rate.
    let readings: Vec<Reading> = (0..2000).map(|seq| read(&mut clock, seq, 0, 100_000 * seq)).collect();
    let drift = readings[1999].offset_ns - readings[999].offset_ns;
    assert!((drift - 100_000_000).abs() <= 200 * 100_000, "{drift}");
    let late_ns = |seq: usize| error_ns(&readings[seq], seq as u64).unwrap() - 100_000 * seq as i64;
    assert!((100..2000).all(|seq| late_ns(seq).abs() < WIDTH_NS as i64), "within a bin width");
}

#[test]
fn a_jump_is_told_once_and_starts_anew_and_a_gap_is_none() {
    let mut clock = SourceClock::new(WIDTH_NS);
    (0..60).for_each(|seq| assert!(!read(&mut clock, seq, 0, 0).jumped));
    let gap = read(&mut clock, 80, 0, 0);
    assert!(!gap.jumped && gap.due == Due::At(end_ns(80)), "missing bins take their time with them");
    let jump = read(&mut clock, 81, 5_000_000_000, 0);
    assert!(jump.jumped && jump.uncertainty_ns == Estimate::CLOCK_UNKNOWN && jump.due == Due::Unknown);
    assert_eq!(jump.offset_ns, 1_000_000_000 - 5_000_000_000);
    assert!(!read(&mut clock, 82, 5_000_000_000, 0).jumped);
    assert!(read(&mut clock, 83, 0, 0).jumped, "back again");
    // A segment that begins elsewhere is no fault of the clock, and one that goes on changes nothing.
    let starts = |seq, shift_ns| {
        let mut bin = bin(seq, shift_ns, 0);
        bin.segment_start = true;
        bin
    };
    let elsewhere = clock.read(&starts(84, 9_000_000_000));
    assert!(!elsewhere.jumped && elsewhere.uncertainty_ns == Estimate::CLOCK_UNKNOWN);
    for seq in 85..160 {
        read(&mut clock, seq, 9_000_000_000, 0);
    }
    assert_eq!(clock.read(&starts(160, 9_000_000_000)).due, Due::At(end_ns(160)));
    // Another stream has a clock of its own.
    let mut other = bin(161, 9_000_000_000, 0);
    other.stream = 4;
    assert_eq!(clock.read(&other).due, Due::Unknown);
}

#[test]
fn a_bin_that_comes_again_or_late_changes_nothing_and_was_due_when_it_was() {
    let mut clock = SourceClock::new(WIDTH_NS);
    read_calm(&mut clock, 0..100);
    let before = format!("{clock:?}");
    assert_eq!(error_ns(&read(&mut clock, 90, 0, 10 * WIDTH_NS), 90), Some(0));
    assert_eq!(format!("{clock:?}"), before);
}

#[test]
fn a_backlog_after_a_stall_was_due_when_it_was_sent_however_fast_it_comes() {
    for (drain, stalled) in [(1_000, 100), (1_000, 500), (3, 200), (2, 300)] {
        let mut clock = SourceClock::new(WIDTH_NS);
        read_calm(&mut clock, 0..100);
        // Nothing comes for a while; then the bins come `drain` times as fast as they were made, until none waits.
        let resumes_ns = end_ns(100 + stalled);
        for seq in 100.. {
            let comes_ns = resumes_ns + (seq - 100) * WIDTH_NS / drain;
            let Some(delay_ns) = comes_ns.checked_sub(end_ns(seq)) else { break };
            let reading = read(&mut clock, seq, 0, delay_ns);
            assert_eq!(error_ns(&reading, seq), Some(0), "bin {seq}, {drain} times as fast");
        }
    }
}

#[test]
fn a_source_at_another_speed_has_no_bin_that_is_due_whether_it_says_when_it_sent_or_not() {
    for speed in [0.1, 0.5, 0.9, 0.97, 1.03, 1.1, 2.0, 10.0, 100.0, 1e6] {
        for says in [true, false] {
            let mut clock = SourceClock::new(WIDTH_NS);
            for seq in 0..3_000 {
                let mut bin = bin(seq, 0, 0);
                let jitter_ns = seq * 7919 % 13 * WIDTH_NS / 100;
                bin.sent_ns = (AHEAD_NS as f64 + (seq + 1) as f64 * WIDTH_NS as f64 / speed) as u64;
                // On their way, bins do not overtake each other.
                bin.arrival_ns = bin.sent_ns + if speed < 5.0 { jitter_ns } else { 50_000 };
                bin.sent_ns *= u64::from(says);
                let due = clock.read(&bin).due;
                assert_eq!(due, Due::Unknown, "bin {seq} at speed {speed}, sent said: {says}");
            }
        }
    }
}

/// When each bin was due, of `waiting` bins that have waited for the daemon and of 100 that come in time after them. They were sent at `sent_ns`, no
/// earlier than the bin before; those that waited come within some milliseconds, with a pause of this thread of `pause_ns` after half of them.
fn after_a_wait(waiting: u64, pause_ns: u64, sent_ns: impl Fn(u64) -> u64) -> Vec<Due> {
    let mut clock = SourceClock::new(WIDTH_NS);
    let begin_ns = sent_ns(waiting - 1) + 1_000_000;
    let mut last_ns = 0;
    let mut due = |seq: u64| {
        let mut bin = bin(seq, 0, 0);
        bin.sent_ns = sent_ns(seq);
        let waits = seq < waiting;
        let read_ns = begin_ns + 4_000 * seq + if seq < waiting / 2 { 0 } else { pause_ns };
        bin.arrival_ns = (if waits { read_ns } else { bin.sent_ns + 50_000 }).max(last_ns);
        last_ns = bin.arrival_ns;
        clock.read(&bin).due
    };
    (0..waiting + 100).map(&mut due).collect()
}

#[test]
fn a_backlog_at_the_start_is_recognised_by_when_it_was_sent() {
    for pause_ns in [0, 5_000_000, 15_000_000, 60_000_000] {
        let found = after_a_wait(1_000, pause_ns, end_ns);
        assert_eq!(found.iter().position(|due| *due == Due::Before), Some(4), "pause of {pause_ns} ns");
        assert!(found[4..1_000].iter().all(|due| *due == Due::Before), "pause of {pause_ns} ns");
        assert!(found[1_005..1_030].iter().all(|due| *due == Due::Unknown), "then it is over");
        assert!(matches!(found[1_099], Due::At(_)), "and then it is known when bins are due");
    }
}

#[test]
fn a_backlog_of_a_rig_that_does_not_send_evenly_is_recognised_too() {
    // It hangs for five bins in every thirty and then sends them at once, and each bin leaves it up to 9 ms late.
    let sent_ns = |seq: u64| {
        let hangs = seq % 30 < 5;
        let late_ns = if hangs { 0 } else { seq * 7919 % 10 * 1_000_000 };
        let made = if hangs { seq - seq % 30 + 4 } else { seq };
        end_ns(made) + late_ns + seq % 30 * 20_000
    };
    let found = after_a_wait(200, 12_000_000, sent_ns);
    let first = found.iter().position(|due| *due == Due::Before);
    assert!(first.is_some_and(|first| first <= 10), "{first:?}");
    assert!(found[10..200].iter().all(|due| *due == Due::Before), "{found:?}");
    assert!(found[215..].iter().all(|due| *due != Due::Before), "{found:?}");
}

#[test]
fn bins_that_do_not_say_when_they_were_sent_are_no_backlog() {
    for sent_ns in [0, 7] {
        let found = after_a_wait(100, 0, |_| sent_ns);
        assert!(found.iter().all(|due| *due != Due::Before), "sent at {sent_ns}");
    }
    // In picoseconds.
    let found = after_a_wait(100, 0, |seq| 1_000 * end_ns(seq));
    assert!(found.iter().all(|due| *due != Due::Before));
}

#[test]
fn bins_of_another_length_than_the_models_are_jumps() {
    for (length_ns, jumps) in
        [(20_000_000, 0), (20_010_000, 0), (10_000_000, 999), (25_000_000, 499), (12_000_000, 499)]
    {
        let mut clock = SourceClock::new(WIDTH_NS);
        let mut has_jumped = |seq: u64| {
            let mut bin = bin(seq, 0, 0);
            bin.source_ns = (seq * length_ns) as i64;
            bin.arrival_ns = seq * length_ns + AHEAD_NS;
            bin.sent_ns = bin.arrival_ns;
            clock.read(&bin).jumped
        };
        assert_eq!((0..1_000).filter(|seq| has_jumped(*seq)).count(), jumps, "bins of {length_ns} ns");
    }
}

#[test]
fn a_delay_that_grows_and_stays_counts_as_age_until_the_window_has_passed() {
    let mut clock = SourceClock::new(WIDTH_NS);
    read_calm(&mut clock, 0..100);
    let errors: Vec<i64> =
        (100..400).map(|seq| error_ns(&read(&mut clock, seq, 0, 3 * WIDTH_NS), seq).unwrap()).collect();
    assert!(errors[..100].iter().all(|error| *error == 0) && errors[299] == 3 * WIDTH_NS as i64);
}
