//! Recordings with one oddity each, and the sentence that each of them gets.

use super::*;
use crate::simulate::{Recipe, simulate};

fn session() -> Session {
    simulate(&Recipe { trials: 20, units: 4, heldout: 1, seed: 1 })
}

fn check(change: &dyn Fn(&mut Session), expected: &[&str]) {
    let mut session = session();
    change(&mut session);
    let found: Vec<String> = findings(&session).iter().map(Finding::to_string).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "expected {expected} in {found}");
    }
}

fn velocity(session: &mut Session) -> &mut Series {
    named(session, "hand_vel")
}

fn named<'a>(session: &'a mut Session, name: &str) -> &'a mut Series {
    session.behavior.iter_mut().find(|series| series.name == name).unwrap()
}

#[test]
fn an_orderly_recording_has_no_findings() {
    check(&|_| {}, &[]);
    let expected = "rates, and hand_vel, 2 components in m/s";
    assert_eq!(decoded(&session()), expected);
    let mut tested = session();
    tested.trials.iter_mut().for_each(|trial| trial.split = Some("Test".to_owned()));
    assert!(decoded(&tested).starts_with("nothing: all trials are of the splits test and none"));
}

#[test]
fn behaviour_on_another_clock_is_found_whether_some_trials_or_none_have_it() {
    let shifted = |by_s: f64| {
        move |session: &mut Session| {
            velocity(session).timestamps.iter_mut().for_each(|time| *time += by_s);
        }
    };
    check(&shifted(20.0), &["have behaviour: the rest is neither decoded nor scored; check whether"]);
    check(&shifted(2e4), &["so that 0 of 20 have behaviour: it is not read out"]);
    let mut apart = session();
    shifted(2e4)(&mut apart);
    assert_eq!(decoded(&apart), "rates alone: hand_vel has no value in the trials");
    let continuous = |session: &mut Session| {
        (session.trials, session.observed) = (Vec::new(), Vec::new());
        shifted(-20.0)(session);
    };
    check(&continuous, &["hand_vel has samples from -"]);
}

#[test]
fn trials_that_overlap_or_were_not_observed_are_found() {
    let overlap =
        |session: &mut Session| session.trials[3].interval.start = session.trials[2].interval.stop - 0.35;
    check(
        &overlap,
        &["1 of 20 trials begin before an earlier one has ended, the first of them trial 3, 0.350 s"],
    );
    let rounded =
        |session: &mut Session| session.trials[3].interval.start = session.trials[2].interval.stop - 1e-4;
    check(&rounded, &[]);
    let unobserved = |session: &mut Session| session.observed.retain(|open| open.start > 10.0);
    check(&unobserved, &["trials lie outside of the observed time: they have no bins"]);
}

#[test]
fn a_trial_without_a_go_cue_is_found_and_a_column_without_values_is_not() {
    let with = |value: &dyn Fn(usize) -> f64, session: &mut Session| {
        for (at, trial) in session.trials.iter_mut().enumerate() {
            trial.columns.insert("go_cue_time".to_owned(), Value::Float(value(at)));
        }
    };
    let one = |session: &mut Session| with(&|at| if at == 7 { f64::NAN } else { at as f64 }, session);
    check(
        &one,
        &["(go_cue_time in 1 of 20), as aborted trials are, the first of them trial 7: they are used"],
    );
    check(&|session| with(&|_| f64::NAN, session), &[]);
}

#[test]
fn units_that_were_converted_and_units_that_are_not_known_are_found() {
    let converted = |session: &mut Session| velocity(session).converted_from = Some("cm/s".to_owned());
    check(&converted, &["values were converted, hand_vel from cm/s to m/s"]);
    let unit = |unit: &'static str| move |session: &mut Session| velocity(session).unit = unit.to_owned();
    check(
        &unit("pixels/s"),
        &["hand_vel is recorded in \"pixels/s\": no conversion into m/s is known, and values and unit"],
    );
    check(&unit(""), &["hand_vel is recorded in no unit: no conversion"]);
    check(
        &unit("m"),
        &["recorded in \"m\": that is the unit of another quantity, and the values are taken as if"],
    );
}

#[test]
fn a_component_that_never_changes_is_found() {
    let still =
        |session: &mut Session| velocity(session).data.iter_mut().skip(1).step_by(2).for_each(|y| *y = 0.0);
    check(
        &still,
        &["component 2 of 2 of hand_vel never changes: the component has no R2, and means are over"],
    );
    let both = |session: &mut Session| velocity(session).data.fill(0.0);
    check(&both, &["component 1 and 2 of 2 of hand_vel never changes: it has no R2"]);
}

#[test]
fn splits_that_no_program_knows_are_found() {
    let named = |session: &mut Session| session.trials[0].split = Some("practice".to_owned());
    check(&named, &["splits of other names than train, val, test, none: practice"]);
    let numbers = |session: &mut Session| {
        session.trials[0].columns.insert("split".to_owned(), Value::Int(1));
    };
    check(&numbers, &["the trials' column split holds no text"]);
}

#[test]
fn a_recording_without_hand_vel_says_what_is_decoded_in_its_place() {
    let mut session = session();
    velocity(&mut session).name = "velocity".to_owned();
    assert_eq!(decoded(&session), "rates, and velocity, 2 components in m/s");
    named(&mut session, "velocity").name = "joystick".to_owned();
    assert_eq!(decoded(&session), "rates, and joystick, 2 components in m/s", "by its unit");
    named(&mut session, "joystick").unit = "a.u.".to_owned();
    session.behavior.retain(|series| series.name == "joystick");
    assert_eq!(
        decoded(&session),
        "rates alone: there is no series hand_vel; --behavior chooses one of joystick (columns 0 to 1)"
    );
}

#[test]
fn the_same_recording_is_recognised_whatever_it_is_called() {
    let [first, mut again] = [session(), session()];
    again.identifier = "another name".to_owned();
    let other = simulate(&Recipe { trials: 20, units: 4, heldout: 1, seed: 2 });
    assert_eq!(same_twice(&[first.clone(), other.clone(), again]), Some((1, 3)));
    assert_eq!(same_twice(&[first, other]), None);
}
