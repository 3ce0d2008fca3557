//! Sentences for the log and `systemctl status`: what happened to the stream, from its counters.
//!
//! Pure: counters in, text out.

use crate::input::Absence;
use crate::pipeline::counters::Stats;
use ndt_protocol::Quality;

/// Number of looks before a warning of the same kind is repeated for the first time, and for each later time.
const REPEAT_LOOKS: [u32; 2] = [10, 60];

/// Number of looks after which it is said that nothing comes from a source that is there: what it sends may have another topic,
/// and is then not even received.
const QUIET_LOOKS: u32 = 5;

/// Compares the counters with those of the previous look, so that each event is reported once. A fault that goes on is reported
/// at once, after ten looks, and then every sixty.
#[derive(Debug)]
pub struct Reporter {
    /// Address of the source.
    input: String,
    last: Stats,
    /// One for each kind of warning, in the order of [`events`].
    repeats: [Repeat; EVENTS],
    /// What was last said of a source that is not there.
    said_of_absence: Option<Absence>,
    /// Number of stale estimates before the present silence; `None` while bins come.
    silent_since: Option<u64>,
    /// Looks in which a source was there, as far as is known, and had sent nothing yet.
    quiet_looks: u32,
}

/// Limits how often a warning of one kind is given while its events go on.
#[derive(Debug, Clone, Copy, Default)]
struct Repeat {
    /// Count of events at the previous look.
    seen: u64,
    /// Events that are not reported yet.
    pending: u64,
    /// Warnings given since the kind was last calm.
    given: usize,
    /// Looks until the next warning may be given.
    wait: u32,
    /// Looks since the last event.
    calm: u32,
}

impl Repeat {
    /// Takes in the count of events since the start, and returns how many to report now.
    fn look(&mut self, count: u64) -> Option<u64> {
        let more = count - std::mem::replace(&mut self.seen, count);
        self.pending += more;
        self.calm = if more > 0 { 0 } else { self.calm.saturating_add(1) };
        if self.calm >= REPEAT_LOOKS[1] {
            self.given = 0;
        }
        self.wait = self.wait.saturating_sub(1);
        if self.wait > 0 || self.pending == 0 {
            return None;
        }
        self.wait = REPEAT_LOOKS[self.given.min(1)];
        self.given += 1;
        Some(std::mem::take(&mut self.pending))
    }
}

/// One sentence for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// An event that needs no action.
    Info(String),
    /// An event that somebody at the rig should look into.
    Warning(String),
}

/// Number of kinds of warnings.
const EVENTS: usize = 15;

/// What can go wrong again and again: its count since the start, and what a warning says behind the number of times.
fn events(stats: &Stats) -> [(u64, String); EVENTS] {
    let of = |quality: Quality| stats.guard.estimates[quality as usize];
    let refused = stats.last_refused.map_or_else(String::new, |last| last.to_string());
    let example = stats
        .last_implausible
        .map_or_else(String::new, |(position, value)| format!(", the last {value:e} at position {position}"));
    [
        (stats.refused, format!("messages refused, the last: {refused}")),
        (stats.invalid_bins, "bins with channels that carried no count: taken as silent".to_owned()),
        (
            stats.decoder.implausible,
            format!(
                "bins with values that no spike count can be{example}: their estimates are faults; over ZeroMQ, counts are \
                 little-endian float32"
            ),
        ),
        (
            stats.decoder.no_spikes,
            "bins without a spike in any channel for a second and more, in which the model expects many"
                .to_owned(),
        ),
        (stats.guard.skipped, "periods without an estimate: the source's numbers jumped".to_owned()),
        (stats.empty, "bins without a count in any channel: taken as missing".to_owned()),
        (stats.overflowed, "bins or estimates dropped from full queues".to_owned()),
        (
            of(Quality::Late).saturating_sub(stats.guard.old_bins),
            "estimates missed their deadline".to_owned(),
        ),
        (stats.guard.old_bins, "bins were older than max-age-ms when they came: answered as late".to_owned()),
        (of(Quality::Fault), "bins that the model could not answer: fault".to_owned()),
        (
            stats.decoder.undescribed,
            "bins of a source that has not described its channels: their estimates are faults".to_owned(),
        ),
        (stats.decoder.clock_jumps, "jumps of the source's clock".to_owned()),
        (stats.decoder.reordered, "bins that came after a later one: taken as missing".to_owned()),
        (stats.decoder.duplicates, "bins that had come before: dropped".to_owned()),
        (stats.guard.renumbered, "times that the source went on after a pause".to_owned()),
    ]
}

impl Reporter {
    /// Makes a reporter of a source at `input`.
    pub fn new(input: &str) -> Reporter {
        let (last, repeats) = (Stats::default(), Default::default());
        let (said_of_absence, silent_since, quiet_looks) = (None, None, 0);
        Reporter { input: input.to_owned(), last, repeats, said_of_absence, silent_since, quiet_looks }
    }

