//! A running daemon takes orders over its control socket: the commands of `ndtd`, at 200 bins a second, beside peers that mean it
//! ill.

mod bench;

use bench::{Bench, SOON, counts, model};
use ndt_daemon::decoder::Decoder;
use ndt_daemon::engine::native::Native;
use ndt_daemon::input::deadline::TimeLimits;
use ndt_protocol::clock::monotonic_ns;
use ndt_protocol::{Bin, Bundle, CountRange, Estimate, Quality, Reasons};
use ndt_tests::lsl::{Session, usual_ids};
use ndt_tests::{program, workspace};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

fn from_bin(answer: &Value) -> u64 {
    answer["from-bin"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

fn is_inhibited(estimate: &Estimate) -> bool {
    let is_zero = estimate.outputs().iter().all(|value| *value == 0.0);
    let is_flagged = estimate.reasons.contains(Reasons::INHIBITED) && estimate.quality == Quality::Stale;
    assert_eq!(is_zero, is_flagged, "{estimate:?}");
    is_zero
}

#[test]
fn a_paused_daemon_publishes_zeros_from_the_bin_that_it_names_until_it_is_resumed() {
    let mut bench = Bench::new(&model(1, 2), "");
    bench.more(50);
    let asked_ns = monotonic_ns();
    let paused = from_bin(&bench.order(&["pause"]));
    let answered_ns = monotonic_ns();
    bench.more(50);
    assert_eq!(bench.order(&["status"])["paused"], true);
    let resumed = from_bin(&bench.order(&["resume"]));
    bench.until(resumed + 50);
    bench.expect_whole();
    for estimate in &bench.heard {
        let expected = (paused..resumed).contains(&estimate.seq);
        assert_eq!(is_inhibited(estimate), expected, "{paused} to {resumed}: {estimate:?}");
        if estimate.published_ns > answered_ns && estimate.seq < resumed {
            assert!(is_inhibited(estimate), "published after the answer: {estimate:?}");
        }
    }
    let before = bench.heard.iter().filter(|e| (asked_ns..answered_ns).contains(&e.published_ns));
    println!(
        "{} estimates from the start of the command to its end, paused from {paused} on",
        before.count()
    );
    assert!(bench.heard.last().unwrap().quality == Quality::Good, "the model went on meanwhile");
    bench.order(&["stop"]);
    assert!(bench.daemon.end(), "{:#?}", bench.daemon.heard());
    assert!(!bench.socket().exists());
}

#[test]
fn a_daemon_can_start_paused_and_masks_and_resets_hold_from_the_bin_that_is_named() {
    let mut bench = Bench::new(&model(1, 2), "start-paused = true");
    bench.more(20);
    assert!(bench.heard.iter().all(is_inhibited));
    bench.order(&["resume"]);
    assert_eq!(bench.refusal(&["mask", "1"]), "expected channels of the bundle, found channel 1");
    let all: Vec<String> = usual_ids().iter().map(i64::to_string).collect();
    let all: Vec<&str> = ["mask"].into_iter().chain(all.iter().map(String::as_str)).collect();
    assert_eq!(bench.refusal(&all), "expected a channel that is not masked, found none");
    // More than half of the channels: every estimate is a fault, until some are used again.
    let masked = bench.order(&all[..9]);
    assert_eq!(
        (masked["too-few-channels"].as_bool(), masked["masked"].as_array().unwrap().len()),
        (Some(true), 8)
    );
    let unmasked = bench.order(&["unmask", "--all"]);
    let reset = bench.order(&["reset"]);
    bench.until(from_bin(&reset) + 20);
    let [masked, unmasked, reset] = [masked, unmasked, reset].map(|answer| from_bin(&answer));
    bench.expect_whole();
    for estimate in bench.heard.iter().filter(|estimate| !estimate.reasons.contains(Reasons::INHIBITED)) {
        let is_fault = estimate.quality == Quality::Fault;
        assert_eq!(
            is_fault,
            (masked..unmasked).contains(&estimate.seq),
            "{masked} to {unmasked}: {estimate:?}"
        );
        let is_warmup = estimate.quality == Quality::Warmup;
        assert_eq!(is_warmup, (reset..reset + 4).contains(&estimate.seq), "{reset}: {estimate:?}");
    }
}

#[test]
fn a_swap_costs_no_bin_and_the_new_model_has_its_history_and_the_old_one_comes_back() {
    let [first, second] = [1, 2].map(|seed| model(seed, 2));
    let mut bench = Bench::new(&first, "precision = \"f32\"");
    let path = bench.written("day2.ndt", &second);
    bench.more(50);
    let swapped = bench.order(&["swap", &path, "--shadow-s", "0.5"]);
    let status = bench.order(&["status"]);
    assert_eq!(status["bundle"]["id"], second.manifest.id.as_str());
    assert_eq!(status["beside"]["role"], "replaced");
    let compared = &swapped["comparison"];
    assert!(
        compared["bins"].as_u64().unwrap() > 50 && compared["rms-difference"].as_f64().unwrap() > 0.0,
        "{swapped}"
    );
    assert!(
        compared["bits-per-spike-gained"].is_number() && compared["shadow"]["p50-us"].as_f64() > Some(0.0)
    );
    println!("{compared}");
    let swapped = from_bin(&swapped);
    bench.until(swapped + 50);
    while bench.described != second.manifest.id {
        bench.hear(SOON).expect("a description of the new bundle within a minute");
    }
    let back = from_bin(&bench.order(&["rollback"]));
    bench.until(back + 20);
    while bench.described != first.manifest.id {
        bench.hear(SOON).expect("a description of the first bundle within a minute");
    }
    bench.expect_whole();
    let says = |bundle: &Bundle| {
        let mut decoder = Decoder::new(bundle, Box::new(Native::new(bundle)), &[], TimeLimits::NONE);
        let mut said = Vec::new();
        for seq in 0..=back + 20 {
            let mut bin = Bin::empty();
            bin.fill(counts(seq).into_iter(), CountRange::new(50, 5.0));
            (bin.seq, bin.stream) = (seq, 7);
            decoder.decode(&bin, 0, 0, &mut |estimate| said.push(estimate.clone()));
        }
        said
    };
    let [by_first, by_second] = [&first, &second].map(says);
    // The daemon may have joined after the first bins, so that a start is nobody's history.
    for estimate in bench.heard.iter().filter(|estimate| estimate.seq > 40 && estimate.seq <= back + 20) {
        let is_second = (swapped..back).contains(&estimate.seq);
        let (bundle, said) = if is_second { (&second, &by_second) } else { (&first, &by_first) };
        assert_eq!(estimate.bundle, bundle.id(), "{estimate:?}");
        let expected = &said[estimate.seq as usize];
        for (found, expected) in estimate
            .outputs()
            .iter()
            .chain(estimate.rates())
            .zip(expected.outputs().iter().chain(expected.rates()))
        {
            assert!(
                (found - expected).abs() <= 1e-4 * expected.abs().max(1.0),
                "{estimate:?}: {found} {expected}"
            );
        }
        let is_first = estimate.seq == swapped || estimate.seq == back;
        assert_eq!(estimate.reasons.contains(Reasons::SWAPPED), is_first, "{estimate:?}");
        assert_eq!(estimate.quality, Quality::Good, "{estimate:?}");
    }
}

#[test]
fn a_recorded_session_with_every_order_is_computed_again_to_the_bit() {
    let sessions = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(&model(1, 2), &format!("record = {:?}", sessions.path()));
    let path = bench.written("day2.ndt", &model(2, 2));
    bench.more(50);
    let channel = usual_ids()[3].to_string();
    bench.order(&["mask", &channel]);
    bench.order(&["swap", &path, "--shadow-s", "0.2"]);
    bench.order(&["pause"]);
    bench.order(&["unmask", "--all"]);
    bench.more(20);
    bench.order(&["resume"]);
    bench.order(&["rollback"]);
    bench.order(&["reset"]);
    bench.order(&["swap", &path, "--shadow-s", "0"]);
    bench.more(50);
    bench.order(&["stop"]);
    assert!(bench.daemon.end(), "{:#?}", bench.daemon.heard());
    let mut verify = bench.session.command(program("ndt-replay"));
    let verified = verify.arg("verify").arg(sessions.path()).arg("--json").output().unwrap();
    let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
    println!("{report}");
    assert!(verified.status.success() && report["equal"] == true, "{report}");
    // Every one of them, so that no order has ended the comparison.
    assert_eq!(report["ended"], "with the end of the session");
    assert!(report["estimates"].as_u64().unwrap() >= bench.heard.len() as u64, "{report}");
}

#[test]
fn a_bundle_that_cannot_take_over_changes_nothing() {
    let first = model(1, 2);
    let mut bench = Bench::new(&first, "");
    bench.more(20);
    let folder = bench.session.folder().to_owned();
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let refused = bench.refusal(&["swap", &at("none"), "--shadow-s", "0"]);
    assert!(refused.starts_with("bundle ") && refused.contains("none"), "{refused}");
    let mut bytes = std::fs::read(at("model.ndt")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(at("broken.ndt"), &bytes).unwrap();
    bench.refusal(&["swap", &at("broken.ndt"), "--shadow-s", "0"]);
    bytes.truncate(middle);
    std::fs::write(at("half.ndt"), &bytes).unwrap();
    bench.refusal(&["swap", &at("half.ndt"), "--shadow-s", "0"]);
    let other = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = model(2, 2);
        change(&mut bundle);
        bundle
    };
    for (name, bundle, expected) in [
        ("outputs.ndt", model(2, 3), "expected the published readout as of the running bundle, 2 components"),
        (
            "bins.ndt",
            other(&|bundle| bundle.manifest.bin_width_ms = 10.0),
            "expected bins as of the running bundle, 5 ms, found 10 ms",
        ),
        (
            "channels.ndt",
            other(&|bundle| bundle.manifest.channel_ids.reverse()),
            "expected channel ids in the order as of",
        ),
        (
            "units.ndt",
            other(&|bundle| bundle.manifest.unit_ids.reverse()),
            "expected unit ids in the order as of",
        ),
    ] {
        let path = bench.written(name, &bundle);
        let refused = bench.refusal(&["swap", &path, "--shadow-s", "0"]);
        assert!(refused.contains(expected), "{refused}");
    }
    assert_eq!(bench.refusal(&["rollback"]), "expected a model that was replaced, found none");
    // A candidate that is still in shadow is given up.
    let path = bench.written("day2.ndt", &model(2, 2));
    let mut swaps = ask(&bench.socket());
    swaps.get_mut().write_all(format!("swap shadow-s=3000 {path}\n").as_bytes()).unwrap();
    while bench.order(&["status"])["beside"]["role"] != "candidate" {}
    assert!(bench.refusal(&["swap", &path]).contains("found one"));
    assert_eq!(bench.order(&["rollback"])["given-up"], true);
    let mut line = String::new();
    swaps.read_line(&mut line).unwrap();
    assert!(line.contains("`rollback` has given it up"), "{line}");
    assert!(bench.order(&["status"])["beside"].is_null());
    bench.more(20);
    bench.expect_whole();
    assert!(bench.heard.iter().all(|estimate| estimate.bundle == first.id()));
}

/// Connects to a daemon, and reads its greeting.
fn ask(socket: &Path) -> BufReader<UnixStream> {
    let mut peer = BufReader::new(UnixStream::connect(socket).unwrap());
    peer.get_ref().set_read_timeout(Some(SOON)).unwrap();
    let mut line = String::new();
    peer.read_line(&mut line).unwrap();
    assert!(line.contains("\"protocol\":1"), "{line}");
    peer
}

#[test]
fn the_transcript_of_the_page_is_what_a_daemon_says() {
    let page = std::fs::read_to_string(workspace().join("daemon/docs/control.md")).unwrap();
    let transcript = page.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let mut bench = Bench::new(&model(1, 2), "");
    bench.more(5);
    let mut peer = BufReader::new(UnixStream::connect(bench.socket()).unwrap());
    let keys = |answer: &Value| answer.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let mut answers = 0;
    for line in transcript.lines() {
        match line.split_once(' ').unwrap() {
            (">", request) if request.starts_with('(') => {}
            (">", request) => peer.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap(),
            (_, expected) => {
                let mut found = String::new();
                peer.read_line(&mut found).unwrap();
                let [found, expected] =
                    [found.as_str(), expected].map(|line| serde_json::from_str::<Value>(line).unwrap());
                assert_eq!(keys(&found), keys(&expected), "{found} {expected}");
                assert_eq!(
                    (&found["error"], &found["protocol"]),
                    (&expected["error"], &expected["protocol"])
                );
                answers += 1;
            }
        }
    }
    assert_eq!(answers, 4);
}

#[test]
fn peers_that_flood_leave_or_send_nonsense_cost_nothing() {
    let mut bench = Bench::new(&model(1, 2), "");
    bench.more(20);
    let socket = bench.socket();
    for nonsense in [&b"\n"[..], b"jump\n", b"mask \xff\n", b"pause pause\n", b"swap \0\n"] {
        let mut peer = ask(&socket);
        peer.get_mut().write_all(nonsense).unwrap();
        let mut line = String::new();
        peer.read_line(&mut line).unwrap();
        assert!(line.starts_with("{\"error\":\"expected "), "{line}");
    }
    // A line without an end.
    let mut peer = ask(&socket);
    let sent = peer.get_mut().write_all(&vec![b'7'; 1 << 20]);
    let mut text = String::new();
    let read = peer.read_to_string(&mut text);
    assert!(sent.is_err() || read.is_err() || text.contains("expected a line of at most"), "{text}");
    // More peers than are let in, none of which reads or writes.
    let idle: Vec<UnixStream> = (0..40).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let mut refused = 0;
    for peer in &idle {
        peer.set_read_timeout(Some(SOON)).unwrap();
        let mut line = String::new();
        BufReader::new(peer).read_line(&mut line).unwrap();
        refused += usize::from(line.contains("expected at most 16 peers"));
    }
    assert!(refused >= 40 - 16, "{refused}");
    drop(idle);
    // Orders without a pause, whose answers nobody reads.
    let mut flood = loop {
        let mut peer = BufReader::new(UnixStream::connect(&socket).unwrap());
        let mut line = String::new();
        peer.read_line(&mut line).unwrap();
        if line.contains("protocol") {
            break peer;
        }
    };
    flood.get_ref().set_nonblocking(true).unwrap();
    for _ in 0..1_000 {
        let _ = flood.get_mut().write(b"pause\nresume\nreset\nstatus\n");
    }
    bench.more(200);
    drop(flood);
    assert!(bench.order(&["status"])["unhealthy"].is_null());
    bench.expect_whole();
}

#[test]
fn without_a_daemon_every_command_says_so() {
    let session = Session::new();
    let socket = session.folder().join("control.sock");
    for words in
        [&["status"][..], &["status", "--watch"], &["pause"], &["mask", "3"], &["swap", "model"], &["stop"]]
    {
        let mut command = session.command(program("ndtd"));
        let output = command.args(words).arg("--socket").arg(&socket).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said, format!("ndtd: expected a daemon at {}, found none\n", socket.display()));
    }
}
