//! The baselines beside a fit are fitted to its trials, shown its units and scored on its bins, and none of them can end it.

use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Training;
use ndt_replay::session::{Series, Session};
use ndt_replay::simulate::{Recipe, simulate};
use ndt_trainer::baselines::comparison::{Compared, NoComparison, TRANSFORMER, beside, best};
use ndt_trainer::baselines::runs::{Runs, Units, r2};
use ndt_trainer::baselines::table::Method;
use ndt_trainer::baselines::wiener::Wiener;
use ndt_trainer::config::Config;
use ndt_trainer::data::{Dataset, Selection};
use ndt_trainer::{evaluation, export, training};
use std::ops::ControlFlow;

/// A small model after one epoch, and what it was fitted to.
fn fitted(session: &Session, config: &Config) -> (Bundle, Dataset) {
    let sessions = std::slice::from_ref(session);
    let data = Dataset::selected(sessions, 20.0, &config.readouts.wanted(), &Selection::of(config)).unwrap();
    let fit = training::fit(&data, config, None, &mut training::unwatched).unwrap();
    (export::bundle(&fit, &data, config, Training::of_nothing("a test")).unwrap(), data)
}

fn config() -> Config {
    let mut config = Config::default();
    (config.model.width, config.model.layers, config.model.feedforward) = (16, 2, 16);
    config.model.window_ms = 400.0;
    (config.objective.redrawn, config.objective.teacher_weight) = (0.0, 0.0);
    (config.optimiser.epochs, config.optimiser.batch_trials) = (1, 8);
    config
}

fn session() -> Session {
    simulate(&Recipe { trials: 40, units: 12, heldout: 4, seed: 9 })
}

fn rows(bundle: &Bundle, data: &Dataset) -> Vec<Compared> {
    beside(bundle, data, &mut |_, _, _| ControlFlow::Continue(())).unwrap()
}

fn row<'a>(rows: &'a [Compared], name: &str) -> &'a Compared {
    rows.iter().find(|row| row.score.decoder == name).unwrap_or_else(|| panic!("no row {name} in {rows:#?}"))
}

#[test]
fn all_are_scored_on_the_bins_of_evaluate_and_of_the_baselines_command() {
    let session = session();
    let (bundle, data) = fitted(&session, &config());
    let rows = rows(&bundle, &data);
    let evaluated = |split| evaluation::evaluate(&bundle, &session, split).unwrap().readouts[0].mean;
    let model = &rows[0].score;
    assert_eq!(model.decoder, TRANSFORMER);
    assert_eq!((model.validation_r2, model.test_r2), (evaluated("val"), evaluated("test")));

    // The units that the model sees, the published lag, and the test trials.
    let runs = Runs::new(std::slice::from_ref(&session), 20.0, "test", Units::Heldin).unwrap();
    for bins in [5, 10, 15] {
        let wiener = Wiener::fit(&runs, 0, bins).unwrap();
        let test = r2(&runs.scored, 0, runs.dims, |counts| wiener.decode(counts)).mean();
        let found = row(&rows, &format!("Wiener {bins} bins"));
        assert_eq!((found.score.test_r2, found.score.validation_r2), (test, Some(wiener.validation_r2())));
        assert_eq!((found.exported, found.score.history_bins), (Some(Method::Wiener), Some(bins)));
    }
    // Two layers that see 20 bins each.
    let reach = row(&rows, "Wiener 39 bins, the model's history");
    assert_eq!((reach.score.history_bins, reach.exported), (Some(39), None));
    assert!(reach.score.chosen.starts_with("lags in 16 groups, penalty "), "{}", reach.score.chosen);
    let clock = row(&rows, "clock: time in the trial alone");
    assert_eq!((clock.score.history_bins, clock.exported), (None, None));
    assert!(rows.iter().all(|row| row.score.failed.is_none() && row.score.test_r2.is_some()), "{rows:#?}");
    let highest = rows[1..].iter().filter_map(|row| row.score.validation_r2).fold(f64::MIN, f64::max);
    assert_eq!(best(&rows, |_| true).unwrap().score.validation_r2, Some(highest));
    assert_eq!(best(&rows, |row| row.exported == Some(Method::Gru)), None);
}

