//! Conformance of the transports: every input and every output of the daemon goes through the same checks.
//!
//! A new transport fails to compile in [`transport_of`], then fails
//! [`every_transport_is_in_the_list_of_each_side_that_can_use_it`] until it stands in [`INPUTS`], in [`OUTPUTS`] or in both.
//! The programs run as processes, with their options alone, so that the checks hold whatever the daemon looks like inside.

use ndt_daemon::config::Config;
use ndt_protocol::Bundle;
use ndt_protocol::endpoint::{Endpoint, EndpointError, Input, ListenSource, Output, PlayTarget};
use ndt_replay::nwb;
use ndt_tests::endpoints::{INPUTS, OUTPUTS, TRANSPORTS, in_folder, transport_of};
use ndt_tests::lsl::{Running, Session, bundle, daemon, json, liblsl_if_there, script, written};
use ndt_tests::program;
use serde_json::{Value, json as object};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Estimates that each subscriber checks: fewer than the first trial has bins, so that only its warm-up is not `good`.
const ESTIMATES: u64 = 50;

/// Whether an endpoint can be tested on this computer. Prints which endpoint is skipped and why.
fn can_run(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::Zeromq(_) => true,
        Endpoint::Lsl(_) if liblsl_if_there().is_some() => true,
        Endpoint::Lsl(_) => {
            println!("skipped: {endpoint}, as liblsl is not under target/python");
            false
        }
    }
}

/// Starts the subscriber of another program for `address`. All subscribers print the same JSON object.
fn subscribe(session: &Session, output: &Output, address: &str) -> Running {
    let count = ESTIMATES.to_string();
    match output {
        Output::Zeromq(_) => script(session, "subscribe.py", &[address, "--count", &count]),
        Output::Lsl { name } => script(session, "lsl_subscribe.py", &[name, "--count", &count]),
    }
}

/// Writes a simulated recording into the session's folder. Returns its path and the ids of its units.
fn recording(session: &Session) -> (PathBuf, Vec<i64>) {
    let path = session.folder().join("session.nwb");
    let mut command = session.command(program("ndt-replay"));
    command.args(["simulate", "--trials", "10", "--heldout", "0", "--seed", "2", "--units", "12", "--out"]);
    let mut simulate = Running::start(command.arg(&path));
    assert!(simulate.end(), "{:#?}", simulate.heard());
    let ids = nwb::read(&path).unwrap().units.iter().map(|unit| unit.id).collect();
    (path, ids)
}

/// Starts a player that sends the bins of `recording` in real time, once somebody subscribes.
fn play(session: &Session, recording: &Path, to: &str) -> Running {
    let mut command = session.command(program("ndt-replay"));
    command.arg("play").arg(recording).args(["--to", to, "--bin-ms", "20"]);
    if let Some(library) = liblsl_if_there() {
        command.arg("--lsl-library").arg(library);
    }
    Running::start(&mut command)
}

/// The addresses in the line that the daemon logs when it is ready: of its input, and of its outputs in their order.
fn addresses(ready: &str) -> (String, Vec<String>) {
    let (_, rest) = ready.split_once("bins from ").unwrap();
    let (input, outputs) = rest.split_once(", estimates on ").unwrap();
    (input.to_owned(), outputs.split(" and ").map(str::to_owned).collect())
}

/// Checks what a subscriber found: the first bin sent is answered first, and every bin in turn, under its own number; and the
/// daemon has described its estimates.
fn check(found: &Value, bundle: &Bundle, case: &str) {
    let manifest = &bundle.manifest;
    let quality = object!({"good": ESTIMATES - 4, "warmup": 4});
    for (key, expected) in [
        ("estimates", object!(ESTIMATES)),
        ("first_seq", object!(0)),
        ("in_order", object!(true)),
        ("quality", quality),
        ("bundle_described", object!(manifest.id)),
        ("units_described", object!(manifest.unit_ids.len())),
    ] {
        assert_eq!(found[key], expected, "{key}, {case}: {found:#}");
    }
}

