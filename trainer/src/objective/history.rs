//! What a trial is shown after: the one rule by which histories vary in training.
//!
//! A decoder at a rig meets the same movement from a cold start, after whatever came before it, and after a gap. In each pass over the
//! data every bin is shown once, in one of these histories:
//! * *cold*: a trial alone. So begins every window, too, and time without trials is entered anywhere.
//! * *the recording's own*: trials follow each other in the recording's order, as the bins of a daemon that is told of no trial.
//! * *another trial's tail*: trials follow each other in random order.
//! * *after a gap*: missing bins lie before a trial. They are context, and neither loss nor score counts them.
//!
//! A window is twice as long as the model's reach, so that at least half of its bins have a whole history.

use crate::config::Config;
use crate::data::Trial;
use ndt_protocol::bundle::manifest::{Architecture, Positions};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::borrow::Cow;

/// The histories of a fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Histories {
    /// Bins of a window.
    pub window_bins: usize,
    /// Longest sequence that the model can take in; with learned positions, the window.
    pub bins_max: usize,
    /// Fraction of the trials that are shown alone.
    pub cold: f64,
    /// Fraction of the windows in which trials follow each other in random order.
    pub shuffled: f64,
    /// Probability of a gap before a trial in a window.
    pub gaps: f64,
    /// Longest gap, in bins.
    pub gap_bins_max: usize,
    /// Probability that a sequence is entered at a random bin.
    pub random_start: f64,
    /// Sequences in a batch; as many windows as have the bins of so many trials.
    pub batch_trials: usize,
}

/// Bins of a window of training, and of the parts in which long trials are computed: twice the model's reach, or the window of a model
/// with learned positions, which exist for one window only.
pub fn window_bins(architecture: &Architecture) -> usize {
    match architecture.positions {
        Positions::LagBias => 2 * architecture.reach_bins(),
        Positions::Learned => architecture.window_bins,
    }
}

/// A trial in the parts in which a model computes it: with the history that the model can see, or none with learned positions.
pub fn parts(trial: &Trial, architecture: &Architecture) -> Vec<Trial> {
    /// Bins of a part: many, because each part computes its history anew.
    const PART_BINS: usize = 1024;
    match architecture.positions {
        Positions::LagBias => {
            let reach = architecture.reach_bins();
            trial.windows(PART_BINS.max(4 * reach), reach - 1)
        }
        Positions::Learned => trial.windows(architecture.window_bins, 0),
    }
}

impl Histories {
    /// The histories that a configuration asks for.
    pub fn of(config: &Config, architecture: &Architecture, bin_width_ms: f64) -> Histories {
        let objective = &config.objective;
        let learned = architecture.positions == Positions::Learned;
        Histories {
            window_bins: window_bins(architecture),
            bins_max: if learned { architecture.window_bins } else { usize::MAX },
            cold: objective.cold,
            shuffled: objective.shuffled,
            gaps: objective.gaps,
            gap_bins_max: (config.model.max_gap_ms / bin_width_ms).round() as usize,
            random_start: objective.random_start,
            batch_trials: config.optimiser.batch_trials,
        }
    }

    /// The same without windows: each trial alone, and long ones in pieces.
    pub fn alone(self) -> Histories {
        Histories { cold: 1.0, ..self }
    }

