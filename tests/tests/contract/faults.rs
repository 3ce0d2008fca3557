//! The kinds of fault in a plan, and how they are drawn.
//!
//! They are the kinds of `ndt-replay play --faults`, and kinds that no player can play: those that happen in the source
//! itself, or in the machine that decodes. Each kind draws from a random generator of its own, so that a new kind leaves all
//! other faults of a seed where they were.

use ndt_protocol::limits::QUEUE_BINS;
use ndt_replay::play::faults::FaultKind;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// Longest duration of a fault that is longer than a queue. If it begins within the first 200 bins, it ends before the calm
/// third.
const LONG_MAX: u64 = 700;
const LONG_FROM: u64 = 200;

/// First bin with a fault: one block arrives before it, so that periods are counted from where they begin.
pub const FAULTS_FROM: u64 = 2;

/// Number of bins before the calm third in which no fault begins; faults are shorter than this.
pub const FAULT_BINS_MAX: u64 = 40;

/// Probability that a kind of fault happens once more in a plan: about four faults in a plan on average.
const AGAIN_PROBABILITY: f64 = 0.19;

/// A fault. Periods are those of the model's bins; bins are those of the source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// `drop`: this bin is lost.
    Drop,
    /// `burst`: this many bins are lost.
    Burst { bins: u64 },
    /// `dup`: this bin is sent twice.
    Dup,
    /// `reorder`: this bin arrives this many periods late, behind others.
    Reorder { periods: u64 },
    /// `stall`: nothing is sent for this long, then everything at once.
    Stall { periods: u64 },
    /// `nan`: one channel of this bin has no count, or none has.
    Nan { all: bool },
    /// `channels`: this many bins carry another number of channels, and the source refuses them.
    Channels { bins: u64 },
    /// `clock`: source time jumps by this much.
    Clock { periods: i64 },
    /// `restart`: the source counts from 0 again, under another stream id or under the old one.
    Restart { same_id: bool },
    /// The source does not count for this long.
    Pause { periods: u64 },
    /// The sender hangs: in the place of this many bins, it repeats this bin, or the one that it sent `back` bins earlier.
    Freeze { bins: u64, back: usize },
    /// The source skips this many numbers, but no time.
    Jump { bins: u64 },
    /// A segment starts with this bin.
    Segment,
    /// This many bins carry values that no spike count can be, in one channel or in all.
    Implausible { bins: u64, all: bool },
    /// The whole daemon is stopped for this long, as by SIGSTOP.
    Stopped { periods: u64 },
    /// Decoding this bin takes this many hundredths of a period.
    Slow { hundredths: u64 },
    /// The engine answers NaN for this bin, or fails.
    Broken { fails: bool },
}

/// A kind of fault.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Kinds that `ndt-replay play --faults` can play, too.
    Played(FaultKind),
    /// Kinds that happen in the source, the sender or the machine.
    Pause,
    Freeze,
    Jump,
    Segment,
    Slow,
    Broken,
    Implausible,
    Stopped,
}

impl Kind {
    fn all() -> impl Iterator<Item = Kind> {
        let own = [
            Kind::Pause,
            Kind::Freeze,
            Kind::Jump,
            Kind::Segment,
            Kind::Slow,
            Kind::Broken,
            Kind::Implausible,
            Kind::Stopped,
        ];
        FaultKind::all().map(Kind::Played).chain(own)
    }

    /// Generator of this kind for one of two purposes.
    fn generator(self, seed: u64, is_long: bool) -> ChaCha8Rng {
        let stream = match self {
            Kind::Played(kind) => kind.row().random_stream,
            Kind::Pause => 1,
            Kind::Freeze => 2,
            Kind::Jump => 3,
            Kind::Segment => 4,
            Kind::Slow => 5,
            Kind::Broken => 6,
            Kind::Implausible => 7,
            Kind::Stopped => 8,
        };
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(stream + if is_long { 1_000 } else { 0 });
        generator
    }

