//! Sweeps on this machine: what is ranked, what is not done twice, what a bad run or a bad file leads to.

use ndt_replay::nwb;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_tests::lsl::Running;
use ndt_tests::program;
use ndt_trainer::config::{Config, ConfigFile, KEYS};
use ndt_trainer::sweep::plan::Plan;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// How long a condition is waited for before a test fails.
const SOON: Duration = Duration::from_secs(120);

const SMALL: &str = "\
[base]
model.width = 16
model.layers = 1
model.feedforward = 16
optimiser.batch-trials = 16
objective.redrawn = 0.0
objective.teacher-weight = 0.0
";

/// A folder with a small session and a sweep over it.
fn folder(head: &str, rest: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { trials: 40, units: 20, heldout: 5, seed: 7 };
    nwb::write(&simulate(&recipe), &folder.path().join("session.nwb")).unwrap();
    write(folder.path(), head, rest);
    folder
}

fn write(folder: &Path, head: &str, rest: &str) -> PathBuf {
    let path = folder.join("sweep.toml");
    std::fs::write(&path, format!("data = [\"session.nwb\"]\n{head}\n{SMALL}{rest}")).unwrap();
    path
}

fn sweep(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("ndt-train"));
    command.args(["sweep", "--config"]).arg(folder.join("sweep.toml")).args(arguments);
    command
}

/// What a sweep prints as JSON, and its lines for a log.
fn ranked(folder: &Path, arguments: &[&str]) -> (Value, String) {
    let Output { status, stdout, stderr } = sweep(folder, arguments).arg("--json").output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{said}");
    (serde_json::from_slice(&stdout).unwrap(), said)
}

fn started(said: &str) -> usize {
    said.lines().filter(|line| line.starts_with("running ")).count()
}

/// When the result of each run that is done was written.
fn results(out: &Path) -> BTreeMap<PathBuf, std::time::SystemTime> {
    let runs =
        std::fs::read_dir(out).into_iter().flatten().flatten().map(|entry| entry.path().join("result.json"));
    runs.filter_map(|path| Some((path.clone(), path.metadata().ok()?.modified().ok()?))).collect()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < SOON, "expected {what}, waited {SOON:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn points_are_ranked_by_their_mean_score_and_a_run_that_fails_is_a_row() {
    // A window wants at least two bins: those runs fail.
    let space = "optimiser.epochs = 6\n[space]\noptimiser.learning-rate = [1e-4, 8e-3]\n\
                 model.window-ms = [200.0, 10.0]\n";
    let folder = folder("seeds = [1, 2]", space);
    let out = folder.path().join("sweep");
    let (report, said) = ranked(folder.path(), &["--jobs", "2"]);
    assert_eq!((&report["done"], &report["runs"], started(&said)), (&4.into(), &8.into(), 8), "{said}");
    let points = report["points"].as_array().unwrap();
    assert_eq!((points.len(), report["score"].as_str()), (2, Some("co-bps")));
    assert!(points[0]["score"].as_f64() > points[1]["score"].as_f64(), "{report:#}");
    for point in points {
        assert_eq!((&point["done"], &point["values"]["model.window-ms"]), (&2.into(), &200.0.into()));
    }
    let failed = report["failed"].as_array().unwrap();
    assert_eq!(failed.len(), 4);
    for failed in failed {
        assert!(
            failed["reason"].as_str().unwrap().starts_with("expected a window of at least 2 bins"),
            "{failed}"
        );
        assert_eq!(failed["values"]["model.window-ms"], 10.0);
    }

    // The scores are those of the bundles.
    let plan = Plan::read(&folder.path().join("sweep.toml")).unwrap();
    let rate = |value: &Value| value["values"]["optimiser.learning-rate"].as_f64().unwrap();
    let best = &points[0];
    let scores: Vec<f64> = plan
        .runs
        .iter()
        .filter(|run| run.choices["optimiser"]["learning-rate"].as_float() == Some(rate(best)) && out.join(&run.name).join("model").exists())
        .map(|run| ndt_protocol::Bundle::read(&out.join(&run.name).join("model")).unwrap().manifest.scores["co-bps"])
        .collect();
    let (mean, sd) = ((scores[0] + scores[1]) / 2.0, (scores[0] - scores[1]).abs() / 2f64.sqrt());
    let found = (best["score"].as_f64().unwrap(), best["sd"].as_f64().unwrap());
    assert!((found.0 - mean).abs() < 1e-9 && (found.1 - sd).abs() < 1e-9, "{found:?} of {scores:?}");

    // The best configuration is that of the best run, and fit takes it.
    let best_config = ConfigFile::read(&out.join("best.toml")).unwrap();
    let run = plan.runs.iter().find(|run| run.name == best["best-run"].as_str().unwrap()).unwrap();
    assert!(KEYS.iter().all(|key| best_config.sets(key.name)), "best.toml is a whole configuration");
    let whole = ConfigFile::read(&out.join(&run.name).join("model/config.toml")).unwrap();
    let over = |file: &ConfigFile| file.over(&Config::default()).unwrap();
    assert_eq!(over(&best_config), over(&whole));
    let table = std::fs::read_to_string(out.join("ranking.csv")).unwrap();
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(
        rows[0],
        "rank,model.window-ms,optimiser.learning-rate,co-bps,sd,velocity-r2,seconds,done,seeds,best-run"
    );
    let first: Vec<f64> = rows[1].split(',').take(4).map(|value| value.parse().unwrap()).collect();
    assert!(rows.len() == 3 && first == [1.0, 200.0, rate(best), found.0], "{table}");
    let picture = std::fs::read_to_string(out.join("scores.svg")).unwrap();
    assert!(picture.contains("optimiser.learning-rate") && picture.contains("co-bps"), "{picture}");

    // Only what failed is tried again; a value more costs its own runs; --collect starts nothing.
    let before = results(&out);
    let more = space.replace("8e-3]", "8e-3, 4e-3]").replace(", 10.0]", "]");
    write(folder.path(), "seeds = [1, 2]", &more);
    let (collected, said) = ranked(folder.path(), &["--collect"]);
    assert_eq!((&collected["done"], &collected["runs"], started(&said)), (&4.into(), &6.into(), 0));
    let (report, said) = ranked(folder.path(), &["--jobs", "2"]);
    assert_eq!((&report["done"], started(&said)), (&6.into(), 2), "{said}");
    assert!(
        before.iter().all(|(path, written)| results(&out)[path] == *written),
        "a finished run was repeated"
    );
}

