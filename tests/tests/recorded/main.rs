//! Session logs: what `ndtd run --record` writes is whole after a kill and on a full disk, gives the same bits when it is computed again,
//! and becomes a recording.
//!
//! `NDT_KILLS=50 cargo test --workspace --test recorded` kills the daemon more often than a usual run.

mod disk;
mod killed;
mod world;

use ndt_daemon::pipeline::repeat::{Repeated, repeat};
use ndt_protocol::session_log::{Kind, file_name, frame};
use ndt_protocol::wire;
use ndt_protocol::{Bundle, Estimate, Quality};
use ndt_replay::nwb;
use ndt_replay::play::faults::{FaultPlan, Faults};
use ndt_replay::play::{Channels, Plan, Speed};
use ndt_replay::session_log::bins;
use ndt_replay::transport;
use ndt_tests::{free_address, program, python, workspace};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use world::{SOON, World, bits, heard, json, logged, said, send_until};

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
