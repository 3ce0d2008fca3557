//! Lab Streaming Layer at both ends of the daemon, with other people's programs.

use ndt_protocol::{Bundle, Estimate, Quality, Reasons, wire};
use ndt_replay::transport::zeromq::Receiver;
use ndt_tests::lsl::{Running, Session, bundle, daemon, daemon_with, json, script, usual_ids, written};
use ndt_tests::{program, python, workspace};
use serde_json::Value;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

/// One stream of the same counts in a form of its own, through a daemon of its own.
fn through_pylsl(mode: &str) -> (Value, Bundle) {
    let session = Session::new();
    let bundle = bundle(usual_ids());
    let model = written(&session, &bundle);
    let ids: Vec<String> = usual_ids().iter().map(i64::to_string).collect();
    let mut rig = script(&session, "lsl_rig.py", &["rig", "arm", "--mode", mode, "--ids", &ids.join(",")]);
    let allowed = if mode == "unlabelled" { "allow-unlabelled-channels = true" } else { "" };
    let mut daemon = daemon_with(
        &session,
        &model,
        200,
        allowed,
        &["--input", "lsl:rig", "--output", "lsl:arm", "--output", "tcp://127.0.0.1:0"],
    );
    daemon.wait_for("bins from \"rig\"");
    let heard = json(&mut rig);
    assert!(rig.end(), "{:#?}", rig.heard());
    (heard, Bundle::read(&model).unwrap())
}

#[test]
fn pylsl_gets_one_estimate_for_each_bin_and_can_read_what_it_is() {
    let (heard, bundle) = through_pylsl("plain");
    let manifest = &bundle.manifest;
    assert_eq!(
        (&heard["estimates"], &heard["numbers"]),
        (&60.into(), &serde_json::json!([0, 59])),
        "{heard:#}"
    );
    assert_eq!((&heard["consecutive"], &heard["same_stamps"]), (&true.into(), &true.into()));
    assert_eq!(heard["qualities"], serde_json::json!({"0": 56, "1": 4}));
    // Stamped with the source's own time: off by what the comparison of the clocks is.
    println!("stamps off by {} s", heard["stamps_off_s"]);
    let (rates, velocity) = (&heard["rates"], &heard["velocity"]);
    let units: Vec<Value> =
        manifest.unit_ids.iter().map(|id| serde_json::json!([id.to_string(), "spikes/s", "Rate"])).collect();
    assert_eq!(rates["channels"], Value::from(units));
    assert_eq!(
        velocity["channels"],
        serde_json::json!([
            ["vx", "m/s", "Velocity"],
            ["vy", "m/s", "Velocity"],
            ["quality", "", "Quality"],
            ["reasons", "", "Flags"],
            ["bin", "", "Index"]
        ])
    );
    for stream in [rates, velocity] {
        assert_eq!((&stream["rate"], &stream["float32"]), (&50.0.into(), &true.into()));
        let entries = serde_json::json!({
            "bundle": manifest.id, "bin_width_ms": "20", "time_stamp": "end of the bin", "velocity_offset_ms": "-10",
            "velocity_lag_ms": "0", "quality": "0 good, 1 warmup, 2 gap, 3 late, 4 stale, 5 fault",
        });
        assert_eq!(stream["entries"], entries);
    }
    assert_eq!((&rates["name"], &rates["type"]), (&"arm-rates".into(), &"Rates".into()));
    assert_eq!((&velocity["name"], &velocity["type"]), (&"arm-velocity".into(), &"Velocity".into()));
    assert!(rates["source_id"] != velocity["source_id"]);
}

#[test]
fn samples_that_are_lost_are_gaps_by_their_stamps() {
    let (heard, _) = through_pylsl("lossy");
    assert_eq!((&heard["estimates"], &heard["numbers"]), (&60.into(), &serde_json::json!([0, 59])));
    assert_eq!((&heard["consecutive"], &heard["same_stamps"]), (&true.into(), &true.into()));
    assert_eq!(heard["qualities"], serde_json::json!({"0": 54, "1": 4, "2": 2}), "{heard:#}");
}

