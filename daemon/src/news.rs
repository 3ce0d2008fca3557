//! What an operator is told of the stream: what changed since the last look, in sentences. Pure: counters in, text out.

use crate::counts::Stats;
use ndt_protocol::Quality;

/// What has been told.
#[derive(Debug, Default)]
pub struct Told {
    last: Stats,
    /// Stale estimates before the present silence; `None` while bins come.
    silent_since: Option<u64>,
}

/// Something new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// For the record.
    Good(String),
    /// Somebody should look at the rig.
    Bad(String),
}

impl Told {
    /// What is new in `now`. Called about once a second, so that a fault in each bin is one line a second.
    pub fn news(&mut self, now: &Stats) -> Vec<News> {
        let before = std::mem::replace(&mut self.last, *now);
        let of = |stats: &Stats, quality: Quality| stats.guard.estimates[quality as usize];
        let mut news = Vec::new();
        let mut bad = |more: u64, what: &str| {
            if more > 0 {
                news.push(News::Bad(format!("{more} {what}")));
            }
        };
        let refused = now.last_refused.map_or_else(String::new, |last| last.to_string());
        bad(now.refused - before.refused, &format!("messages refused, the last: {refused}"));
        bad(
            now.invalid_bins - before.invalid_bins,
            "bins with channels that carried no count: taken as silent",
        );
        bad(
            now.guard.skipped - before.guard.skipped,
            "periods without an estimate: the source's numbers jumped",
        );
        bad(now.empty - before.empty, "bins without a count in any channel: taken as missing");
        bad(now.overflowed - before.overflowed, "bins or estimates dropped from full queues");
        bad(of(now, Quality::Late) - of(&before, Quality::Late), "estimates missed their deadline");
        bad(
            of(now, Quality::Fault) - of(&before, Quality::Fault),
            "bins that the model could not answer: fault",
        );
        bad(now.decoder.clock_jumps - before.decoder.clock_jumps, "jumps of the source's clock");
        bad(now.decoder.restarts - before.decoder.restarts, "restarts of the source");
        bad(now.guard.renumbered - before.guard.renumbered, "times that the source went on after a pause");
        let stale = of(now, Quality::Stale);
        let more_stale = stale > of(&before, Quality::Stale);
        match (self.silent_since, more_stale) {
            (None, true) => {
                self.silent_since = Some(of(&before, Quality::Stale));
                news.push(News::Bad("the source is silent: each bin period is answered as stale".to_owned()));
            }
            (Some(since), false) => {
                self.silent_since = None;
                news.push(News::Good(format!("the source is back after {} stale estimates", stale - since)));
            }
            _ => {}
        }
        news
    }
}

/// How the stream goes, on one line, for `systemctl status` and the log.
pub fn line(stats: &Stats) -> String {
    let qualities = Quality::ALL.iter().zip(stats.guard.estimates).filter(|(_, count)| *count > 0);
    let qualities: Vec<String> =
        qualities.map(|(quality, count)| format!("{} {count}", quality.name())).collect();
    format!(
        "bins {}, estimates {} ({}), refused {}, duplicates {}, behind {}, overflowed {}",
        stats.bins,
        stats.published(),
        qualities.join(", "),
        stats.refused,
        stats.decoder.duplicates,
        stats.guard.behind,
        stats.overflowed,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Refusal;

    #[test]
    fn silence_is_told_when_it_begins_and_when_it_ends() {
        let mut told = Told::default();
        let mut stats = Stats::default();
        let mut look = |stale: u64| {
            stats.guard.estimates[Quality::Stale as usize] = stale;
            told.news(&stats)
        };
        let silent = News::Bad("the source is silent: each bin period is answered as stale".to_owned());
        assert_eq!(look(0), []);
        assert_eq!(look(7), std::slice::from_ref(&silent));
        assert_eq!(look(57), []);
        assert_eq!(look(57), [News::Good("the source is back after 57 stale estimates".to_owned())]);
        assert_eq!(look(58), [silent]);
    }

    #[test]
    fn what_went_wrong_is_told_once_with_how_often() {
        let mut told = Told::default();
        let mut stats = Stats { refused: 3, last_refused: Some(Refusal::Channels), ..Stats::default() };
        stats.guard.estimates[Quality::Late as usize] = 2;
        let said: Vec<News> = told.news(&stats);
        let expected = [
            "3 messages refused, the last: expected the bundle's channel ids in the bundle's order, found a stream of others",
            "2 estimates missed their deadline",
        ];
        assert_eq!(said, expected.map(|sentence| News::Bad(sentence.to_owned())));
        assert_eq!(told.news(&stats), []);
        assert_eq!(
            line(&stats),
            "bins 0, estimates 2 (late 2), refused 3, duplicates 0, behind 0, overflowed 0"
        );
    }
}