#[test]
fn a_sweep_that_was_killed_goes_on_where_its_runs_were() {
    let space = "optimiser.epochs = 400\noptimiser.patience-epochs = 400\n[space]\noptimiser.warmup-epochs = [5, 10, 15]\n";
    let folder = folder("out = \"kept\"", space);
    let out = folder.path().join("kept");
    let plan = Plan::read(&folder.path().join("sweep.toml")).unwrap();
    let checkpoint = out.join(&plan.runs[1].name).join("model.checkpoint");
    let log = out.join(&plan.runs[1].name).join("log");

    let mut first =
        sweep(folder.path(), &["--jobs", "1"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_until("a checkpoint of the second run", || checkpoint.exists());
    first.kill().unwrap();
    first.wait().unwrap();
    let before = results(&out);
    assert_eq!(before.len(), 1, "the first run was done");
    // Its child is gone with it: nobody else writes to the log any more.
    let children = || {
        let own = |entry: &std::fs::DirEntry| {
            std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&out))
        };
        std::fs::read_dir("/proc").unwrap().flatten().filter(own).count()
    };
    wait_until("the run to end with its sweep", || children() == 0);

    let mut second = Running::start(&mut sweep(folder.path(), &["--jobs", "1"]));
    second.wait_for(&format!("running {}", plan.runs[2].name));
    second.signal(2);
    assert!(!second.end());
    let said = second.heard().join("\n");
    assert!(
        said.contains("ndt-train: stopped with 2 of 3 runs done; the same command goes on from there"),
        "{said}"
    );
    assert!(!said.contains(&format!("running {}", plan.runs[0].name)), "a finished run was repeated: {said}");
    assert_eq!(children(), 0, "children outlive their sweep");
    // The second run has gone on from its checkpoint.
    let log = std::fs::read_to_string(log).unwrap();
    let again = log.rsplit("started").next().unwrap();
    let epoch = again.lines().find_map(|line| serde_json::from_str::<Value>(line).ok()?["epoch"].as_u64());
    assert!(epoch.is_some_and(|epoch| epoch > 10), "the run began anew: {again}");

    let (report, _) = ranked(folder.path(), &["--jobs", "2"]);
    assert_eq!(report["done"], 3);
    assert!(
        before.iter().all(|(path, written)| results(&out)[path] == *written),
        "a finished run was repeated"
    );
    let left =
        std::fs::read_dir(out.join(&plan.runs[1].name)).unwrap().flatten().map(|entry| entry.file_name());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["config.toml", "log", "model", "result.json"]);
}

#[test]
fn two_sweeps_do_not_share_a_folder() {
    let folder = folder("", "optimiser.epochs = 100000\n[space]\nmodel.heads = [1]\n");
    let mut first = Running::start(&mut sweep(folder.path(), &[]));
    first.wait_for("running ");
    let second = sweep(folder.path(), &[]).output().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(
        !second.status.success() && said.contains("for this sweep alone, found another that runs in it"),
        "{said}"
    );
}

