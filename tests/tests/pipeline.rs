//! The production threads on sources and engines that misbehave: what the guard promises holds in real time too.

use ndt_daemon::config::Config;
use ndt_daemon::engine::native::Native;
use ndt_daemon::engine::{Engine, Input, Output, StepFailed};
use ndt_daemon::host::realtime::RealtimeSettings;
use ndt_daemon::host::watchdog::{HANGS_AFTER_NS, Unhealthy, judge};
use ndt_daemon::input::{Absence, Received, Refusal, Source};
use ndt_daemon::pipeline::heartbeats::Heartbeats;
use ndt_daemon::pipeline::{self, Pipeline};
use ndt_protocol::bundle::manifest::Architecture;
use ndt_protocol::clock::{monotonic_ns, sleep_until_ns};
use ndt_protocol::{Bin, CountRange, Estimate, Quality};
use ndt_tests::{Positions, Shape, weights_only};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const SHAPE: Shape = Shape {
    channels: 3,
    units: 2,
    dims: 2,
    architecture: Architecture {
        width: 8,
        layers: 2,
        heads: 2,
        feedforward: 8,
        window_bins: 4,
        positions: Positions::LagBias,
    },
};
const WIDTH_NS: u64 = 20_000_000;
const SOON: Duration = Duration::from_secs(30);

/// What the test has the rig do next.
enum Order {
    /// Send so many bins, one a period.
    Bins(u64),
    Gone,
    /// Send a message that is refused.
    Refused,
    /// Send one bin without a count in any channel.
    Empty,
    /// Leave so many numbers out.
    Skip(u64),
}

/// A rig that does what it is told, on the grid of real time.
struct Rig {
    orders: Receiver<Order>,
    due: u64,
    left: u64,
    next: u64,
}

impl Source for Rig {
    fn receive(&mut self, bin: &mut Bin) -> Received {
        let mut counts = 1.0;
        if self.left == 0 {
            match self.orders.recv_timeout(Duration::from_millis(50)) {
                Ok(Order::Bins(bins)) => (self.left, self.due) = (bins, monotonic_ns()),
                Ok(Order::Gone) => return Received::Gone(Absence::Lost),
                Ok(Order::Refused) => {
                    return Received::Refused(Refusal::ChannelCount { expected: 3, found: 4 });
                }
                Ok(Order::Empty) => (self.left, counts) = (1, f32::NAN),
                Ok(Order::Skip(bins)) => {
                    self.next += bins;
                    return Received::Nothing;
                }
                Err(_) => return Received::Nothing,
            }
        }
        sleep_until_ns(self.due);
        (self.left, self.due) = (self.left - 1, self.due + WIDTH_NS);
        bin.fill([counts; 3].into_iter(), CountRange::new(50, 20.0));
        (bin.seq, bin.stream, bin.arrival_ns) = (self.next, 1, monotonic_ns());
        bin.source_ns = (WIDTH_NS * (self.next + 1)) as i64;
        self.next += 1;
        Received::Bin
    }
}

/// Our kernel, which does something else first at a count of bins.
struct Pausing {
    native: Native,
    at: u64,
    seen: u64,
    pause: Box<dyn FnMut() + Send>,
}

impl Pausing {
    fn see(&mut self) {
        self.seen += 1;
        if self.seen == self.at {
            (self.pause)();
        }
    }
}

impl Engine for Pausing {
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed> {
        self.see();
        self.native.step(input, output)
    }

    fn observe(&mut self, input: Input) -> Result<(), StepFailed> {
        self.see();
        self.native.observe(input)
    }

    fn reset(&mut self) {
        self.native.reset();
    }
}

/// Spins until it is told to go on, and says whether it does.
fn spin(spins: &AtomicBool, go_on: &AtomicBool) {
    let started = Instant::now();
    spins.store(true, Relaxed);
    // It ends by itself where nobody can tell it to, so that the test fails and does not hang.
    while !go_on.load(Relaxed) && started.elapsed() < SOON / 3 {
        std::hint::spin_loop();
    }
    spins.store(false, Relaxed);
}

/// Our kernel, which tells of each step for nothing that it was asked for.
struct Warmed {
    native: Native,
    asked: Sender<()>,
}

impl Engine for Warmed {
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed> {
        self.native.step(input, output)
    }

    fn observe(&mut self, input: Input) -> Result<(), StepFailed> {
        self.native.observe(input)
    }

