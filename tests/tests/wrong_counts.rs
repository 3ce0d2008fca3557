//! Bytes of the right size that are no counts, and counts that are all zero: over ZeroMQ, through the production threads.

use ndt_daemon::config::Config;
use ndt_daemon::engine::native::Native;
use ndt_daemon::pipeline::{self, Pipeline};
use ndt_protocol::wire::{self, BinStamp, Description};
use ndt_protocol::{Estimate, Quality};
use ndt_replay::transport::zeromq::{Receiver, Sender};
use ndt_tests::{SMALL, Shape, manifest, on_loopback, random_weights};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const CHANNELS: usize = 8;

/// A running daemon, its rig and a subscriber.
struct Bench {
    pipeline: Pipeline,
    sender: Sender,
    receiver: Receiver,
    seq: u64,
}

impl Bench {
    /// `width_us` is the width of the rig's bins; those of the model are 20 ms wide.
    fn start(width_us: u32) -> Bench {
        let manifest = manifest(Shape { channels: CHANNELS, units: CHANNELS, dims: 2, architecture: SMALL });
        let weights = random_weights(&manifest, 3);
        let bundle = ndt_trainer::export::from_weights(manifest, weights, &[0.5; CHANNELS]).unwrap();
        let config = Config { deadline_ms: Some(5_000.0), stale_after_bins: 200, ..on_loopback() };
        let pipeline = pipeline::start(&config, &bundle, Box::new(Native::new(&bundle))).unwrap();
        let mut receiver = Receiver::open(&pipeline.output().parse().unwrap()).unwrap();
        let first = receiver.receive(SOON).expect("a description within a minute");
        assert_eq!(first.frames[0], wire::TOPIC_DESCRIPTION);
        let mut sender = Sender::open(&format!("connect:{}", pipeline.input()).parse().unwrap()).unwrap();
        sender.wait_for_subscriber(SOON).unwrap();
        sender.describe(
            0,
            &Description::Bins { bin_width_us: width_us, channel_ids: bundle.manifest.channel_ids },
        );
        Bench { pipeline, sender, receiver, seq: 0 }
    }

    /// Sends the narrow bins of one bin of the model, of which the last has these counts, and waits for its estimate.
    fn answer(&mut self, parts: u32, counts: [f32; CHANNELS]) -> Estimate {
        for part in 1..=parts {
            let mut stamp = BinStamp { seq: self.seq, stream: 1, ..BinStamp::default() };
            stamp.bin_width_us = 20_000 / parts;
            stamp.source_ns = i64::from(stamp.bin_width_us) * 1_000 * (self.seq as i64 + 1);
            self.sender.send(&stamp, &if part == parts { counts } else { [0.0; CHANNELS] }).unwrap();
            self.seq += 1;
        }
        loop {
            let message = self.receiver.receive(SOON).expect("an estimate within a minute");
            let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
            if frames[0] == wire::TOPIC_ESTIMATE {
                return wire::read_estimate(&frames).unwrap();
            }
        }
    }
}

fn has(estimate: &Estimate, reason: &str) -> bool {
    estimate.reasons.names().any(|name| name == reason)
}

#[test]
fn counts_of_a_wrong_type_or_byte_order_are_faults_and_counted() {
    let counts = [0u8, 1, 0, 2, 0, 0, 3, 0];
    type Bytes = fn(u8) -> [u8; 4];
    let wrong: [(&str, Bytes); 3] = [
        ("<i4", |count| i32::from(count).to_le_bytes()),
        (">f4", |count| f32::from(count).to_be_bytes()),
        (">i4", |count| i32::from(count).to_be_bytes()),
    ];
    for parts in [1, 4] {
        let mut bench = Bench::start(20_000 / parts);
        for _ in 0..6 {
            assert!(bench.answer(parts, counts.map(f32::from)).quality <= Quality::Warmup);
        }
        let good = bench.answer(parts, counts.map(f32::from));
        assert_eq!((good.quality, good.reasons.0), (Quality::Good, 0));
        for (kind, bytes) in wrong {
            for _ in 0..3 {
                let estimate = bench.answer(parts, counts.map(|count| f32::from_le_bytes(bytes(count))));
                assert!(has(&estimate, "implausible-counts"), "{kind}: {estimate:?}");
                assert_eq!(estimate.quality, Quality::Fault, "{kind}: {estimate:?}");
                assert_eq!(estimate.rates(), good.rates(), "rates are held");
            }
        }
        // The velocity has faded by the policy.
        let fading = bench.answer(parts, [-1.0; CHANNELS]);
        assert_eq!((fading.quality, fading.velocity()), (Quality::Fault, &[0.0, 0.0][..]));
        assert_eq!(bench.answer(parts, counts.map(f32::from)).quality, Quality::Good);
        let stats = bench.pipeline.stats();
        assert_eq!((stats.decoder.implausible, stats.invalid_bins), (10, 0));
        assert_eq!(stats.last_implausible, Some((0, -1.0)));
    }
}

