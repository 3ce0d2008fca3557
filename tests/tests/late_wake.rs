//! A publish thread that wakes late: results that are there by then are published, and only what has none is answered by the
//! policy.

use ndt_daemon::guard::policy::{Fade, Policy, VelocityLimits};
use ndt_daemon::guard::{Guard, GuardSettings};
use ndt_daemon::input::Arrival;
use ndt_daemon::input::deadline::TimeLimits;
use ndt_daemon::pipeline::counters::Counters;
use ndt_daemon::pipeline::loops::{PublishLoop, SourceEvent};
use ndt_daemon::queue::Queue;
use ndt_protocol::{Estimate, Quality};
use ndt_tests::{SMALL, Shape, weights_only};
use std::sync::{Arc, mpsc};

const MS: u64 = 1_000_000;

#[test]
fn results_that_wait_when_the_publish_thread_wakes_late_are_published_and_not_answered_by_the_policy() {
    let mut bundle = weights_only(Shape { channels: 2, units: 1, dims: 2, architecture: SMALL }, 1);
    bundle.manifest.bin_width_ms = 20.0;
    let settings = GuardSettings {
        time: TimeLimits::deadline(20 * MS),
        stale_after_bins: 10,
        fade: Fade { policy: Policy::Hold, time_constant_bins: 2.5 },
        limits: VelocityLimits::default(),
    };
    let (events, queued_events) = Queue::untouched();
    let (results, queued_results) = Queue::untouched();
    let (published, heard) = mpsc::channel();
    let publisher: Box<dyn FnMut(&Estimate) + Send> =
        Box::new(move |estimate| published.send((estimate.seq, estimate.quality)).unwrap());
    let guard = Guard::new(&bundle, settings);
    let mut publish =
        PublishLoop::new(guard, MS, publisher, queued_events, queued_results, Arc::new(Counters::default()));

    // Four bins come at their instants, and the results of three of them 1 ms later.
    for seq in 0..4 {
        let (source_ns, arrival_ns) = ((seq as i64 + 1) * 20_000_000, (seq + 1) * 20 * MS);
        events.push(SourceEvent::Arrived(Arrival {
            seq,
            stream: 1,
            source_ns,
            arrival_ns,
            ..Arrival::default()
        }));
        let mut result = Estimate::zero(1, 2);
        (result.seq, result.stream, result.quality) = (seq, 1, Quality::Good);
        (result.source_ns, result.arrival_ns, result.decoded_ns) = (source_ns, arrival_ns, arrival_ns + MS);
        if seq < 3 {
            results.push(result);
        }
    }
    // The thread has slept through all of their deadlines: it wakes at its own time, with no result in its hand.
    publish.turn(None, &mut || 110 * MS);
    let answers: Vec<(u64, Quality)> = heard.try_iter().collect();
    use Quality::{Good, Late};
    assert_eq!(answers, [(0, Good), (1, Good), (2, Good), (3, Late)]);
}
