//! Session logs: what `ndtd run --record` writes is whole after a kill and on a full disk, gives the same bits when it is computed again,
//! and becomes a recording.
//!
//! `NDT_KILLS=50 cargo test --workspace --test recorded` kills the daemon more often than a usual run.

use ndt_daemon::config::Config;
use ndt_daemon::pipeline::counters::Counters;
use ndt_daemon::pipeline::recorder;
use ndt_daemon::pipeline::repeat::{Repeated, repeat};
use ndt_protocol::session_log::{Frame, Kind, Reader, file_name, frame};
use ndt_protocol::wire::{self, BinStamp, Description};
use ndt_protocol::{Bin, Bundle, CountRange, Estimate, Quality};
use ndt_replay::nwb;
use ndt_replay::play::faults::{FaultPlan, Faults};
use ndt_replay::play::{Channels, Plan, Speed};
use ndt_replay::session::Session;
use ndt_replay::session_log::bins;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_replay::transport;
use ndt_replay::transport::zeromq::{Receiver, Sender};
use ndt_tests::{SMALL, Shape, free_address, linear, manifest, program, python, random_weights, workspace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

/// A folder with a recording, a model of its channels, a fallback decoder, and a configuration.
struct World {
    folder: tempfile::TempDir,
    session: Session,
}

impl World {
    fn new(config: &str) -> World {
        let folder = tempfile::tempdir().unwrap();
        let session = simulate(&Recipe { trials: 16, units: 24, heldout: 6, seed: 2 });
        let channels: Vec<i64> =
            session.units.iter().filter(|unit| !unit.heldout).map(|unit| unit.id).collect();
        let units: Vec<i64> = session.units.iter().map(|unit| unit.id).collect();
        let shape = Shape { channels: channels.len(), units: units.len(), dims: 2, architecture: SMALL };
        let mut of_model = manifest(shape);
        (of_model.channel_ids, of_model.unit_ids) = (channels.clone(), units);
        let weights = random_weights(&of_model, 7);
        let model = ndt_trainer::export::from_weights(of_model, weights, &vec![0.8; channels.len()]).unwrap();
        model.write(&folder.path().join("model")).unwrap();
        let mut fallback = linear(channels.len(), 2, 6, 3);
        fallback.manifest.channel_ids = channels;
        fallback.write(&folder.path().join("linear")).unwrap();
        std::fs::write(folder.path().join("ndtd.toml"), config).unwrap();
        World { folder, session }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Ids of the channels that the model sees.
    fn channel_ids(&self) -> Vec<i64> {
        self.session.units.iter().filter(|unit| !unit.heldout).map(|unit| unit.id).collect()
    }

    /// The one log in the folder `sessions`.
    fn log(&self) -> PathBuf {
        Reader::open(&self.path("sessions")).unwrap().folder().to_owned()
    }

    fn daemon(&self) -> Daemon {
        let (input, output) = (free_address(), free_address());
        let mut command = Command::new(program("ndtd"));
        command.args(["run", "--config", &self.text("ndtd.toml"), "--bundle", &self.text("model")]);
        command.args(["--fallback-bundle", &self.text("linear"), "--record", &self.text("sessions")]);
        command.args(["--input", &format!("bind:{input}"), "--output", &output]).stdin(Stdio::null());
        let process = command.spawn().unwrap();
        Daemon { process, input, output }
    }

    fn replay(&self, arguments: &[&str]) -> Output {
        Command::new(program("ndt-replay")).args(arguments).current_dir(self.folder.path()).output().unwrap()
    }
}

/// A daemon that records.
struct Daemon {
    process: Child,
    input: String,
    output: String,
}

impl Daemon {
    /// A listener that hears the daemon.
    fn listener(&self) -> Receiver {
        let mut receiver = Receiver::open(&self.output.parse().unwrap()).unwrap();
        receiver.receive(SOON).expect("a description within a minute");
        receiver
    }

    fn rig(&self) -> Sender {
        let mut sender = Sender::open(&format!("connect:{}", self.input).parse().unwrap()).unwrap();
        sender.wait_for_subscriber(SOON).unwrap();
        sender
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a signal to a process that this test has started and not waited for.
        assert_eq!(unsafe { libc::kill(self.process.id() as libc::pid_t, signal) }, 0);
    }

    fn end(mut self) {
        self.signal(libc::SIGTERM);
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Daemon {
    /// Asks it to end, because a shell that is killed leaves its daemon behind.
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            self.signal(libc::SIGTERM);
            drop(self.process.wait());
        }
    }
}

/// The next estimate that a listener hears within `patience`.
fn heard(receiver: &mut Receiver, patience: Duration) -> Option<Estimate> {
    let until = Instant::now() + patience;
    loop {
        let message = receiver.receive(until.checked_duration_since(Instant::now())?)?;
        let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
        if frames[0] == wire::TOPIC_ESTIMATE {
            return Some(wire::read_estimate(&frames).unwrap());
        }
    }
}

fn logged(path: &Path) -> (Vec<Estimate>, Reader) {
    let mut reader = Reader::open(path).unwrap();
    let mut estimates = Vec::new();
    while let Some(Frame::Estimate(estimate)) = reader.next_of(&[Kind::Estimate]).unwrap() {
        estimates.push(*estimate);
    }
    (estimates, reader)
}

fn bits(estimate: &Estimate) -> (Vec<u8>, Vec<u32>) {
    let values = estimate.rates().iter().chain(estimate.outputs());
    (wire::estimate_header(estimate).to_vec(), values.map(|value| value.to_bits()).collect())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Records a play with faults of every kind, and returns what was heard of it.
fn record_faults(world: &World) -> Vec<Estimate> {
    let daemon = world.daemon();
    let mut plan = Plan::new(&world.session, None, 20.0, Channels::HeldIn).unwrap();
    plan.truncate(500);
    let faults: Faults =
        "drop=2%,dup=1%,reorder=2,jitter=8ms,burst=12,nan=1%,stall=400ms@3s,clock=+3s@5s,restart@7s"
            .parse()
            .unwrap();
    let drawn = FaultPlan::new(&plan, &faults, 5);
    let mut listener = daemon.listener();
    let mut estimates = Vec::new();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let rig = format!("connect:{}", daemon.input).parse().unwrap();
            transport::zeromq::play(&plan, Some(&drawn), &rig, Speed::Times(1.0), SOON, &mut |_| {}).unwrap();
            is_over.store(true, Relaxed);
        });
        while !is_over.load(Relaxed) {
            estimates.extend(heard(&mut listener, Duration::from_millis(200)));
        }
    });
    // Those that were still on their way.
    daemon.signal(libc::SIGTERM);
    while let Some(estimate) = heard(&mut listener, Duration::from_millis(500)) {
        estimates.push(estimate);
    }
    let mut daemon = daemon;
    assert!(daemon.process.wait().unwrap().success());
    estimates
}

