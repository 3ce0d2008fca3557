//! The same bins over streams and over ZeroMQ give the same estimates, bin by bin; and the true velocity that a player offers
//! as a stream is that of the recording.

use ndt_daemon::config::Config;
use ndt_daemon::engine::native::Native;
use ndt_daemon::pipeline;
use ndt_protocol::lsl::{
    self, Channel, Description, Format, Inlet, Kind, Library, Outlet, Query, StreamInfo,
};
use ndt_protocol::{Bundle, Estimate, Quality};
use ndt_replay::listen::{Summary, TRUTH_SERIES, Tally, Until};
use ndt_replay::play::{Channels, Plan, Speed};
use ndt_replay::session::{Series, Session};
use ndt_replay::simulate::{Recipe, simulate};
use ndt_replay::transport;
use ndt_tests::lsl::{bundle, liblsl};
use ndt_tests::on_loopback;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Nothing sets it: listening ends with the last bin.
static GO_ON: AtomicBool = AtomicBool::new(false);

/// What a listener receives for one bin.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    quality: Quality,
    velocity: Vec<f32>,
    rates: Vec<f32>,
}

/// Answers by bin number.
type Answers = BTreeMap<u64, Answer>;

fn keep(answers: &mut Answers, estimate: &Estimate) -> bool {
    let (velocity, rates) = (estimate.velocity().to_vec(), estimate.rates().to_vec());
    let before = answers.insert(estimate.seq, Answer { quality: estimate.quality, velocity, rates });
    assert!(before.is_none(), "two estimates for bin {}", estimate.seq);
    true
}

fn until(plan: &Plan) -> Until {
    Until { count: Some(plan.bins() as u64), idle: None, first: SOON }
}

/// A daemon that neither a busy machine nor a late stream makes miss a deadline.
fn config() -> Config {
    Config { deadline_ms: Some(5_000.0), stale_after_bins: 200, ..on_loopback() }
}

/// Plays over ZeroMQ to a daemon that publishes over ZeroMQ.
fn over_zeromq(plan: &Plan, bundle: &Bundle) -> Answers {
    let pipeline = pipeline::start(&config(), bundle, Box::new(Native::new(bundle))).unwrap();
    let (input, output) =
        (format!("connect:{}", pipeline.input()).parse().unwrap(), pipeline.output().to_owned());
    let mut answers = Answers::new();
    let (go, gone) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            gone.recv().unwrap();
            transport::zeromq::play(plan, None, &input, Speed::Times(10.0), SOON, &mut |_| {}).unwrap();
        });
        let mut tally = Tally::new(None);
        let mut ready = || go.send(()).unwrap();
        let mut each = |_: &Tally, estimate: &Estimate| keep(&mut answers, estimate);
        let output = output.parse().unwrap();
        transport::zeromq::listen(&output, &mut tally, until(plan), &GO_ON, &mut ready, &mut each).unwrap();
    });
    pipeline.stop();
    answers
}

/// Listens to streams; what each answer was, and the figures.
fn listen(library: &Library, plan: &Plan, estimates: &str, truth: Option<&str>) -> (Answers, Summary) {
    let truth = truth.map(Query::of_name);
    let sources = transport::lsl::Sources::new(&Query::of_name(estimates), truth.as_ref());
    let (mut answers, mut tally) = (Answers::new(), Tally::new(None));
    let mut each = |_: &Tally, estimate: &Estimate| keep(&mut answers, estimate);
    transport::lsl::listen(library, &sources, &mut tally, until(plan), &GO_ON, &mut || {}, &mut each)
        .unwrap();
    (answers, tally.summary())
}

/// Plays as streams to a daemon that publishes as a stream and over ZeroMQ; what was received from each.
fn over_streams(library: &Library, plan: &Plan, truth: &Series, bundle: &Bundle) -> (Answers, Answers) {
    let mut config = config();
    config.input = "lsl:rig".parse().unwrap();
    config.outputs.insert(0, "lsl:arm".parse().unwrap());
    config.lsl.library = Some(liblsl());
    let pipeline = pipeline::start(&config, bundle, Box::new(Native::new(bundle))).unwrap();
    let socket = pipeline.outputs()[1].parse().unwrap();
    let (go, gone) = mpsc::channel();
    let (streamed, published) = std::thread::scope(|scope| {
        let published = scope.spawn(move || {
            let (mut answers, mut tally) = (Answers::new(), Tally::new(None));
            let mut ready = || go.send(()).unwrap();
            let mut each = |_: &Tally, estimate: &Estimate| keep(&mut answers, estimate);
            transport::zeromq::listen(&socket, &mut tally, until(plan), &GO_ON, &mut ready, &mut each)
                .unwrap();
            answers
        });
        gone.recv().unwrap();
        scope.spawn(|| play(library, plan, "rig", truth));
        // The player starts when the daemon receives its counts and the listener its behaviour.
        let (streamed, _) = listen(library, plan, "arm", Some("rig"));
        (streamed, published.join().unwrap())
    });
    pipeline.stop();
    (streamed, published)
}