#[test]
fn the_same_counts_in_any_form_give_the_same_rates() {
    let modes = ["plain", "unlabelled", "permuted", "int16-200hz", "int8-1khz", "events"];
    let found = modes.map(|mode| (mode, through_pylsl(mode).0));
    let rates = |heard: &Value| -> Vec<f64> {
        let bins = heard["last_rates"].as_array().unwrap();
        bins.iter().flat_map(|bin| bin.as_array().unwrap()).map(|rate| rate.as_f64().unwrap()).collect()
    };
    let expected = rates(&found[0].1);
    assert_eq!(expected.len(), 28 * 15);
    for (mode, heard) in &found {
        println!("{mode}: {} estimates, stamps off by {} s", heard["estimates"], heard["stamps_off_s"]);
        assert_eq!(heard["consecutive"], true, "{mode}: {heard:#}");
        let rates = rates(heard);
        assert_eq!(rates.len(), expected.len(), "{mode}: {heard:#}");
        // Of spikes, the first bin is not whole: a window that begins one bin later is summed in another order.
        let off = |(found, expected): (&f64, &f64)| (found / expected - 1.0).abs();
        let most = if *mode == "events" { 1e-4 } else { 0.0 };
        assert!(rates.iter().zip(&expected).map(off).all(|off| off <= most), "{mode}: {heard:#}");
    }
    // The daemon's streams are the same for receivers, whichever of its runs they are of.
    assert!(found.iter().all(|(_, heard)| heard["rates"] == found[0].1["rates"]));
}

#[test]
fn what_does_not_fit_is_refused_with_a_sentence() {
    let session = Session::new();
    let model = written(&session, &bundle(usual_ids()));
    let offer = |arguments: &[&str]| {
        let mut stream = script(&session, "lsl_stream.py", arguments);
        stream.wait_for("offered");
        stream
    };
    let mut daemon = daemon(
        &session,
        &model,
        3,
        &["--input", "lsl:rig", "--output", "tcp://127.0.0.1:0", "--output", "lsl"],
    );
    daemon.wait_for("expected a stream with name='rig', found none yet; still searching");
    for (arguments, sentence) in [
        (
            ["rig", "a", "5", "--silent"].as_slice(),
            "expected 12 channels, found 5 without labels, in the stream \"rig\"",
        ),
        (
            &["rig", "a", "12", "--silent", "--format", "string"],
            "expected numbers, found string, in the stream",
        ),
        (
            &["rig", "a", "12", "--silent", "--rate", "30"],
            "expected 50 samples in a second or a whole multiple, found 30, in the stream",
        ),
    ] {
        let stream = offer(arguments);
        daemon.wait_for(sentence);
        drop(stream);
    }
}

#[test]
fn two_streams_of_a_name_are_reported_and_not_guessed() {
    let session = Session::new();
    let model = written(&session, &bundle(usual_ids()));
    let offer = |source_id: &str| {
        let mut command = session.command(python());
        let path = workspace().join("tests/python/lsl_stream.py");
        let mut stream = Running::start(command.arg(path).args(["rig", source_id, "12"]));
        stream.wait_for("offered");
        stream
    };
    let (one, two) = (offer("a"), offer("b"));
    let mut daemon =
        self::daemon(&session, &model, 3, &["--input", "lsl:rig", "--output", "tcp://127.0.0.1:0"]);
    let line = daemon.wait_for("expected one stream with name='rig', found 2");
    assert!(line.contains("source id \"a\"") && line.contains("source id \"b\""), "{line}");
    drop(one);
    let line = daemon.wait_for("bins from \"rig\"");
    assert!(line.contains("source id \"b\""), "{line}");
    drop(two);
}

/// The next estimate over ZeroMQ.
fn next(receiver: &mut Receiver) -> Estimate {
    loop {
        let message = receiver.receive(SOON).expect("an estimate within a minute");
        let frames: Vec<&[u8]> = message.frames.iter().map(|frame| &frame[..]).collect();
        if frames[0] == wire::TOPIC_ESTIMATE {
            return wire::read_estimate(&frames).unwrap();
        }
    }
}

