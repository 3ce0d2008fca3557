//! Inlets that come and go, and spikes faster than they are read, with the library of the Python package in this process.

use ndt_daemon::host::realtime::RealtimeSettings;
use ndt_daemon::input::{Received, Source};
use ndt_daemon::transport::lsl::LslSettings;
use ndt_daemon::transport::lsl::source::LslSource;
use ndt_protocol::Bin;
use ndt_protocol::clock::{monotonic_ns, sleep_until_ns};
use ndt_protocol::lsl::{
    Channel, Description, Format, Inlet, Kind, Library, LslError, Outlet, Query, StreamInfo,
};
use ndt_tests::lsl::{Session, bundle, liblsl, usual_ids};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait of any call of the library here, s. It is not how long one takes: it is what a call that never returns is told from.
const WAIT_S: f64 = 60.0;

/// The library, in a session of this process.
fn library() -> &'static Library {
    static LIBRARY: OnceLock<(Session, Library)> = OnceLock::new();
    let (_, library) = LIBRARY.get_or_init(|| {
        let session = Session::new();
        // SAFETY: the library, which reads this once, has not been loaded; the tests of this file read the environment through it alone.
        unsafe { std::env::set_var("LSLAPICFG", session.folder().join("lsl_api.cfg")) };
        (session, Library::load(Some(&liblsl())).unwrap())
    });
    library
}

/// Lets one test at a time use the library: they count the threads and files of the process.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn offered(name: &str, rate_hz: f64, channels: usize) -> Outlet {
    let channels = (0..channels).map(|channel| Channel::new(channel, "spikes", "Count")).collect();
    let kind = Kind { name, content_type: "Spikes", rate_hz, format: Format::Float32, source_id: name };
    let description = Description { channels, entries: Vec::new() };
    Outlet::new(&StreamInfo::new(library(), &kind, &description).unwrap(), 1 << 20).unwrap()
}

fn found(name: &str) -> StreamInfo {
    let mut infos = library().resolve(&Query::of_name(name), 1, WAIT_S).unwrap();
    infos.pop().unwrap_or_else(|| panic!("expected the stream {name}, found none"))
}

/// Number of threads of this process, and of its open files.
fn held() -> (usize, usize) {
    let count = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

#[test]
fn a_thousand_inlets_are_opened_and_closed() {
    let _alone = alone();
    let (major, minor) = library().version();
    println!("liblsl {major}.{minor}");
    let outlet = offered("thousand", 100.0, 3);
    let info = found("thousand");
    let mut before = None;
    let begun = Instant::now();
    for round in 0..1000 {
        let inlet = Inlet::new(&info, 16).unwrap();
        // Each third is opened and read from, each third only opened, and each third not even that.
        if round % 3 > 0 {
            inlet.open(WAIT_S).unwrap();
        }
        if round % 3 > 1 {
            assert!(outlet.wait_for_receiver(WAIT_S));
            let mut sample = [0.0; 3];
            let received = (0..100).any(|_| {
                outlet.push(&[1.0, 2.0, 3.0], library().clock_s()).unwrap();
                inlet.pull(&mut sample, WAIT_S / 100.0).unwrap().is_some()
            });
            assert!(received && sample == [1.0, 2.0, 3.0], "round {round}");
        }
        drop(inlet);
        if round == 99 {
            before = Some(held());
        }
    }
    println!("1000 inlets in {:?}", begun.elapsed());
    // What the last inlets held is given back a little later, by the outlet's threads.
    let before = before.unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let is_more = |(threads, files): (usize, usize)| threads > before.0 + 5 || files > before.1 + 5;
    while is_more(held()) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    let after = held();
    println!("threads and files after 100 inlets {before:?}, after 1000 {after:?}");
    assert!(!is_more(after), "{before:?} {after:?}");
}

#[test]
fn a_stream_that_is_gone_is_not_described_and_says_so_in_time() {
    let _alone = alone();
    let outlet = offered("gone", 100.0, 3);
    let info = found("gone");
    let described = Inlet::new(&info, 16).unwrap();
    let undescribed = Inlet::new(&info, 16).unwrap();
    described.full_info(WAIT_S).unwrap();
    described.open(WAIT_S).unwrap();
    drop(outlet);
    for (inlet, what) in [(&undescribed, "an inlet that was never opened"), (&described, "an open inlet")] {
        // The library keeps a description that it has; it must not wait for ever for another.
        match inlet.full_info(0.2) {
            Ok(_) | Err(LslError::Timeout | LslError::Lost) => {}
            Err(other) => panic!("{what}: {other}"),
        }
        let mut sample = [0.0; 3];
        match inlet.pull(&mut sample, 0.2) {
            Ok(None) | Err(LslError::Timeout | LslError::Lost) => {}
            other => panic!("{what}: {other:?}"),
        }
        assert!(inlet.time_correction(0.2).is_err() || what == "an open inlet", "{what}");
    }
    drop((described, undescribed));
}

#[test]
fn spikes_that_the_buffer_could_not_hold_leave_their_bins_out() {
    let _alone = alone();
    const BUFFER_BINS: usize = 2;
    let bundle = bundle(usual_ids());
    // Bins are closed by the spikes after them, however late those come.
    let settings = LslSettings { buffer_bins: BUFFER_BINS, event_wait_ms: 1000.0, ..LslSettings::default() };
    let outlet = offered("burst", 0.0, 1);
    let (query, realtime) = (Query::of_name("burst"), RealtimeSettings::default());
    let mut source = LslSource::open(library(), &query, &settings, &realtime, &bundle, 50).unwrap();
    let mut bin = Bin::empty();
    let mut receive = |bins: usize| -> Vec<(u64, f32)> {
        let until = Instant::now() + Duration::from_secs_f64(WAIT_S);
        let mut found = Vec::new();
        while found.len() < bins && Instant::now() < until {
            if source.receive(&mut bin) == Received::Bin {
                found.push((bin.seq, bin.counts()[0]));
            }
        }
        found
    };
    let stop = &AtomicBool::new(false);
    let (before, after) = std::thread::scope(|scope| {
        // A spike in the middle of each millisecond, so that every bin has twenty.
        scope.spawn(move || {
            let start_ms = monotonic_ns() / 1_000_000;
            for ms in (start_ms..).take_while(|_| !stop.load(Relaxed)) {
                sleep_until_ns(ms * 1_000_000 + 500_000);
                outlet.push(&[0.0], (ms as f64 + 0.5) * 1e-3).unwrap();
            }
        });
        let before = receive(20);
        // The reader is stopped for longer than its buffer can hold.
        std::thread::sleep(Duration::from_millis(1000));
        let after = receive(20);
        stop.store(true, Relaxed);
        (before, after)
    });
    println!("{before:?}\n{after:?}");
    assert_eq!((before.len(), after.len()), (20, 20));
    let (last, next) = (before[19].0, after.iter().find(|(_, count)| *count > 0.0).unwrap().0);
    assert!(next > last + 20, "bins that lack spikes are left out: {last} and {next}");
    assert!(before.iter().chain(&after).all(|(_, count)| *count == 20.0), "every bin that is made is whole");
}