    /// Returns a message for each kind of event since the previous look. Called about once a second.
    pub fn messages(&mut self, now: &Stats) -> Vec<Message> {
        let before = std::mem::replace(&mut self.last, *now);
        let mut messages = Vec::new();
        messages.extend(self.source(now, &before));
        for (repeat, (count, what)) in self.repeats.iter_mut().zip(events(now)) {
            messages.extend(repeat.look(count).map(|more| Message::Warning(format!("{more} {what}"))));
        }
        messages.extend(self.silence(now, &before));
        messages.extend(self.quiet(now));
        messages
    }

    /// What is to be said once of a source that is connected, or may be, and from which nothing has come.
    fn quiet(&mut self, now: &Stats) -> Option<Message> {
        let has_come = now.bins + now.empty + now.refused + now.published() > 0;
        let is_quiet = !has_come && now.absence.is_none();
        self.quiet_looks = if is_quiet { self.quiet_looks.saturating_add(1) } else { 0 };
        let input = &self.input;
        let expected = if input.starts_with("lsl") { "a sample" } else { "a message with the topic ndt.bin" };
        (self.quiet_looks == QUIET_LOOKS).then(|| {
            Message::Info(format!(
                "expected {expected} from {input}, found none in {QUIET_LOOKS} s; still waiting"
            ))
        })
    }

    /// What is to be said of a source that came, changed, or is not there.
    fn source(&mut self, now: &Stats, before: &Stats) -> Option<Message> {
        if now.bins > 0 && before.bins == 0 {
            self.said_of_absence = None;
            let Stats { stream, channels, .. } = now;
            return Some(Message::Info(format!(
                "bins from {}: {channels} channels, stream {stream}",
                self.input
            )));
        }
        let restarts = now.decoder.restarts - before.decoder.restarts;
        if restarts > 0 {
            let (was, is) = (before.stream, now.stream);
            let times = if restarts == 1 { String::new() } else { format!(" {restarts} times") };
            return Some(Message::Warning(format!(
                "the source was restarted{times}: stream {was}, now {is}"
            )));
        }
        if now.bins > 0 || now.absence == self.said_of_absence {
            return None;
        }
        self.said_of_absence = now.absence;
        match now.absence? {
            Absence::Searching => None,
            Absence::NoAnswer => Some(Message::Info(format!("no source at {} yet", self.input))),
            Absence::Lost => {
                Some(Message::Info(format!("the source at {} has left without a bin", self.input)))
            }
            Absence::UnknownHost => {
                Some(Message::Warning(format!("expected a known host name in {}, found none", self.input)))
            }
        }
    }

    /// What is to be said of a silence that began or ended.
    fn silence(&mut self, now: &Stats, before: &Stats) -> Option<Message> {
        let [stale, stale_before] = [now, before].map(|stats| stats.guard.estimates[Quality::Stale as usize]);
        match (self.silent_since, stale > stale_before) {
            (None, true) => {
                self.silent_since = Some(stale_before);
                let why = match now.refused > before.refused {
                    true => "the source sends, and all that it sends is refused",
                    false => "the source is silent",
                };
                Some(Message::Warning(format!("{why}: each bin period is answered as stale")))
            }
            (Some(since), false) => {
                self.silent_since = None;
                Some(Message::Info(format!("the source is back after {} stale estimates", stale - since)))
            }
            _ => None,
        }
    }
}

/// Number of counters that every summary shows.
const ALWAYS_SHOWN: usize = 7;

/// Summarises the counters on one line, for `systemctl status` and the log: the most important ones, and the others that are above
/// 0. The page `docs/counters.md` explains all of them.
pub fn summary(stats: &Stats) -> String {
    let qualities = Quality::ALL.iter().zip(stats.guard.estimates).filter(|(_, count)| *count > 0);
    let qualities: Vec<String> =
        qualities.map(|(quality, count)| format!("{} {count}", quality.name())).collect();
    let qualities = if qualities.is_empty() { String::new() } else { format!(" ({})", qualities.join(", ")) };
    let named = stats.named().into_iter().enumerate();
    let shown = named.filter(|(at, (_, count))| *at < ALWAYS_SHOWN || *count > 0);
    let parts = shown.map(|(_, (name, count))| match name {
        "estimates" => format!("{name} {count}{qualities}"),
        _ => format!("{name} {count}"),
    });
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
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
        let silent =
            Message::Warning("the source is silent: each bin period is answered as stale".to_owned());
        assert_eq!(look(0), []);
        assert_eq!(look(7), std::slice::from_ref(&silent));
        assert_eq!(look(57), []);
        assert_eq!(look(57), [Message::Info("the source is back after 57 stale estimates".to_owned())]);
        assert_eq!(look(58), [silent]);
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
        let page = include_str!("../../docs/counters.md");
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
        let again = look(&|stats| (stats.decoder.restarts, stats.stream) = (1, 9));
        assert_eq!(again, [Message::Warning("the source was restarted: stream 7, now 9".to_owned())]);
    }
}
