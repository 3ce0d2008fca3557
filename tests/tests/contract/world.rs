//! The three threads of the daemon on one thread and on a clock that jumps from event to event.
//!
//! The loops are the production ones, with their queues; only the source, the engine and the fallback decoder are scripted.
//! Between the loops stand queues of the simulation's own, in which an item waits as long as its thread would have taken.

use crate::plan::{Fault, Incoming, Plan};
use ndt_daemon::decoder::{Decoder, DecoderCounters};
use ndt_daemon::engine::{Engine, Input, Output, StepFailed};
use ndt_daemon::guard::policy::{Fade, Policy, VelocityLimits};
use ndt_daemon::guard::{Guard, GuardCounters, GuardSettings};
use ndt_daemon::input::rebin::Rebin;
use ndt_daemon::input::{Arrival, Intake, Received, Source, Velocity};
use ndt_daemon::pipeline::counters::Counters;
use ndt_daemon::pipeline::keep_warm::KeepWarm;
use ndt_daemon::pipeline::loops::{DecodeLoop, PublishLoop, SourceEvent, SourceLoop};
use ndt_daemon::pipeline::orders::{self, DecodeOrder, Orders, PublishOrder};
use ndt_daemon::pipeline::shadow::Shadow;
use ndt_daemon::queue::{Queue, Receiver};
use ndt_protocol::bundle::manifest::Architecture;
use ndt_protocol::limits::QUEUE_BINS;
use ndt_protocol::{Bin, Bundle, CountRange, Estimate};
use ndt_tests::{Positions, Shape, weights_only};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, mpsc};

pub const STALE_AFTER_BINS: u64 = 3;
pub const WARMUP_BINS: u64 = 5;

/// Events between two orders, on average.
const EVENTS_AN_ORDER: u32 = 150;

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
    /// Its arrival, as the guard is told of it.
    pub arrival: Arrival,
    /// The last of the source's bins that it was made of, that one's number, and the bin's count in channel 0.
    pub nth: u64,
    pub source_seq: u64,
    pub count: f32,
    /// When the bin ended by a clock that is always right.
    pub ended_ns: u64,
    /// Whether it holds a value that no spike count can be.
    pub is_implausible: bool,
}

/// What a run leaves behind.
#[derive(Default)]
pub struct Trace {
    /// What was published, each stamped with the time.
    pub published: Vec<Estimate>,
    /// What came, in this order.
    pub came: Vec<Came>,
    pub guard: GuardCounters,
    /// Times that another model has taken over.
    pub swaps: u64,
}

/// The rig: gives the source thread one bin at a time, joined to the model's width as a transport does.
struct Rig {
    coming: mpsc::Receiver<Bin>,
    width_us: u32,
    rebin: Rebin,
}

impl Source for Rig {
    fn receive(&mut self, bin: &mut Bin) -> Received {
        let Ok(coming) = self.coming.try_recv() else { return Received::Nothing };
        *bin = coming;
        match self.rebin.push(bin, self.width_us) {
            Ok(true) => Received::Bin,
            Ok(false) => Received::Nothing,
            Err(error) => Received::Refused(error.into()),
        }
    }
}

type FallbackOf = Box<dyn FnMut(&Bin) -> Option<Velocity>>;
type Publish = Box<dyn FnMut(&Estimate) + Send>;

/// What the control plane orders in the course of a run.
struct Control {
    bundle: Bundle,
    decode: Orders<DecodeOrder>,
    publish: Orders<PublishOrder>,
    has_swaps: bool,
    has_pauses: bool,
    random: ChaCha8Rng,
}

struct World {
    control: Control,
    now_ns: u64,
    incoming: VecDeque<Incoming>,
    /// When the whole daemon is stopped, and when it goes on.
    stops: Vec<(u64, u64)>,
    counters: Arc<Counters>,
    random: ChaCha8Rng,
    trace: Trace,
    broken: Arc<[AtomicBool; 2]>,
    /// The source thread, what it is given, and what it hands on.
    source: SourceLoop<Rig, FallbackOf>,
    to_source: mpsc::Sender<Bin>,
    arrived: Receiver<SourceEvent>,
    /// Count in channel 0 of the bin that the source thread took in last, as bits.
    count: Arc<AtomicU32>,
    /// Whether that bin holds a value that no spike count can be.
    is_implausible: Arc<AtomicBool>,
    /// The source's number of each bin that waits for the decode thread.
    waiting: VecDeque<u64>,
    /// The decode thread, what it has computed, and when it will be done with that.
    decode: DecodeLoop,
    computed: Receiver<Estimate>,
    busy_until_ns: Option<u64>,
    /// The publish thread, what it is given, and when it looks next.
    publish: PublishLoop<Publish>,
    events: Queue<SourceEvent>,
    results: Queue<Estimate>,
    published: mpsc::Receiver<Estimate>,
    looks_ns: u64,
}