#[test]
fn a_baseline_that_cannot_be_fitted_is_a_row_that_says_why() {
    // Twelve muscles, of which one electrode is broken: smoothing decodes two components only.
    let mut session = session();
    let velocity = session.series("hand_vel").unwrap().clone();
    let rows_of = velocity.data.chunks_exact(2);
    let muscles =
        rows_of.flat_map(|row| (0..12).map(|at| if at == 7 { 3.0 } else { row[at % 2] * (1 + at) as f64 }));
    let emg = Series {
        name: "EMG".to_owned(),
        unit: "mV".to_owned(),
        dims: 12,
        data: muscles.collect(),
        ..velocity
    };
    session.behavior = vec![emg];
    let (bundle, data) = fitted(&session, &config());
    let rows = rows(&bundle, &data);
    let smoothing = &row(&rows, "smoothing + ridge").score;
    let why = "expected a velocity of 2 components for smoothing and ridge, found 12";
    assert_eq!((smoothing.failed.as_deref(), smoothing.validation_r2), (Some(why), None));
    assert!(row(&rows, "Wiener 10 bins").score.validation_r2.is_some_and(f64::is_finite));
    assert!(row(&rows, "clock: time in the trial alone").score.validation_r2.is_some_and(f64::is_finite));

    let kalman = row(&rows, "Kalman position, velocity, acceleration").score.failed.clone().unwrap();
    assert!(kalman.starts_with("expected at most 2e11 multiplications, found "), "{kalman}");

    // One training trial is too few for a Kalman filter.
    let (bundle, data) = fitted(&self::session(), &config());
    let mut few = data.clone();
    few.train.truncate(1);
    let rows = self::rows(&bundle, &few);
    let why = row(&rows, "Kalman position, velocity, acceleration").score.failed.clone().unwrap();
    assert!(why.starts_with("expected at least two training runs of known velocity"), "{why}");
    assert!(row(&rows, "Wiener 5 bins").score.failed.is_none());

    // Whoever interrupts the program gets the rows so far.
    let mut asked = 0;
    let rows = beside(&bundle, &data, &mut |_, _, _| {
        asked += 1;
        if asked > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let rows = rows.unwrap();
    assert!(rows[1].score.failed.is_none());
    let why = "expected to fit it, found the program interrupted";
    assert!(
        rows.len() > 4 && rows[2..].iter().all(|row| row.score.failed.as_deref() == Some(why)),
        "{rows:#?}"
    );
}

#[test]
fn without_a_behaviour_that_changes_there_is_nothing_to_compare() {
    let mut session = session();
    let (bundle, mut data) = fitted(&session, &config());
    for trial in &mut data.val {
        trial.targets.fill(0.25);
    }
    let found = |bundle: &Bundle, data: &Dataset| {
        beside(bundle, data, &mut |_, _, _| ControlFlow::Continue(())).unwrap_err()
    };
    assert_eq!(found(&bundle, &data), NoComparison::Constant);
    session.behavior.clear();
    let (bundle, data) = fitted(&session, &config());
    assert_eq!(found(&bundle, &data), NoComparison::NoBehavior);
}

#[test]
fn in_time_without_trials_no_clock_is_compared() {
    let mut session = session();
    let end = session.trials.last().unwrap().interval.stop;
    session.trials.clear();
    session.observed[0].stop = end;
    session.observed.truncate(1);
    let (bundle, data) = fitted(&session, &config());
    let rows = rows(&bundle, &data);
    assert!(!rows.iter().any(|row| row.score.decoder.starts_with("clock")), "{rows:#?}");
    assert!(row(&rows, "Wiener 15 bins").score.validation_r2.is_some_and(f64::is_finite));
}
