//! Plans of what goes wrong in a rig and in the machine: which bins arrive, when, and how long each takes to decode.

use crate::faults::{FAULT_BINS_MAX, FAULTS_FROM, faults, jitter_hundredths, long_fault};
use ndt_daemon::input::deadline::TimeLimits;
use ndt_protocol::limits::SEQ_MAX;
use ndt_protocol::{Bin, CountRange};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use crate::faults::Fault;

/// Number of bins in a plan, and in a plan with a fault that lasts longer than a queue is. The last third has no faults.
const BINS: u64 = 240;
const BINS_LONG: u64 = 1_500;

/// Longest run of bins after which the bins of the next run, under the same id, may still look like late ones.
const LATE_MAX: u64 = 9;

/// Faults, each with the bin of the source at which it begins, and everything else that is random.
#[derive(Debug, Clone)]
pub struct Plan {
    pub faults: Vec<(u64, Fault)>,
    /// Number of bins of the model's width, the first bin of the calm third, and the number of bins of the source in a bin of
    /// the model.
    pub bins: u64,
    pub calm_from: u64,
    pub parts: u64,
    /// Number of bins of the source that are sent together, at the instant of the last one.
    pub block: u64,
    /// Number of the first bin of the source.
    pub first_seq: u64,
    pub period_ns: u64,
    pub time: TimeLimits,
    /// Seconds of the source's clock in a second of ours.
    pub rate: f64,
    /// Whether the source says when it sent each bin.
    pub says_sent: bool,
    pub jitter_ns: u64,
    /// Longest delay of the publish thread after it is woken, at all times and in the calm third.
    pub wake_delay_ns: u64,
    pub calm_wake_delay_ns: u64,
    pub decode_ns: u64,
}

/// One bin as it arrives: the `nth` bin of the source.
#[derive(Clone)]
pub struct Incoming {
    pub at_ns: u64,
    /// When the bin ended.
    pub ended_ns: u64,
    pub nth: u64,
    pub bin: Bin,
}

impl Plan {
    /// Draws a plan. The rig and the machine come from one generator, each kind of fault from another.
    pub fn random(seed: u64) -> Plan {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut one_in = |n: u32| random.random_range(0..n) == 0;
        let (is_long, is_narrow, is_block) = (one_in(20), one_in(5), one_in(6));
        let (is_far, is_slow_publisher) = (one_in(8), one_in(8));
        let bins = if is_long { BINS_LONG } else { BINS };
        let calm_from = bins * 2 / 3;
        let parts = if is_narrow { 4 } else { 1 };
        let period_ns = [5_000_000, 20_000_000][random.random_range(0..2)];
        let mut faults = faults(seed, FAULTS_FROM * parts..(calm_from - FAULT_BINS_MAX) * parts);
        if is_long {
            faults.push(long_fault(seed, parts));
        }
        // What is lost may be followed by the start of a segment, a jump by a late answer.
        let with = |(at, fault): &(u64, Fault)| match fault {
            Fault::Drop if at % 2 == 0 => Some((at + 1, Fault::Segment)),
            Fault::Burst { bins } if at % 2 == 0 => Some((at + bins, Fault::Segment)),
            Fault::Jump { .. } if at % 2 == 0 => Some((*at, Fault::Slow { hundredths: 400 })),
            _ => None,
        };
        faults.extend(faults.clone().iter().filter_map(with));
        let calm_wake_delay_ns = period_ns * random.random_range(0..5) / 100;
        // Clocks have a generator of their own, so that they leave the rest of a plan where it was.
        let clocks = &mut ChaCha8Rng::seed_from_u64(seed);
        clocks.set_stream(2_000);
        let rates = [0.6, 0.8, 0.97, 1.03, 1.2, 1.4];
        let rate = if clocks.random_range(0..5) == 0 { rates[clocks.random_range(0..6)] } else { 1.0 };
        let max_age_ns = period_ns * clocks.random_range(200..400) / 100;
        let says_sent = clocks.random();
        let late_ns = period_ns * random.random_range(5..300) / 100;
        Plan {
            faults,
            bins,
            calm_from,
            parts,
            block: if is_block { 2 * parts } else { 1 },
            // Further from the end than any jump goes.
            first_seq: if is_far { SEQ_MAX - (1 << 24) } else { 1_000 },
            period_ns,
            // Two bins of a block wait for each other.
            time: TimeLimits {
                deadline_ns: period_ns * random.random_range(if is_block { 60 } else { 20 }..200) / 100,
                max_age_ns,
            },
            rate,
            says_sent,
            jitter_ns: period_ns / parts * jitter_hundredths(seed) / 100,
            wake_delay_ns: if is_slow_publisher { late_ns } else { calm_wake_delay_ns },
            calm_wake_delay_ns,
            decode_ns: period_ns * random.random_range(1..15) / 100,
        }
    }

