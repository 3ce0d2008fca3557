//! Disks that do not take all: a small one that fills up, and one that does not keep up.

use crate::world::{Daemon, SOON, World, heard, send_until};
use ndt_daemon::config::Config;
use ndt_daemon::pipeline::counters::Counters;
use ndt_daemon::pipeline::recorder;
use ndt_protocol::session_log::{Frame, Kind, Reader};
use ndt_protocol::{Bin, Bundle, CountRange};
use ndt_tests::{free_address, program};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[test]
fn what_finds_no_room_is_counted_and_the_log_says_where_it_is_missing() {
    const PUSHED: u64 = 200_000;
    let world = World::new("");
    let bundle = Bundle::read(&world.path("model")).unwrap();
    let config = Config { record: Some(world.path("sessions")), record_reserve_mb: 0, ..Config::default() };
    let counters = Arc::new(Counters::default());
    let (recorder, [mut decode, publish]) =
        recorder::start(&config, &bundle, "an engine", &counters).unwrap();
    let mut bin = Bin::empty();
    bin.fill((0..18).map(|_| 1.0), CountRange::new(50, 20.0));
    for seq in 0..PUSHED {
        bin.seq = seq;
        decode.bin(&bin, 0, seq);
    }
    drop((decode, publish));
    recorder.unwrap().finish();
    let mut reader = Reader::open(&world.path("sessions")).unwrap();
    let (mut bins, mut next) = (0, 0);
    while let Some(frame) = reader.next_of(&[Kind::Bin, Kind::Dropped]).unwrap() {
        match frame {
            Frame::Dropped(_, frames) => next += frames,
            Frame::Bin(taken) => {
                assert_eq!(taken.bin.seq, next, "the number of missing frames is wrong");
                (bins, next) = (bins + 1, next + 1);
            }
            _ => {}
        }
    }
    let unrecorded = counters.stats().unrecorded;
    println!("{bins} bins recorded of {PUSHED} that nothing paced, {unrecorded} counted as missing");
    assert_eq!((reader.tail(), bins + unrecorded), (None, PUSHED));
    assert!(unrecorded > 0 && bins > 500);
}

/// Whether this user may mount a small file system in a name space of his own; says that the test is skipped otherwise.
fn can_mount() -> bool {
    let tried = in_own_mounts("mount -t tmpfs tmpfs /mnt").output();
    let can = tried.as_ref().is_ok_and(|output| output.status.success());
    if !can {
        println!("skipped: mounting a small file system takes unshare and user namespaces: {tried:?}");
    }
    can
}

fn in_own_mounts(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command
}

/// Records on a disk of 20 MB that fills up, and returns what `ndt-replay verify` says of the log, and how it ends.
fn record_on_a_full_disk(reserve_mb: u64) -> (Value, String) {
    let world = World::new(&format!(
        "record-reserve-mb = {reserve_mb}\ndeadline-ms = 1000.0\nstale-after-bins = 50\n"
    ));
    std::fs::create_dir(world.path("disk")).unwrap();
    let (input, output) = (free_address(), free_address());
    // All but 300 KB more than the reserve is taken before the session begins.
    let filled_kb = (20 - reserve_mb) * 1024 - 300;
    let script =
        "mount -t tmpfs -o size=20m tmpfs disk && head -c \"$FILLED\"k /dev/zero > disk/filler || exit 99
        \"$@\" --record disk/sessions & child=$!
        trap 'kill -TERM $child' TERM
        wait $child; wait $child
        \"$REPLAY\" verify disk/sessions --json; \"$REPLAY\" report disk/sessions --json";
    let mut command = in_own_mounts(script);
    command.env("FILLED", filled_kb.to_string()).env("REPLAY", program("ndt-replay"));
    command.arg(program("ndtd")).args(["run", "--config", "ndtd.toml", "--bundle", "model"]);
    command.args(["--input", &format!("bind:{input}"), "--output", &output]);
    command.current_dir(world.folder.path()).stdout(Stdio::piped()).stdin(Stdio::null());
    let process = command.spawn().unwrap();
    let mut daemon = Daemon { process, input, output };
    let mut listener = daemon.listener();
    let is_over = AtomicBool::new(false);
    let mut numbers = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| send_until(&daemon, &world.channel_ids(), &is_over));
        // 300 KB are written in a few seconds: twice as many estimates are heard as find room.
        while numbers.len() < 700 {
            let estimate = heard(&mut listener, SOON).expect("the stream goes on");
            numbers.push(estimate.seq);
        }
        is_over.store(true, Relaxed);
    });
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "the stream is moved: {numbers:?}");
    daemon.signal(libc::SIGTERM);
    let printed = std::io::read_to_string(daemon.process.stdout.take().unwrap()).unwrap();
    let mut values = serde_json::Deserializer::from_str(&printed).into_iter::<Value>();
    let verified = values.next().unwrap().unwrap();
    let report = values.next().unwrap().unwrap();
    assert_eq!(report["left-out-bytes"], 0, "{report}");
    (verified, report["ended"].as_str().unwrap().to_owned())
}

#[test]
fn a_disk_that_fills_up_ends_the_log_with_a_whole_frame_and_moves_nothing_else() {
    if !can_mount() {
        return;
    }
    for reserve_mb in [0, 2] {
        let (verified, ended) = record_on_a_full_disk(reserve_mb);
        println!("with a reserve of {reserve_mb} MB, the log ends {ended}; {verified}");
        assert_eq!(verified["equal"], true);
        let estimates = verified["estimates"].as_u64().unwrap();
        assert!((50..700).contains(&estimates), "{estimates}");
        if reserve_mb > 0 {
            assert!(
                ended.contains("expected more than 2 MB of free disk (record-reserve-mb), found "),
                "{ended}"
            );
        }
    }
}
