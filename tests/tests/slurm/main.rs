//! Sweeps as job arrays, on a real Slurm of one node.

mod cluster;

use cluster::{Cluster, wait_until};
use ndt_replay::nwb;
use ndt_replay::simulate::{Recipe, simulate};
use ndt_tests::program;
use ndt_trainer::sweep::plan::Plan;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder of the kind that people have, with a session and a sweep.
fn folder(parent: &Path, rates: &str, epochs: usize) -> PathBuf {
    let folder = parent.join("it's 50%a \"done\"");
    std::fs::create_dir_all(&folder).unwrap();
    let recipe = Recipe { trials: 40, units: 20, heldout: 5, seed: 7 };
    nwb::write(&simulate(&recipe), &folder.join("session.nwb")).unwrap();
    write(&folder, rates, epochs);
    folder
}

fn write(folder: &Path, rates: &str, epochs: usize) {
    let text = format!(
        "data = [\"session.nwb\"]\nseeds = [1, 2]\n[base]\nmodel.width = 16\nmodel.layers = 1\nmodel.feedforward = 16\n\
         optimiser.batch-trials = 16\noptimiser.epochs = {epochs}\noptimiser.patience-epochs = {epochs}\n\
         objective.redrawn = 0.0\nobjective.teacher-weight = 0.0\n\
         [space]\noptimiser.learning-rate = [{rates}]\n"
    );
    std::fs::write(folder.join("sweep.toml"), text).unwrap();
}

fn sweep(cluster: &Cluster, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = cluster.command(program("ndt-train"));
    command.args(["sweep", "--config"]).arg(folder.join("sweep.toml")).args(arguments).arg("--json");
    command
}

/// What a sweep prints as JSON, and what it says beside it.
fn report(cluster: &Cluster, folder: &Path, arguments: &[&str]) -> (Value, String) {
    let Output { status, stdout, stderr } = sweep(cluster, folder, arguments).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{said}");
    (serde_json::from_slice(&stdout).unwrap(), said)
}

const SLURM: [&str; 2] = ["--executor", "slurm"];

#[test]
fn a_job_array_is_submitted_once_waited_for_and_ranked() {
    let Some(cluster) = Cluster::start() else { return };
    let parent = tempfile::tempdir().unwrap();
    let folder = folder(parent.path(), "1e-4, 8e-3", 6);
    let slurm = folder.join("sweep/slurm");
    let options = ["--jobs", "2", "--partition", "cpu", "--time", "00:20:00", "--cpus", "1", "--mem", "1"];
    let (first, said) = report(&cluster, &folder, &[&SLURM[..], &options].concat());
    assert!(said.contains("with 4 runs"), "{said}");
    let script = std::fs::read_to_string(slurm.join("1/array.sh")).unwrap();
    assert!(script.contains("#SBATCH --array=0-3%2\n") && script.contains("#SBATCH --mem=1\n"), "{script}");
    assert_eq!(
        (&first["done"], &first["runs"], &first["failed"]),
        (&4.into(), &4.into(), &Value::Array(vec![]))
    );
    let points = first["points"].as_array().unwrap();
    assert!(points.len() == 2 && points[0]["score"].as_f64() > points[1]["score"].as_f64(), "{first:#}");
    assert_eq!((&points[0]["rank"], &points[0]["done"]), (&1.into(), &2.into()));

    // The same scores as on this machine.
    let here = parent.path().join("here");
    std::fs::create_dir(&here).unwrap();
    for name in ["session.nwb", "sweep.toml"] {
        std::fs::copy(folder.join(name), here.join(name)).unwrap();
    }
    let (local, _) = report(&cluster, &here, &["--jobs", "2"]);
    for (cluster, local) in points.iter().zip(local["points"].as_array().unwrap()) {
        assert_eq!((&cluster["values"], &cluster["best-run"]), (&local["values"], &local["best-run"]));
        assert_eq!((&cluster["score"], &cluster["sd"]), (&local["score"], &local["sd"]));
        let id = |folder: &Path| {
            let model = folder.join("sweep").join(local["best-run"].as_str().unwrap()).join("model");
            ndt_protocol::Bundle::read(&model).unwrap().manifest.id
        };
        assert_eq!(id(&folder), id(&here), "the same model to the bit");
    }

    // A second call submits nothing.
    let (second, said) = report(&cluster, &folder, &SLURM);
    assert!(second == first && !said.contains("submitted"), "{said}");
    assert!(!slurm.join("2").exists());

    // A value more is two runs more; while they are in the queue, nobody starts them again.
    write(&folder, "1e-4, 8e-3, 4e-3", 6);
    let (held, _) = report(&cluster, &folder, &[&SLURM[..], &["--no-wait", "--sbatch-arg=--hold"]].concat());
    assert_eq!((&held["jobs"][0]["runs"], &held["queued"]), (&2.into(), &0.into()));
    let (again, _) = report(&cluster, &folder, &[&SLURM[..], &["--no-wait"]].concat());
    assert_eq!((&again["jobs"], &again["queued"]), (&Value::Array(vec![]), &2.into()));
    let refused = sweep(&cluster, &folder, &[]).output().unwrap();
    assert!(String::from_utf8(refused.stderr).unwrap().contains("expected no run in Slurm's queue, found 2"));
    let (collected, _) = report(&cluster, &folder, &["--collect"]);
    assert_eq!((&collected["done"], &collected["runs"]), (&4.into(), &6.into()));
    cluster.asks("scontrol", &["release", held["jobs"][0]["id"].as_str().unwrap()]);
    let (third, said) = report(&cluster, &folder, &SLURM);
    assert!(third["done"] == 6 && !said.contains("submitted"), "{said}");
}

