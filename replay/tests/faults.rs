//! A play with faults sends its plan over a real socket, bit for bit, and a listener checks estimates against the plan.

use ndt_protocol::endpoint::SocketAddress;
use ndt_protocol::wire::{self, BinStamp};
use ndt_protocol::{Estimate, Quality};
use ndt_replay::listen::expectation::Expectation;
use ndt_replay::listen::{Tally, Until};
use ndt_replay::play::faults::{self, FaultKind, FaultPlan, Faults, Sending};
use ndt_replay::play::{Channels, Plan, Speed};
use ndt_replay::session::{Interval, Session, Trial, Unit};
use ndt_replay::simulate::{Recipe, simulate};
use ndt_replay::transport::zeromq::{Receiver, Sender, listen, play};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Timeout that a loaded machine does not reach; a test that passes does not wait for it.
const SOON: Duration = Duration::from_secs(30);

/// Faults of every kind, and of some kinds a second one.
fn every_fault() -> Faults {
    let examples = FaultKind::TABLE.map(|row| row.example).join(",");
    format!("{examples},channels=-3@6s,restart@5s").parse().unwrap()
}

fn endpoint(folder: &tempfile::TempDir) -> SocketAddress {
    format!("ipc://{}", folder.path().join("socket").display()).parse().unwrap()
}

fn plan() -> Plan {
    let session = simulate(&Recipe { trials: 6, units: 12, heldout: 3, seed: 5 });
    Plan::new(&session, None, 20.0, Channels::HeldIn).unwrap()
}

/// The stamp and the counts that are sent, as bits: NaN is not equal to NaN otherwise.
fn expected(plan: &Plan, sending: &Sending) -> (BinStamp, Vec<u32>) {
    let (stamp, planned) = plan.bin(sending.bin);
    let count = |channel: usize| match planned.get(channel) {
        _ if sending.nan_channels.contains(&(channel as u32)) => f32::NAN.to_bits(),
        count => count.copied().unwrap_or(0.0).to_bits(),
    };
    let channels = planned.len() as i32 + sending.channels_delta;
    let stamp = BinStamp { seq: sending.seq, source_ns: sending.source_ns, ..stamp };
    (stamp, (0..channels as usize).map(count).collect())
}

fn what_is_received_is_the_plan(speed: Speed) {
    let folder = tempfile::tempdir().unwrap();
    let to = endpoint(&folder);
    let plan = plan();
    let faults = FaultPlan::new(&plan, &every_fault(), 11);
    assert!(faults.events.len() > 20 && faults.sendings.last().unwrap().run == 2);
    let mut receiver = Receiver::open(&to).unwrap();
    let mut progress = None;
    std::thread::scope(|scope| {
        let (plan, faults) = (&plan, &faults);
        let play = || play(plan, Some(faults), &to, speed, SOON, &mut |p| progress = Some(p)).unwrap();
        let player = scope.spawn(play);
        let mut first_stream = None;
        for (at, sending) in faults.sendings.iter().enumerate() {
            let (frames, received_ns) = loop {
                let message = receiver.receive(SOON).unwrap();
                if message.frames[0] != wire::TOPIC_DESCRIPTION {
                    break (message.frames, message.received_ns);
                }
            };
            let frames: Vec<&[u8]> = frames.iter().map(|frame| &frame[..]).collect();
            let (stamp, channels, payload) = wire::split_bin(&frames).unwrap();
            let first_stream = *first_stream.get_or_insert(stamp.stream);
            assert_eq!(stamp.stream, first_stream + u64::from(sending.run), "sending {at}");
            assert!(stamp.sent_ns <= received_ns);
            let counts: Vec<u32> = wire::f32s(payload).map(f32::to_bits).collect();
            assert_eq!(channels, counts.len());
            let found = BinStamp { stream: 0, sent_ns: 0, ..stamp };
            assert_eq!((found, counts), expected(plan, sending), "sending {at}");
        }
        let report = player.join().unwrap();
        assert_eq!((report.bins, report.dropped), (faults.sendings.len(), 0));
        let planned_s = faults.sendings.last().unwrap().due_ns as f64 * 1e-9;
        if let Speed::Times(times) = speed {
            assert!(report.seconds >= planned_s / times, "nothing is sent before it is due");
        }
    });
    let progress = progress.unwrap();
    assert_eq!((progress.sent, progress.bins), (faults.sendings.len(), faults.sendings.len()));
}

