//! `ndtd bench` measures the pipeline that is deployed: every bin that it sends is answered once, on either
//! transport. How long that takes is not asked here.

use ndt_daemon::bench::load::Load;
use ndt_daemon::bench::report::Report;
use ndt_daemon::bench::schedule::Length;
use ndt_daemon::bench::tally::Stage;
use ndt_daemon::bench::{self, BenchSettings, Transport, steps};
use ndt_daemon::config::Config;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Architecture;
use ndt_tests::{Positions, Shape, manifest, random_weights, weights_only};

const SHAPE: Shape = Shape {
    channels: 7,
    units: 9,
    dims: 2,
    architecture: Architecture {
        width: 16,
        layers: 2,
        heads: 2,
        feedforward: 24,
        window_bins: 6,
        positions: Positions::LagBias,
    },
};

fn bundle() -> Bundle {
    let manifest = manifest(SHAPE);
    let weights = random_weights(&manifest, 1);
    ndt_trainer::export::from_weights(manifest, weights, &[0.3; SHAPE.channels]).unwrap()
}

fn measure(transport: Transport, load: Load, bins: u64) -> Report {
    // However busy the machine is, nothing is late.
    let config = Config { deadline_ms: Some(5_000.0), stale_after_bins: 250, ..Config::default() };
    let settings = BenchSettings { transports: vec![transport], load, length: Length::Bins(bins), pages: 2 };
    let mut shares = Vec::new();
    let report = bench::measure(&config, &bundle(), &settings, &mut |progress| {
        shares.push(progress.seconds / progress.seconds_total);
    });
    assert!(shares.is_sorted() && shares.iter().all(|share| (0.0..=1.0).contains(share)), "{shares:?}");
    report.unwrap()
}

/// How many bins went through each stage, by its name.
fn stages(report: &Report) -> Vec<(Stage, u64)> {
    report.measured[0].latencies_us.iter().map(|row| (row.stage, row.percentiles.count)).collect()
}

#[test]
fn every_bin_in_memory_is_answered_once_and_goes_through_every_stage() {
    let report = measure(Transport::InProcess, Load::None, 40);
    let measured = &report.measured[0];
    assert_eq!((measured.bins, measured.unanswered, measured.repeated), (40, 0, 0), "{measured:?}");
    assert_eq!((measured.missed, measured.overflowed, measured.without_bin), (0, 0, 0), "{measured:?}");
    assert_eq!(measured.qualities["good"], 40, "{measured:?}");
    let expected = [
        Stage::DueToArrival,
        Stage::ArrivalToDecoded,
        Stage::DecodedToPublished,
        Stage::ArrivalToPublished,
        Stage::DueToPublished,
        Stage::OutputJitter,
    ];
    assert_eq!(stages(&report), expected.map(|stage| (stage, 40)));
    for row in &measured.latencies_us {
        let found = row.percentiles;
        assert!(found.p50 <= found.p99 && found.p99 <= found.max, "{row:?}");
    }
}

#[test]
fn every_bin_over_loopback_is_answered_once_and_received() {
    let report = measure(Transport::Loopback, Load::Stress, 40);
    let measured = &report.measured[0];
    assert_eq!((measured.bins, measured.unanswered, measured.repeated), (40, 0, 0), "{measured:?}");
    assert_eq!(measured.qualities["good"], 40, "{measured:?}");
    assert_eq!(stages(&report), Stage::ALL.map(|stage| (stage, 40)));
}

#[test]
fn bursts_of_bins_are_answered_and_so_are_the_gaps() {
    // With a source that is never stale, the periods of a gap are answered once the next bin comes.
    let report = measure(Transport::InProcess, Load::IdleGap, 30);
    let measured = &report.measured[0];
    assert_eq!((measured.bins, measured.unanswered, measured.repeated), (30, 0, 0), "{measured:?}");
    // A gap is longer than the bundle bridges: four bins after each are of a short history.
    assert_eq!((measured.qualities["good"], measured.qualities["warmup"]), (22, 8), "{measured:?}");
    assert_eq!(measured.without_bin, 25, "{measured:?}");
}

#[test]
fn steps_are_the_same_each_time_and_need_counts() {
    let config = Config::default();
    let run = |steps| steps::take_steps(&config, &bundle(), steps).unwrap();
    assert_eq!(run(60), run(60));
    assert!(run(60).estimates == 60 && run(60).checksum != run(61).checksum);
    let error = steps::take_steps(&config, &weights_only(SHAPE, 1), 1).unwrap_err().to_string();
    assert_eq!(error, "expected golden vectors of at least one bin in the bundle, found none");
}
