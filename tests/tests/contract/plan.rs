//! A rig and a machine on which things go wrong: which bins come, when, and how long each takes to decode.

use ndt_protocol::Bin;
use ndt_protocol::limits::{QUEUE_BINS, SEQ_MAX};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Bins of a plan, and of one with something in it that is longer than a queue; the last third is free of faults.
const BINS: u64 = 240;
const BINS_LONG: u64 = 1_500;

/// The longest that is longer than a queue: what begins within the first 200 bins has ended before the calm third.
const LONG_MAX: u64 = 700;
const LONG_FROM: u64 = 200;

/// Of a run of so many bins, the next one's under the same id may be late ones.
const LATE_MAX: u64 = 9;

/// One block has come before the first fault, so that periods are counted from where they begin.
const FAULTS_FROM: u64 = 2;

/// No fault begins in so many bins before the calm third.
const FAULT_BINS_MAX: u64 = 40;

/// What can happen to a bin on its way in. Periods are the model's, bins are the source's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    Lost {
        bins: u64,
    },
    Twice,
    /// Comes this many periods late, behind others.
    Reordered {
        periods: u64,
    },
    /// Nothing is sent for so long; then all at once.
    Stall {
        periods: u64,
    },
    /// The source stops counting for so long.
    Pause {
        periods: u64,
    },
    /// The sender hangs and repeats this bin, or one so many before it, in the place of those that follow.
    Frozen {
        bins: u64,
        back: usize,
    },
    /// The source leaves out numbers, though no time.
    Jump {
        bins: u64,
    },
    /// Counts begin again, under a new stream id or the old one.
    Restart {
        same_id: bool,
    },
    Segment,
    /// Source time jumps, in periods.
    Clock {
        periods: i64,
    },
    /// One channel, or all of them, without a count.
    Invalid {
        all: bool,
    },
    /// Decoding this bin takes so many hundredths of a period.
    Slow {
        hundredths: u64,
    },
    /// The engine answers NaN, or fails.
    Broken {
        fails: bool,
    },
}

/// What is wrong from which of the source's bins on, and everything else that is random.
#[derive(Debug, Clone)]
pub struct Plan {
    pub faults: Vec<(u64, Fault)>,
    /// Bins of the model's width, from which of them on all is calm, and how many of the source's make one of them.
    pub bins: u64,
    pub calm_from: u64,
    pub parts: u64,
    /// Bins of the source that are sent together, at the instant of the last one.
    pub block: u64,
    /// Number of the source's first bin.
    pub first_seq: u64,
    pub period_ns: u64,
    pub deadline_ns: u64,
    pub jitter_ns: u64,
    /// Latest that the publish thread runs after it is woken, and latest in the calm third.
    pub wake_delay_ns: u64,
    pub calm_wake_delay_ns: u64,
    pub decode_ns: u64,
}

/// One bin as it comes; `nth` of the source.
#[derive(Clone)]
pub struct Incoming {
    pub at_ns: u64,
    pub nth: u64,
    pub bin: Bin,
}

impl Plan {
    pub fn random(random: &mut ChaCha8Rng) -> Plan {
        let mut one_in = |n: u32| random.random_range(0..n) == 0;
        let (is_long, is_narrow, is_block) = (one_in(20), one_in(5), one_in(6));
        let (is_far, is_slow_publisher) = (one_in(8), one_in(8));
        let bins = if is_long { BINS_LONG } else { BINS };
        let calm_from = bins * 2 / 3;
        let parts = if is_narrow { 4 } else { 1 };
        let period_ns = [5_000_000, 20_000_000][random.random_range(0..2)];
        let mut faults: Vec<(u64, Fault)> = (0..random.random_range(0..8))
            .map(|_| {
                (
                    random.random_range(FAULTS_FROM * parts..(calm_from - FAULT_BINS_MAX) * parts),
                    Plan::fault(random),
                )
            })
            .collect();
        // What is lost may be followed by a segment's start, a jump by a late answer.
        let with = |(at, fault): &(u64, Fault)| match fault {
            Fault::Lost { bins } if at % 2 == 0 => Some((at + bins, Fault::Segment)),
            Fault::Jump { .. } if at % 2 == 0 => Some((*at, Fault::Slow { hundredths: 400 })),
            _ => None,
        };
        if is_long {
            faults.push((
                random.random_range(FAULTS_FROM * parts..LONG_FROM * parts),
                Plan::long_fault(parts, random),
            ));
        }
        faults.extend(faults.clone().iter().filter_map(with));
        let calm_wake_delay_ns = period_ns * random.random_range(0..5) / 100;
        let late_ns = period_ns * random.random_range(5..300) / 100;
        Plan {
            faults,
            bins,
            calm_from,
            parts,
            block: if is_block { 2 * parts } else { 1 },
            // Far from the end by more than any jump.
            first_seq: if is_far { SEQ_MAX - (1 << 24) } else { 1_000 },
            period_ns,
            // Two bins of a block wait for each other.
            deadline_ns: period_ns * random.random_range(if is_block { 60 } else { 20 }..200) / 100,
            jitter_ns: period_ns / parts * random.random_range(0..60) / 100,
            wake_delay_ns: if is_slow_publisher { late_ns } else { calm_wake_delay_ns },
            calm_wake_delay_ns,
            decode_ns: period_ns * random.random_range(1..15) / 100,
        }
    }

