//! `play` and `listen` over real sockets: every bin once and in order, every estimate counted and scored.

use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::endpoint::SocketAddress;
use ndt_protocol::wire::{self, Description};
use ndt_protocol::{Bin, CountRange, Estimate, Quality};
use ndt_replay::listen::{TRUTH_SERIES, Tally, Until};
use ndt_replay::play::{Channels, Plan, Speed};
use ndt_replay::session::Session;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_replay::transport::zeromq::{ListenError, Receiver, Sender, listen, play};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// Timeout that a loaded machine does not reach; a test that passes does not wait for it.
const SOON: Duration = Duration::from_secs(30);

fn session() -> Session {
    simulate(&Recipe { trials: 6, units: 12, heldout: 3, seed: 5 })
}

fn endpoint(folder: &tempfile::TempDir) -> SocketAddress {
    format!("ipc://{}", folder.path().join("socket").display()).parse().unwrap()
}

/// Plays a whole session and checks every bin that a subscriber receives.
fn played(speed: Speed, bin_ms: f64) {
    let folder = tempfile::tempdir().unwrap();
    let to = endpoint(&folder);
    let session = session();
    let plan = Plan::new(&session, None, bin_ms, Channels::HeldIn).unwrap();
    let mut receiver = Receiver::open(&to).unwrap();
    let mut progress = Vec::new();
    std::thread::scope(|scope| {
        let player = scope.spawn(|| play(&plan, None, &to, speed, SOON, &mut |p| progress.push(p)).unwrap());
        let (mut next, mut stream, mut described) = (0, None, false);
        let mut bin = Bin::empty();
        while next < plan.bins() {
            let message = receiver.receive(SOON).unwrap_or_else(|| panic!("bin {next} of {}", plan.bins()));
            let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
            if frames[0] == wire::TOPIC_DESCRIPTION {
                let (of, Some(Description::Bins { bin_width_us, channel_ids })) =
                    wire::read_description(&frames).unwrap()
                else {
                    panic!("a player describes bins")
                };
                assert_eq!(*stream.get_or_insert(of), of, "the stream of the bins");
                assert_eq!((bin_width_us, &channel_ids[..]), ((bin_ms * 1e3) as u32, plan.channel_ids()));
                described = true;
                continue;
            }
            assert!(described, "bins are described before the first");
            let (expected, counts) = plan.bin(next);
            let width_us = expected.bin_width_us;
            let stamp =
                wire::read_bin(&frames, plan.channel_ids().len(), CountRange::new(50, 20.0), 0, &mut bin)
                    .unwrap();
            assert_eq!(stamp.bin_width_us, width_us);
            assert_eq!(*stream.get_or_insert(stamp.stream), stamp.stream);
            assert!(stamp.sent_ns <= message.received_ns);
            assert_eq!(
                (stamp.seq, stamp.source_ns, stamp.segment_start, bin.counts()),
                (next as u64, expected.source_ns, expected.segment_start, counts)
            );
            next += 1;
        }
        let report = player.join().unwrap();
        assert_eq!((report.bins, report.dropped, report.segments), (plan.bins(), 0, 6));
        let planned_s = plan.bins() as f64 * bin_ms * 1e-3;
        match speed {
            // A bin is never sent before it is due.
            Speed::Times(times) => {
                assert!(report.seconds >= planned_s / times && report.late_us_max.is_some())
            }
            Speed::Max => assert_eq!(report.late_us_max, None),
        }
    });
    assert!(progress.iter().enumerate().all(|(at, p)| p.sent == at + 1 && p.bins == plan.bins()));
    assert_eq!(progress.last().unwrap().segment, 6);
}

#[test]
fn every_bin_comes_once_and_in_order_at_full_speed() {
    played(Speed::Max, 5.0);
}

#[test]
fn every_bin_comes_once_and_in_order_at_its_instant() {
    played(Speed::Times(20.0), 20.0);
}

#[test]
fn a_player_without_a_subscriber_fails_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let to = endpoint(&folder);
    let session = session();
    let plan = Plan::new(&session, Some("val"), 20.0, Channels::HeldIn).unwrap();
    let error = play(&plan, None, &to, Speed::Max, Duration::from_millis(10), &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), format!("expected a subscriber on {to} within 0.01 s, found none"));
}

/// The estimate of a perfect decoder for bin `seq` of the plan, with this quality.
fn estimate(plan: &Plan, session: &Session, seq: usize, quality: Quality) -> Estimate {
    let (stamp, _) = plan.bin(seq);
    let mut estimate = Estimate::zero(3, 2);
    estimate.seq = stamp.seq;
    estimate.stream = 9;
    estimate.source_ns = stamp.source_ns;
    estimate.velocity_for_ns = stamp.source_ns - 10_000_000;
    estimate.quality = quality;
    estimate.arrival_ns = monotonic_ns();
    estimate.decoded_ns = estimate.arrival_ns + 30_000;
    estimate.published_ns = estimate.arrival_ns + 70_000;
    let truth = session.series(TRUTH_SERIES).unwrap();
    let truth = truth.at(estimate.velocity_for_ns as f64 * 1e-9, 0.1).unwrap();
    estimate.velocity_mut().iter_mut().zip(truth).for_each(|(velocity, truth)| *velocity = truth as f32);
    estimate
}

fn publish(sender: &mut Sender, estimate: &Estimate) {
    let (mut rates, mut velocity) = (Vec::new(), Vec::new());
    wire::put_f32(estimate.rates(), &mut rates);
    wire::put_f32(estimate.velocity(), &mut velocity);
    let header = wire::estimate_header(estimate);
    sender.send_frames(&[wire::TOPIC_ESTIMATE, &header, &rates, &velocity]).unwrap();
}

