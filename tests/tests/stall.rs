//! A player that is stopped for two seconds, as a rig's program that hangs: an estimate each period throughout.

use ndt_daemon::engine::native::Native;
use ndt_daemon::pipeline;
use ndt_protocol::{Estimate, Quality, Reasons, wire};
use ndt_replay::nwb;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_replay::transport::zeromq::Receiver;
use ndt_tests::{SMALL, Shape, on_loopback, program, weights_only};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// A process that is killed with the test.
struct Player(Child);

impl Player {
    fn signal(&self, signal: i32) {
        // SAFETY: the child has not been waited for, so that the number is its own.
        assert_eq!(unsafe { libc::kill(self.0.id() as libc::pid_t, signal) }, 0);
    }

    /// Returns once none of its threads runs any more.
    fn stop(&self) {
        self.signal(libc::SIGSTOP);
        let mut status = 0;
        // SAFETY: the child is our own, and `status` is written to while it is borrowed.
        let stopped = unsafe { libc::waitpid(self.0.id() as libc::pid_t, &mut status, libc::WUNTRACED) };
        assert!(stopped > 0 && libc::WIFSTOPPED(status), "the player has ended: status {status}");
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        self.0.wait().unwrap();
    }
}

/// The next estimate; none is due to a player that has played all.
fn next(receiver: &mut Receiver) -> Estimate {
    loop {
        let message = receiver.receive(SOON).expect("an estimate within 30 s");
        let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
        if frames[0] == wire::TOPIC_ESTIMATE {
            let estimate = wire::read_estimate(&frames).unwrap();
            return estimate;
        }
    }
}

fn stopped_for_two_seconds(bin_ms: f64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.nwb");
    let session = simulate(&Recipe { trials: 30, units: 8, heldout: 0, seed: 2 });
    nwb::write(&session, &path).unwrap();
    let mut bundle = weights_only(Shape { channels: 8, units: 8, dims: 2, architecture: SMALL }, 3);
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

    // A busy machine may be late or stale at any time: nothing below counts on its being quick.
    let is_stale = |estimate: &Estimate| estimate.quality == Quality::Stale;
    let mut estimates: Vec<Estimate> = (0..60).map(|_| next(&mut receiver)).collect();
    player.stop();
    let two_seconds = (2000.0 / bin_ms) as usize;
    let mut in_a_row = 0;
    while in_a_row < two_seconds {
        estimates.push(next(&mut receiver));
        in_a_row = if is_stale(&estimates[estimates.len() - 1]) { in_a_row + 1 } else { 0 };
    }
    let never_sent = estimates[0].seq + pipeline.stats().bins;
    player.signal(libc::SIGCONT);
    let back = estimates.len();
    let is_calm = |estimate: &Estimate| estimate.quality == Quality::Good && estimate.lag_bins == 0;
    let mut good = 0;
    while good < 40 || !is_calm(&estimates[estimates.len() - 1]) {
        estimates.push(next(&mut receiver));
        good += usize::from(estimates[estimates.len() - 1].quality == Quality::Good);
    }
    let stats = pipeline.stats();
    println!("{bin_ms} ms: {stats:?}");

    // Each period has its answer: numbers are consecutive from before the stop to after it.
    assert!(estimates.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1));
    let stopped = estimates[60..back].iter().position(|estimate| estimate.seq >= never_sent).unwrap();
    let during = &estimates[60 + stopped..back];
    assert!(during.iter().all(is_stale), "something else than stale without a source");
    let longest = during.windows(2).map(|pair| pair[1].published_ns - pair[0].published_ns).max();
    println!("at most {} us between two stale estimates", longest.unwrap_or(0) / 1_000);
    assert_eq!(during.last().unwrap().velocity(), [0.0, 0.0], "it has faded to zero");
    // A program that stands still answers no heartbeat: its connection is cut, and made again when it goes on. Until then, its bins
    // reach nobody, and those that do come late are counted and not answered again.
    assert!(estimates[60..back].iter().any(|estimate| estimate.reasons.contains(Reasons::PEER_GONE)));
    assert!(stats.overflowed == 0 && stats.guard.skipped == 0, "{stats:?}");
}

#[test]
fn at_50_hz() {
    stopped_for_two_seconds(20.0);
}

#[test]
fn at_200_hz() {
    stopped_for_two_seconds(5.0);
}
