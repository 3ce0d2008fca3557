//! With streams at both ends the real-time threads do not allocate either: counted by an allocator, on the production
//! threads. What liblsl itself allocates, in C++, is not counted.

use ndt_daemon::config::Config;
use ndt_daemon::engine::native::Native;
use ndt_daemon::pipeline;
use ndt_protocol::bundle::manifest::Architecture;
use ndt_protocol::clock::{monotonic_ns, sleep_until_ns};
use ndt_protocol::lsl::{Channel, Description, Format, Inlet, Kind, Library, Outlet, Query, StreamInfo};
use ndt_tests::lsl::{Session, liblsl};
use ndt_tests::{Positions, Shape, random_counts, weights_only};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

const CHANNELS: usize = 37;
const WIDTH_NS: u64 = 5_000_000;
const WARMUP_BINS: u64 = 200;
const BINS: u64 = 1_200;

/// Counts what threads of the real-time path allocate and free, while it is told to.
struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static COUNTED: AtomicU64 = AtomicU64::new(0);

fn count() {
    if COUNTS.load(Relaxed) {
        let mut name = [0u8; 16];
        // SAFETY: PR_GET_NAME writes at most 16 bytes.
        unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        COUNTED.fetch_add(u64::from(name.starts_with(b"ndt-")), Relaxed);
    }
}

// SAFETY: hands everything on to the system's allocator; counting touches only atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The only test of this program: the library reads its configuration once in a process.
#[test]
fn streams_in_and_out_allocate_nothing_on_our_threads() {
    let session = Session::new();
    // SAFETY: no other thread of this program reads the environment yet.
    unsafe { std::env::set_var("LSLAPICFG", session.folder().join("lsl_api.cfg")) };
    let architecture = Architecture {
        width: 32,
        layers: 2,
        heads: 2,
        feedforward: 48,
        window_bins: 20,
        positions: Positions::LagBias,
    };
    let mut bundle = weights_only(Shape { channels: CHANNELS, units: 45, dims: 2, architecture }, 3);
    bundle.manifest.bin_width_ms = 5.0;
    let mut config = Config {
        input: "lsl:rig".parse().unwrap(),
        outputs: vec!["lsl:arm".parse().unwrap()],
        deadline_ms: Some(500.0),
        ..Config::default()
    };
    config.lsl.library = Some(liblsl());
    let library = Library::load(Some(&liblsl())).unwrap();
    println!("liblsl's clock is {} ns ahead of CLOCK_MONOTONIC", library.ahead_of_monotonic_ns());
    let channels = (0..CHANNELS).map(|channel| Channel::new(channel, "spikes", "Count")).collect();
    let kind = Kind {
        name: "rig",
        content_type: "BinnedSpikes",
        rate_hz: 200.0,
        format: Format::Float32,
        source_id: "rig-1",
    };
    let description = Description { channels, entries: Vec::new() };
    let outlet = Outlet::new(&StreamInfo::new(&library, &kind, &description).unwrap(), 512).unwrap();
    let pipeline = pipeline::start(&config, &bundle, Box::new(Native::new(&bundle))).unwrap();
    let found = library.resolve(&Query::of_name("arm-velocity"), 1, 30.0).unwrap();
    let inlet = Inlet::new(&found[0], 4096).unwrap();
    inlet.open(30.0).unwrap();
    assert!(outlet.wait_for_receiver(30.0));

    let counts = random_counts(1, CHANNELS, 1);
    let start_ns = monotonic_ns();
    let mut heard = 0;
    let mut sample = [0.0; 5];
    for bin in 0..BINS {
        COUNTS.store(bin > WARMUP_BINS, Relaxed);
        let due_ns = start_ns + (bin + 1) * WIDTH_NS;
        sleep_until_ns(due_ns);
        outlet.push(&counts, due_ns as f64 / 1e9).unwrap();
        while inlet.pull(&mut sample, 0.0).unwrap().is_some() {
            heard += 1;
        }
    }
    while heard < BINS / 2 && inlet.pull(&mut sample, 10.0).unwrap().is_some() {
        heard += 1;
    }
    COUNTS.store(false, Relaxed);
    let stats = pipeline.stats();
    println!("{heard} estimates heard, {stats:?}");
    assert!(heard >= BINS / 2 && stats.bins >= BINS / 2, "{stats:?}");
    assert_eq!(COUNTED.load(Relaxed), 0, "allocations and frees of the real-time threads");
}