    /// Draws a fault of this kind; `None` for a kind that is a property of the whole plan.
    fn draw(self, random: &mut ChaCha8Rng) -> Option<Fault> {
        Some(match self {
            Kind::Played(FaultKind::Drop) => Fault::Drop,
            Kind::Played(FaultKind::Dup) => Fault::Dup,
            Kind::Played(FaultKind::Reorder) => Fault::Reorder { periods: random.random_range(1..4) },
            // Jitter affects every bin: see `Plan::jitter_ns`.
            Kind::Played(FaultKind::Jitter) => return None,
            Kind::Played(FaultKind::Burst) => Fault::Burst { bins: random.random_range(2..16) },
            Kind::Played(FaultKind::Stall) => {
                Fault::Stall { periods: random.random_range(1..FAULT_BINS_MAX) }
            }
            Kind::Played(FaultKind::Nan) => Fault::Nan { all: random.random() },
            Kind::Played(FaultKind::Channels) => {
                Fault::Channels { bins: random.random_range(1..FAULT_BINS_MAX) }
            }
            Kind::Played(FaultKind::Clock) => Fault::Clock { periods: random.random_range(-200..200) },
            Kind::Played(FaultKind::Restart) => Fault::Restart { same_id: random.random() },
            Kind::Pause => Fault::Pause { periods: random.random_range(1..30) },
            Kind::Freeze => freeze(random.random_range(1..FAULT_BINS_MAX), random),
            Kind::Jump => Fault::Jump { bins: random.random_range(1..QUEUE_BINS as u64 / 2) },
            Kind::Segment => Fault::Segment,
            Kind::Stopped => Fault::Stopped { periods: random.random_range(1..FAULT_BINS_MAX) },
            Kind::Slow => Fault::Slow { hundredths: random.random_range(20..900) },
            Kind::Broken => Fault::Broken { fails: random.random() },
            Kind::Implausible => {
                Fault::Implausible { bins: random.random_range(1..FAULT_BINS_MAX), all: random.random() }
            }
        })
    }

    /// Draws a fault that lasts longer than a queue is; `None` for kinds that do not last.
    fn draw_long(self, parts: u64, random: &mut ChaCha8Rng) -> Option<Fault> {
        let periods = random.random_range(QUEUE_BINS as u64 + 1..LONG_MAX);
        match self {
            Kind::Played(FaultKind::Burst) => Some(Fault::Burst { bins: periods * parts }),
            Kind::Played(FaultKind::Stall) => Some(Fault::Stall { periods }),
            Kind::Played(FaultKind::Channels) => Some(Fault::Channels { bins: periods * parts }),
            Kind::Pause => Some(Fault::Pause { periods }),
            Kind::Stopped => Some(Fault::Stopped { periods }),
            Kind::Freeze => Some(freeze(periods * parts, random)),
            // One more bin of the source, so that one bin of the model lacks parts.
            Kind::Jump => {
                Some(Fault::Jump { bins: random.random_range(periods..100_000) * parts + parts - 1 })
            }
            Kind::Played(
                FaultKind::Drop
                | FaultKind::Dup
                | FaultKind::Reorder
                | FaultKind::Jitter
                | FaultKind::Nan
                | FaultKind::Clock
                | FaultKind::Restart,
            )
            | Kind::Segment
            | Kind::Slow
            | Kind::Broken
            | Kind::Implausible => None,
        }
    }
}

fn freeze(bins: u64, random: &mut ChaCha8Rng) -> Fault {
    Fault::Freeze { bins, back: if random.random() { 0 } else { random.random_range(1..40) } }
}

/// Draws faults of all kinds that begin within `range`, each kind from its own generator.
pub fn faults(seed: u64, range: Range<u64>) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    for kind in Kind::all() {
        let mut random = kind.generator(seed, false);
        while random.random_bool(AGAIN_PROBABILITY) {
            let at = random.random_range(range.clone());
            faults.extend(kind.draw(&mut random).map(|fault| (at, fault)));
        }
    }
    faults
}

/// Draws one fault that lasts longer than a queue is. Of the kinds that can last, the one that draws the smallest number is
/// taken, so that a new kind changes only the plans in which it is taken itself.
pub fn long_fault(seed: u64, parts: u64) -> (u64, Fault) {
    let candidates = Kind::all().filter_map(|kind| {
        let mut random = kind.generator(seed, true);
        let rank: u64 = random.random();
        let at = random.random_range(FAULTS_FROM * parts..LONG_FROM * parts);
        kind.draw_long(parts, &mut random).map(|fault| (rank, (at, fault)))
    });
    let (_, fault) = candidates.min_by_key(|(rank, _)| *rank).unwrap();
    fault
}

/// Draws the jitter of a plan, as hundredths of a bin.
pub fn jitter_hundredths(seed: u64) -> u64 {
    Kind::Played(FaultKind::Jitter).generator(seed, false).random_range(0..60)
}
