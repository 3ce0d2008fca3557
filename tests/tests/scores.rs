//! Every score that a report prints is explained in one place, which a command prints too.

use ndt_tests::{program, workspace};
use ndt_trainer::config::Config;
use ndt_trainer::evaluation::EXPLANATION;
use ndt_trainer::sweep::plan::{Plan, Run};
use ndt_trainer::sweep::ranking::Ranking;
use ndt_trainer::sweep::run::{Outcome, State};
use std::collections::BTreeMap;
use std::process::Command;

/// The names in the first column of the page's table.
fn explained() -> Vec<String> {
    let rows = EXPLANATION.lines().filter_map(|line| line.strip_prefix("| `"));
    let first = rows.filter_map(|row| row.split(" | ").next().map(|cell| format!("`{cell}")));
    first.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn the_command_prints_the_page_and_the_page_explains_every_score() {
    let page = std::fs::read_to_string(workspace().join("trainer/docs/scores.md")).unwrap();
    let printed = Command::new(program("ndt-train")).args(["evaluate", "--explain"]).output().unwrap();
    assert!(printed.status.success());
    assert_eq!(String::from_utf8(printed.stdout).unwrap().trim_end(), page.trim_end());
    let explained = explained();
    for score in [
        "co-bps",
        "masked-bps",
        "velocity-r2",
        "hand-vel-100-ms-r2",
        "vel R2",
        "psth R2",
        "fp-bps",
        "changes co-bps by",
    ] {
        assert!(explained.iter().any(|name| name == score), "expected {score} among {explained:?}");
    }
}

#[test]
fn every_score_in_a_manifest_is_a_row_of_the_page() {
    let explained = explained();
    let session = ndt_replay::simulate::simulate(&ndt_replay::simulate::Recipe {
        trials: 30,
        units: 8,
        heldout: 2,
        seed: 1,
    });
    for is_heldout in [true, false] {
        let mut session = session.clone();
        session.units.iter_mut().for_each(|unit| unit.heldout &= is_heldout);
        let mut config = Config::default();
        (config.model.width, config.model.layers, config.model.feedforward) = (16, 1, 16);
        (config.objective.redrawn, config.objective.teacher_weight, config.optimiser.epochs) = (0.0, 0.0, 1);
        let wanted = config.readouts.wanted();
        let data = ndt_trainer::data::Dataset::reading(&[session], 20.0, &wanted).unwrap();
        let fit =
            ndt_trainer::training::fit(&data, &config, None, &mut ndt_trainer::training::unwatched).unwrap();
        let origin = ndt_protocol::bundle::manifest::Training::of_nothing("a test");
        let scores = ndt_trainer::export::bundle(&fit, &data, &config, origin).unwrap().manifest.scores;
        for name in scores.keys() {
            assert!(explained.contains(name), "expected {name} among {explained:?}");
        }
        assert_eq!(scores.len(), 1 + config.readouts.lags_ms.len(), "each score has one name: {scores:?}");
    }
}

/// A sweep of three points with one finished run each.
fn swept(scores: [&[(&str, f64)]; 3]) -> (Plan, Vec<State>) {
    let run =
        |point: usize| Run { name: format!("run-{point}"), point, seed: 1, choices: toml::Table::new() };
    let plan = Plan {
        data: Vec::new(),
        bin_ms: None,
        selected: Default::default(),
        options: Vec::new(),
        out: "nowhere".into(),
        keys: Vec::new(),
        points: vec![Vec::new(); 3],
        runs: (0..3).map(run).collect(),
    };
    let outcome = |scores: &[(&str, f64)]| Outcome {
        scores: scores.iter().map(|(name, score)| ((*name).to_owned(), *score)).collect::<BTreeMap<_, _>>(),
        epoch: 1,
        seconds: 1.0,
    };
    (plan, scores.iter().map(|scores| State::Done(outcome(scores))).collect())
}

#[test]
fn a_sweep_is_ranked_by_any_score_that_is_asked_for() {
    let (plan, states) = swept([
        &[("co-bps", 0.1), ("velocity-r2", 0.7), ("hand-vel-100-ms-r2", 0.5)],
        &[("co-bps", 0.3), ("velocity-r2", 0.6)],
        &[("co-bps", 0.2), ("velocity-r2", 0.9), ("hand-vel-100-ms-r2", 0.4)],
    ]);
    let order = |by| {
        let ranking = Ranking::new(&plan, &states, by);
        (ranking.score, ranking.points.iter().map(|point| point.best_run.clone()).collect::<Vec<_>>())
    };
    assert_eq!(order(None), ("co-bps".to_owned(), ["run-1", "run-2", "run-0"].map(str::to_owned).to_vec()));
    let by_velocity = ["run-2", "run-0", "run-1"].map(str::to_owned).to_vec();
    assert_eq!(order(Some("velocity-r2")), ("velocity-r2".to_owned(), by_velocity));
    let by_lag = ["run-0", "run-2"].map(str::to_owned).to_vec();
    assert_eq!(
        order(Some("hand-vel-100-ms-r2")),
        ("hand-vel-100-ms-r2".to_owned(), by_lag),
        "one run has none"
    );
    assert_eq!(order(Some("nonsense")).1, Vec::<String>::new());
}