    fn fault(random: &mut ChaCha8Rng) -> Fault {
        match random.random_range(0..13) {
            0 => Fault::Lost { bins: random.random_range(1..16) },
            1 => Fault::Twice,
            2 => Fault::Reordered { periods: random.random_range(1..4) },
            3 => Fault::Stall { periods: random.random_range(1..FAULT_BINS_MAX) },
            4 => Fault::Pause { periods: random.random_range(1..30) },
            5 => Fault::Restart { same_id: random.random() },
            6 => Fault::Clock { periods: random.random_range(-200..200) },
            7 => Fault::Invalid { all: random.random() },
            8 => Fault::Slow { hundredths: random.random_range(20..900) },
            9 => Plan::frozen(random.random_range(1..FAULT_BINS_MAX), random),
            10 => Fault::Segment,
            11 => Fault::Jump { bins: random.random_range(1..QUEUE_BINS as u64 / 2) },
            _ => Fault::Broken { fails: random.random() },
        }
    }

    fn frozen(bins: u64, random: &mut ChaCha8Rng) -> Fault {
        Fault::Frozen { bins, back: if random.random() { 0 } else { random.random_range(1..40) } }
    }

    fn long_fault(parts: u64, random: &mut ChaCha8Rng) -> Fault {
        let periods = random.random_range(QUEUE_BINS as u64 + 1..LONG_MAX);
        match random.random_range(0..5) {
            0 => Fault::Lost { bins: periods * parts },
            1 => Fault::Stall { periods },
            2 => Fault::Pause { periods },
            3 => Plan::frozen(periods * parts, random),
            // By one more of the source's, so that one of the model's bins lacks parts.
            _ => Fault::Jump { bins: random.random_range(periods..100_000) * parts + parts - 1 },
        }
    }