/// A rig's outlet ends by `end`, and another of the source id `again_id` takes the place of the first one's, "array-1".
fn taken_up_again(end: fn(Running) -> Option<Running>, why: Reasons, again_id: &str) {
    let session = Session::new();
    let model = written(&session, &bundle(usual_ids()));
    let labels = usual_ids().iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    let rig = |source_id: &str| {
        let mut rig = script(&session, "lsl_stream.py", &["rig", source_id, "12", "--labels", &labels]);
        rig.wait_for("offered");
        rig
    };
    let first = rig("array-1");
    let mut daemon = daemon(
        &session,
        &model,
        3,
        &[
            "--input",
            "lsl:predicate=starts-with(name,'ri') and channel_count=12",
            "--output",
            "tcp://127.0.0.1:0",
        ],
    );
    let address = daemon.heard().last().unwrap().rsplit_once("estimates on ").unwrap().1.to_owned();
    let mut receiver = Receiver::open(&address.parse().unwrap()).unwrap();
    let until = |receiver: &mut Receiver, is_so: &dyn Fn(&Estimate) -> bool| {
        let mut passed = Vec::new();
        loop {
            passed.push(next(receiver));
            if is_so(&passed[passed.len() - 1]) {
                return passed;
            }
        }
    };
    until(&mut receiver, &|estimate| estimate.quality == Quality::Good);
    let first = end(first);
    let is_stale = |estimate: &Estimate| estimate.quality == Quality::Stale && estimate.reasons.contains(why);
    let mut told = until(&mut receiver, &is_stale);
    // A busy machine may be stale at any time: nobody sends any more once it is so for a second.
    while told.len() < 50 || !told[told.len() - 50..].iter().all(is_stale) {
        told.push(next(&mut receiver));
    }
    daemon.wait_for("each bin period is answered as stale");
    let again = rig(again_id);
    let offered = Instant::now();
    let back = until(&mut receiver, &|estimate| estimate.reasons.contains(Reasons::SOURCE_RESTART));
    println!(
        "{:?}: {} ms from the new outlet to its first estimate",
        why.names().next(),
        offered.elapsed().as_millis()
    );
    let (fresh, stale) = back.split_last().unwrap();
    assert!(stale.iter().all(|estimate| estimate.quality == Quality::Stale));
    assert_eq!((fresh.quality, fresh.seq), (Quality::Warmup, 0));
    let told: Vec<&Estimate> = told.iter().chain(stale).collect();
    assert!(told.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1), "each period has its answer");
    until(&mut receiver, &|estimate| estimate.quality == Quality::Good);
    drop((first, again));
}

#[test]
fn an_outlet_that_is_killed_is_followed_by_the_next_with_stale_estimates_between() {
    taken_up_again(|_killed| None, Reasons::PEER_GONE, "array-1");
}

#[test]
fn an_outlet_that_hangs_is_followed_by_the_next_with_stale_estimates_between() {
    let hang = |rig: Running| {
        rig.signal(libc::SIGSTOP);
        Some(rig)
    };
    taken_up_again(hang, Reasons::PEER_SILENT, "array-1");
}

#[test]
fn a_rig_that_gets_another_source_id_at_each_start_is_taken_back() {
    taken_up_again(|_killed| None, Reasons::PEER_GONE, "array-2");
}

#[test]
fn a_pinned_source_id_is_not_replaced_by_another() {
    let session = Session::new();
    let model = written(&session, &bundle(usual_ids()));
    let mut first = script(&session, "lsl_stream.py", &["rig", "array-1", "12"]);
    first.wait_for("offered");
    let config = session.folder().join("pinned.toml");
    let library = ndt_tests::lsl::liblsl();
    let text = format!("[lsl]\nlibrary = {library:?}\nresolve-timeout-s = 1.0\npin-source-id = true\n");
    std::fs::write(&config, text).unwrap();
    let mut command = session.command(program("ndtd"));
    command.args(["run", "--input", "lsl:rig", "--output", "tcp://127.0.0.1:0", "--config"]).arg(&config);
    let mut daemon = Running::start(command.arg("--bundle").arg(&model));
    daemon.wait_for("bins from \"rig\"");
    drop(first);
    let mut other = script(&session, "lsl_stream.py", &["rig", "array-2", "12"]);
    other.wait_for("offered");
    // The search for the first one alone goes on, with the other on offer.
    for _ in 0..2 {
        let line = daemon.wait_for(
            "and source_id='array-1', found none yet; still searching; pin-source-id in [lsl] forbids",
        );
        assert!(line.contains("source id \"array-2\""), "{line}");
    }
}

