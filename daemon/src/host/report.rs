//! Sentences for the log and `systemctl status`: what happened to the stream, from its counters.
//!
//! Pure: counters in, text out.

use crate::pipeline::counters::Stats;
use ndt_protocol::Quality;

/// Compares the counters with those of the previous call, so that each event is reported once.
#[derive(Debug, Default)]
pub struct Reporter {
    last: Stats,
    /// Number of stale estimates before the present silence; `None` while bins come.
    silent_since: Option<u64>,
}

/// One sentence for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// An event that needs no action.
    Info(String),
    /// An event that somebody at the rig should look into.
    Warning(String),
}

impl Reporter {
    /// Returns a message for each kind of event since the previous call. Called about once a second, so that a fault in
    /// every bin gives one line a second.
    pub fn messages(&mut self, now: &Stats) -> Vec<Message> {
        let before = std::mem::replace(&mut self.last, *now);
        let of = |stats: &Stats, quality: Quality| stats.guard.estimates[quality as usize];
        let mut messages = Vec::new();
        let mut warn = |more: u64, what: &str| {
            if more > 0 {
                messages.push(Message::Warning(format!("{more} {what}")));
            }
        };
        let refused = now.last_refused.map_or_else(String::new, |last| last.to_string());
        warn(now.refused - before.refused, &format!("messages refused, the last: {refused}"));
        warn(
            now.invalid_bins - before.invalid_bins,
            "bins with channels that carried no count: taken as silent",
        );
        warn(
            now.guard.skipped - before.guard.skipped,
            "periods without an estimate: the source's numbers jumped",
        );
        warn(now.empty - before.empty, "bins without a count in any channel: taken as missing");
        warn(now.overflowed - before.overflowed, "bins or estimates dropped from full queues");
        warn(of(now, Quality::Late) - of(&before, Quality::Late), "estimates missed their deadline");
        warn(
            of(now, Quality::Fault) - of(&before, Quality::Fault),
            "bins that the model could not answer: fault",
        );
        warn(
            now.decoder.undescribed - before.decoder.undescribed,
            "bins of a source that has not described its channels: their estimates are warmup",
        );
        warn(now.decoder.clock_jumps - before.decoder.clock_jumps, "jumps of the source's clock");
        warn(now.decoder.restarts - before.decoder.restarts, "restarts of the source");
        warn(now.guard.renumbered - before.guard.renumbered, "times that the source went on after a pause");
        let stale = of(now, Quality::Stale);
        let more_stale = stale > of(&before, Quality::Stale);
        match (self.silent_since, more_stale) {
            (None, true) => {
                self.silent_since = Some(of(&before, Quality::Stale));
                let why = match now.refused > before.refused {
                    true => "the source sends, and all that it sends is refused",
                    false => "the source is silent",
                };
                messages.push(Message::Warning(format!("{why}: each bin period is answered as stale")));
            }
            (Some(since), false) => {
                self.silent_since = None;
                messages.push(Message::Info(format!(
                    "the source is back after {} stale estimates",
                    stale - since
                )));
            }
            _ => {}
        }
        messages
    }
}

/// Summarises the counters on one line, for `systemctl status` and the log.
pub fn summary(stats: &Stats) -> String {
    let qualities = Quality::ALL.iter().zip(stats.guard.estimates).filter(|(_, count)| *count > 0);
    let qualities: Vec<String> =
        qualities.map(|(quality, count)| format!("{} {count}", quality.name())).collect();
    let qualities = if qualities.is_empty() { String::new() } else { format!(" ({})", qualities.join(", ")) };
    format!(
        "bins {}, estimates {}{qualities}, refused {}, duplicates {}, behind {}, overflowed {}",
        stats.bins,
        stats.published(),
        stats.refused,
        stats.decoder.duplicates,
        stats.guard.behind,
        stats.overflowed,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Refusal;

    #[test]
    fn silence_is_reported_when_it_begins_and_when_it_ends() {
        let mut reporter = Reporter::default();
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
        let mut reporter = Reporter::default();
        let mut stats = Stats { refused: 3, last_refused: Some(Refusal::Channels), ..Stats::default() };
        stats.guard.estimates[Quality::Late as usize] = 2;
        let said: Vec<Message> = reporter.messages(&stats);
        let expected = [
            "3 messages refused, the last: expected the bundle's channel ids in the bundle's order, found a stream of others",
            "2 estimates missed their deadline",
        ];
        assert_eq!(said, expected.map(|sentence| Message::Warning(sentence.to_owned())));
        assert_eq!(reporter.messages(&stats), []);
        assert_eq!(
            summary(&stats),
            "bins 0, estimates 2 (late 2), refused 3, duplicates 0, behind 0, overflowed 0"
        );
    }
}