/// Runs the plan to its end, without or with a fallback decoder, whose velocity is the bin's count and number.
pub fn run(plan: &Plan, seed: u64, has_fallback: bool) -> Trace {
    let mut world = World::new(plan, seed, has_fallback);
    let end_ns = world.incoming.back().map_or(0, |last| last.at_ns);
    while world.now_ns <= end_ns {
        world.event(plan);
    }
    world.trace.published = world.published.try_iter().collect();
    world.trace.guard = world.counters.stats().guard;
    let bundles = world.trace.published.windows(2).filter(|pair| pair[0].bundle != pair[1].bundle);
    world.trace.swaps = bundles.count() as u64;
    world.trace
}

impl World {
    fn new(plan: &Plan, seed: u64, has_fallback: bool) -> World {
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
        let settings = GuardSettings {
            time: plan.time,
            stale_after_bins: STALE_AFTER_BINS,
            fade: Fade { policy: Policy::Decay, time_constant_bins: 2.5 },
            limits: VelocityLimits::default(),
        };
        let counters = Arc::new(Counters::default());
        let broken = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let count = Arc::new(AtomicU32::new(0));
        let is_implausible = Arc::new(AtomicBool::new(false));
        let (to_source, coming) = mpsc::channel();
        let (arrivals, arrived) = Queue::untouched();
        let (bins, queued_bins) = Queue::untouched();
        let (estimates, computed) = Queue::untouched();
        let (events, queued_events) = Queue::untouched();
        let (results, queued_results) = Queue::untouched();
        let (publish, published) = mpsc::channel();
        let rebin = Rebin::new((plan.period_ns / 1_000) as u32, 2, CountRange::new(50, 20.0));
        let rig = Rig { coming, width_us: (plan.width_ns() / 1_000) as u32, rebin };
        let fallback: FallbackOf = Box::new({
            let (count, is_implausible) = (count.clone(), is_implausible.clone());
            move |bin| {
                is_implausible.store(!bin.implausible.is_none(), Relaxed);
                count.store(bin.counts()[0].to_bits(), Relaxed);
                has_fallback.then(|| {
                    let mut said = Velocity::default();
                    (said[0], said[1]) = (bin.counts()[0], bin.seq as f32);
                    said
                })
            }
        });
        let engine = Box::new(Script { seen: 0, broken: broken.clone() });
        let decoder = Decoder::new(&bundle, engine, &[], plan.time);
        let publish: Publish = Box::new(move |estimate| drop(publish.send(estimate.clone())));
        let guard = Guard::new(&bundle, settings);
        let look_every_ns = plan.time.deadline_ns / 2;
        let (to_decode, decode_inbox) = orders::to_thread("decode");
        let (to_publish, publish_inbox) = orders::to_thread("publish");
        World {
            control: Control {
                bundle,
                decode: to_decode,
                publish: to_publish,
                has_swaps: matches!(seed % 4, 1 | 2),
                has_pauses: seed % 4 == 2,
                random: ChaCha8Rng::seed_from_u64(!seed),
            },
            now_ns: 0,
            incoming: plan.incoming(seed).into(),
            stops: plan.stops(),
            random: ChaCha8Rng::seed_from_u64(seed),
            trace: Trace::default(),
            broken,
            source: SourceLoop::new(
                rig,
                Intake::new(plan.period_ns),
                fallback,
                arrivals,
                bins,
                counters.clone(),
            ),
            to_source,
            arrived,
            count,
            is_implausible,
            waiting: VecDeque::new(),
            decode: DecodeLoop::new(decoder, KeepWarm::never(), queued_bins, estimates, counters.clone())
                .obeying(decode_inbox),
            computed,
            busy_until_ns: None,
            publish: PublishLoop::new(
                guard,
                look_every_ns,
                publish,
                queued_events,
                queued_results,
                counters.clone(),
            )
            .obeying(publish_inbox),
            events,
            results,
            published,
            looks_ns: 0,
            counters,
        }
    }

