//! Other people's programs at both ends of the daemon: a rig and a subscriber in pyzmq and numpy alone.

use ndt_daemon::config::Config;
use ndt_daemon::engine::native::Native;
use ndt_daemon::pipeline;
use ndt_tests::{SMALL, Shape, on_loopback, python, weights_only, workspace};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

#[test]
fn a_python_rig_gets_one_estimate_for_each_bin_whatever_else_it_sends() {
    let bundle = weights_only(Shape { channels: 12, units: 15, dims: 2, architecture: SMALL }, 3);
    let mut rig = Command::new(python())
        .arg(workspace().join("tests/python/rig.py"))
        .args(["12", "60"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(rig.stdout.take().unwrap());
    let mut address = String::new();
    said.read_line(&mut address).unwrap();
    // The rig sends as fast as it can, and not on a grid: no answer but the computed one is to be due, however busy the
    // machine is.
    let config = Config {
        input: address.trim().parse().unwrap(),
        deadline_ms: Some(5_000.0),
        stale_after_bins: 200,
        ..on_loopback()
    };
    let pipeline = pipeline::start(&config, &bundle, Box::new(Native::new(&bundle))).unwrap();
    writeln!(rig.stdin.take().unwrap(), "{}", pipeline.output()).unwrap();
    let mut heard = String::new();
    said.read_line(&mut heard).unwrap();
    assert!(rig.wait().unwrap().success());
    let stats = pipeline.stats();
    pipeline.stop();

    let heard: serde_json::Value = serde_json::from_str(&heard).unwrap();
    assert_eq!(
        heard,
        serde_json::json!({
            "estimates": 60, "in_order": true, "bad_left": 0, "invalid_channels_at": [30],
            // The rig describes its channels before bin 20.
            "undescribed_at": (0..20).collect::<Vec<_>>(), "fault_at": (0..20).collect::<Vec<_>>(),
            "still": true, "good": 40,
            "finite": true, "stamps_ascend": true,
        })
    );
    assert_eq!(
        (stats.bins, stats.published(), stats.refused, stats.overflowed),
        (60, 60, 11, 0),
        "{stats:?}"
    );
    let last = stats.last_refused.unwrap().to_string();
    assert_eq!(last, "expected 3 frames, found 1");
}
