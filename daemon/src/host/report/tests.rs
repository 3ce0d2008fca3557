//! The sentences of the log, and how often each is given.

use super::*;
use crate::input::Refusal;

#[test]
fn silence_is_reported_when_it_begins_and_when_it_ends() {
    let mut reporter = Reporter::new("tcp://rig:5570");
    let mut stats = Stats::default();
    let mut look = |stale: u64| {
        stats.guard.estimates[Quality::Stale as usize] = stale;
        reporter.messages(&stats)
    };
    let silent = Message::Warning("the source is silent: each bin period is answered as stale".to_owned());
    assert_eq!(look(0), []);
    assert_eq!(look(7), std::slice::from_ref(&silent));
    assert_eq!(look(57), []);
    assert_eq!(look(57), [Message::Info("the source is back after 57 stale estimates".to_owned())]);
    assert_eq!(look(58), [silent]);
}

#[test]
fn a_connection_that_is_lost_is_not_called_a_silence() {
    let mut reporter = Reporter::new("tcp://rig:5570");
    let mut stats = Stats { bins: 50, absence: Some(Absence::Lost), ..Stats::default() };
    stats.guard.estimates[Quality::Stale as usize] = 7;
    let lost = "the connection to the source is lost: each bin period is answered as stale";
    let said = reporter.messages(&stats);
    assert!(said.contains(&Message::Warning(lost.to_owned())), "{said:?}");
}

#[test]
fn an_event_is_reported_once_with_its_count() {
    let mut reporter = Reporter::new("tcp://rig:5570");
    let mut stats = Stats {
        refused: 3,
        last_refused: Some(Refusal::Channel { position: 48, expected: 20049, found: 10049 }),
        ..Stats::default()
    };
    stats.guard.estimates[Quality::Late as usize] = 2;
    let said: Vec<Message> = reporter.messages(&stats);
    let expected = [
        "3 messages refused, the last: expected the bundle's channel ids in the bundle's order, found 10049 in place of \
         20049 at position 48",
        "2 estimates missed their deadline",
    ];
    assert_eq!(said, expected.map(|sentence| Message::Warning(sentence.to_owned())));
    assert_eq!(reporter.messages(&stats), []);
    assert_eq!(
        summary(&stats),
        "bins 0, estimates 2 (late 2), refused 3, duplicates 0, reordered 0, behind 0, overflowed 0"
    );
}

#[test]
fn a_fault_that_goes_on_is_reported_at_once_and_then_ever_more_rarely() {
    let mut reporter = Reporter::new("tcp://rig:5570");
    let mut stats = Stats::default();
    let mut said = Vec::new();
    for look in 0..200 {
        stats.empty += if look < 140 { 50 } else { 0 };
        let messages = reporter.messages(&stats);
        said.extend(messages.iter().map(|message| (look, format!("{message:?}"))));
    }
    let counts: Vec<(u32, bool)> = said
        .iter()
        .zip([50, 500, 3_000, 3_000, 450])
        .map(|((look, text), count)| (*look, text.contains(&format!("\"{count} bins without"))))
        .collect();
    assert_eq!(counts, [(0, true), (10, true), (70, true), (130, true), (190, true)], "{said:?}");
    stats.empty += 1;
    (0..60).for_each(|_| drop(reporter.messages(&stats)));
    stats.empty += 1;
    assert_eq!(reporter.messages(&stats).len(), 1, "calm for a minute, and then at once");
}

#[test]
fn reordered_bins_and_duplicates_are_each_warned_of() {
    let mut stats = Stats::default();
    (stats.decoder.reordered, stats.decoder.duplicates) = (2, 3);
    let said = Reporter::new("tcp://rig:5570").messages(&stats);
    let expected =
        ["2 bins that came after a later one: taken as missing", "3 bins that had come before: dropped"];
    assert_eq!(said, expected.map(|sentence| Message::Warning(sentence.to_owned())));
}

#[test]
fn a_value_that_no_count_can_be_is_shown_with_its_place() {
    let mut stats = Stats { last_implausible: Some((12, 4.6e-41)), ..Stats::default() };
    (stats.decoder.implausible, stats.decoder.no_spikes) = (50, 7);
    let said = Reporter::new("tcp://rig:5570").messages(&stats);
    let expected = [
        "50 bins with values that no spike count can be, the last 4.6e-41 at position 12: their estimates are faults; \
         over ZeroMQ, counts are little-endian float32",
        "7 bins without a spike in any channel for a second and more, in which the model expects many",
    ];
    assert_eq!(said, expected.map(|sentence| Message::Warning(sentence.to_owned())));
}

#[test]
fn a_source_that_is_there_and_sends_nothing_with_our_topic_is_told_once() {
    let said = |input: &str, change: &dyn Fn(u32, &mut Stats)| {
        let (mut reporter, mut stats) = (Reporter::new(input), Stats::default());
        let mut look = |at| {
            change(at, &mut stats);
            reporter.messages(&stats)
        };
        (0..20).flat_map(&mut look).collect::<Vec<_>>()
    };
    let quiet =
        "expected a message with the topic ndt.bin from tcp://rig:5570, found none in 5 s; still waiting";
    assert_eq!(said("tcp://rig:5570", &|_, _| ()), [Message::Info(quiet.to_owned())]);
    assert!(format!("{:?}", said("lsl:rig", &|_, _| ())).contains("expected a sample from lsl:rig"));
    // It counts from the instant that the source is there.
    let late = said("tcp://rig:5570", &|at, stats| {
        stats.absence = (at < 10).then_some(Absence::NoAnswer);
    });
    assert_eq!(late.len(), 2);
    assert_eq!(late[1], Message::Info(quiet.to_owned()));
    let absent = said("tcp://rig:5570", &|_, stats| stats.absence = Some(Absence::NoAnswer));
    assert_eq!(absent, [Message::Info("no source at tcp://rig:5570 yet".to_owned())]);
}