    /// The control plane gives an order now and then, whatever the rig does.
    fn order(&mut self, plan: &Plan) {
        let Control { bundle, decode, publish, has_swaps, has_pauses, random } = &mut self.control;
        // One that is still on its way is waited for.
        if *has_pauses && random.random_range(0..EVENTS_AN_ORDER) == 0 {
            let order = if random.random() { PublishOrder::Pause } else { PublishOrder::Resume };
            publish.post(order).unwrap_or_default();
        }
        if !*has_swaps || random.random_range(0..EVENTS_AN_ORDER) != 0 {
            return;
        }
        if random.random_range(0..4) != 0 {
            return decode.post(DecodeOrder::RollBack).unwrap_or_default();
        }
        let mut other = bundle.clone();
        other.manifest.id = format!("{:064x}", random.random::<u64>());
        let engine = Box::new(Script { seen: 0, broken: self.broken.clone() });
        let decoder = Decoder::new(&other, engine, &[], plan.time);
        let shadow = Shadow::candidate(&other, decoder, random.random_range(0..20), 1_000);
        decode.post(DecodeOrder::Beside(Some(Box::new(shadow)))).unwrap_or_default();
    }

    /// The next thing that happens, of all threads.
    fn event(&mut self, plan: &Plan) {
        self.order(plan);
        let comes_ns = self.incoming.front().map_or(u64::MAX, |incoming| incoming.at_ns);
        let decoded_ns = self.busy_until_ns.unwrap_or(u64::MAX);
        self.now_ns = self.awake_ns(self.now_ns.max(comes_ns.min(decoded_ns).min(self.looks_ns)));
        if comes_ns <= self.now_ns {
            self.receive();
        } else if decoded_ns <= self.now_ns {
            self.hand_on(plan);
        } else {
            self.look(plan);
        }
        if self.busy_until_ns.is_none() {
            self.decode(plan);
        }
    }

    /// This instant, or the one at which the daemon goes on if it is stopped then.
    fn awake_ns(&self, ns: u64) -> u64 {
        let stop = self.stops.iter().find(|(from_ns, until_ns)| (*from_ns..*until_ns).contains(&ns));
        stop.map_or(ns, |(_, until_ns)| self.awake_ns(*until_ns))
    }

    /// The source thread receives one of the source's bins.
    fn receive(&mut self) {
        let Some(Incoming { nth, ended_ns, mut bin, .. }) = self.incoming.pop_front() else { return };
        let source_seq = bin.seq;
        bin.arrival_ns = self.now_ns;
        self.to_source.send(bin).unwrap();
        self.source.turn();
        for event in self.arrived.drain() {
            if let SourceEvent::Arrived(arrival) = event {
                let count = f32::from_bits(self.count.load(Relaxed));
                let is_implausible = self.is_implausible.load(Relaxed);
                self.trace.came.push(Came { arrival, nth, source_seq, count, ended_ns, is_implausible });
                if self.waiting.len() == QUEUE_BINS {
                    self.waiting.pop_front();
                }
                self.waiting.push_back(nth);
            }
            self.events.push(event);
        }
    }

    /// The decode thread takes a bin, and is busy with it from now on.
    fn decode(&mut self, plan: &Plan) {
        let (Some(bin), Some(nth)) = (self.decode.next_bin(), self.waiting.pop_front()) else {
            let now_ns = self.now_ns;
            return self.decode.idle(&mut || now_ns);
        };
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
        let before: DecoderCounters = self.counters.stats().decoder;
        self.decode.turn(&bin, &mut || self.now_ns);
        if self.counters.stats().decoder != before && self.computed.is_empty() {
            // A bin that is only observed or dropped costs less.
            cost_ns = plan.decode_ns / 2;
        }
        self.busy_until_ns = Some(self.now_ns + cost_ns);
    }

    /// The decode thread is done with a bin: each result wakes the publish thread.
    fn hand_on(&mut self, plan: &Plan) {
        self.busy_until_ns = None;
        let computed: Vec<Estimate> = self.computed.drain().collect();
        for mut result in computed {
            result.decoded_ns = self.now_ns;
            self.results.push(result);
            self.looks_ns = self.looks_ns.min(self.now_ns + self.delay_ns(plan));
        }
    }

    /// The publish thread takes one turn. An arrival does not wake it.
    fn look(&mut self, plan: &Plan) {
        let now_ns = self.now_ns;
        self.publish.turn(None, &mut || now_ns);
        self.publish.describe(now_ns);
        self.looks_ns = self.publish.wake_ns(now_ns).max(now_ns) + self.delay_ns(plan);
    }

    /// How late the publish thread runs this time.
    fn delay_ns(&mut self, plan: &Plan) -> u64 {
        let is_calm = self.now_ns >= plan.calm_ns();
        let most_ns = if is_calm { plan.calm_wake_delay_ns } else { plan.wake_delay_ns };
        self.random.random_range(0..=most_ns)
    }
}