/// Flips the lowest bit of the first rate of a logged estimate, with a checksum that fits, and returns the estimate's number.
fn flip(path: &Path, nth: usize) -> u64 {
    let mut bytes = std::fs::read(path).unwrap();
    let (mut at, mut seen) = (8, 0);
    loop {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let end = at + frame::HEAD_BYTES + length;
        if bytes[at + 4] == Kind::Estimate as u8 {
            seen += 1;
        }
        if seen == nth {
            let payload = at + frame::HEAD_BYTES;
            bytes[payload + wire::ESTIMATE_HEADER_BYTES] ^= 1;
            let sum = frame::checksum(&bytes[at..end]).to_le_bytes();
            bytes[end..end + 4].copy_from_slice(&sum);
            let seq = u64::from_le_bytes(bytes[payload + 8..payload + 16].try_into().unwrap());
            std::fs::write(path, bytes).unwrap();
            return seq;
        }
        at = end + frame::CHECKSUM_BYTES;
    }
}

#[test]
fn a_session_with_faults_is_repeated_to_the_bit_and_becomes_a_recording() {
    let world = World::new("record-file-mb = 1\nstale-after-bins = 4\nspeed-max-m-per-s = 0.5\n");
    let heard = record_faults(&world);
    let log = world.log();
    let (estimates, reader) = logged(&log);
    assert_eq!(reader.tail(), None);
    // What was published is in the log; a listener may have come later.
    let from = estimates.iter().position(|estimate| bits(estimate) == bits(&heard[0])).unwrap();
    let pairs = estimates[from..].iter().zip(&heard);
    assert!(pairs.clone().all(|(logged, heard)| bits(logged) == bits(heard)) && pairs.len() > 400);
    let has = |quality: Quality| estimates.iter().any(|estimate| estimate.quality == quality);
    assert!([Quality::Good, Quality::Warmup, Quality::Gap, Quality::Stale].into_iter().all(has));

    let repeated: Repeated = repeat(&log, None, &mut |_, _| {}).unwrap();
    println!("{repeated}");
    assert_eq!(repeated.first_difference, None);
    assert_eq!(
        (repeated.estimates, repeated.ended.as_str()),
        (estimates.len() as u64, "with the end of the session")
    );
    let verified = world.replay(&["verify", log.to_str().unwrap(), "--json"]);
    assert_eq!(json(&verified)["estimates"], estimates.len());

    check_report(&world, &log, &estimates);
    check_export(&world, &log, estimates.len());
    let plan = bins::plan(&log).unwrap();
    assert_eq!((plan.bin_width_ns(), plan.channel_ids().len()), (20_000_000, 18));
    assert!(plan.bins() > 400 && plan.segments() >= 2);

    let seq = flip(&log.join(file_name(0)), 100);
    let verified = world.replay(&["verify", log.to_str().unwrap()]);
    let expected = format!("different from bin {seq} of stream {} on: rates[0] was ", estimates[99].stream);
    assert_eq!(verified.status.code(), Some(1));
    assert!(said(&verified).contains(&expected), "{}", said(&verified));
}