fn play(library: &Library, plan: &Plan, name: &str, truth: &Series) {
    let streams = transport::lsl::Streams { name, recording: "a test", behavior: Some(truth), wait: SOON };
    transport::lsl::play(plan, library, &streams, &mut |_| {}).unwrap();
}

/// A decoder that knows the recording: it answers each bin with the true velocity, so that its R2 is 1 if and only if the
/// player's behaviour stream says the same at the same instants.
fn decode_perfectly(library: &Library, plan: &Plan, truth: &Series, input: &str, output: &str) {
    let counts = library.resolve(&Query::of_name(input), 1, SOON.as_secs_f64()).unwrap();
    let inlet = Inlet::new(&counts[0], 4096).unwrap();
    let labels = [
        lsl::LABELS_VELOCITY[0],
        lsl::LABELS_VELOCITY[1],
        lsl::LABEL_QUALITY,
        lsl::LABEL_REASONS,
        lsl::LABEL_BIN,
    ];
    let channels = labels.map(|label| Channel::new(label, "m/s", "Velocity")).to_vec();
    let name = lsl::velocity_name(output);
    let (content_type, format) = (lsl::TYPE_VELOCITY, Format::Float32);
    let kind = Kind { name: &name, content_type, rate_hz: 50.0, format, source_id: "perfect" };
    let info = StreamInfo::new(library, &kind, &Description { channels, entries: Vec::new() }).unwrap();
    let outlet = Outlet::new(&info, 4096).unwrap();
    assert!(outlet.wait_for_receiver(SOON.as_secs_f64()));
    // Opened last: the player starts when its streams are received.
    inlet.open(SOON.as_secs_f64()).unwrap();
    let mut sample = vec![0.0; plan.channel_ids().len() + 1];
    for seq in 0..plan.bins() {
        let stamp_s = inlet.pull(&mut sample, SOON.as_secs_f64()).unwrap().unwrap();
        let (stamp, counts) = plan.bin(seq);
        assert_eq!(&sample[..counts.len()], counts, "the player's stream begins with bin 0");
        let velocity = truth.at(stamp.source_ns as f64 * 1e-9, 0.1);
        // The recording ends with a trial, a millisecond before its last bin does.
        let velocity = velocity.unwrap_or(vec![0.0; 2]);
        let quality = f32::from(Quality::Good as u8);
        outlet.push(&[velocity[0] as f32, velocity[1] as f32, quality, 0.0, seq as f32], stamp_s).unwrap();
    }
    // The library drops what is not sent yet when the outlet goes.
    std::thread::sleep(Duration::from_millis(500));
}

fn session() -> Session {
    simulate(&Recipe { trials: 30, units: 24, heldout: 6, seed: 2 })
}

/// The only test of this program: the library reads its configuration once in a process.
#[test]
fn streams_carry_what_zeromq_carries() {
    let streams = ndt_tests::lsl::Session::new();
    // SAFETY: no other thread of this program reads the environment yet.
    unsafe { std::env::set_var("LSLAPICFG", streams.folder().join("lsl_api.cfg")) };
    let library = Library::load(Some(&liblsl())).unwrap();
    let session = session();
    let truth = session.series(TRUTH_SERIES).unwrap();
    let mut plan = Plan::new(&session, Some("val"), 20.0, Channels::HeldIn).unwrap();
    let bundle = bundle(plan.channel_ids().to_vec());

    let expected = over_zeromq(&plan, &bundle);
    let (streamed, published) = over_streams(&library, &plan, truth, &bundle);
    assert!(expected.keys().copied().eq(0..plan.bins() as u64), "{:?}", expected.keys());
    assert!(expected.values().any(|answer| answer.quality == Quality::Good));
    assert_eq!(published, expected, "the input decides what is published");
    // A velocity stream carries no rates.
    let without_rates =
        expected.into_iter().map(|(seq, answer)| (seq, Answer { rates: Vec::new(), ..answer }));
    assert_eq!(streamed, without_rates.collect(), "a stream carries other answers than a socket");

    plan.truncate(150);
    let (_, summary) = std::thread::scope(|scope| {
        scope.spawn(|| play(&library, &plan, "rig-2", truth));
        scope.spawn(|| decode_perfectly(&library, &plan, truth, "rig-2", "perfect"));
        listen(&library, &plan, "perfect", Some("rig-2"))
    });
    assert!(summary.scored >= 140, "{summary:?}");
    let r2 = summary.velocity_r2_mean.unwrap();
    assert!(r2 > 0.9999, "the true velocity of the stream is not that of the recording: R2 {r2}");
}