    /// One pass over `trials` in batches, each of sequences of about one length.
    pub fn batches<'t>(&self, trials: &'t [Trial], random: &mut ChaCha8Rng) -> Vec<Vec<Cow<'t, Trial>>> {
        let (short, long): (Vec<&Trial>, Vec<&Trial>) =
            trials.iter().filter(|trial| trial.bins > 0).partition(|trial| trial.bins <= self.window_bins);
        let pieces: Vec<Cow<Trial>> = long.into_iter().flat_map(|trial| self.pieces(trial, random)).collect();
        let count = (short.len() + pieces.len()).max(1);
        let bins: usize =
            short.iter().map(|trial| trial.bins).chain(pieces.iter().map(|piece| piece.bins)).sum();
        let rows = (self.batch_trials * bins).div_ceil(count * self.window_bins).max(1);
        let (mut alone, mut windows) = self.short(&short, random);
        windows.extend(pieces);
        let mut batches = Vec::new();
        for (sequences, rows) in [(&mut alone, self.batch_trials), (&mut windows, rows)] {
            for sequence in sequences.iter_mut() {
                self.enter(sequence, random);
            }
            sequences.shuffle(random);
            batches.extend(sequences.chunks(rows.max(1)).map(<[_]>::to_vec));
        }
        batches.shuffle(random);
        batches
    }

    /// A long trial in pieces of a window, cut at other bins each time.
    fn pieces(&self, trial: &Trial, random: &mut ChaCha8Rng) -> Vec<Cow<'static, Trial>> {
        let mut edge = random.random_range(1..=self.window_bins).min(trial.bins);
        let mut pieces = vec![Cow::Owned(trial.part(0..edge))];
        while edge < trial.bins {
            let next = (edge + self.window_bins).min(trial.bins);
            pieces.push(Cow::Owned(trial.part(edge..next)));
            edge = next;
        }
        pieces
    }

    /// Short trials: those alone, and windows of the others.
    fn short<'t>(
        &self,
        trials: &[&'t Trial],
        random: &mut ChaCha8Rng,
    ) -> (Vec<Cow<'t, Trial>>, Vec<Cow<'t, Trial>>) {
        if self.cold >= 1.0 || trials.len() < 2 {
            return (trials.iter().map(|trial| Cow::Borrowed(*trial)).collect(), Vec::new());
        }
        let mut order = trials.to_vec();
        // Windows begin elsewhere in each pass.
        order.rotate_left(random.random_range(0..trials.len()));
        let (mut alone, mut own, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for group in self.grouped(&order) {
            if random.random_bool(self.cold) {
                alone.extend(group.into_iter().map(Cow::Borrowed));
            } else if random.random_bool(self.shuffled) {
                others.extend(group);
            } else {
                own.push(group);
            }
        }
        others.shuffle(random);
        own.extend(self.grouped(&others));
        let windows = own.into_iter().map(|group| Cow::Owned(self.window(&group, random)));
        let windows = windows.collect();
        (alone, windows)
    }

    /// Trials in groups that fill a window.
    fn grouped<'t>(&self, trials: &[&'t Trial]) -> Vec<Vec<&'t Trial>> {
        let mut groups: Vec<Vec<&Trial>> = Vec::new();
        let mut filled = usize::MAX;
        for trial in trials {
            if filled >= self.window_bins {
                groups.push(Vec::new());
                filled = 0;
            }
            if let Some(group) = groups.last_mut() {
                group.push(trial);
            }
            filled += trial.bins;
        }
        groups
    }

    /// Trials one after another, some of them after a gap.
    fn window(&self, trials: &[&Trial], random: &mut ChaCha8Rng) -> Trial {
        let mut window = Trial::default();
        for trial in trials {
            if window.bins == 0 {
                window = (*trial).clone();
                continue;
            }
            if self.gap_bins_max > 0 && random.random_bool(self.gaps) {
                window.append_gap(random.random_range(1..=self.gap_bins_max));
            }
            window.append(trial);
        }
        if window.bins > self.bins_max { window.part(0..self.bins_max) } else { window }
    }

    /// Enters a sequence at a random bin, now and then.
    fn enter(&self, sequence: &mut Cow<Trial>, random: &mut ChaCha8Rng) {
        if self.random_start > 0.0 && sequence.bins > 1 && random.random_bool(self.random_start) {
            let first = random.random_range(0..sequence.bins.min(self.window_bins));
            *sequence = Cow::Owned(sequence.part(first..sequence.bins));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const HISTORIES: Histories = Histories {
        window_bins: 50,
        bins_max: usize::MAX,
        cold: 0.5,
        shuffled: 0.5,
        gaps: 0.3,
        gap_bins_max: 4,
        random_start: 0.0,
        batch_trials: 8,
    };

    /// Trials of one unit whose counts number all bins.
    fn trials(lengths: &[usize]) -> Vec<Trial> {
        let mut next = 0.0;
        let mut trial = |bins: usize| {
            let counts: Vec<f32> = (0..bins).map(|bin| next + bin as f32).collect();
            next += bins as f32;
            Trial { bins, targets: vec![0.0; bins], counts, ..Trial::default() }
        };
        lengths.iter().map(|bins| trial(*bins)).collect()
    }

    #[test]
    fn each_bin_is_counted_once_in_a_pass_whatever_its_history() {
        let trials = trials(&[10, 20, 400, 15, 12, 9, 30, 25, 11, 7]);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut gaps = 0;
        for _ in 0..20 {
            let batches = HISTORIES.batches(&trials, &mut random);
            let mut counted = Vec::new();
            for sequence in batches.iter().flatten() {
                assert!(sequence.bins < 50 + 30 + 4 * 5, "{}", sequence.bins);
                assert_eq!((sequence.counts.len(), sequence.targets.len()), (sequence.bins, sequence.bins));
                counted.extend(
                    (0..sequence.bins)
                        .filter(|bin| sequence.is_counted(*bin))
                        .map(|bin| sequence.counts[bin] as usize),
                );
                gaps += (0..sequence.bins).filter(|bin| sequence.is_missing(*bin)).count();
            }
            counted.sort_unstable();
            assert_eq!(counted, (0..539).collect::<Vec<_>>());
        }
        assert!(gaps > 0);
    }

    #[test]
    fn trials_are_cold_follow_each_other_or_come_after_others() {
        let trials = trials(&[20; 40]);
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let (mut cold, mut own, mut another) = (0, 0, 0);
        for _ in 0..10 {
            for sequence in HISTORIES.batches(&trials, &mut random).iter().flatten() {
                let counts: Vec<f32> = (0..sequence.bins)
                    .filter(|bin| sequence.is_counted(*bin))
                    .map(|bin| sequence.counts[bin])
                    .collect();
                cold += usize::from(counts.len() == 20);
                for pair in counts.chunks(20).collect::<Vec<_>>().windows(2) {
                    let follows =
                        pair[1][0] == pair[0][19] + 1.0 || pair[1][0] == 0.0 && pair[0][19] == 799.0;
                    *(if follows { &mut own } else { &mut another }) += 1;
                }
            }
        }
        assert!(cold > 100 && own > 30 && another > 30, "{cold} {own} {another}");
        let alone = HISTORIES.alone().batches(&trials, &mut random);
        assert!(alone.iter().flatten().all(|sequence| sequence.bins == 20) && alone.len() == 5);
    }

    #[test]
    fn a_long_recording_is_computed_in_parts_that_count_each_bin_once() {
        let trial = &trials(&[5000])[0];
        let architecture = Architecture {
            width: 8,
            layers: 2,
            heads: 1,
            feedforward: 8,
            window_bins: 20,
            positions: Positions::LagBias,
        };
        let parts = parts(trial, &architecture);
        let counted: Vec<f32> = parts
            .iter()
            .flat_map(|part| (0..part.bins).filter(|bin| part.is_counted(*bin)).map(|bin| part.counts[bin]))
            .collect();
        assert_eq!(counted, trial.counts);
        assert!(parts.len() == 5 && parts[1..].iter().all(|part| part.history == 38), "{}", parts.len());
    }
}
