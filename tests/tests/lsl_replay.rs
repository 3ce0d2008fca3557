//! Our own player, listener and benchmark on streams, beside the same over ZeroMQ.

use ndt_daemon::config::Config;
use ndt_daemon::engine::native::Native;
use ndt_daemon::pipeline;
use ndt_replay::listen::{Summary, TRUTH_SERIES, Tally, Until};
use ndt_replay::play::{Channels, Plan, Speed};
use ndt_replay::session::Series;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_replay::{nwb, transport};
use ndt_tests::lsl::{Running, Session, bundle, daemon, liblsl, usual_ids, written};
use ndt_tests::{on_loopback, program};
use serde_json::Value;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Plays over ZeroMQ and listens there; what came.
fn over_zeromq(plan: &Plan, input: &str, output: &str, speed: f64, truth: Option<Series>) -> Summary {
    let mut tally = Tally::new(truth);
    let until = Until { count: Some(plan.bins() as u64), idle: None, first: SOON };
    let to = format!("connect:{input}").parse().unwrap();
    let (go, gone) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            gone.recv().unwrap();
            transport::zeromq::play(plan, None, &to, Speed::Times(speed), SOON, &mut |_| {}).unwrap();
        });
        let mut ready = || go.send(()).unwrap();
        transport::zeromq::listen(
            &output.parse().unwrap(),
            &mut tally,
            until,
            &AtomicBool::new(false),
            &mut ready,
            &mut |_, _| true,
        )
        .unwrap();
    });
    tally.summary()
}

/// The object that a program has printed over several lines, among others.
fn printed(running: &Running) -> Value {
    let lines = running.heard().join("\n");
    serde_json::from_str(&lines[lines.find("{\n").unwrap()..=lines.rfind("\n}").unwrap() + 1]).unwrap()
}

#[test]
fn replay_over_streams_counts_and_scores_as_many_bins_as_replay_over_zeromq() {
    let session = Session::new();
    let path = session.folder().join("session.nwb");
    nwb::write(&simulate(&Recipe { trials: 30, units: 24, heldout: 6, seed: 2 }), &path).unwrap();
    let recording = nwb::read(&path).unwrap();
    let plan = Plan::new(&recording, Some("val"), 20.0, Channels::HeldIn).unwrap();
    let bundle = bundle(plan.channel_ids().to_vec());
    let model = written(&session, &bundle);

    let config = Config { deadline_ms: Some(5_000.0), stale_after_bins: 200, ..on_loopback() };
    let pipeline = pipeline::start(&config, &bundle, Box::new(Native::new(&bundle))).unwrap();
    let truth = recording.series(TRUTH_SERIES).cloned();
    let expected = over_zeromq(&plan, pipeline.input(), pipeline.output(), 10.0, truth);
    pipeline.stop();

    let library = liblsl();
    let library = library.to_str().unwrap();
    let replay = |arguments: &[&str]| {
        let mut command = session.command(program("ndt-replay"));
        Running::start(command.args(arguments).args(["--lsl-library", library]))
    };
    let count = plan.bins().to_string();
    let mut daemon = daemon(&session, &model, 200, &["--input", "lsl:rig", "--output", "lsl:arm"]);
    let mut listener = replay(&["listen", "lsl:arm", "--truth", "lsl:rig", "--count", &count, "--json"]);
    let file = path.to_str().unwrap();
    let play = ["play", file, "--to", "lsl:rig", "--bin-ms", "20", "--split", "val", "--behavior", "--json"];
    let mut player = replay(&play);
    assert!(player.end(), "{:#?}", player.heard());
    assert!(listener.end(), "{:#?}", listener.heard());
    daemon.wait_for("bins from \"rig\"");
    let heard = printed(&listener);

    assert_eq!(heard["estimates"], plan.bins() as u64, "{heard:#}");
    for nothing in ["missing", "repeated", "out-of-order"] {
        assert_eq!(heard[nothing], 0, "{heard:#}");
    }
    assert_eq!(heard["reasons"]["segment-start"], plan.segments() as u64, "{heard:#}");
    assert_eq!(heard["quality"]["warmup"], expected.quality["warmup"], "{heard:#}");
    assert_eq!(heard["scored"], expected.scored, "{heard:#}");
    // How far off a random model is says nothing: `lsl_estimates.rs` compares the estimates themselves.
    assert!(heard["velocity-r2-mean"].is_number(), "{heard:#}");
}

#[test]
fn bins_over_zeromq_are_heard_over_a_stream_and_over_zeromq() {
    let session = Session::new();
    let path = session.folder().join("session.nwb");
    nwb::write(&simulate(&Recipe { trials: 10, units: 12, heldout: 0, seed: 2 }), &path).unwrap();
    let recording = nwb::read(&path).unwrap();
    let mut plan = Plan::new(&recording, None, 20.0, Channels::HeldIn).unwrap();
    plan.truncate(100);
    let model = written(&session, &bundle(plan.channel_ids().to_vec()));
    let endpoints =
        ["--input", "bind:tcp://127.0.0.1:0", "--output", "lsl:arm", "--output", "tcp://127.0.0.1:0"];
    let daemon = daemon(&session, &model, 200, &endpoints);
    let line = daemon.heard().last().unwrap().clone();
    let input = line.split_once("bins from ").unwrap().1.split_once(',').unwrap().0.to_owned();
    let output = line.rsplit_once(" and ").unwrap().1.to_owned();
    let mut command = session.command(program("ndt-replay"));
    command.args(["listen", "lsl:arm", "--count", "100", "--json", "--lsl-library"]).arg(liblsl());
    let mut listener = Running::start(&mut command);
    listener.wait_for("hearing name='arm-velocity'");
    let expected = over_zeromq(&plan, &input, &output, 1.0, None);
    assert!(listener.end(), "{:#?}", listener.heard());
    let heard = printed(&listener);
    assert_eq!((expected.estimates, &heard["estimates"]), (100, &100.into()));
    assert_eq!(heard["quality"], serde_json::json!(expected.quality));
    assert_eq!(heard["reasons"], serde_json::json!(expected.reasons));
    assert_eq!((&heard["missing"], &heard["streams"]), (&0.into(), &1.into()), "{heard:#}");
}

#[test]
fn the_benchmark_measures_every_bin_over_streams() {
    let session = Session::new();
    let model = written(&session, &bundle(usual_ids()));
    let config = session.folder().join("ndtd.toml");
    std::fs::write(&config, "deadline-ms = 5000.0\nstale-after-bins = 200\n").unwrap();
    let mut command = session.command(program("ndtd"));
    command.args(["bench", "--transport", "lsl", "--bins", "40", "--json", "--config"]).arg(&config);
    command.arg("--bundle").arg(&model).arg("--lsl-library").arg(liblsl());
    let mut bench = Running::start(&mut command);
    assert!(bench.end(), "{:#?}", bench.heard());
    let report = printed(&bench);
    let measured = &report["measured"][0];
    for (key, expected) in
        [("bins", 40), ("unanswered", 0), ("repeated", 0), ("overflowed", 0), ("without-bin", 0)]
    {
        assert_eq!(measured[key], expected, "{key} in {measured:#}");
    }
    assert_eq!(measured["qualities"]["good"], 40, "{measured:#}");
    let stages = measured["latencies-us"].as_array().unwrap();
    assert!(stages.len() == 8 && stages.iter().all(|row| row["percentiles"]["count"] == 40), "{measured:#}");
}