#[test]
fn zeros_for_a_second_are_flagged_and_one_spike_ends_it() {
    let mut bench = Bench::start(20_000);
    // Four spikes are expected in a bin, so that a second is what is waited for.
    let zeros: Vec<Estimate> = (0..60).map(|_| bench.answer(1, [0.0; CHANNELS])).collect();
    let flagged: Vec<bool> = zeros.iter().map(|estimate| has(estimate, "no-spikes")).collect();
    assert_eq!(flagged.iter().position(|is_flagged| *is_flagged), Some(49));
    assert!(flagged[49..].iter().all(|is_flagged| *is_flagged));
    assert!(zeros[10..].iter().all(|estimate| estimate.quality == Quality::Good), "zeros are legal");
    let mut one = [0.0; CHANNELS];
    one[5] = 1.0;
    assert!(!has(&bench.answer(1, one), "no-spikes"));
    assert_eq!(bench.pipeline.stats().decoder.no_spikes, 11);
}

#[test]
fn a_bin_with_most_channels_masked_is_a_fault_through_the_pipeline() {
    let mut bench = Bench::start(20_000);
    let mut masked = [f32::NAN; CHANNELS];
    for (lacking, is_fault) in [(4, false), (5, true), (7, true)] {
        masked[..CHANNELS - lacking].fill(1.0);
        masked[CHANNELS - lacking..].fill(f32::NAN);
        let estimate = bench.answer(1, masked);
        assert_eq!(has(&estimate, "too-few-channels"), is_fault, "{lacking}: {estimate:?}");
        assert_eq!(estimate.quality == Quality::Fault, is_fault, "{lacking}: {estimate:?}");
    }
    let mut too_high = [60.0; CHANNELS];
    too_high[0] = 1.0;
    assert!(has(&bench.answer(1, too_high), "too-few-channels"));
    // The counters of a bin are there once the next one is answered.
    assert!(bench.answer(1, [1.0; CHANNELS]).quality <= Quality::Warmup);
    let stats = bench.pipeline.stats();
    assert_eq!((stats.decoder.too_few_channels, stats.invalid_bins, stats.too_high), (3, 3, 1));
    assert_eq!(stats.last_too_high, Some((1, 60.0)));
}

#[test]
fn values_that_could_be_counts_and_are_none_are_counted_and_decoded() {
    let mut bench = Bench::start(20_000);
    for bin in 0..60u32 {
        let estimate = bench.answer(1, std::array::from_fn(|at| (bin / 3) as f32 + at as f32 * 0.25));
        assert!(estimate.quality <= Quality::Warmup, "{estimate:?}");
    }
    let one: [f32; CHANNELS] = std::array::from_fn(|at| f32::from(u8::from(at < 3)));
    for _ in 0..80 {
        bench.answer(1, one);
    }
    let found = bench.pipeline.stats().decoder;
    // Sums since the start, of which most have a fraction; after a second they are known as such. Constant counts are counts.
    assert_eq!((found.fractional, found.rising), (60, 11));
    // 30 spikes are expected in 60 bins, as far as the golden counts are their means.
    assert!(found.silent_channels > 0 && found.watched_channels == 8, "{found:?}");
}
