//! A rig and a machine on which things go wrong: which bins come, when, and how long each takes to decode.

use ndt_protocol::Bin;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Bins of a plan; the last third of them is free of faults.
pub const BINS: u64 = 240;
pub const CALM_FROM: u64 = 160;

/// What can happen to a bin on its way in.
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
    /// Counts begin again, under a new stream id or the old one.
    Restart {
        same_id: bool,
    },
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

/// What is wrong from which bin on, and everything else that is random.
#[derive(Debug, Clone)]
pub struct Plan {
    pub faults: Vec<(u64, Fault)>,
    pub period_ns: u64,
    pub deadline_ns: u64,
    pub jitter_ns: u64,
    /// Latest that the publish thread runs after it is woken.
    pub wake_delay_ns: u64,
    pub decode_ns: u64,
}

/// One bin as it comes.
pub struct Incoming {
    pub at_ns: u64,
    pub bin: Bin,
}

impl Plan {
    pub fn random(random: &mut ChaCha8Rng) -> Plan {
        let period_ns = [5_000_000, 20_000_000][random.random_range(0..2)];
        let faults = (0..random.random_range(0..8))
            .map(|_| (random.random_range(1..CALM_FROM - 40), Plan::fault(random)))
            .collect();
        Plan {
            faults,
            period_ns,
            deadline_ns: period_ns * random.random_range(20..200) / 100,
            jitter_ns: period_ns * random.random_range(0..60) / 100,
            wake_delay_ns: period_ns * random.random_range(0..5) / 100,
            decode_ns: period_ns * random.random_range(1..15) / 100,
        }
    }

    fn fault(random: &mut ChaCha8Rng) -> Fault {
        match random.random_range(0..10) {
            0 => Fault::Lost { bins: random.random_range(1..16) },
            1 => Fault::Twice,
            2 => Fault::Reordered { periods: random.random_range(1..4) },
            3 => Fault::Stall { periods: random.random_range(1..40) },
            4 => Fault::Pause { periods: random.random_range(1..30) },
            5 => Fault::Restart { same_id: random.random() },
            6 => Fault::Clock { periods: random.random_range(-200..200) },
            7 => Fault::Invalid { all: random.random() },
            8 => Fault::Slow { hundredths: random.random_range(20..900) },
            _ => Fault::Broken { fails: random.random() },
        }
    }

    pub fn at(&self, bin: u64) -> impl Iterator<Item = Fault> + '_ {
        self.faults.iter().filter(move |(at, _)| *at == bin).map(|(_, fault)| *fault)
    }

    pub fn has(&self, is: impl Fn(&Fault) -> bool) -> bool {
        self.faults.iter().any(|(_, fault)| is(fault))
    }

    /// Every bin that comes, in the order of coming. Bin `k` of the source carries `k % 50` in channel 0.
    pub fn incoming(&self, seed: u64) -> Vec<Incoming> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (mut first, mut stream, mut same_ids) = (0, 7, 0);
        let (mut paused_ns, mut clock_ns, mut lost_until, mut blocked_until_ns) = (0, 0i64, 0, 0);
        let mut incoming = Vec::new();
        for k in 0..BINS {
            let (mut copies, mut delay_ns, mut counts) = (1, 0, [(k % 50) as f32, 1.0]);
            let due_ns = |paused_ns: u64| (k + 1) * self.period_ns + paused_ns;
            for fault in self.at(k) {
                match fault {
                    Fault::Lost { bins } => lost_until = lost_until.max(k + bins),
                    Fault::Twice => copies = 2,
                    Fault::Reordered { periods } => delay_ns = periods * self.period_ns + self.period_ns / 2,
                    Fault::Stall { periods } => {
                        blocked_until_ns = blocked_until_ns.max(due_ns(paused_ns) + periods * self.period_ns)
                    }
                    Fault::Pause { periods } => paused_ns += periods * self.period_ns,
                    // Counting again under the same id is told from a late bin only once a queue's length has passed.
                    Fault::Restart { same_id } => {
                        (first, same_ids) = (k, same_ids + u64::from(same_id));
                        stream += u64::from(!same_id);
                    }
                    Fault::Clock { periods } => clock_ns += periods * self.period_ns as i64,
                    Fault::Invalid { all } => counts = [if all { f32::NAN } else { counts[0] }, f32::NAN],
                    Fault::Slow { .. } | Fault::Broken { .. } => {}
                }
            }
            let jitter_ns = random.random_range(0..=if k < CALM_FROM { self.jitter_ns } else { 0 });
            let at_ns = (due_ns(paused_ns) + jitter_ns).max(blocked_until_ns) + delay_ns;
            let mut bin = Bin::empty();
            bin.fill(counts.into_iter(), 50.0);
            // Far from the numbers before, as those of a source that has run for long are.
            bin.seq = k - first + if same_ids == 0 && first == 0 { 1_000 } else { 0 };
            bin.stream = stream;
            bin.source_ns = due_ns(paused_ns) as i64 + clock_ns;
            bin.arrival_ns = at_ns;
            if k >= lost_until {
                incoming.extend((0..copies).map(|_| Incoming { at_ns, bin: bin.clone() }));
            }
        }
        // Stable: bins that come at once come in the order of their numbers.
        incoming.sort_by_key(|incoming| incoming.at_ns);
        incoming
    }
}
