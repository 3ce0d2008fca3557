//! What `ndt-train evaluate --history stream` says is what `ndt-replay listen` hears from a daemon that is told of no trial.
//!
//! The trials of a session, some of them with holes in the observation, are played without segment flags. The R2 of what arrives is
//! compared with the R2 that the trainer computes.

use ndt_daemon::config::Config;
use ndt_daemon::engine::native::Native;
use ndt_daemon::pipeline;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Training;
use ndt_replay::listen::{Summary, TRUTH_SERIES, Tally, Until};
use ndt_replay::play::{Channels, Plan, Speed};
use ndt_replay::session::{Interval, Session};
use ndt_replay::simulate::{Recipe, simulate};
use ndt_replay::transport;
use ndt_tests::{holes, on_loopback};
use ndt_trainer::config::Config as FitConfig;
use ndt_trainer::data::Dataset;
use ndt_trainer::evaluation::{Evaluation, History, evaluate_after};
use ndt_trainer::{export, training};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A session in which the first validation trials were not observed throughout: one hole is bridged, the other resets the decoder.
fn session() -> Session {
    let mut session = simulate(&Recipe { trials: 30, units: 24, heldout: 6, seed: 2 });
    let validation: Vec<Interval> =
        session.trials.iter().filter(|trial| trial.is_in("val")).map(|trial| trial.interval).collect();
    let holes = [holes::hole(&validation[1], 3.0), holes::hole(&validation[2], 20.0)];
    // What the policy answers in the longer hole is no decoding: no movement is known there.
    for series in &mut session.behavior {
        let rows = series.timestamps.iter().zip(series.data.chunks_exact_mut(series.dims));
        let hidden =
            rows.filter(|(time, _)| holes[1].start - 1e-6 <= **time && **time <= holes[1].stop + 1e-6);
        hidden.for_each(|(_, row)| row.fill(f64::NAN));
    }
    holes.iter().for_each(|hole| holes::cut(&mut session, hole));
    session
}

fn bundle(session: &Session) -> Bundle {
    let mut config = FitConfig::default();
    (config.model.width, config.model.layers, config.model.feedforward) = (24, 2, 32);
    (config.objective.redrawn, config.objective.teacher_weight) = (0.0, 0.0);
    (config.optimiser.epochs, config.optimiser.batch_trials) = (15, 8);
    let data = Dataset::reading(std::slice::from_ref(session), 20.0, &config.readouts.wanted()).unwrap();
    let fit = training::fit(&data, &config, None, &mut training::unwatched).unwrap();
    export::bundle(&fit, &data, &config, Training::of_nothing("a test")).unwrap()
}

/// What is heard of a play in which the daemon computed every bin: a machine that is too busy is given another try.
fn heard(bundle: &Bundle, session: &Session, plan: &Plan, answers: usize) -> Summary {
    let computed = |summary: &Summary| {
        let of = |quality: &str| summary.quality.get(quality).copied().unwrap_or(0);
        of("good") + of("warmup") == plan.bins() as u64
    };
    for _ in 0..5 {
        let summary = played(bundle, session, plan, answers);
        println!("{summary}");
        if computed(&summary) {
            return summary;
        }
    }
    panic!("expected a play in which every bin is computed, found none in five");
}

/// Plays `plan` to a daemon with this bundle, and tallies so many of the estimates that it publishes.
fn played(bundle: &Bundle, session: &Session, plan: &Plan, answers: usize) -> Summary {
    // Only computed estimates are scored, so a busy machine must not miss a deadline.
    let config = Config { deadline_ms: Some(5_000.0), stale_after_bins: 250, ..on_loopback() };
    let pipeline = pipeline::start(&config, bundle, Box::new(Native::new(bundle))).unwrap();
    let rig = format!("connect:{}", pipeline.input()).parse().unwrap();
    let output = pipeline.output().parse().unwrap();
    let mut tally = Tally::new(session.series(TRUTH_SERIES).cloned());
    let until = Until { count: Some(answers as u64), idle: None, first: PATIENCE };
    let (go, gone) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            gone.recv().unwrap();
            transport::zeromq::play(plan, None, &rig, Speed::Times(10.0), PATIENCE, &mut |_| {}).unwrap();
        });
        let mut ready = || go.send(()).unwrap();
        let stop = AtomicBool::new(false);
        transport::zeromq::listen(&output, &mut tally, until, &stop, &mut ready, &mut |_, _| true).unwrap();
    });
    pipeline.stop();
    tally.summary()
}

fn r2(evaluation: &Evaluation) -> f64 {
    evaluation.readouts[0].mean.unwrap()
}

#[test]
fn a_stream_without_flags_scores_what_the_daemon_answers_with_gaps_as_gaps() {
    let session = session();
    let bundle = bundle(&session);
    let plan = Plan::new(&session, Some("val"), 20.0, Channels::HeldIn).unwrap();
    let [cold, stream] = [History::Cold, History::Stream]
        .map(|history| evaluate_after(&bundle, &session, "val", history).unwrap());
    let flagged = heard(&bundle, &session, &plan, plan.bins()).velocity_r2_mean.unwrap();
    assert!((flagged - r2(&cold)).abs() < 1e-4, "with flags: heard {flagged}, cold {}", r2(&cold));
    // Every bin of a gap is answered, those of the one that resets by the policy.
    let (unflagged, answers) = (plan.clone().unflagged(), plan.bins() + 23);
    let unflagged = heard(&bundle, &session, &unflagged, answers).velocity_r2_mean.unwrap();
    assert!((unflagged - r2(&stream)).abs() < 1e-4, "without: heard {unflagged}, stream {}", r2(&stream));
    assert!((r2(&stream) - r2(&cold)).abs() > 1e-3, "{} {}", r2(&stream), r2(&cold));
    assert_eq!((cold.trials, cold.bins), (stream.trials, stream.bins));
}
