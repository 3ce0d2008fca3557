//! Sentences for the log and `systemctl status`: what happened to the stream, from its counters.
//!
//! Pure: counters in, text out.

mod suspicions;

use crate::input::Absence;
use crate::pipeline::counters::Stats;
use ndt_protocol::Quality;
use ndt_protocol::zeromq::admission::TurnedAway;
use suspicions::Suspicions;

/// Number of looks before a warning of the same kind is repeated for the first time, and for each later time.
const REPEAT_LOOKS: [u32; 2] = [10, 60];

/// Number of looks after which it is said that nothing comes from a source that is there: what it sends may have another topic,
/// and is then not even received.
const QUIET_LOOKS: u32 = 5;

/// Changes of the stream from one look to the next that no restarts explain.
const ALTERNATIONS: u64 = 3;

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
    /// Changes of the stream in looks with several of them.
    alternations: u64,
    alternating: Repeat,
    /// The same for peers that are turned away.
    turned_away: Repeat,
    /// What has been said of the stream's values.
    suspicions: Suspicions,
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
const EVENTS: usize = 18;

/// What can go wrong again and again: its count since the start, and what a warning says behind the number of times.
fn events(stats: &Stats) -> [(u64, String); EVENTS] {
    let of = |quality: Quality| stats.guard.estimates[quality as usize];
    let refused = stats.last_refused.map_or_else(String::new, |last| last.to_string());
    let shown = |position, value: String| format!(", the last {value} at position {position}");
    let example =
        stats.last_implausible.map_or_else(String::new, |(at, value)| shown(at, format!("{value:e}")));
    let too_high = stats.last_too_high.map_or_else(String::new, |(at, count)| shown(at, count.to_string()));
    [
        (stats.refused, format!("messages refused, the last: {refused}")),
        (stats.invalid_bins, "bins with channels that carried no value (NaN): taken as silent".to_owned()),
        (
            stats.too_high,
            format!(
                "bins with more spikes in a channel than the bundle's count-max allows{too_high}: taken as silent"
            ),
        ),
        (
            stats.decoder.too_few_channels,
            "bins of which more channels than max-masked-share allows are masked or have no count: their estimates are \
             faults"
                .to_owned(),
        ),
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
        (
            stats.empty,
            format!(
                "bins without a count in any channel, all NaN or above the bundle's count-max{too_high}: taken as missing"
            ),
        ),
        (stats.overflowed, "bins or estimates dropped from full queues".to_owned()),
        (
            stats.slow_subscribers,
            "times that a subscriber read too slowly and lost estimates".to_owned(),
        ),
        (
            of(Quality::Late).saturating_sub(stats.guard.old_bins),
            "estimates missed their deadline".to_owned(),
        ),
        (stats.guard.old_bins, "bins were older than max-age-ms when they came: answered as late".to_owned()),
        (of(Quality::Fault), "estimates with the quality fault".to_owned()),
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
        Reporter {
            input: input.to_owned(),
            last: Stats::default(),
            repeats: Default::default(),
            said_of_absence: None,
            silent_since: None,
            quiet_looks: 0,
            alternations: 0,
            alternating: Repeat::default(),
            turned_away: Repeat::default(),
            suspicions: Suspicions::default(),
        }
    }

    /// Returns a message for ZeroMQ peers that were turned away since the previous look. Called about once a second.
    pub fn turned_away(&mut self, peers: &TurnedAway) -> Option<Message> {
        let more = self.turned_away.look(peers.full + peers.key)?;
        let last = peers.last.as_deref().unwrap_or("unknown");
        Some(Message::Warning(format!("{more} peers turned away, the last {last}")))
    }

    /// Returns a message for each kind of event since the previous look. Called about once a second.
    pub fn messages(&mut self, now: &Stats) -> Vec<Message> {
        let before = std::mem::replace(&mut self.last, *now);
        let mut messages = Vec::new();
        messages.extend(self.source(now, &before));
        for (repeat, (count, what)) in self.repeats.iter_mut().zip(events(now)) {
            messages.extend(repeat.look(count).map(|more| Message::Warning(format!("{more} {what}"))));
        }
        messages.extend(self.suspicions.messages(now));
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
        if restarts < ALTERNATIONS {
            // Looks again, so that the warning comes at once when it begins anew.
            self.alternating.look(self.alternations);
        } else {
            self.alternations += restarts;
            let changes = self.alternating.look(self.alternations)?;
            let (one, other, input) = (now.stream_before, now.stream, &self.input);
            return Some(Message::Warning(format!(
                "two sources send to {input} in turn, streams {one} and {other}: {changes} changes, each of which resets the \
                 model; stop one of them"
            )));
        }
        if restarts > 0 {
            let (was, is) = (now.stream_before, now.stream);
            let times = if restarts == 1 { "" } else { " twice" };
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
        // A paused daemon answers every bin as stale, whether the source is silent or not.
        let of = |stats: &Stats| stats.guard.estimates[Quality::Stale as usize] - stats.guard.inhibited;
        let [stale, stale_before] = [now, before].map(of);
        match (self.silent_since, stale > stale_before) {
            (None, true) => {
                self.silent_since = Some(stale_before);
                let dropped = |stats: &Stats| stats.decoder.duplicates + stats.decoder.reordered;
                let (bins, dropped) = (now.bins - before.bins, dropped(now) - dropped(before));
                let why = if now.refused > before.refused {
                    "the source sends, and all that it sends is refused"
                } else if 2 * dropped > bins {
                    "the source sends, and its bins have numbers (seq) that had come before: seq must rise by one in each \
                     bin period"
                } else if now.absence == Some(Absence::Lost) {
                    "the connection to the source is lost"
                } else {
                    "the source is silent"
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
mod tests;