    pub fn at(&self, nth: u64) -> impl Iterator<Item = Fault> + '_ {
        self.faults.iter().filter(move |(at, _)| *at == nth).map(|(_, fault)| *fault)
    }

    pub fn has(&self, is: impl Fn(&Fault) -> bool) -> bool {
        self.faults.iter().any(|(_, fault)| is(fault))
    }

    /// What the model's bin that ends with this one of the source's carries in channel 0.
    pub fn count(&self, nth: u64) -> f32 {
        (nth + 1 - self.parts..=nth).map(|part| self.part_count(part)).sum()
    }

    fn part_count(&self, nth: u64) -> f32 {
        nth as f32 / (128 * self.parts) as f32
    }

    /// Whether a source began again under its id so soon that it cannot be told from one whose bins are late: its
    /// numbers then go on where those of the run before ended.
    pub fn goes_on_untold(&self) -> bool {
        let begun = |is: fn(bool) -> bool| {
            let at = move |(at, fault): &(u64, Fault)| match fault {
                Fault::Restart { same_id } if is(*same_id) => Some(*at),
                _ => None,
            };
            self.faults.iter().filter_map(at)
        };
        begun(|same_id| same_id).any(|again| begun(|_| true).any(|at| at < again && again <= at + LATE_MAX))
    }

    /// The sum of what `of` says of each fault.
    pub fn sum(&self, of: impl Fn(&Fault) -> u64) -> u64 {
        self.faults.iter().map(|(_, fault)| of(fault)).sum()
    }

    /// Width of the source's bins, ns.
    pub fn width_ns(&self) -> u64 {
        self.period_ns / self.parts
    }

    /// When the calm third begins, of a source that pauses shift.
    pub fn calm_ns(&self) -> u64 {
        let paused = self.sum(|fault| if let Fault::Pause { periods } = fault { *periods } else { 0 });
        (self.calm_from + paused) * self.period_ns
    }

    /// When each of the source's bins has ended, and when it comes if nothing but a pause happens.
    fn instants(&self, random: &mut ChaCha8Rng) -> Vec<(u64, u64)> {
        let mut paused_ns = 0;
        let mut instants: Vec<(u64, u64)> = (0..self.bins * self.parts)
            .map(|nth| {
                for fault in self.at(nth) {
                    paused_ns +=
                        if let Fault::Pause { periods } = fault { periods * self.period_ns } else { 0 };
                }
                let is_calm = nth >= self.calm_from * self.parts;
                let jitter_ns = random.random_range(0..=if is_calm { 0 } else { self.jitter_ns });
                let due_ns = (nth + 1) * self.width_ns() + paused_ns;
                (due_ns, due_ns + jitter_ns)
            })
            .collect();
        for block in instants.chunks_mut(self.block as usize) {
            let last_ns = block[block.len() - 1].1;
            block.iter_mut().for_each(|(_, comes_ns)| *comes_ns = last_ns);
        }
        instants
    }

    /// Every bin that comes, in the order of coming. Each has another count in channel 0.
    pub fn incoming(&self, seed: u64) -> Vec<Incoming> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (mut first, mut base, mut stream, mut again) = (0, self.first_seq, 7, 0);
        let (mut clock_ns, mut lost_until, mut blocked_until_ns) = (0i64, 0, 0);
        let mut frozen: Option<(u64, (u64, Incoming))> = None;
        let mut incoming = Vec::new();
        for (nth, (due_ns, comes_ns)) in (0..).zip(self.instants(&mut random)) {
            let (mut copies, mut delay_ns, mut hang) = (1, 0, None);
            let mut counts = [self.part_count(nth), 1.0];
            let mut bin = Bin::empty();
            for fault in self.at(nth) {
                match fault {
                    Fault::Lost { bins } => lost_until = lost_until.max(nth + bins),
                    Fault::Twice => copies = 2,
                    Fault::Reordered { periods } => delay_ns = periods * self.period_ns + self.period_ns / 2,
                    Fault::Stall { periods } => {
                        blocked_until_ns = blocked_until_ns.max(due_ns + periods * self.period_ns)
                    }
                    Fault::Frozen { bins, back } => hang = Some((nth + 1 + bins, back)),
                    Fault::Jump { bins } => base += bins,
                    // Under the same id it is told from late bins only once some have come.
                    Fault::Restart { same_id } => {
                        (first, base) = (nth, 0);
                        (stream, again) = (stream + u64::from(!same_id), again + u64::from(same_id));
                    }
                    Fault::Segment => bin.segment_start = true,
                    Fault::Clock { periods } => clock_ns += periods * self.period_ns as i64,
                    Fault::Invalid { all } => counts = [if all { f32::NAN } else { counts[0] }, f32::NAN],
                    Fault::Pause { .. } | Fault::Slow { .. } | Fault::Broken { .. } => {}
                }
            }
            // One that is overtaken while nothing comes is sent with the others, in its place.
            let at_ns = (comes_ns + delay_ns).max(blocked_until_ns);
            bin.fill(counts.into_iter(), 50.0);
            bin.seq = nth - first + base;
            bin.stream = stream;
            bin.source_ns = due_ns as i64 + clock_ns;
            let is_lost = nth < lost_until;
            // What is sent in its place while the sender hangs.
            let mut sent = (again, Incoming { at_ns, nth, bin });
            let hangs = frozen.as_ref().filter(|(until, _)| nth < *until);
            if let Some((_, repeated)) = hangs {
                sent = repeated.clone();
            }
            (sent.1.at_ns, sent.1.bin.arrival_ns) = (at_ns, at_ns);
            if !is_lost {
                incoming.extend(std::iter::repeat_n(sent, copies));
            }
            // One that hangs already hangs on, and none has bins of a run before its own.
            if let (Some((until, back)), None) = (hang, hangs) {
                let own = incoming
                    .iter()
                    .rev()
                    .take_while(|(run, sent)| (*run, sent.bin.stream) == (again, stream));
                frozen = own.take(back + 1).last().map(|repeated| (until, repeated.clone()));
            }
        }
        // Stable: bins that come at once come in the order of their numbers.
        incoming.sort_by_key(|(_, incoming)| incoming.at_ns);
        // What a run has not sent when the next one begins under its id is lost: nobody could tell it apart.
        let mut newest = 0;
        incoming.retain(|(again, _)| {
            newest = newest.max(*again);
            *again == newest
        });
        incoming.into_iter().map(|(_, incoming)| incoming).collect()
    }
}
