//! After the first bins the real-time threads do not allocate: counted by an allocator, on the production threads.

use ndt_daemon::config::Config;
use ndt_daemon::decoder::Decoder;
use ndt_daemon::engine::native::Native;
use ndt_daemon::engine::{Engine, Input, Output, StepFailed};
use ndt_daemon::input::deadline::TimeLimits;
use ndt_daemon::input::{Received, Source};
use ndt_daemon::pipeline::orders::{DecodeOrder, ModelOrder, PublishOrder};
use ndt_daemon::pipeline::shadow::{Progress, Shadow};
use ndt_daemon::pipeline::{self, ControlEnds, Pipeline};
use ndt_protocol::bundle::manifest::Architecture;
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::{Bin, Bundle, CountRange, Estimate, Quality, endpoint, wire};
use ndt_replay::transport::zeromq::{Receiver, Sender};
use ndt_tests::endpoints::{OUTPUTS, in_folder};
use ndt_tests::{Positions, Shape, linear, on_loopback, random_counts, weights_only};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const CHANNELS: usize = 37;
/// Bins before counting begins: queues and thread-locals of the libraries are made on first use.
const WARMUP_BINS: u64 = 200;
const BINS: u64 = 10_000;
/// The source waits here until so many answers were stale: before counting begins, so that each thread has slept once,
/// which makes its place in the queue; and after it, so that the guard's own answers are counted too.
const SILENT_AT: [(u64, u64); 2] = [(WARMUP_BINS / 2, 5), (WARMUP_BINS + 5_000, 10)];
/// Allocations and frees of a bin over ZeroMQ, in and out, at most: none, and a few while the daemon and its peers meet.
const ZEROMQ_MAX: f64 = 0.1;
const SOON: Duration = Duration::from_secs(30);

/// Allocations and frees that one more output may cost the real-time threads for each estimate; `None` for an output that
/// another program counts.
fn allowance(output: &endpoint::Output) -> Option<f64> {
    match output {
        // libzmq copies each message; it has an allocator of its own, which is not counted here.
        endpoint::Output::Zeromq(_) => Some(0.0),
        // `lsl_allocations.rs`: liblsl reads its configuration once in a process.
        endpoint::Output::Lsl { .. } => None,
    }
}

/// Counts what the threads that have called `arm` allocate.
struct Counting;

thread_local! {
    static ARMED: Cell<bool> = const { Cell::new(false) };
}
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static FREES: AtomicU64 = AtomicU64::new(0);
/// While set, allocations of all real-time threads of a pipeline are counted by their names.
static BY_NAME: AtomicBool = AtomicBool::new(false);
static NAMED: AtomicU64 = AtomicU64::new(0);

fn is_real_time() -> bool {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name.starts_with(b"ndt-")
}

fn count(counter: &AtomicU64) {
    if ARMED.try_with(Cell::get).unwrap_or(false) {
        counter.fetch_add(1, Relaxed);
    }
    if BY_NAME.load(Relaxed) && is_real_time() {
        NAMED.fetch_add(1, Relaxed);
    }
}

fn arm(when: bool) {
    ARMED.with(|armed| armed.set(when));
}

// SAFETY: hands everything on to the system's allocator; counting touches an atomic and a thread-local without
// a destructor, neither of which allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(&ALLOCATIONS);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(&FREES);
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(&ALLOCATIONS);
        // SAFETY: the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn bundle(positions: Positions) -> Bundle {
    let architecture =
        Architecture { width: 32, layers: 2, heads: 2, feedforward: 48, window_bins: 20, positions };
    weights_only(Shape { channels: CHANNELS, units: 45, dims: 2, architecture }, 3)
}

/// The native engine, which arms its thread once it has warmed up; or never.
struct Armed {
    native: Native,
    seen: u64,
    from: u64,
}

impl Engine for Armed {
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed> {
        self.seen += 1;
        arm(self.seen > self.from);
        self.native.step(input, output)
    }

    fn observe(&mut self, input: Input) -> Result<(), StepFailed> {
        self.seen += 1;
        self.native.observe(input)
    }

    fn reset(&mut self) {
        self.native.reset();
    }
}

/// Bins from memory, as fast as they are answered.
struct Memory {
    counts: Vec<f32>,
    sent: u64,
    answered: Arc<AtomicU64>,
    stale: Arc<AtomicU64>,
}

