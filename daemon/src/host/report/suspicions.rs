//! Warnings about values that could be counts and probably are none, and about channels that have fallen silent. Each kind is given
//! once.

use super::Message;
use crate::pipeline::counters::Stats;

/// Fewest bins with fractions of which anything is said.
const FRACTIONAL_BINS: u64 = 50;

/// Which of the warnings have been given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Suspicions {
    fractional: bool,
    rising: bool,
    silent: bool,
}

impl Suspicions {
    /// Returns what is to be said for the first time.
    pub fn messages(&mut self, now: &Stats) -> Vec<Message> {
        let (bins, decoder) = (now.bins, &now.decoder);
        let mut messages = Vec::new();
        if !self.fractional && decoder.fractional >= FRACTIONAL_BINS && 2 * decoder.fractional > bins {
            self.fractional = true;
            messages.push(Message::Warning(format!(
                "most counts are no whole numbers in {} of {bins} bins: rates, smoothed or normalised counts, or numbers of \
                 another type are decoded wrongly; counts of weighted spikes are legal",
                decoder.fractional
            )));
        }
        if !self.rising && decoder.rising > 0 {
            self.rising = true;
            messages.push(Message::Warning(
                "counts rise and have not fallen in any channel for a second and more: sums since the start, in place of the \
                 spikes of each bin, are decoded wrongly"
                    .to_owned(),
            ));
        }
        let (silent, watched) = (decoder.silent_channels, decoder.watched_channels);
        // Where all are silent, that is told as such.
        let are_many = 4 * silent >= watched && silent > 0 && silent < watched;
        if are_many && !self.silent {
            self.silent = true;
            messages.push(Message::Warning(format!(
                "{silent} of {watched} channels have had no spike for so long that the model expects 30 and more of each: is a \
                 headstage off, or are these the units of another day?"
            )));
        } else if self.silent && silent == 0 {
            self.silent = false;
            messages.push(Message::Info("all channels have spikes again".to_owned()));
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(suspicions: &mut Suspicions, change: impl Fn(&mut Stats)) -> Vec<String> {
        let mut stats = Stats { bins: 100, ..Stats::default() };
        stats.decoder.watched_channels = 8;
        change(&mut stats);
        let messages = suspicions.messages(&stats).into_iter();
        messages.map(|(Message::Info(sentence) | Message::Warning(sentence))| sentence).collect()
    }

    #[test]
    fn each_suspicion_is_told_once_and_only_where_it_is_the_rule() {
        let mut suspicions = Suspicions::default();
        for few in [0, 49, 50] {
            assert_eq!(said(&mut suspicions, |stats| stats.decoder.fractional = few), [""; 0]);
        }
        let most = said(&mut suspicions, |stats| stats.decoder.fractional = 60);
        assert!(most.len() == 1 && most[0].starts_with("most counts are no whole numbers in 60 of 100 bins"));
        let all = said(&mut suspicions, |stats| (stats.decoder.fractional, stats.decoder.rising) = (100, 3));
        assert!(all.len() == 1 && all[0].starts_with("counts rise and have not fallen"), "{all:?}");
        assert_eq!(said(&mut suspicions, |stats| stats.decoder.rising = 9), [""; 0]);
    }

    #[test]
    fn silent_channels_are_told_when_they_are_many_and_when_all_are_back() {
        let mut suspicions = Suspicions::default();
        let mut silent = |channels| said(&mut suspicions, |stats| stats.decoder.silent_channels = channels);
        assert_eq!(
            (silent(1), silent(8)),
            (vec![], vec![]),
            "a few, and all: of all the log says it already"
        );
        assert!(silent(4)[0].starts_with("4 of 8 channels have had no spike for so long"));
        assert_eq!((silent(5), silent(1)), (vec![], vec![]));
        assert_eq!(silent(0), ["all channels have spikes again"]);
        assert_eq!(silent(2).len(), 1);
    }
}