#[test]
fn a_faulted_play_is_its_plan_at_full_speed() {
    what_is_received_is_the_plan(Speed::Max);
}

#[test]
fn a_faulted_play_is_its_plan_at_its_instants() {
    what_is_received_is_the_plan(Speed::Times(20.0));
}

#[test]
fn faults_of_another_plan_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = plan();
    let faults = FaultPlan::new(&plan, &every_fault(), 1);
    let bins = plan.bins();
    plan.truncate(100);
    let to = endpoint(&folder);
    let error = play(&plan, Some(&faults), &to, Speed::Max, SOON, &mut |_| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("expected faults for 100 bins of 9 channels, found some for {bins} of 9")
    );
}

/// The tally of a daemon that publishes an estimate for every bin that is sent, except for the number `left_out`.
fn judged(left_out: u64) -> Tally {
    let folder = tempfile::tempdir().unwrap();
    let at = endpoint(&folder);
    let mut plan = plan();
    plan.truncate(100);
    let faults = FaultPlan::new(&plan, &"dup=10%,restart@1s".parse().unwrap(), 1);
    let mut tally = Tally::new(None).against(Expectation::new(&faults));
    let until = Until { count: None, idle: None, first: SOON };
    let (listened, end) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let (at, faults) = (&at, &faults);
        scope.spawn(move || {
            let mut sender = Sender::open(at).unwrap();
            sender.wait_for_subscriber(SOON).unwrap();
            for sending in faults.sendings.iter().filter(|sending| !sending.copy && sending.seq != left_out) {
                let mut estimate = Estimate::zero(1, 0);
                (estimate.seq, estimate.stream) = (sending.seq, u64::from(sending.run));
                (estimate.source_ns, estimate.quality) = (sending.source_ns, Quality::Good);
                estimate.rates_mut()[0] = sending.bin as f32;
                let mut rates = Vec::new();
                wire::put_f32(estimate.rates(), &mut rates);
                let header = wire::estimate_header(&estimate);
                sender.send_frames(&[wire::TOPIC_ESTIMATE, &header, &rates, &[]]).unwrap();
            }
            // The socket stays open until nobody listens any more.
            assert!(end.recv().is_err());
        });
        listen(at, &mut tally, until, &AtomicBool::new(false), &mut || {}, &mut |_, _| true).unwrap();
        drop(listened);
    });
    tally
}

#[test]
fn listening_ends_with_the_plan_and_reports_what_violates_it() {
    let summary = judged(1000).summary();
    assert_eq!(summary.estimates, 100);
    let contract = summary.contract.clone().unwrap();
    assert_eq!((contract.checked, contract.runs, contract.violations), (100, 2, 0), "{contract:?}");
    assert!(summary.to_string().ends_with("0 violations in 100 estimates of 2 runs"), "{summary}");
    let summary = judged(20).summary();
    let contract = summary.contract.clone().unwrap();
    assert_eq!(
        (contract.violations, &contract.kinds["missing"].first[..]),
        (2, "run 0: expected seq 20, found 21")
    );
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!(json["contract"]["kinds"]["missing"]["count"], 2);
}

/// Thirty bins of four channels in two segments. They do not depend on the simulator.
fn small_plan() -> Plan {
    let unit = |id| Unit { id, heldout: false, spike_times: vec![] };
    let trial = |id, start, stop| Trial {
        id,
        interval: Interval { start, stop },
        split: None,
        columns: Default::default(),
    };
    let session = Session {
        identifier: "small".to_owned(),
        units: (1..5).map(unit).collect(),
        observed: Vec::new(),
        trials: vec![trial(0, 1.0, 1.4), trial(1, 2.0, 2.2)],
        behavior: Vec::new(),
        source: Default::default(),
    };
    Plan::new(&session, None, 20.0, Channels::All).unwrap()
}

