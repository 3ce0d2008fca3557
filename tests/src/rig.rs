//! Rigs on loopback: one that sends for as long as a test wants, and the validation trials of a session, which are played to a running daemon
//! and whose estimates are scored.

use crate::lsl::usual_ids;
use crate::on_loopback;
use ndt_daemon::config::Config;
use ndt_daemon::engine::Engine;
use ndt_daemon::pipeline;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::behavior::Behavior;
use ndt_protocol::clock::{monotonic_ns, sleep_until_ns};
use ndt_protocol::wire::{BinStamp, Description};
use ndt_replay::listen::{Summary, Tally, Until};
use ndt_replay::play::{Channels, Plan, Speed};
use ndt_replay::session::Session;
use ndt_replay::transport;
use ndt_replay::transport::zeromq::Sender;
use std::borrow::Cow;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// Time for a subscriber to come.
const SOON: Duration = Duration::from_secs(60);

const WIDTH_NS: u64 = 5_000_000;

/// Sends a bin of the usual channels each 5 ms, stamped with the end of the bin and the time of sending, until it is told to end. `counts`
/// gives those of a bin by its number. A bin for which a subscriber has no room is lost.
///
/// # Panics
/// When the address cannot be had, or no subscriber comes within a minute.
pub fn at_200_hz(address: &str, ends: &AtomicBool, counts: impl Fn(u64) -> Vec<f32>) {
    let mut sender = Sender::open(&address.parse().unwrap()).unwrap();
    sender.wait_for_subscriber(SOON).unwrap();
    let (start_ns, stream) = (monotonic_ns(), 7);
    for seq in 0.. {
        if ends.load(Relaxed) {
            return;
        }
        let end_ns = start_ns + (seq + 1) * WIDTH_NS;
        sleep_until_ns(end_ns);
        if seq % 200 == 0 {
            let bins = Description::Bins { bin_width_us: 5_000, channel_ids: usual_ids() };
            sender.describe(stream, &bins);
        }
        let stamp = BinStamp {
            seq,
            stream,
            source_ns: end_ns as i64,
            sent_ns: monotonic_ns(),
            bin_width_us: 5_000,
            segment_start: seq == 0,
        };
        sender.offer(&stamp, &counts(seq));
    }
}

/// Plays the 20 ms bins of the split `val` at ten times their speed. Returns the plan and the figures of what was received.
///
/// # Errors
/// If any part of the rig fails, or the daemon refuses or drops a bin.
pub fn heard(
    bundle: &Bundle,
    session: &Session,
    engine: Box<dyn Engine>,
) -> Result<(Plan, Summary), Box<dyn Error>> {
    let plan = Plan::new(session, Some("val"), 20.0, Channels::HeldIn)?;
    // Only computed estimates are scored, so a busy machine must not miss a deadline.
    let config = Config { deadline_ms: Some(5_000.0), stale_after_bins: 200, ..on_loopback() };
    let pipeline = pipeline::start(&config, bundle, engine)?;
    let rig = format!("connect:{}", pipeline.input()).parse()?;
    let output = pipeline.output().parse()?;
    let decoded = bundle.manifest.velocity().map(|readout| Behavior::parse(&readout.series));
    let truth = decoded.map(|decoded| session.decoded(&decoded)).transpose()?;
    let mut tally = Tally::new(truth.map(Cow::into_owned));
    let until = Until { count: Some(plan.bins() as u64), idle: None, first: PATIENCE };
    let (go, gone) = mpsc::channel();
    std::thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let plan = &plan;
        let played = scope.spawn(move || {
            // A listener that failed never sends the start signal.
            gone.recv().map_or(Ok(()), |()| {
                transport::zeromq::play(plan, None, &rig, Speed::Times(10.0), PATIENCE, &mut |_| {}).map(drop)
            })
        });
        let mut go = Some(go);
        // The player waits for the signal, or has failed and reports it below.
        let mut start = || go.take().into_iter().for_each(|go| go.send(()).unwrap_or_default());
        let listened = transport::zeromq::listen(
            &output,
            &mut tally,
            until,
            &AtomicBool::new(false),
            &mut start,
            &mut |_, _| true,
        );
        drop(go);
        played.join().map_err(|_| "the player panicked")??;
        Ok(listened.map(drop)?)
    })?;
    let stats = pipeline.stats();
    pipeline.stop();
    if (stats.refused, stats.overflowed) != (0, 0) {
        return Err(format!("expected no bin refused or dropped, found {stats:?}").into());
    }
    Ok((plan, tally.summary()))
}