#[test]
fn jobs_that_are_requeued_or_cancelled_go_on_from_their_checkpoint() {
    let Some(cluster) = Cluster::start() else { return };
    let parent = tempfile::tempdir().unwrap();
    let folder = folder(parent.path(), "1e-3", 100_000);
    let plan = Plan::read(&folder.join("sweep.toml")).unwrap();
    let run = |at: usize| plan.out.join(&plan.runs[at].name);
    let log = |at: usize| std::fs::read_to_string(run(at).join("log")).unwrap_or_default();
    // The first epoch of the last start, once there are as many.
    let first_epoch = |at: usize, starts: usize| {
        let log = log(at);
        let last = log.rsplit("started").next().filter(|_| log.matches("started").count() == starts)?;
        last.lines().find_map(|line| serde_json::from_str::<Value>(line).ok()?["epoch"].as_u64())
    };
    let goes_on = |at: usize, starts: usize| first_epoch(at, starts).map_or_else(|| Err(log(at)), Ok);

    let mut command = sweep(&cluster, &folder, &SLURM);
    let waiting = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("checkpoints of both runs", || {
        let is_there = (0..2).all(|at| run(at).join("model.checkpoint").exists());
        is_there.then_some(()).ok_or_else(|| cluster.asks("squeue", &[]) + &log(0))
    });
    let id = std::fs::read_to_string(plan.out.join("slurm/1/job")).unwrap().trim().to_owned();
    cluster.asks("scontrol", &["requeue", &format!("{id}_0")]);
    wait_until("the requeued job to go on", || goes_on(0, 2).map(drop));
    assert!(goes_on(0, 2).is_ok_and(|epoch| epoch > 10), "{}", log(0));
    cluster.asks("scancel", &[&format!("{id}_0"), &format!("{id}_1")]);
    let Output { status, stderr, .. } = waiting.wait_with_output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(!status.success() && said.contains("expected a run that is done, found none of 2"), "{said}");
    for index in 0..2 {
        assert!(said.contains(&format!("failed  {}", plan.runs[index].name)), "{said}");
    }

    let (submitted, _) = report(&cluster, &folder, &[&SLURM[..], &["--no-wait"]].concat());
    assert_eq!(submitted["jobs"][0]["runs"], 2);
    wait_until("the cancelled job to go on", || goes_on(1, 2).map(drop));
    assert!(goes_on(1, 2).is_ok_and(|epoch| epoch > 10), "{}", log(1));
}

#[test]
fn what_slurm_refuses_is_said_in_its_words() {
    let Some(cluster) = Cluster::start() else { return };
    let parent = tempfile::tempdir().unwrap();
    let folder = folder(parent.path(), "1e-3", 6);
    let refused =
        sweep(&cluster, &folder, &[&SLURM[..], &["--partition", "none-such"]].concat()).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("expected sbatch to succeed, found: "), "{said}");
    assert!(said.contains("invalid partition"), "{said}");
    // A refusal is no submission: the next one is whole.
    let (report, _) = report(&cluster, &folder, &SLURM);
    assert_eq!(report["done"], 2);
}