/// Faults of the golden plan: every kind that there is.
const GOLDEN_FAULTS: &str = "drop=10%,dup=10%,reorder=3,jitter=3ms,burst=2,stall=60ms@100ms,nan=5%,channels=-1@560ms,\
                             clock=+5s@300ms,restart@400ms";

/// Compares a plan with the golden file of its version. The file also fixes the draws of a seed, so that a plan which was
/// printed can be played again years later.
///
/// `UPDATE_GOLDEN=1` writes the file of a new version. It never replaces a file: a changed text needs a new version.
#[test]
fn a_plan_has_the_golden_text_of_its_version() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(format!("tests/golden/fault-plan-v{}.jsonl", faults::VERSION));
    let plan = FaultPlan::new(&small_plan(), &GOLDEN_FAULTS.parse().unwrap(), 38);
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !golden.exists() {
        plan.write(&golden).unwrap();
    }
    let expected = std::fs::read_to_string(&golden)
        .unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 writes it", golden.display()));
    assert_eq!(plan.text(), expected, "the text of a plan has changed: raise faults::VERSION");
    assert_eq!(FaultPlan::read(&golden).unwrap(), plan);
}

/// A new kind fails here until the golden plan holds it, which changes the text of the plan and so needs a new version.
#[test]
fn the_golden_plan_holds_every_kind_of_fault() {
    let plan = FaultPlan::new(&small_plan(), &GOLDEN_FAULTS.parse().unwrap(), 38);
    for kind in FaultKind::all() {
        let has_event = plan.events.iter().any(|event| event.kind == kind);
        assert!(has_event, "no event of the kind {} in the golden plan", kind.row().key);
    }
}

fn ndt_replay(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ndt-replay")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_line_prints_and_writes_what_goes_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (session, plan) = (path("session.nwb"), path("plan.jsonl"));
    let (done, ..) = ndt_replay(&["simulate", "--out", &session, "--trials", "5", "--units", "8"]);
    assert!(done);
    let to = endpoint(&folder).to_string();
    let play = ["play", &session, "--to", &to, "--bin-ms", "20", "--speed", "max", "--fault-plan", &plan];
    let mut receiver = Receiver::open(&endpoint(&folder)).unwrap();
    let played = AtomicBool::new(false);
    let (done, printed, error) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !played.load(Ordering::Relaxed) {
                receiver.receive(Duration::from_millis(20));
            }
        });
        let result = ndt_replay(&[&play[..], &["--faults", "drop=5%,restart@2s", "--seed", "9"]].concat());
        played.store(true, Ordering::Relaxed);
        result
    });
    assert!(done, "{error}");
    let written = FaultPlan::read(plan.as_ref()).unwrap();
    assert_eq!((written.seed, written.faults.to_string()), (9, "drop=5%,restart@2s".to_owned()));
    let announced: Vec<String> = written.announcement().collect();
    assert!(printed.starts_with(&announced.join("\n")), "{printed}");

    let (done, _, error) = ndt_replay(&[&play[..], &["--faults", "drop=5,lose=1%"]].concat());
    assert!(!done && error.contains("found \"drop=5\"; expected one of drop, dup,"), "{error}");
    let (done, _, error) = ndt_replay(&["listen", &to, "--expect", &session]);
    assert!(!done && error.starts_with("ndt-replay: "), "{error}");
    let (done, help, _) = ndt_replay(&["play", "--help"]);
    assert!(done && help.contains("--fault-plan plan.jsonl"), "{help}");
    for row in FaultKind::TABLE {
        assert!(help.contains(row.syntax) && help.contains(row.help), "{} in {help}", row.key);
    }
}
