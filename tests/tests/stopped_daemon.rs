//! A daemon that is stopped for two seconds while its rig goes on: what has waited meanwhile is never published as if it were
//! new.
//!
//! The rig stamps its bins by the clock that the daemon reads, so that the true age of an estimate is the difference of two of
//! its fields, whatever the daemon says of it and however busy the machine is.

use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::wire;
use ndt_protocol::{Estimate, Quality, Reasons};
use ndt_replay::transport::zeromq::Receiver;
use ndt_tests::lsl::{Running, Session, bundle, usual_ids, written};
use ndt_tests::rig::at_200_hz;
use ndt_tests::{free_address, program};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const WIDTH_NS: u64 = 5_000_000;
const MAX_AGE_NS: i64 = 2 * WIDTH_NS as i64;
const STOPPED: Duration = Duration::from_secs(2);

fn next(receiver: &mut Receiver) -> Estimate {
    loop {
        let message = receiver.receive(SOON).expect("an estimate within a minute");
        let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
        if frames[0] == wire::TOPIC_ESTIMATE {
            return wire::read_estimate(&frames).unwrap();
        }
    }
}

/// Returns once no thread of the daemon runs any more.
fn stop(daemon: &Running) {
    daemon.signal(libc::SIGSTOP);
    let status = format!("/proc/{}/status", daemon.id());
    while !std::fs::read_to_string(&status).unwrap().contains("\nState:\tT") {
        std::thread::yield_now();
    }
}

fn is_computed(estimate: &Estimate) -> bool {
    matches!(estimate.quality, Quality::Good | Quality::Warmup)
}

#[test]
fn what_waits_while_the_daemon_is_stopped_is_never_good() {
    let session = Session::new();
    let mut model = bundle(usual_ids());
    model.manifest.bin_width_ms = 5.0;
    let model = written(&session, &model);
    let (input, output) = (free_address(), free_address());
    let config = session.folder().join("ndtd.toml");
    std::fs::write(&config, format!("bundle = {model:?}\ninput = \"{input}\"\noutput = \"{output}\"\n"))
        .unwrap();
    let mut command = session.command(program("ndtd"));
    let mut daemon = Running::start(command.args(["run", "--config"]).arg(&config));
    daemon.wait_for("estimates on");
    let mut receiver = Receiver::open(&output.parse().unwrap()).unwrap();
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| at_200_hz(&input, &ends, |_| vec![1.0; 12]));
        let end_with_the_test = End(&ends);
        // The clock of the rig is known, and bins are on time.
        let mut in_a_row = 0;
        while in_a_row < 20 {
            let estimate = next(&mut receiver);
            let is_known = estimate.quality == Quality::Good && estimate.age().is_some();
            in_a_row = if is_known { in_a_row + 1 } else { 0 };
        }
        stop(&daemon);
        let stopped_ns = monotonic_ns();
        std::thread::sleep(STOPPED);
        let goes_on_ns = monotonic_ns();
        daemon.signal(libc::SIGCONT);
        // Everything until bins are on time that were made after the daemon went on.
        let (mut estimates, mut again) = (Vec::new(), 0);
        while again < 20 {
            let estimate = next(&mut receiver);
            let is_new = estimate.source_ns > goes_on_ns as i64;
            again += u32::from(is_new && estimate.quality == Quality::Good);
            estimates.push(estimate);
        }
        drop(end_with_the_test);

        let true_age_ns = |estimate: &Estimate| estimate.published_ns as i64 - estimate.source_ns;
        let computed = || estimates.iter().filter(|estimate| is_computed(estimate));
        let oldest_ns = computed().map(true_age_ns).max().unwrap();
        let old = estimates.iter().filter(|estimate| estimate.reasons.contains(Reasons::OLD_BIN)).count();
        let stale = estimates.iter().filter(|estimate| estimate.quality == Quality::Stale).count();
        println!(
            "{} estimates after the stop: {old} late with old-bin, {stale} stale, {} computed, of which the oldest by {} ms",
            estimates.len(),
            computed().count(),
            oldest_ns / 1_000_000
        );
        // More than a queue holds may be skipped, which is told.
        let follows =
            |pair: &[Estimate]| pair[1].seq == pair[0].seq + 1 || pair[1].reasons.contains(Reasons::LONG_GAP);
        // The subscriber is cut off too, at most once; what is published until it is connected again it does not hear.
        let holes = estimates.windows(2).filter(|pair| !follows(pair)).count();
        assert!(holes <= 1, "{holes} holes between the estimates that were heard");
        // The rig cuts a daemon off that answers no heartbeat, and so does the daemon's own output: how many of the answers for the
        // periods of the stop are heard is left open. None of them is computed.
        let in_the_stop = (stopped_ns + 1_000_000_000) as i64..goes_on_ns as i64 - MAX_AGE_NS;
        let during = computed().filter(|estimate| in_the_stop.contains(&estimate.source_ns)).count();
        assert_eq!(during, 0, "computed of bins in {in_the_stop:?}");
        for estimate in computed() {
            let Some(age_ns) = estimate.age() else { continue };
            assert!(age_ns <= MAX_AGE_NS, "good and {age_ns} ns old: {estimate:?}");
            assert_eq!(age_ns + estimate.clock_offset_ns, true_age_ns(estimate), "the age of its stamps");
        }
        // Whatever was known of the clock meanwhile.
        assert!(oldest_ns < 1_000_000_000, "good after {oldest_ns} ns");
    });
    daemon.signal(libc::SIGTERM);
    assert!(daemon.end(), "{:#?}", daemon.heard());
}

/// Ends the rig with the test, also where it fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