fn check_report(world: &World, log: &Path, estimates: &[Estimate]) {
    let printed = world.replay(&["report", log.to_str().unwrap()]);
    println!("{}", said(&printed));
    assert!(printed.status.success());
    let report = json(&world.replay(&["report", log.to_str().unwrap(), "--json"]));
    assert_eq!(report["estimates"]["estimates"], estimates.len());
    assert_eq!((&report["ended"], &report["missing-frames"]), (&"after an orderly stop".into(), &0.into()));
    let restarted = |event: &Value| event[1].as_str().unwrap().contains("the source was restarted");
    assert!(report["events"].as_array().unwrap().iter().any(restarted), "{report}");
    let rows = report["over-time"].as_array().unwrap().iter();
    let counted: u64 = rows
        .flat_map(|row| row["qualities"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()))
        .sum();
    assert_eq!(counted, estimates.len() as u64);
}

/// Exports the log, and has other programs read the file.
fn check_export(world: &World, log: &Path, estimates: usize) {
    let exported = json(&world.replay(&["export", log.to_str().unwrap(), "--out", "out.nwb", "--json"]));
    assert_eq!(exported["estimates"], estimates);
    let session = nwb::read(&world.path("out.nwb")).unwrap();
    let ids: Vec<i64> = session.units.iter().map(|unit| unit.id).collect();
    assert_eq!((ids, session.source.bin_width_s), (world.channel_ids(), Some(0.02)));
    assert!(session.behavior.iter().any(|series| series.name == "hand_vel" && series.unit == "m/s"));
    // Every bin that has a count in each channel is observed.
    let observed: f64 = session.observed.iter().map(|interval| interval.stop - interval.start).sum();
    let whole = exported["bins"].as_u64().unwrap() - exported["bins-with-nan"].as_u64().unwrap();
    assert!((observed - 0.02 * whole as f64).abs() < 0.021, "{observed} s for {whole} bins");
    let inspected = json(&world.replay(&["inspect", "out.nwb", "--json"]));
    println!("{inspected:#}");
    let script = workspace().join("tests/python/check_recorded.py");
    let output = Command::new(python()).arg(script).arg(world.path("out.nwb")).output().unwrap();
    let found = json(&output);
    assert_eq!(found["problems"], serde_json::json!([]));
    assert_eq!((&found["bins"], &found["counts"]), (&exported["estimates"], &exported["bins"]));
    assert_eq!(
        found["units"],
        serde_json::json!({"rates": "spikes/s", "hand_vel": "m/s", "binned_spikes": "count"})
    );
    assert_eq!(found["provenance"]["session"], exported["session"]);
}

/// A rig that sends bins until it is told to stop.
fn send_until(daemon: &Daemon, channel_ids: &[i64], is_over: &AtomicBool) {
    let mut rig = daemon.rig();
    let bin_width_us = 20_000;
    rig.describe(1, &Description::Bins { bin_width_us, channel_ids: channel_ids.to_vec() });
    let start = Instant::now();
    let mut seq = 0u32;
    while !is_over.load(Relaxed) {
        std::thread::sleep(
            (start + Duration::from_millis(20) * seq).saturating_duration_since(Instant::now()),
        );
        let stamp = BinStamp {
            seq: seq.into(),
            stream: 1,
            source_ns: 20_000_000 * i64::from(seq),
            bin_width_us,
            ..BinStamp::default()
        };
        // A daemon that was killed takes nothing.
        rig.offer(&stamp, &vec![1.0; channel_ids.len()]);
        seq += 1;
    }
}

