//! What open pages cost: the stream of estimates is the same with ten of them, and with one that does not read.

use super::client::{self, Events, value};
use super::rig::{Daemon, UNITS};
use ndt_protocol::Quality;

/// Pages that are open at once.
const PAGES: usize = 10;

/// Bins that are answered meanwhile.
const BINS: u64 = 600;

#[test]
fn ten_pages_see_every_bin_and_change_nothing_for_the_stream() {
    let mut daemon = Daemon::start(|_| {});
    let address = daemon.address();
    // It never reads what it is sent.
    let _asleep = Events::open(address);
    let mut pages: Vec<Events> = (0..PAGES).map(|_| Events::open(address)).collect();
    daemon.play();
    let ends: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let watch = |page: &mut Events| {
            let (first, mut seq, mut shown) = (page.next(), 0, 0);
            assert_eq!((first.0.as_str(), first.1["units"].as_u64()), ("summary", Some(UNITS as u64)));
            while seq < BINS {
                let (name, data) = page.next();
                if name != "frame" {
                    continue;
                }
                assert_eq!(data["rates"].as_str().unwrap().len(), UNITS);
                let each = ["at_ms", "quality", "reasons", "latency_us", "outputs"];
                let lengths = each.map(|key| data[key].as_array().unwrap().len() as u64);
                assert!(lengths.iter().all(|length| *length == lengths[0]), "{data}");
                seq = data["seq"].as_u64().unwrap();
                shown += lengths[0];
            }
            (seq, shown)
        };
        let watched: Vec<_> = pages.iter_mut().map(|page| scope.spawn(move || watch(page))).collect();
        watched.into_iter().map(|page| page.join().unwrap()).collect()
    });
    assert!(ends.iter().all(|(seq, shown)| *seq >= BINS && *shown > 0), "{ends:?}");
    let stats = daemon.pipeline.stats();
    let of = |quality: Quality| stats.guard.estimates[quality as usize];
    println!("{ends:?}; {stats:?}");
    assert_eq!((of(Quality::Late), of(Quality::Fault), stats.overflowed), (0, 0, 0));
    let metrics = client::get(address, "/metrics").body;
    assert_eq!(value(&metrics, "ndtd_monitor_viewers"), Some(PAGES as f64 + 1.0));
}
