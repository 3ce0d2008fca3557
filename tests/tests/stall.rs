//! A player that is stopped for two seconds, as a rig's program that hangs: an estimate each period throughout.

use ndt_daemon::engine::native::Native;
use ndt_daemon::pipeline;
use ndt_protocol::manifest::Architecture;
use ndt_protocol::{Estimate, Quality, wire};
use ndt_replay::nwb_write;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_replay::zeromq::Receiver;
use ndt_tests::{Positions, Shape, on_loopback, program, weights_only};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const STALE_AFTER_BINS: usize = 3;

/// A process that is killed with the test.
struct Player(Child);

impl Player {
    fn signal(&self, signal: i32) {
        // SAFETY: the child has not been waited for, so that the number is its own.
        assert_eq!(unsafe { libc::kill(self.0.id() as libc::pid_t, signal) }, 0);
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        self.0.wait().unwrap();
    }
}

fn next(receiver: &mut Receiver) -> Estimate {
    loop {
        let message = receiver.receive(SOON).expect("an estimate within 30 s");
        let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
        if frames[0] == wire::TOPIC_ESTIMATE {
            return wire::read_estimate(&frames).unwrap();
        }
    }
}

fn stopped_for_two_seconds(bin_ms: f64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.nwb");
    let session = simulate(&Recipe { trials: 30, units: 8, heldout: 0, seed: 2 });
    nwb_write::write(&session, &path).unwrap();
    let architecture = Architecture {
        width: 16,
        layers: 2,
        heads: 2,
        feedforward: 24,
        window_bins: 8,
        positions: Positions::LagBias,
    };
    let mut bundle = weights_only(Shape { channels: 8, units: 8, dims: 2, architecture }, 3);
    bundle.manifest.bin_width_ms = bin_ms;
    bundle.manifest.channel_ids = session.units.iter().map(|unit| unit.id).collect();
    let pipeline = pipeline::start(&on_loopback(), &bundle, Box::new(Native::new(&bundle))).unwrap();
    let mut receiver = Receiver::open(&pipeline.output().parse().unwrap()).unwrap();
    let first = receiver.receive(SOON).unwrap();
    assert_eq!(first.frames[0], wire::TOPIC_DESCRIPTION);
    let to = format!("connect:{}", pipeline.input());
    let player = Command::new(program("ndt-replay"))
        .args(["play", path.to_str().unwrap(), "--to", &to, "--bin-ms", &bin_ms.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let player = Player(player);

    let mut estimates: Vec<Estimate> = (0..60).map(|_| next(&mut receiver)).collect();
    player.signal(libc::SIGSTOP);
    let two_seconds = (2000.0 / bin_ms) as usize;
    let is_stale = |estimate: &&Estimate| estimate.quality == Quality::Stale;
    while estimates.iter().filter(is_stale).count() < two_seconds {
        estimates.push(next(&mut receiver));
    }
    player.signal(libc::SIGCONT);
    let stopped = estimates.iter().position(|estimate| estimate.quality == Quality::Stale).unwrap();
    let back = estimates.len();
    while estimates[back..].iter().filter(|e| matches!(e.quality, Quality::Good | Quality::Warmup)).count()
        < 40
    {
        estimates.push(next(&mut receiver));
    }
    let stats = pipeline.stats();
    println!("{bin_ms} ms: {stats:?}");

    // Each period has its answer: numbers are consecutive from before the stop to after it.
    assert!(estimates.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1));
    assert!((60..100).contains(&stopped), "stale {} bins after the stop", stopped - 60);
    let during = &estimates[stopped..back];
    assert!(during.iter().all(|estimate| estimate.quality == Quality::Stale));
    let longest =
        during[STALE_AFTER_BINS..].windows(2).map(|pair| pair[1].published_ns - pair[0].published_ns);
    println!("at most {} us between two stale estimates", longest.max().unwrap_or(0) / 1_000);
    assert_eq!(during.last().unwrap().velocity(), [0.0, 0.0], "it has faded to zero");
    // What was sent meanwhile comes at once and enters the state: the next bins are as good as ever, with no lag.
    let again = estimates[back..].iter().position(|estimate| estimate.quality != Quality::Stale).unwrap();
    let good = &estimates[back + again..];
    let warmup =
        usize::from(good.iter().any(|estimate| estimate.reasons.names().any(|name| name == "segment-start")));
    let bad = good.iter().filter(|estimate| estimate.quality != Quality::Good).count();
    assert!(bad <= 4 * (1 + warmup), "{bad} of {} not good again", good.len());
    assert_eq!(good.last().unwrap().lag_bins, 0);
    assert!(stats.guard.behind > 0 && stats.overflowed == 0 && stats.guard.skipped == 0);
}

#[test]
fn at_50_hz() {
    stopped_for_two_seconds(20.0);
}

#[test]
fn at_200_hz() {
    stopped_for_two_seconds(5.0);
}