    pub fn at(&self, nth: u64) -> impl Iterator<Item = Fault> + '_ {
        self.faults.iter().filter(move |(at, _)| *at == nth).map(|(_, fault)| *fault)
    }

    pub fn has(&self, is: impl Fn(&Fault) -> bool) -> bool {
        self.faults.iter().any(|(_, fault)| is(fault))
    }

    /// Count in channel 0 of the bin of the model that ends with this bin of the source.
    pub fn count(&self, nth: u64) -> f32 {
        (nth + 1 - self.parts..=nth).map(|part| self.part_count(part)).sum()
    }

    fn part_count(&self, nth: u64) -> f32 {
        nth as f32 / (128 * self.parts) as f32
    }

    /// Whether a source restarted under its old id so soon that its bins look like late ones: its numbers then go on where
    /// those of the run before ended.
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

    /// Sum of `of` over all faults.
    pub fn sum(&self, of: impl Fn(&Fault) -> u64) -> u64 {
        self.faults.iter().map(|(_, fault)| of(fault)).sum()
    }

    /// Width of a bin of the source, in ns.
    pub fn width_ns(&self) -> u64 {
        self.period_ns / self.parts
    }

    /// Start of the calm third, which pauses delay.
    pub fn calm_ns(&self) -> u64 {
        let paused = self.sum(|fault| if let Fault::Pause { periods } = fault { *periods } else { 0 });
        (self.calm_from + paused) * self.period_ns
    }

    /// When each bin of the source ends.
    fn ends(&self) -> impl Iterator<Item = u64> {
        let mut paused_ns = 0;
        (0..self.bins * self.parts).map(move |nth| {
            for fault in self.at(nth) {
                paused_ns += if let Fault::Pause { periods } = fault { periods * self.period_ns } else { 0 };
            }
            (nth + 1) * self.width_ns() + paused_ns
        })
    }

    /// When the daemon is stopped, and when it goes on.
    pub fn stops(&self) -> Vec<(u64, u64)> {
        let stops = (0..).zip(self.ends()).flat_map(|(nth, end_ns)| {
            self.at(nth).filter_map(move |fault| match fault {
                Fault::Stopped { periods } => Some((end_ns, end_ns + periods * self.period_ns)),
                _ => None,
            })
        });
        stops.collect()
    }

    /// How many periods the daemon is stopped for.
    pub fn stopped_periods(&self) -> u64 {
        self.sum(|fault| if let Fault::Stopped { periods } = fault { *periods } else { 0 })
    }

    /// For each bin of the source: when it has ended, and when it arrives if nothing but pauses and jitter happens.
    fn instants(&self, random: &mut ChaCha8Rng) -> Vec<(u64, u64)> {
        let mut instants: Vec<(u64, u64)> = (0..)
            .zip(self.ends())
            .map(|(nth, due_ns)| {
                let is_calm = nth >= self.calm_from * self.parts;
                let jitter_ns = random.random_range(0..=if is_calm { 0 } else { self.jitter_ns });
                (due_ns, due_ns + jitter_ns)
            })
            .collect();
        for block in instants.chunks_mut(self.block as usize) {
            let last_ns = block[block.len() - 1].1;
            block.iter_mut().for_each(|(_, comes_ns)| *comes_ns = last_ns);
        }
        instants
    }

    /// All bins that arrive, in the order of arrival. Each has another count in channel 0.
    pub fn incoming(&self, seed: u64) -> Vec<Incoming> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (mut first, mut base, mut stream, mut again) = (0, self.first_seq, 7, 0);
        let (mut clock_ns, mut lost_until, mut blocked_until_ns) = (0i64, 0, 0);
        let (mut wrong_until, mut wrong_all) = (0, false);
        let mut frozen: Option<(u64, (u64, Incoming))> = None;
        let mut incoming = Vec::new();
        for (nth, (due_ns, comes_ns)) in (0..).zip(self.instants(&mut random)) {
            let (mut copies, mut delay_ns, mut hang) = (1, 0, None);
            let mut counts = [self.part_count(nth), 1.0];
            let mut bin = Bin::empty();
            for fault in self.at(nth) {
                match fault {
                    Fault::Drop => lost_until = lost_until.max(nth + 1),
                    // A bin that the source refuses never arrives.
                    Fault::Burst { bins } | Fault::Channels { bins } => {
                        lost_until = lost_until.max(nth + bins)
                    }
                    Fault::Dup => copies = 2,
                    Fault::Reorder { periods } => delay_ns = periods * self.period_ns + self.period_ns / 2,
                    Fault::Stall { periods } => {
                        blocked_until_ns = blocked_until_ns.max(due_ns + periods * self.period_ns)
                    }
                    Fault::Freeze { bins, back } => hang = Some((nth + 1 + bins, back)),
                    Fault::Jump { bins } => base += bins,
                    // Under the same id, a restart differs from late bins only after some bins have arrived.
                    Fault::Restart { same_id } => {
                        (first, base) = (nth, 0);
                        (stream, again) = (stream + u64::from(!same_id), again + u64::from(same_id));
                    }
                    Fault::Segment => bin.segment_start = true,
                    Fault::Clock { periods } => clock_ns += periods * self.period_ns as i64,
                    Fault::Nan { all } => counts = [if all { f32::NAN } else { counts[0] }, f32::NAN],
                    Fault::Implausible { bins, all } => (wrong_until, wrong_all) = (nth + bins, all),
                    Fault::Pause { .. }
                    | Fault::Slow { .. }
                    | Fault::Broken { .. }
                    | Fault::Stopped { .. } => {}
                }
            }
            if nth < wrong_until {
                // A count of 1 in the other byte order, and a negative one.
                counts =
                    [if wrong_all { -1.0 } else { counts[0] }, f32::from_bits(1.0f32.to_bits().swap_bytes())];
            }
            // A bin that is overtaken during a stall is sent with the others, in its place.
            let at_ns = (comes_ns + delay_ns).max(blocked_until_ns);
            bin.fill(counts.into_iter(), CountRange::new(50, 20.0));
            bin.seq = nth - first + base;
            bin.stream = stream;
            bin.source_ns = (due_ns as f64 * self.rate) as i64 + clock_ns;
            bin.sent_ns = if self.says_sent { at_ns } else { 0 };
            let is_lost = nth < lost_until;
            // While the sender hangs, another bin is sent in its place.
            let mut sent = (again, Incoming { at_ns, ended_ns: due_ns, nth, bin });
            let hangs = frozen.as_ref().filter(|(until, _)| nth < *until);
            if let Some((_, repeated)) = hangs {
                sent = repeated.clone();
            }
            (sent.1.at_ns, sent.1.bin.arrival_ns) = (at_ns, at_ns);
            if !is_lost {
                incoming.extend(std::iter::repeat_n(sent, copies));
            }
            // A sender that hangs already goes on hanging, and no sender repeats bins of an earlier run.
            if let (Some((until, back)), None) = (hang, hangs) {
                let own = incoming
                    .iter()
                    .rev()
                    .take_while(|(run, sent)| (*run, sent.bin.stream) == (again, stream));
                frozen = own.take(back + 1).last().map(|repeated| (until, repeated.clone()));
            }
        }
        // The sort is stable: bins that arrive at once arrive in the order of their numbers.
        incoming.sort_by_key(|(_, incoming)| incoming.at_ns);
        // Bins that a run has not sent when the next one begins under its id are lost: nobody could tell them apart.
        let mut newest = 0;
        incoming.retain(|(again, _)| {
            newest = newest.max(*again);
            *again == newest
        });
        incoming.into_iter().map(|(_, incoming)| incoming).collect()
    }
}