    fn keep_warm(&mut self) -> bool {
        // A test that has ended listens no more.
        let _ = self.asked.send(());
        true
    }

    fn reset(&mut self) {
        self.native.reset();
    }
}

struct Bench {
    pipeline: Pipeline,
    rig: Sender<Order>,
    go_on: Sender<()>,
    estimates: Receiver<Estimate>,
}

fn bench(hangs_at: u64, stale_after_bins: u64) -> Bench {
    let (go_on, gone_on) = channel();
    let hang = Box::new(move || gone_on.recv_timeout(SOON).unwrap());
    let engine = |native| Pausing { native, at: hangs_at, seen: 0, pause: hang };
    let (pipeline, rig, estimates) = start(engine, Config { stale_after_bins, ..Config::default() });
    Bench { pipeline, rig, go_on, estimates }
}

/// A deadline that a busy machine does not miss, so that only what was ordered is told.
fn start<E: Engine + 'static>(
    engine: impl FnOnce(Native) -> E,
    config: Config,
) -> (Pipeline, Sender<Order>, Receiver<Estimate>) {
    let bundle = weights_only(SHAPE, 1);
    let (rig, orders) = channel();
    let (published, estimates) = channel();
    let publish = move |estimate: &Estimate| {
        // Nobody receives it after the test has ended.
        drop(published.send(estimate.clone()));
    };
    let source = Rig { orders, due: 0, left: 0, next: 0 };
    let config = Config { deadline_ms: Some(200.0), ..config };
    let engine = Box::new(engine(Native::new(&bundle)));
    (pipeline::start_with(&config, &bundle, engine, source, publish).unwrap(), rig, estimates)
}

impl Bench {
    fn order(&self, order: Order) {
        self.rig.send(order).unwrap();
    }

    fn next(&self) -> Estimate {
        self.estimates.recv_timeout(SOON).unwrap()
    }

    /// Estimates until the first that is so, which is the last.
    fn until(&self, is_so: impl Fn(&Estimate) -> bool) -> Vec<Estimate> {
        let mut estimates = vec![self.next()];
        while !is_so(estimates.last().unwrap()) {
            estimates.push(self.next());
        }
        estimates
    }
}

fn in_order(estimates: &[Estimate]) {
    let numbers: Vec<u64> = estimates.iter().map(|estimate| estimate.seq).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
}

#[test]
fn an_engine_that_hangs_is_seen_by_the_watchdog_and_one_that_goes_on_is_not() {
    let bench = bench(10, 50);
    let later = |heartbeats: Heartbeats| {
        let now_ns = monotonic_ns() + HANGS_AFTER_NS;
        judge(&Heartbeats { turned_ns: now_ns, ..heartbeats }, now_ns)
    };
    bench.order(Order::Bins(1_000));
    bench.until(|estimate| estimate.seq == 19);
    let heartbeats = bench.pipeline.heartbeats();
    assert!(matches!(later(heartbeats), Err(Unhealthy::DecodeHangs(_))), "{heartbeats:?}");
    assert!(heartbeats.failures.is_some_and(|failures| failures.since_ns < failures.until_ns));
    bench.go_on.send(()).unwrap();
    bench.until(|estimate| estimate.quality == Quality::Good && estimate.lag_bins == 0);
    assert_eq!(bench.pipeline.heartbeats().failures, None);
    // Between two bins the thread is free.
    while later(bench.pipeline.heartbeats()).is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn an_engine_that_hangs_is_answered_for_and_found_again_with_its_state() {
    let bench = bench(10, 50);
    bench.order(Order::Bins(1_000));
    // The tenth bin is the first without a result; and there are as many answers as bins while it hangs.
    let mut estimates = bench.until(|estimate| estimate.seq == 8);
    let hangs = estimates.len();
    estimates.extend(bench.until(|estimate| estimate.seq == 19));
    assert!(estimates[hangs..].iter().all(|estimate| estimate.quality == Quality::Late));
    assert!(estimates[hangs..].iter().all(|estimate| estimate.reasons.names().eq(["deadline-missed"])));
    bench.go_on.send(()).unwrap();
    // Soon it is as before.
    estimates.extend(bench.until(|estimate| estimate.quality == Quality::Good && estimate.lag_bins == 0));
    in_order(&estimates);
    // All bins entered the state: it never began anew.
    assert!(estimates[hangs..].iter().all(|estimate| estimate.quality != Quality::Warmup));
    let stats = bench.pipeline.stats();
    assert!(stats.decoder.observed > 0 && stats.guard.late_results > 0, "{stats:?}");
}

/// A CPU that this process may use, the last one.
fn last_cpu() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    allowed.rsplit([',', '-']).next().unwrap().parse().unwrap()
}