impl Source for Memory {
    fn receive(&mut self, bin: &mut Bin) -> Received {
        // Once it has ended, its thread gives back what it holds.
        let has_ended = self.sent == WARMUP_BINS + BINS;
        arm(self.sent > WARMUP_BINS && !has_ended);
        if has_ended {
            return Received::Ended;
        }
        let wait = self.sent > self.answered.load(Relaxed) + 8;
        let is_silent = |(at, stale)| self.sent == at && self.stale.load(Relaxed) < stale;
        if wait || SILENT_AT.into_iter().any(is_silent) {
            std::thread::yield_now();
            return Received::Nothing;
        }
        let row = self.sent as usize % (self.counts.len() / CHANNELS);
        bin.fill(self.counts[row * CHANNELS..][..CHANNELS].iter().copied(), CountRange::new(50, 20.0));
        // While it was silent, its numbers went on as those of a live source do.
        bin.seq =
            self.sent.max(if self.sent >= SILENT_AT[0].0 { self.answered.load(Relaxed) + 1 } else { 0 });
        bin.source_ns = 20_000_000 * bin.seq as i64;
        bin.arrival_ns = monotonic_ns();
        self.sent += 1;
        Received::Bin
    }
}

#[test]
fn ten_thousand_bins_from_source_to_wire_allocate_nothing() {
    arm(true);
    drop(std::hint::black_box(Box::new(1)));
    arm(false);
    assert_eq!((ALLOCATIONS.swap(0, Relaxed), FREES.swap(0, Relaxed)), (1, 1), "the counter counts");
    let [stepped, allocations, frees] = window_engine();
    assert_eq!((stepped, allocations, frees), (500, 0, 0), "the window's kernel allocates");
    let bundle = bundle(Positions::LagBias);
    let (answered, stale) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let source = Memory {
        counts: random_counts(500, CHANNELS, 1),
        sent: 0,
        answered: answered.clone(),
        stale: stale.clone(),
    };
    let engine = Armed { native: Native::new(&bundle), seen: 0, from: WARMUP_BINS };
    let (mut rates, mut velocity) = (Vec::with_capacity(4 * 45), Vec::with_capacity(8));
    let mut said = 0u64;
    let mut checksum = 0u64;
    let (done, finished) = std::sync::mpsc::sync_channel::<[u64; 3]>(1);
    let publish = move |estimate: &Estimate| {
        arm((WARMUP_BINS + 1..WARMUP_BINS + BINS - 20).contains(&said));
        // The bytes of a message, into memory that is used again.
        rates.clear();
        velocity.clear();
        let header = wire::estimate_header(estimate);
        wire::put_f32(estimate.rates(), &mut rates);
        wire::put_f32(estimate.velocity(), &mut velocity);
        checksum = header
            .iter()
            .chain(&rates)
            .chain(&velocity)
            .fold(checksum, |sum, b| sum.rotate_left(5) ^ u64::from(*b));
        stale.fetch_add(u64::from(estimate.quality == Quality::Stale), Relaxed);
        answered.store(estimate.seq, Relaxed);
        said += 1;
        if said == WARMUP_BINS + BINS - 20 {
            // Read here: the other threads go on, and end.
            let counted = [&ALLOCATIONS, &FREES].map(|counter| counter.load(Relaxed));
            arm(false);
            done.send([checksum, counted[0], counted[1]]).unwrap();
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let fallback = folder.path().join("linear.ndt");
    linear(CHANNELS, 2, 15, 5).write(&fallback).unwrap();
    // Long enough that the publish thread sleeps, and does not only spin, on a machine that is busy.
    let config = Config {
        deadline_ms: Some(1_000.0),
        stale_after_bins: 50,
        fallback_bundle: Some(fallback),
        ..Config::default()
    };
    let mut pipeline = pipeline::start_with(&config, &bundle, Box::new(engine), source, publish).unwrap();
    let (progress, ends) = orders(&mut pipeline, &bundle);
    let [checksum, allocations, frees] = finished.recv().unwrap();
    assert_ne!(checksum, 0);
    let stats = pipeline.stats();
    pipeline.stop();
    // What came back ends here.
    drop(ends);
    println!("{stats:?}");
    println!("the model in shadow: {:?} after {} bins", progress.state(), progress.taken_in());
    assert!(stats.guard.estimates[Quality::Stale as usize] >= SILENT_AT[1].1 && stats.overflowed == 0);
    assert_eq!((allocations, frees), (0, 0), "our own threads allocate");

    let each = over_zeromq(&bundle, None);
    println!("over ZeroMQ, a bin costs the real-time threads {each:.1} allocations and frees of our own");
    assert!(each < ZEROMQ_MAX, "the transport allocates and frees {each:.1} times a bin");
    for text in OUTPUTS {
        let text = in_folder(text, folder.path());
        let output = text.parse().unwrap();
        let Some(most) = allowance(&output) else { continue };
        let more = over_zeromq(&bundle, Some(output)) - each;
        println!("{text} beside it costs the real-time threads {more:.1} allocations and frees a bin");
        assert!(
            more < most + 0.5,
            "{text} allocates and frees {more:.1} times a bin, expected at most {most}"
        );
    }
}

/// Gives a running pipeline every order that there is, while allocations are counted: a second model runs in shadow and takes over, if the bins
/// leave it the time.
fn orders(pipeline: &mut Pipeline, bundle: &Bundle) -> (Arc<Progress>, ControlEnds) {
    let mut ends = pipeline.control().unwrap();
    // The source is silent from here on, until several answers were stale.
    while pipeline.stats().bins < SILENT_AT[1].0 {
        std::thread::yield_now();
    }
    let decoder = Decoder::new(bundle, Box::new(Native::new(bundle)), &[], TimeLimits::NONE);
    let shadow = Shadow::candidate(bundle, decoder, 0, 1_000);
    let progress = shadow.progress();
    let mask = ModelOrder::Mask((0..CHANNELS).map(|channel| channel % 5 == 0).collect());
    ends.decode.post(DecodeOrder::Beside(Some(Box::new(shadow)))).unwrap();
    ends.decode.post(DecodeOrder::Model(mask.clone())).unwrap();
    ends.fallback.as_mut().unwrap().post(mask).unwrap();
    ends.decode.post(DecodeOrder::Model(ModelOrder::Reset)).unwrap();
    ends.publish.post(PublishOrder::Pause).unwrap();
    ends.publish.post(PublishOrder::Resume).unwrap();
    (progress, ends)
}

/// Bins that the kernel of learned positions takes, on a thread that has not built it, and what it allocates and frees from
/// its first bin on.
fn window_engine() -> [u64; 3] {
    let bundle = bundle(Positions::Learned);
    let (mut native, mut output) = (Native::new(&bundle), Output::for_bundle(&bundle));
    let counts = random_counts(500, CHANNELS, 4);
    let thread = std::thread::spawn(move || {
        let mut stepped = 0;
        arm(true);
        for (bin, counts) in counts.chunks_exact(CHANNELS).enumerate() {
            stepped += u64::from(native.step(Input { counts, missing: bin % 9 == 5 }, &mut output).is_ok());
            if bin == 250 {
                native.reset();
            }
        }
        arm(false);
        stepped
    });
    let stepped = thread.join().unwrap();
    [stepped, ALLOCATIONS.swap(0, Relaxed), FREES.swap(0, Relaxed)]
}

/// What the real-time threads themselves allocate and free for a bin that goes in and out over ZeroMQ, and with
/// another output beside it.
fn over_zeromq(bundle: &Bundle, beside: Option<endpoint::Output>) -> f64 {
    let engine = Armed { native: Native::new(bundle), seen: 0, from: u64::MAX };
    let mut config = on_loopback();
    config.outputs.extend(beside);
    let pipeline = pipeline::start(&config, bundle, Box::new(engine)).unwrap();
    NAMED.store(0, Relaxed);
    let mut rig = Sender::open(&format!("connect:{}", pipeline.input()).parse().unwrap()).unwrap();
    rig.wait_for_subscriber(SOON).unwrap();
    let mut listener = Receiver::open(&pipeline.output().parse().unwrap()).unwrap();
    // The first description says that the subscription is there.
    listener.receive(SOON).unwrap();
    let counts = random_counts(1, CHANNELS, 2);
    const SENT: u64 = 500;
    for seq in 0..2 * SENT {
        BY_NAME.store(seq >= SENT, Relaxed);
        let stamp = wire::BinStamp { seq, bin_width_us: 20_000, ..Default::default() };
        rig.send(&stamp, &counts).unwrap();
        while listener.receive(SOON).unwrap().frames[0] != wire::TOPIC_ESTIMATE {}
    }
    BY_NAME.store(false, Relaxed);
    pipeline.stop();
    NAMED.load(Relaxed) as f64 / SENT as f64
}
