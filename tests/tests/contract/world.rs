//! The three threads of the daemon and the queues between them, on one thread and a clock that jumps from event to
//! event: the production rebinning, intake, decoder and guard with a scripted engine.

use crate::plan::{Fault, Incoming, Plan};
use ndt_daemon::decoder::Decoder;
use ndt_daemon::engine::{Engine, Input, Output, StepFailed};
use ndt_daemon::guard::{Counters, Guard, Settings};
use ndt_daemon::policy::{Fallback, Policy, VelocityLimits};
use ndt_daemon::rebin::Rebin;
use ndt_daemon::source::{Arrival, Intake};
use ndt_protocol::bundle::manifest::Architecture;
use ndt_protocol::limits::QUEUE_BINS;
use ndt_protocol::{Bin, Estimate};
use ndt_tests::{Positions, Shape, weights_only};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub const STALE_AFTER_BINS: u64 = 3;
pub const WARMUP_BINS: u64 = 5;

/// Answers the first count of its bin (-1 for a missing one) and the bins since its reset; broken when told so.
struct Script {
    seen: u64,
    /// NaN, failure.
    broken: Arc<[AtomicBool; 2]>,
}

impl Engine for Script {
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed> {
        self.observe(input)?;
        let [is_nan, fails] = [0, 1].map(|kind| self.broken[kind].load(Relaxed));
        if fails && !input.missing {
            return Err(StepFailed);
        }
        output.log_rates.fill(if is_nan && !input.missing { f32::NAN } else { 0.0 });
        output
            .velocity
            .copy_from_slice(&[if input.missing { -1.0 } else { input.counts[0] }, self.seen as f32]);
        Ok(())
    }

    fn observe(&mut self, _: Input) -> Result<(), StepFailed> {
        self.seen += 1;
        Ok(())
    }

    fn reset(&mut self) {
        self.seen = 0;
    }
}

/// A bin that came to the daemon as one of the model's.
pub struct Came {
    /// What the guard heard of it.
    pub arrival: Arrival,
    /// The last of the source's bins that it was made of, that one's number, and the bin's count in channel 0.
    pub nth: u64,
    pub source_seq: u64,
    pub count: f32,
}

/// What a run leaves behind.
#[derive(Default)]
pub struct Trace {
    /// What was published, each stamped with the time.
    pub published: Vec<Estimate>,
    /// What came, in this order.
    pub came: Vec<Came>,
    pub guard: Counters,
}

struct World {
    now_ns: u64,
    incoming: VecDeque<Incoming>,
    rebin: Rebin,
    intake: Intake,
    bins: VecDeque<(u64, Bin)>,
    decoder: Decoder,
    broken: Arc<[AtomicBool; 2]>,
    /// When the decode thread is done with what it has, and what it then hands on.
    busy_until_ns: Option<u64>,
    computed: Vec<Estimate>,
    /// What the publish thread has not looked at yet, and when it looks next.
    heard: VecDeque<Arrival>,
    results: VecDeque<Estimate>,
    looks_ns: u64,
    guard: Guard,
    has_fallback: bool,
    random: ChaCha8Rng,
    trace: Trace,
}

/// Runs the plan to its end, without or with a fallback decoder, which says the bin's count and number.
pub fn run(plan: &Plan, seed: u64, has_fallback: bool) -> Trace {
    let architecture = Architecture {
        width: 4,
        layers: 1,
        heads: 1,
        feedforward: 4,
        window_bins: 3,
        positions: Positions::LagBias,
    };
    let mut bundle = weights_only(Shape { channels: 2, units: 1, dims: 2, architecture }, 1);
    bundle.manifest.bin_width_ms = plan.period_ns as f64 * 1e-6;
    let broken = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
    let engine = Box::new(Script { seen: 0, broken: broken.clone() });
    let settings = Settings {
        deadline_ns: plan.deadline_ns,
        stale_after_bins: STALE_AFTER_BINS,
        fallback: Fallback { policy: Policy::Decay, time_constant_bins: 2.5 },
        limits: VelocityLimits::default(),
    };
    let mut world = World {
        now_ns: 0,
        incoming: plan.incoming(seed).into(),
        rebin: Rebin::new((plan.period_ns / 1_000) as u32, 2, 50.0),
        intake: Intake::default(),
        bins: VecDeque::new(),
        decoder: Decoder::new(&bundle, engine, &[], plan.deadline_ns),
        broken,
        busy_until_ns: None,
        computed: Vec::new(),
        heard: VecDeque::new(),
        results: VecDeque::new(),
        looks_ns: 0,
        guard: Guard::new(&bundle, settings),
        has_fallback,
        random: ChaCha8Rng::seed_from_u64(seed),
        trace: Trace::default(),
    };
    let end_ns = world.incoming.back().map_or(0, |last| last.at_ns);
    while world.now_ns <= end_ns {
        world.event(plan);
    }
    world.trace.guard = world.guard.counters();
    world.trace
}