#[test]
fn a_stream_without_labels_is_a_fault_and_the_log_says_why() {
    let session = Session::new();
    let model = written(&session, &bundle(usual_ids()));
    let mut rig = script(&session, "lsl_stream.py", &["rig", "array-1", "12"]);
    rig.wait_for("offered");
    let mut daemon = daemon(&session, &model, 200, &["--input", "lsl:rig", "--output", "tcp://127.0.0.1:0"]);
    let address = daemon.heard().last().unwrap().rsplit_once("estimates on ").unwrap().1.to_owned();
    let line = daemon.wait_for("bins from \"rig\"");
    assert!(line.contains("WARN") && line.contains("allow-unlabelled-channels in [lsl]"), "{line}");
    let mut receiver = Receiver::open(&address.parse().unwrap()).unwrap();
    for _ in 0..20 {
        let estimate = next(&mut receiver);
        assert_eq!(estimate.quality, Quality::Fault, "{estimate:?}");
        assert!(estimate.reasons.contains(Reasons::UNDESCRIBED), "{estimate:?}");
    }
    daemon.wait_for("bins of a source that has not described its channels");
}

#[test]
fn a_recording_opens_in_pyxdf_with_the_right_labels_and_rates() {
    let session = Session::new();
    let bundle = bundle(usual_ids());
    let model = written(&session, &bundle);
    let mut rig = script(&session, "lsl_stream.py", &["rig", "array-1", "12"]);
    rig.wait_for("offered");
    let _daemon = daemon(&session, &model, 200, &["--input", "lsl:source-id=array-1", "--output", "lsl:arm"]);
    let file = session.folder().join("recording.xdf");
    let arguments = [file.to_str().unwrap(), "arm-velocity", "arm-rates", "--samples", "150"];
    let mut recorder = script(&session, "lsl_record.py", &arguments);
    let found = json(&mut recorder);
    assert!(recorder.end(), "{:#?}", recorder.heard());
    let id = &Bundle::read(&model).unwrap().manifest.id;
    let units: Vec<String> = bundle.manifest.unit_ids.iter().map(i64::to_string).collect();
    for (name, kind, labels, unit) in [
        ("arm-rates", "Rates", units, vec!["spikes/s"]),
        (
            "arm-velocity",
            "Velocity",
            ["vx", "vy", "quality", "reasons", "bin"].map(str::to_owned).to_vec(),
            vec!["", "m/s"],
        ),
    ] {
        let stream = &found[name];
        assert_eq!((&stream["type"], &stream["bundle"]), (&kind.into(), &id.as_str().into()), "{found:#}");
        assert_eq!(
            (&stream["labels"], &stream["units"]),
            (&labels.clone().into(), &unit.into()),
            "{found:#}"
        );
        assert_eq!(stream["shape"], serde_json::json!([150, labels.len()]));
        assert_eq!((&stream["nominal_rate"], &stream["dtype"]), (&50.0.into(), &"float32".into()));
        let effective = stream["effective_rate"].as_f64().unwrap();
        assert!((effective - 50.0).abs() < 1.0, "{effective}");
    }
}

#[test]
fn without_the_library_it_is_said_in_one_sentence_how_to_get_it() {
    let session = Session::new();
    let model = written(&session, &bundle(usual_ids()));
    let nowhere = session.folder().join("liblsl.so");
    std::fs::write(&nowhere, b"no library").unwrap();
    let mut command = session.command(program("ndtd"));
    command.args(["run", "--input", "lsl:rig", "--bundle"]).arg(&model).arg("--lsl-library").arg(&nowhere);
    let mut daemon = Running::start(&mut command);
    let line = daemon.wait_for("expected liblsl in");
    assert!(line.contains("get it with `pip install pylsl`"), "{line}");
    assert!(!daemon.end());
}