#[test]
fn an_engine_that_spins_on_the_only_cpu_is_answered_for() {
    let (spins, go_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let engine = {
        let (spins, go_on) = (spins.clone(), go_on.clone());
        |native| Pausing { native, at: 10, seen: 0, pause: Box::new(move || spin(&spins, &go_on)) }
    };
    let realtime = RealtimeSettings { priority: 20, cpus: vec![last_cpu()], ..RealtimeSettings::default() };
    let config = Config { realtime, stale_after_bins: 200, keep_warm_ms: 0, ..Config::default() };
    let (pipeline, rig, estimates) = start(engine, config);
    if !pipeline.refused().is_empty() {
        println!("skipped: the system grants no real-time priority here: {:?}", pipeline.refused());
        return;
    }
    rig.send(Order::Bins(1_000)).unwrap();
    let mut late = 0;
    while late < 10 {
        let estimate = estimates.recv_timeout(SOON).expect("an estimate although the engine spins");
        late += u32::from(estimate.quality == Quality::Late && spins.load(Relaxed));
        assert!(estimate.seq < 500, "no answer while the engine spins: {estimate:?}");
    }
    go_on.store(true, Relaxed);
    // Soon it is as before.
    while estimates.recv_timeout(SOON).unwrap().quality != Quality::Good {}
}

#[test]
fn silence_loss_and_empty_bins_are_told_and_left_behind() {
    let bench = bench(0, 10);
    bench.order(Order::Bins(10));
    let mut estimates = bench.until(|estimate| estimate.seq == 9);
    // None but stale ones after the last bin.
    let silent = estimates.len();
    estimates.push(bench.next());
    assert!(estimates[silent].reasons.names().eq(["peer-silent"]));
    bench.order(Order::Gone);
    // A bin without a count keeps nobody from calling the source stale.
    bench.order(Order::Empty);
    estimates.extend(bench.until(|estimate| estimate.reasons.names().eq(["peer-gone"])));
    while bench.pipeline.stats().empty == 0 {
        estimates.push(bench.next());
    }
    bench.order(Order::Refused);
    estimates.extend(bench.until(|estimate| estimate.reasons.names().eq(["refused"])));
    estimates.extend(bench.until(|estimate| estimate.velocity() == [0.0, 0.0]));
    assert!(estimates[silent..].iter().all(|estimate| estimate.quality == Quality::Stale));
    // It comes back with numbers that its grid has not reached yet, however late this thread runs. The rig has
    // counted ten bins and the empty one.
    let again = estimates.last().unwrap().seq + 20;
    bench.order(Order::Skip(again - 11));
    bench.order(Order::Bins(1_000));
    estimates.extend(bench.until(|estimate| estimate.quality == Quality::Good));
    in_order(&estimates);
    // What was lost is more than the model bridges.
    let is_warming = |estimate: &Estimate| estimate.quality == Quality::Warmup && estimate.seq >= again;
    assert!(estimates.iter().any(is_warming), "no warm-up after {again}");
    assert_eq!(bench.pipeline.stats().empty, 1);
}

#[test]
fn an_idle_engine_is_kept_warm_where_that_is_asked_for() {
    for (keep_warm_ms, is_warmed) in [(1, true), (0, false)] {
        let (asked, asking) = channel();
        let config = Config { keep_warm_ms, stale_after_bins: 50, ..Config::default() };
        let (pipeline, rig, estimates) = start(|native| Warmed { native, asked }, config);
        let answered = |from: u64| {
            rig.send(Order::Bins(5)).unwrap();
            while estimates.recv_timeout(SOON).unwrap().seq < from + 4 {}
        };
        answered(0);
        if is_warmed {
            // As long as none comes, and between two bins.
            (0..20).for_each(|_| asking.recv_timeout(SOON).unwrap());
            answered(5);
        }
        pipeline.stop();
        assert_eq!(asking.try_iter().count() > 0, is_warmed);
    }
}