#[test]
fn a_bad_file_is_refused_with_every_problem() {
    let folder = folder("", "");
    let text = "data = [\"session.nwb\", \"missing.nwb\"]\nbin-ms = 0\nserach = \"grid\"\npoints = 3\nseeds = [1, 1]\n\
                [base]\nmodel.widht = 3\noptimiser.epochs = \"ten\"\n[space]\noptimiser.learning-rate = [1e-3, \"fast\"]\n\
                optimiser.dropout = { low = 0.0, high = 0.2 }\nmodel.depth = [1]\noptimiser.seed = [1, 2]\n";
    std::fs::write(folder.path().join("sweep.toml"), text).unwrap();
    let refused = sweep(folder.path(), &[]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    for expected in [
        "data: expected a recording at",
        "missing.nwb, found none",
        "bin-ms: expected a width above 0 and up to 1000, found 0",
        "found serach",
        "points: expected none for search grid",
        "seeds: expected different seeds",
        "base.model.widht: unknown field",
        "base.optimiser.epochs: invalid type: string \"ten\"",
        "space.optimiser.learning-rate: invalid type: string \"fast\"",
        "space.optimiser.dropout: expected a list, or a range with a step, for search grid",
        "space.model.depth: unknown field",
        "space.optimiser.seed: expected seeds under seeds",
    ] {
        assert!(said.contains(expected), "expected \"{expected}\", found {said}");
    }
    assert!(!folder.path().join("sweep").exists(), "a refused sweep leaves nothing");
    // Values that only a whole configuration shows to be wrong, each told once.
    write(folder.path(), "seeds = [1, 2]", "[space]\nmodel.heads = [3, 2]\noptimiser.dropout = [0.1, 2.0]\n");
    let said = String::from_utf8(sweep(folder.path(), &[]).output().unwrap().stderr).unwrap();
    assert_eq!(said.matches("expected model.heads to divide model.width 16, found 3").count(), 1, "{said}");
    assert_eq!(said.matches("expected optimiser.dropout from 0 to 0.95, found 2").count(), 1, "{said}");
}

#[test]
fn points_follow_from_the_file_and_names_from_all_that_decides() {
    let random = |points: usize| format!("search = \"random\"\npoints = {points}\nseed = 9");
    let space = "[space]\noptimiser.learning-rate = { low = 1e-3, high = 1e-1, scale = \"log\" }\nmodel.heads = [1, 2]\n";
    let folder = folder(&random(8), space);
    let path = folder.path().join("sweep.toml");
    let plan = Plan::read(&path).unwrap();
    assert_eq!(plan, Plan::read(&path).unwrap(), "the same file gives another plan");
    assert_eq!((plan.points.len(), plan.runs.len()), (8, 8));
    write(folder.path(), &random(12), space);
    let more = Plan::read(&path).unwrap();
    assert_eq!((&more.runs[..8], more.runs.len()), (&plan.runs[..], 12), "more points change the first ones");
    write(folder.path(), &random(8).replace('9', "10"), space);
    assert_ne!(Plan::read(&path).unwrap().points, plan.points);
    // Few points, many draws: each is there once.
    write(
        folder.path(),
        &random(50),
        "[space]\nmodel.heads = [1, 2]\nmodel.layers = { low = 1, high = 3 }\n",
    );
    assert_eq!(Plan::read(&path).unwrap().points.len(), 6);

    let names = |plan: &Plan| plan.runs.iter().map(|run| run.name.clone()).collect::<Vec<_>>();
    let grid = "[space]\nmodel.heads = [1, 2]\n";
    write(folder.path(), "seeds = [4, 5]", grid);
    let four = Plan::read(&path).unwrap();
    assert_eq!(
        four.runs.iter().map(|run| (run.seed, run.point)).collect::<Vec<_>>(),
        [(4, 0), (4, 1), (5, 0), (5, 1)]
    );
    write(folder.path(), "bin-ms = 10\nseeds = [4, 5]", grid);
    let other_bins = Plan::read(&path).unwrap();
    assert!(names(&four).iter().all(|name| !names(&other_bins).contains(name)));
    write(folder.path(), "seeds = [4, 5]", grid);
    let recipe = Recipe { trials: 40, units: 20, heldout: 5, seed: 8 };
    nwb::write(&simulate(&recipe), &folder.path().join("session.nwb")).unwrap();
    let other_data = Plan::read(&path).unwrap();
    assert!(
        names(&four).iter().all(|name| !names(&other_data).contains(name)),
        "another recording, the same names"
    );
}