/// Runs a daemon with one input and all outputs, and checks what arrives at each output.
fn check_input(input: &str, target: &str, outputs: &[String]) {
    let session = Session::new();
    let in_folder = |text: &str| in_folder(text, session.folder());
    let outputs: Vec<String> = outputs.iter().map(|output| in_folder(output)).collect();
    let input = in_folder(input);
    let (recording, channel_ids) = recording(&session);
    let model = written(&session, &bundle(channel_ids));
    let bundle = Bundle::read(&model).unwrap();
    let mut endpoints = vec!["--input", &input];
    outputs.iter().for_each(|output| endpoints.extend(["--output", output]));
    let mut daemon = daemon(&session, &model, 200, &endpoints);
    let (bound, published) = addresses(daemon.heard().last().unwrap());
    assert_eq!(published.len(), outputs.len(), "{published:?}");

    let mut subscribers: Vec<Running> = outputs
        .iter()
        .zip(&published)
        .map(|(output, address)| subscribe(&session, &output.parse().unwrap(), address))
        .collect();
    for subscriber in &mut subscribers {
        subscriber.wait_for("ready");
    }
    let target: PlayTarget = in_folder(&target.replace("ADDRESS", &bound)).parse().unwrap();
    let _player = play(&session, &recording, &target.to_string());
    for (subscriber, output) in subscribers.iter_mut().zip(&outputs) {
        check(&json(subscriber), &bundle, &format!("{input} to {output}"));
        assert!(subscriber.end(), "{:#?}", subscriber.heard());
    }
    daemon.signal(15);
    assert!(daemon.end(), "{:#?}", daemon.heard());
}

#[test]
fn every_transport_is_in_the_list_of_each_side_that_can_use_it() {
    let inputs = INPUTS.map(|(input, _)| input);
    let all: Vec<&str> = inputs.into_iter().chain(OUTPUTS).collect();
    for transport in TRANSPORTS {
        let is_of_it = |text: &&str| transport_of(&text.parse().unwrap()) == transport;
        let is_listed = [inputs.iter().any(is_of_it), OUTPUTS.iter().any(is_of_it)];
        let mut of_it = all.iter().filter(|text| is_of_it(text));
        let mut also = of_it.clone();
        let can_be = [
            of_it.any(|text| text.parse::<Input>().is_ok()),
            also.any(|text| text.parse::<Output>().is_ok()),
        ];
        assert_ne!(
            is_listed, [false; 2],
            "expected {transport} in INPUTS or in OUTPUTS, found it in neither"
        );
        assert_eq!(
            is_listed, can_be,
            "{transport} is in [INPUTS, OUTPUTS], and can be [an input, an output]"
        );
    }
}

#[test]
fn each_input_feeds_every_output_in_order_with_numbers_and_a_description() {
    let can_run = |text: &str| can_run(&text.parse().unwrap());
    let outputs: Vec<String> =
        OUTPUTS.iter().filter(|output| can_run(output)).map(|output| (*output).to_owned()).collect();
    for (input, target) in INPUTS {
        if can_run(input) {
            check_input(input, target, &outputs);
        }
    }
}

/// Whether `T` refuses `text` when it is parsed, with a sentence that repeats the text.
fn refuses<T: FromStr<Err = EndpointError>>(text: &str) -> bool {
    let Err(error) = text.parse::<T>() else { return false };
    let sentence = error.to_string();
    assert!(sentence.starts_with("expected ") && sentence.contains(text), "{text}: {sentence}");
    true
}

#[test]
fn an_endpoint_that_a_side_cannot_use_is_refused_when_it_is_parsed() {
    // No transport has these.
    for text in ["pigeon://127.0.0.1:1", "tcp://127.0.0.1", "bind:ipc://", "lsl:kind=x"] {
        let refused = [
            refuses::<Input>(text),
            refuses::<Output>(text),
            refuses::<PlayTarget>(text),
            refuses::<ListenSource>(text),
        ];
        assert_eq!(refused, [true; 4], "{text}");
    }
    // A query selects among the streams of others; a stream that is offered has a name.
    let query = "lsl:type=BinnedSpikes";
    assert_eq!([refuses::<Input>(query), refuses::<ListenSource>(query)], [false; 2]);
    assert_eq!([refuses::<Output>(query), refuses::<PlayTarget>(query)], [true; 2]);
}

#[test]
fn an_endpoint_that_the_daemon_cannot_use_is_refused_in_the_configuration_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ndtd.toml");
    for (key, endpoint) in
        [("input", "pigeon://127.0.0.1:1"), ("output", "pigeon://127.0.0.1:1"), ("output", "lsl:type=Rates")]
    {
        std::fs::write(&path, format!("log = \"info\"\n{key} = \"{endpoint}\"\n")).unwrap();
        let sentence = Config::read(&path).unwrap_err().to_string();
        assert!(sentence.contains(endpoint) && sentence.contains("line 2"), "{sentence}");
    }
}