/// Listens to what `daemon` publishes; returns the tally and how the listening ended.
fn heard(
    until: Until,
    stop: &AtomicBool,
    daemon: impl FnOnce(&mut Sender, &Plan, &Session) + Send,
) -> (Tally, Result<(), ListenError>) {
    heard_with(until, stop, daemon, |_, _, _| ())
}

/// The same with a daemon that goes on: after `daemon`, it does `then` each millisecond until nobody listens any more.
fn heard_with(
    until: Until,
    stop: &AtomicBool,
    daemon: impl FnOnce(&mut Sender, &Plan, &Session) + Send,
    mut then: impl FnMut(&mut Sender, &Plan, &Session) + Send,
) -> (Tally, Result<(), ListenError>) {
    let folder = tempfile::tempdir().unwrap();
    let at = endpoint(&folder);
    let session = session();
    let plan = Plan::new(&session, None, 20.0, Channels::HeldIn).unwrap();
    let mut tally = Tally::new(session.series(TRUTH_SERIES).cloned());
    let (listened, end) = std::sync::mpsc::channel::<()>();
    let result = std::thread::scope(|scope| {
        let (at, plan, session) = (&at, &plan, &session);
        scope.spawn(move || {
            let mut sender = Sender::open(at).unwrap();
            sender.wait_for_subscriber(SOON).unwrap();
            daemon(&mut sender, plan, session);
            // The socket stays open until nobody listens any more.
            while end.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
                then(&mut sender, plan, session);
            }
        });
        let result = listen(at, &mut tally, until, stop, &mut || {}, &mut |_, _| true);
        drop(listened);
        result
    });
    (tally, result)
}

const FOREVER: Until = Until { count: None, idle: None, first: SOON };

#[test]
fn estimates_are_counted_and_scored_and_wrong_frames_do_not_end_it() {
    let until = Until { count: Some(120), ..FOREVER };
    let (tally, result) = heard(until, &AtomicBool::new(false), |sender, plan, session| {
        for seq in 0..130 {
            let quality = match seq {
                0..5 => Quality::Warmup,
                50 => Quality::Late,
                _ => Quality::Good,
            };
            match seq {
                // Neither a bin nor a lone topic is an estimate.
                10 => sender.send(&plan.bin(0).0, &[1.0]).unwrap(),
                11 => sender.send_frames(&[wire::TOPIC_ESTIMATE]).unwrap(),
                20 | 21 => {}
                30 => (0..2).for_each(|_| publish(sender, &estimate(plan, session, seq, quality))),
                _ => publish(sender, &estimate(plan, session, seq, quality)),
            }
        }
    });
    result.unwrap();
    let summary = tally.summary();
    assert_eq!((summary.estimates, summary.streams, summary.refused), (120, 1, 2));
    assert_eq!((summary.missing, summary.repeated, summary.out_of_order), (4, 1, 0));
    assert_eq!(summary.last_refusal.unwrap(), "expected 4 frames, found 1");
    let quality: Vec<(&str, u64)> = summary.quality.into_iter().collect();
    assert_eq!(quality, [("good", 114), ("late", 1), ("warmup", 5)]);
    assert_eq!((summary.scored, summary.not_finite), (119, 0));
    assert!(summary.velocity_r2_mean.unwrap() > 0.999_999);
    assert_eq!((summary.arrival_to_decoded_us.max, summary.arrival_to_published_us.max), (30, 70));
}

#[test]
fn listening_ends_when_no_more_estimates_arrive_or_when_it_is_stopped() {
    let idle = Until { idle: Some(Duration::from_millis(10)), ..FOREVER };
    let (tally, result) = heard(idle, &AtomicBool::new(false), |sender, plan, session| {
        (0..3).for_each(|seq| publish(sender, &estimate(plan, session, seq, Quality::Good)));
    });
    result.unwrap();
    assert_eq!(tally.estimates(), 3);

    // A daemon goes on with stale estimates for as long as it runs.
    let mut seq = 0;
    let (tally, result) = heard_with(
        idle,
        &AtomicBool::new(false),
        |sender, plan, session| publish(sender, &estimate(plan, session, 0, Quality::Good)),
        |sender, plan, session| {
            seq += 1;
            publish(sender, &estimate(plan, session, seq % 50, Quality::Stale));
        },
    );
    result.unwrap();
    assert!(tally.estimates() >= 1);

    let stop = AtomicBool::new(false);
    let (tally, result) = heard(FOREVER, &stop, |_, _, _| stop.store(true, Ordering::Relaxed));
    result.unwrap();
    assert_eq!(tally.estimates(), 0);
}

#[test]
fn silence_and_nothing_but_wrong_frames_are_one_sentence() {
    let until = Until { first: Duration::from_millis(300), ..FOREVER };
    let (_, result) = heard(until, &AtomicBool::new(false), |_, _, _| ());
    let error = result.unwrap_err().to_string();
    assert!(error.ends_with("within 0.3 s, found none"), "{error}");

    let until = Until { first: Duration::from_secs(1), ..FOREVER };
    let (tally, result) = heard(until, &AtomicBool::new(false), |sender, plan, _| {
        sender.send(&plan.bin(0).0, &[1.0]).unwrap();
    });
    let error = result.unwrap_err().to_string();
    assert_eq!(tally.summary().refused, 1);
    assert!(
        error.ends_with("found 1 other messages, the last refused with \"expected 4 frames, found 3\""),
        "{error}"
    );
}
