//! The three threads of the daemon and the queues between them, on one thread and a clock that jumps from event to
//! event: the production intake, decoder and guard with a scripted engine.

use crate::plan::{Fault, Incoming, Plan};
use ndt_daemon::decoder::Decoder;
use ndt_daemon::engine::{Engine, Input, Output, StepFailed};
use ndt_daemon::guard::{Guard, Settings};
use ndt_daemon::policy::{Fallback, Policy, VelocityLimits};
use ndt_daemon::source::{Arrival, Intake};
use ndt_protocol::limits::QUEUE_BINS;
use ndt_protocol::manifest::Architecture;
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

/// What a run leaves behind.
#[derive(Default)]
pub struct Trace {
    /// What was published, each stamped with the time.
    pub published: Vec<Estimate>,
    /// What came, as the guard heard of it.
    pub arrivals: Vec<Arrival>,
    pub ended_ns: u64,
}

struct World {
    now_ns: u64,
    incoming: VecDeque<Incoming>,
    intake: Intake,
    bins: VecDeque<Bin>,
    decoder: Decoder,
    broken: Arc<[AtomicBool; 2]>,
    /// When the decode thread is done with what it has, and what it then hands on.
    busy_until_ns: Option<u64>,
    results: Vec<Estimate>,
    guard: Guard,
    /// When the publish thread really runs, for the instant that the guard asked for.
    wake: Option<(u64, u64)>,
    random: ChaCha8Rng,
    trace: Trace,
}

/// Runs the plan to its end, and twenty bins of silence beyond.
pub fn run(plan: &Plan, seed: u64) -> Trace {
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
        intake: Intake::default(),
        bins: VecDeque::new(),
        decoder: Decoder::new(&bundle, engine, &[], plan.deadline_ns),
        broken,
        busy_until_ns: None,
        results: Vec::new(),
        guard: Guard::new(&bundle, settings),
        wake: None,
        random: ChaCha8Rng::seed_from_u64(seed),
        trace: Trace::default(),
    };
    let end_ns = world.incoming.back().map_or(0, |last| last.at_ns);
    while world.now_ns <= end_ns {
        world.event(plan);
    }
    world.trace.ended_ns = world.now_ns;
    world.trace
}

impl World {
    /// The next thing that happens, of all threads.
    fn event(&mut self, plan: &Plan) {
        let asked = self.guard.wake_ns();
        if self.wake.map(|(asked, _)| asked) != asked {
            let delay_ns = self.random.random_range(0..=plan.wake_delay_ns);
            self.wake = asked.map(|asked| (asked, asked.max(self.now_ns) + delay_ns));
        }
        let comes_ns = self.incoming.front().map_or(u64::MAX, |incoming| incoming.at_ns);
        let decoded_ns = self.busy_until_ns.unwrap_or(u64::MAX);
        let wakes_ns = self.wake.map_or(u64::MAX, |(_, at_ns)| at_ns);
        self.now_ns = self.now_ns.max(comes_ns.min(decoded_ns).min(wakes_ns));
        if comes_ns.min(decoded_ns).min(wakes_ns) == u64::MAX {
            self.now_ns = u64::MAX;
        } else if comes_ns <= self.now_ns {
            self.receive();
        } else if decoded_ns <= self.now_ns {
            self.hand_on();
        } else {
            self.wake = None;
        }
        self.tick();
        if self.busy_until_ns.is_none() {
            self.decode(plan);
        }
    }

    fn receive(&mut self) {
        let Some(Incoming { mut bin, .. }) = self.incoming.pop_front() else { return };
        let Some(arrival) = self.intake.take(&mut bin) else { return };
        self.trace.arrivals.push(arrival);
        self.guard.arrived(arrival);
        if self.bins.len() == QUEUE_BINS {
            self.bins.pop_front();
        }
        self.bins.push_back(bin);
    }

    fn decode(&mut self, plan: &Plan) {
        let Some(bin) = self.bins.pop_front() else { return };
        let k = source_bin(plan, &bin);
        let mut cost_ns = plan.decode_ns;
        let mut broken = [false; 2];
        for fault in plan.at(k) {
            match fault {
                Fault::Slow { hundredths } => cost_ns += plan.period_ns * hundredths / 100,
                Fault::Broken { fails } => broken[usize::from(fails)] = true,
                _ => {}
            }
        }
        self.broken.iter().zip(broken).for_each(|(shared, broken)| shared.store(broken, Relaxed));
        let results = &mut self.results;
        let before = self.decoder.counters();
        self.decoder
            .decode(&bin, self.bins.len(), self.now_ns, &mut |estimate| results.push(estimate.clone()));
        if self.decoder.counters() != before && self.results.is_empty() {
            // A bin that is only observed or dropped costs less.
            cost_ns = plan.decode_ns / 2;
        }
        self.busy_until_ns = Some(self.now_ns + cost_ns);
    }

    fn hand_on(&mut self) {
        self.busy_until_ns = None;
        for mut result in std::mem::take(&mut self.results) {
            result.decoded_ns = self.now_ns;
            let (now_ns, published) = (self.now_ns, &mut self.trace.published);
            self.guard.decoded(&result, &mut |estimate| publish(now_ns, estimate, published));
        }
    }

    fn tick(&mut self) {
        let (now_ns, published) = (self.now_ns, &mut self.trace.published);
        if self.wake.is_none_or(|(_, at_ns)| at_ns <= now_ns) {
            self.guard.tick(now_ns, &mut |estimate| publish(now_ns, estimate, published));
        }
    }
}

fn publish(now_ns: u64, estimate: &mut Estimate, published: &mut Vec<Estimate>) {
    estimate.published_ns = now_ns;
    published.push(estimate.clone());
}

/// Which of the plan's bins this is: its number when the source had not been restarted.
fn source_bin(plan: &Plan, bin: &Bin) -> u64 {
    let restarts: Vec<u64> = plan
        .faults
        .iter()
        .filter(|(_, fault)| matches!(fault, Fault::Restart { .. }))
        .map(|(k, _)| *k)
        .collect();
    // Streams and numbers are unique in a plan: the newest restart whose numbering gives this count.
    let bases = restarts.iter().map(|base| bin.seq + base).chain(bin.seq.checked_sub(1_000));
    bases.filter(|k| *k < crate::plan::BINS).find(|k| (*k % 50) as f32 == bin.counts()[0]).unwrap_or(u64::MAX)
}
