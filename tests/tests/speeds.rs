//! Sources whose clock does not run at the rate of the daemon's, such as a replay in slow motion: none of their bins is too
//! old, however long it takes to come.

use ndt_daemon::engine::native::Native;
use ndt_daemon::pipeline;
use ndt_protocol::clock::{monotonic_ns, sleep_until_ns};
use ndt_protocol::wire::{self, BinStamp, Description};
use ndt_protocol::{Estimate, Reasons};
use ndt_replay::transport::zeromq::{Receiver, Sender};
use ndt_tests::{SMALL, Shape, on_loopback, weights_only};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const WIDTH_NS: u64 = 5_000_000;
const CHANNELS: usize = 8;

/// What the daemon answers to bins of a recording without trials that is played at this speed.
fn played(speed: f64, bins: u64) -> Vec<Estimate> {
    let shape = Shape { channels: CHANNELS, units: CHANNELS, dims: 2, architecture: SMALL };
    let mut bundle = weights_only(shape, 3);
    bundle.manifest.bin_width_ms = 5.0;
    let pipeline = pipeline::start(&on_loopback(), &bundle, Box::new(Native::new(&bundle))).unwrap();
    let mut receiver = Receiver::open(&pipeline.output().parse().unwrap()).unwrap();
    assert_eq!(receiver.receive(SOON).unwrap().frames[0], wire::TOPIC_DESCRIPTION);
    let mut sender = Sender::open(&format!("connect:{}", pipeline.input()).parse().unwrap()).unwrap();
    sender.wait_for_subscriber(SOON).unwrap();
    let channel_ids = bundle.manifest.channel_ids.clone();
    sender.describe(0, &Description::Bins { bin_width_us: 5_000, channel_ids });
    let start_ns = monotonic_ns();
    for seq in 0..bins {
        let played_ns = (seq + 1) * WIDTH_NS;
        sleep_until_ns(start_ns + (played_ns as f64 / speed) as u64);
        let sent_ns = monotonic_ns();
        let source_ns = played_ns as i64;
        let stamp = BinStamp { seq, source_ns, sent_ns, bin_width_us: 5_000, ..BinStamp::default() };
        sender.send(&stamp, &[1.0; CHANNELS]).unwrap();
    }
    let mut estimates: Vec<Estimate> = Vec::new();
    while estimates.last().is_none_or(|last| last.seq + 1 < bins) {
        let message = receiver.receive(SOON).expect("an estimate within a minute");
        let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
        if frames[0] == wire::TOPIC_ESTIMATE {
            estimates.push(wire::read_estimate(&frames).unwrap());
        }
    }
    estimates
}

#[test]
fn no_bin_is_too_old_at_a_speed_other_than_that_of_time() {
    for (speed, bins) in [(0.5, 250), (0.8, 300), (3.0, 600), (20.0, 2_000)] {
        let estimates = played(speed, bins);
        let old = estimates.iter().filter(|estimate| estimate.reasons.contains(Reasons::OLD_BIN)).count();
        let aged = estimates.iter().filter(|estimate| estimate.age().is_some()).count();
        println!("speed {speed}: {} estimates, {aged} of a known age, {old} too old", estimates.len());
        assert_eq!((old, aged), (0, 0), "too old, of a known age at speed {speed}");
    }
    let aged = played(1.0, 500).iter().filter(|estimate| estimate.age().is_some()).count();
    println!("speed 1: {aged} of a known age");
    assert!(aged > 0, "no age at the speed of time");
}