impl World {
    /// The next thing that happens, of all threads.
    fn event(&mut self, plan: &Plan) {
        let comes_ns = self.incoming.front().map_or(u64::MAX, |incoming| incoming.at_ns);
        let decoded_ns = self.busy_until_ns.unwrap_or(u64::MAX);
        self.now_ns = self.now_ns.max(comes_ns.min(decoded_ns).min(self.looks_ns));
        if comes_ns <= self.now_ns {
            self.receive(plan);
        } else if decoded_ns <= self.now_ns {
            self.hand_on(plan);
        } else {
            self.look(plan);
        }
        if self.busy_until_ns.is_none() {
            self.decode(plan);
        }
    }

    /// The source thread.
    fn receive(&mut self, plan: &Plan) {
        let Some(Incoming { nth, mut bin, .. }) = self.incoming.pop_front() else { return };
        let source_seq = bin.seq;
        if !self.rebin.push(&mut bin, (plan.width_ns() / 1_000) as u32).unwrap() {
            return;
        }
        let Some(mut arrival) = self.intake.take(&mut bin) else { return };
        arrival.velocity = self.has_fallback.then(|| [bin.counts()[0], bin.seq as f32, 0.0]);
        self.trace.came.push(Came { arrival, nth, source_seq, count: bin.counts()[0] });
        push(&mut self.heard, arrival);
        push(&mut self.bins, (nth, bin));
    }

    /// The decode thread takes a bin.
    fn decode(&mut self, plan: &Plan) {
        let Some((nth, bin)) = self.bins.pop_front() else { return };
        let mut cost_ns = plan.decode_ns;
        let mut broken = [false; 2];
        for fault in plan.at(nth) {
            match fault {
                Fault::Slow { hundredths } => cost_ns += plan.period_ns * hundredths / 100,
                Fault::Broken { fails } => broken[usize::from(fails)] = true,
                _ => {}
            }
        }
        self.broken.iter().zip(broken).for_each(|(shared, broken)| shared.store(broken, Relaxed));
        let computed = &mut self.computed;
        let before = self.decoder.counters();
        self.decoder
            .decode(&bin, self.bins.len(), self.now_ns, &mut |estimate| computed.push(estimate.clone()));
        if self.decoder.counters() != before && self.computed.is_empty() {
            // A bin that is only observed or dropped costs less.
            cost_ns = plan.decode_ns / 2;
        }
        self.busy_until_ns = Some(self.now_ns + cost_ns);
    }

    /// The decode thread is done with a bin: each result wakes the publish thread.
    fn hand_on(&mut self, plan: &Plan) {
        self.busy_until_ns = None;
        for mut result in std::mem::take(&mut self.computed) {
            result.decoded_ns = self.now_ns;
            push(&mut self.results, result);
            self.looks_ns = self.looks_ns.min(self.now_ns + self.delay_ns(plan));
        }
    }

    /// The publish thread runs once: all that was heard, one result, what is due. An arrival does not wake it.
    fn look(&mut self, plan: &Plan) {
        let result = self.results.pop_front();
        self.heard.drain(..).for_each(|arrival| self.guard.arrived(arrival));
        let (now_ns, published) = (self.now_ns, &mut self.trace.published);
        let mut emit = |estimate: &mut Estimate| {
            estimate.published_ns = now_ns;
            published.push(estimate.clone());
        };
        if let Some(result) = result {
            self.guard.decoded(&result, &mut emit);
        }
        self.guard.tick(now_ns, &mut emit);
        self.looks_ns = match self.results.is_empty() {
            true => {
                let look_ns = now_ns + plan.deadline_ns / 2;
                let asked_ns = self.guard.wake_ns().map_or(look_ns, |asked_ns| asked_ns.min(look_ns));
                asked_ns.max(now_ns) + self.delay_ns(plan)
            }
            false => now_ns,
        };
    }

    /// How late the publish thread runs this time.
    fn delay_ns(&mut self, plan: &Plan) -> u64 {
        let is_calm = self.now_ns >= plan.calm_ns();
        let most_ns = if is_calm { plan.calm_wake_delay_ns } else { plan.wake_delay_ns };
        self.random.random_range(0..=most_ns)
    }
}

/// A queue between two threads drops its oldest when full.
fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == QUEUE_BINS {
        queue.pop_front();
    }
    queue.push_back(item);
}