#[test]
fn every_counter_is_explained_on_the_page_and_shown_once_it_counts() {
    let page = include_str!("../../../docs/counters.md");
    let rows: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let names = Stats::default().named().map(|(name, _)| name);
    assert_eq!(rows, names, "the rows of docs/counters.md, in the order of the summary");
    let status = "bins 0, estimates 0, refused 0, duplicates 0, reordered 0, behind 0, overflowed 0";
    let mut stats = Stats::default();
    assert_eq!(summary(&stats), status);
    stats.decoder.observed = 3;
    stats.empty = 1;
    assert_eq!(summary(&stats), format!("{status}, empty 1, observed 3"));
}

#[test]
fn a_source_is_named_when_it_is_missing_when_it_comes_and_when_it_is_another() {
    let mut reporter = Reporter::new("tcp://rig:5570");
    let mut stats = Stats { absence: Some(Absence::NoAnswer), ..Stats::default() };
    let mut look = |change: &dyn Fn(&mut Stats)| {
        change(&mut stats);
        reporter.messages(&stats)
    };
    let info = |sentence: &str| [Message::Info(sentence.to_owned())];
    assert_eq!(look(&|_| ()), info("no source at tcp://rig:5570 yet"));
    assert_eq!(look(&|_| ()), []);
    let unknown = "expected a known host name in tcp://rig:5570, found none";
    let found = look(&|stats| stats.absence = Some(Absence::UnknownHost));
    assert_eq!(found, [Message::Warning(unknown.to_owned())]);
    let came = look(&|stats| {
        (stats.absence, stats.bins, stats.stream, stats.channels) = (None, 50, 7, 96);
    });
    assert_eq!(came, info("bins from tcp://rig:5570: 96 channels, stream 7"));
    let again = look(&|stats| (stats.decoder.restarts, stats.stream_before, stats.stream) = (1, 7, 9));
    assert_eq!(again, [Message::Warning("the source was restarted: stream 7, now 9".to_owned())]);
}

#[test]
fn two_sources_in_turn_are_told_as_such_and_not_every_second() {
    let mut reporter = Reporter::new("tcp://rig:5570");
    let mut stats = Stats { bins: 50, stream_before: 7, stream: 9, ..Stats::default() };
    reporter.messages(&stats);
    let mut said = Vec::new();
    for _ in 0..20 {
        (stats.bins, stats.decoder.restarts) = (stats.bins + 100, stats.decoder.restarts + 100);
        said.extend(reporter.messages(&stats));
    }
    let sentence = |changes: u32| {
        Message::Warning(format!(
            "two sources send to tcp://rig:5570 in turn, streams 7 and 9: {changes} changes, each of which resets the model; \
             stop one of them"
        ))
    };
    assert_eq!(said, [sentence(100), sentence(1_000)]);
}

#[test]
fn a_source_whose_numbers_do_not_rise_is_not_called_silent() {
    let mut reporter = Reporter::new("tcp://rig:5570");
    // The first bin of the run comes in the same second.
    let mut stats = Stats { bins: 51, ..Stats::default() };
    stats.decoder.duplicates = 50;
    stats.guard.estimates[Quality::Stale as usize] = 47;
    let said = reporter.messages(&stats).split_off(1);
    let expected = [
        "50 bins that had come before: dropped",
        "the source sends, and its bins have numbers (seq) that had come before: seq must rise by one in each bin period: each \
         bin period is answered as stale",
    ];
    assert_eq!(said, expected.map(|sentence| Message::Warning(sentence.to_owned())));
}

#[test]
fn a_bin_that_is_too_high_in_every_channel_says_so() {
    let mut stats = Stats { empty: 1, last_too_high: Some((0, 90.0)), ..Stats::default() };
    let mut reporter = Reporter::new("tcp://rig:5570");
    let sentence = |shown: &str| {
        let text = "bins without a count in any channel, all NaN or above the bundle's count-max";
        Message::Warning(format!("1 {text}{shown}: taken as missing"))
    };
    assert_eq!(reporter.messages(&stats), [sentence(", the last 90 at position 0")]);
    stats.last_too_high = None;
    assert_eq!(Reporter::new("tcp://rig:5570").messages(&stats), [sentence("")]);
}

#[test]
fn channels_without_a_value_and_with_too_high_counts_are_told_apart() {
    let mut stats =
        Stats { invalid_bins: 2, too_high: 3, last_too_high: Some((4, 61.0)), ..Stats::default() };
    stats.decoder.too_few_channels = 5;
    let said = Reporter::new("tcp://rig:5570").messages(&stats);
    let expected = [
        "2 bins with channels that carried no value (NaN): taken as silent",
        "3 bins with more spikes in a channel than the bundle's count-max allows, the last 61 at position 4: taken as silent",
        "5 bins of which more channels than max-masked-share allows are masked or have no count: their estimates are faults",
    ];
    assert_eq!(said, expected.map(|sentence| Message::Warning(sentence.to_owned())));
}