#[test]
fn a_daemon_that_is_killed_leaves_a_log_that_lacks_its_last_instants_at_most() {
    let kills: u32 = std::env::var("NDT_KILLS").map_or(3, |kills| kills.parse().unwrap());
    let seed = std::env::var("NDT_SEED").map_or(11, |seed| seed.parse().unwrap());
    println!("NDT_KILLS={kills} NDT_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut most_ms = 0.0f64;
    for kill in 0..kills {
        let world = World::new("");
        let mut daemon = world.daemon();
        let mut listener = daemon.listener();
        let wait = Duration::from_micros(random.random_range(50_000..2_000_000));
        let (is_over, held_up_ms) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut last = None;
        std::thread::scope(|scope| {
            scope.spawn(|| send_until(&daemon, &world.channel_ids(), &is_over));
            // How long this machine keeps a thread that sleeps as the recorder does from running.
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    let before = Instant::now();
                    std::thread::sleep(Duration::from_millis(20));
                    held_up_ms.fetch_max(before.elapsed().as_millis() as u64 - 20, Relaxed);
                }
            });
            last = heard(&mut listener, SOON).map(|first| first.published_ns);
            let until = Instant::now() + wait;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                last = heard(&mut listener, left).map(|estimate| estimate.published_ns).or(last);
            }
            daemon.signal(libc::SIGKILL);
            while let Some(estimate) = heard(&mut listener, Duration::from_millis(300)) {
                last = Some(estimate.published_ns);
            }
            is_over.store(true, Relaxed);
        });
        daemon.process.wait().unwrap();
        let log = world.log();
        let (estimates, reader) = logged(&log);
        assert!(estimates.is_sorted_by_key(|estimate| estimate.seq), "kill {kill}");
        let newest_ns =
            estimates.last().map_or(reader.header().started_monotonic_ns, |last| last.published_ns);
        let lost_ms = last.unwrap().saturating_sub(newest_ns) as f64 * 1e-6;
        most_ms = most_ms.max(lost_ms);
        let left_out = reader.tail().map_or(0, |tail| tail.bytes);
        let held_up_ms = held_up_ms.load(Relaxed);
        println!(
            "kill {kill} after {wait:?}: {} estimates, the last {lost_ms:.1} ms lost, {left_out} bytes left out, a thread held up \
             {held_up_ms} ms",
            estimates.len()
        );
        assert!(lost_ms <= 100.0 + held_up_ms as f64);
        let repeated = repeat(&log, None, &mut |_, _| {}).unwrap();
        assert!(repeated.equal && repeated.estimates == estimates.len() as u64, "{repeated}");
    }
    println!("{kills} kills: at most the last {most_ms:.1} ms lost");
}

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

#[test]
fn a_folder_that_cannot_be_written_to_is_one_sentence_at_the_start_and_nothing_is_replaced() {
    let world = World::new("");
    std::fs::write(world.path("sessions"), b"a file of the user").unwrap();
    let mut command = Command::new(program("ndtd"));
    command.args(["run", "--bundle", &world.text("model"), "--record", &world.text("sessions")]);
    command.args(["--input", &free_address(), "--output", &free_address()]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("expected to begin a session log in"), "{}", said(&output));
    assert_eq!(std::fs::read(world.path("sessions")).unwrap(), b"a file of the user");
}

/// The bundle is found by its id and not by its place alone.
#[test]
fn another_bundle_at_the_place_is_refused() {
    let world = World::new("");
    let daemon = world.daemon();
    let mut listener = daemon.listener();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| send_until(&daemon, &world.channel_ids(), &is_over));
        heard(&mut listener, SOON).unwrap();
        is_over.store(true, Relaxed);
    });
    daemon.end();
    std::fs::rename(world.path("model"), world.path("moved")).unwrap();
    let log = world.log();
    assert!(repeat(&log, Some(&world.path("moved")), &mut |_, _| {}).unwrap().equal);
    let refused = |bundle: Option<&Path>| repeat(&log, bundle, &mut |_, _| {}).unwrap_err().to_string();
    assert!(refused(None).contains("model"), "{}", refused(None));
    let other = World::new("");
    let mut model = Bundle::read(&other.path("model")).unwrap();
    model.manifest.warmup_bins += 1;
    model.write(&other.path("another")).unwrap();
    let found = refused(Some(&other.path("another")));
    assert!(found.contains("expected the bundle ") && found.contains("--bundle names the place"), "{found}");
}
