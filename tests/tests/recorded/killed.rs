//! A daemon that is killed: the log is whole, and lacks its last instants at most.

use crate::world::{SOON, World, heard, logged, send_until};
use ndt_daemon::pipeline::repeat::repeat;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

#[test]
fn a_daemon_that_is_killed_leaves_a_log_that_lacks_its_last_instants_at_most() {
    let kills: u32 = std::env::var("NDT_KILLS").map_or(3, |kills| kills.parse().unwrap());
    let seed = std::env::var("NDT_SEED").map_or(11, |seed| seed.parse().unwrap());
    println!("NDT_KILLS={kills} NDT_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut most_ms = 0.0f64;
    for kill in 0..kills {
        let world = World::new("");
        let mut daemon = world.daemon();
        let mut listener = daemon.listener();
        let wait = Duration::from_micros(random.random_range(50_000..2_000_000));
        let (is_over, held_up_ms) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut last = None;
        std::thread::scope(|scope| {
            scope.spawn(|| send_until(&daemon, &world.channel_ids(), &is_over));
            // How long this machine keeps a thread that sleeps as the recorder does from running.
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    let before = Instant::now();
                    std::thread::sleep(Duration::from_millis(20));
                    held_up_ms.fetch_max(before.elapsed().as_millis() as u64 - 20, Relaxed);
                }
            });
            last = heard(&mut listener, SOON).map(|first| first.published_ns);
            let until = Instant::now() + wait;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                last = heard(&mut listener, left).map(|estimate| estimate.published_ns).or(last);
            }
            daemon.signal(libc::SIGKILL);
            while let Some(estimate) = heard(&mut listener, Duration::from_millis(300)) {
                last = Some(estimate.published_ns);
            }
            is_over.store(true, Relaxed);
        });
        daemon.process.wait().unwrap();
        let log = world.log();
        let (estimates, reader) = logged(&log);
        assert!(estimates.is_sorted_by_key(|estimate| estimate.seq), "kill {kill}");
        let newest_ns =
            estimates.last().map_or(reader.header().started_monotonic_ns, |last| last.published_ns);
        let lost_ms = last.unwrap().saturating_sub(newest_ns) as f64 * 1e-6;
        most_ms = most_ms.max(lost_ms);
        let left_out = reader.tail().map_or(0, |tail| tail.bytes);
        let held_up_ms = held_up_ms.load(Relaxed);
        println!(
            "kill {kill} after {wait:?}: {} estimates, the last {lost_ms:.1} ms lost, {left_out} bytes left out, a thread held up \
             {held_up_ms} ms",
            estimates.len()
        );
        assert!(lost_ms <= 100.0 + held_up_ms as f64);
        let repeated = repeat(&log, None, &mut |_, _| {}).unwrap();
        assert!(repeated.equal && repeated.estimates == estimates.len() as u64, "{repeated}");
    }
    println!("{kills} kills: at most the last {most_ms:.1} ms lost");
}
