//! The same settings give the same model through whichever command or library they come, and a bundle says truly how it was fitted.

use ndt_protocol::Bundle;
use ndt_replay::nwb;
use ndt_replay::simulate::{self, simulate};
use ndt_tests::{SMALL_FIT, program};
use ndt_trainer::config::ConfigFile;
use ndt_trainer::recipe::{Prepared, Recipe, provenance};
use ndt_trainer::{export, training};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The settings of a small fit. The keys that follow from the data are left open.
fn settings() -> String {
    format!("{SMALL_FIT}epochs = 3\n")
}

/// A folder with a session, for which the defaults are not the fixed ones: no unit is held out, and there are few trials.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let recipe = simulate::Recipe { trials: 40, units: 12, heldout: 0, seed: 7 };
    nwb::write(&simulate(&recipe), &folder.path().join("session.nwb")).unwrap();
    std::fs::write(folder.path().join("settings.toml"), settings()).unwrap();
    folder
}

/// Runs a line of the shell in the folder; gives what it prints and what it says beside it.
fn shell(folder: &Path, line: &str) -> (String, String) {
    let bin = program("ndt-train").parent().unwrap().to_owned();
    program("ndt-replay");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    let output = command.args(["-c", line]).current_dir(folder).env("PATH", path).output().unwrap();
    let Output { status, stdout, stderr } = output;
    let said = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{line}: {said}");
    (String::from_utf8(stdout).unwrap(), said)
}

fn id(path: &Path) -> String {
    Bundle::read(path).unwrap().manifest.id
}

/// The value of a key in a bundle's configuration.
fn taken(path: &Path, key: &str) -> String {
    let config: toml::Table = Bundle::read(path).unwrap().origin.config.parse().unwrap();
    let (table, key) = key.split_once('.').unwrap();
    config[table][key].to_string()
}

#[test]
fn the_same_settings_give_the_same_bundle_through_every_door() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let fit = "ndt-train fit --data session.nwb";
    let (_, said) = shell(folder.path(), &format!("{fit} --config settings.toml --seed 3 --out fit"));
    for note in ["objective.velocity-weight = 0.1: no unit", "optimiser.batch-trials = 8: 24 training trials"]
    {
        assert!(said.contains(note), "{said}");
    }
    let expected = id(&at("fit"));

    // From a pipe, from the bundle's own configuration, and from what is printed before a fit.
    shell(folder.path(), &format!("{fit} --config <(cat settings.toml) --seed 3 --out pipe"));
    shell(folder.path(), &format!("{fit} --config fit/config.toml --out again"));
    shell(folder.path(), &format!("{fit} --config settings.toml --seed 3 --print-config > printed.toml"));
    shell(folder.path(), &format!("{fit} --config printed.toml --out printed"));
    for door in ["pipe", "again", "printed"] {
        assert_eq!(id(&at(door)), expected, "{door}");
    }

    // Bins and units are part of the configuration.
    shell(folder.path(), &format!("{fit} --config settings.toml --bin-ms 40 --units all --out wide"));
    shell(folder.path(), &format!("{fit} --config wide/config.toml --out wide-again"));
    assert_eq!(id(&at("wide-again")), id(&at("wide")));
    assert_eq!(Bundle::read(&at("wide-again")).unwrap().manifest.bin_width_ms, 40.0);

    // A sweep of one point.
    let base = settings().replace('[', "[base.");
    let sweep = format!("data = [\"session.nwb\"]\nseeds = [3]\n{base}[space]\nmodel.heads = [2]\n");
    std::fs::write(at("sweep.toml"), sweep).unwrap();
    let (report, _) = shell(folder.path(), "ndt-train sweep --config sweep.toml --json");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let run = report["points"][0]["best-run"].as_str().unwrap();
    assert_eq!(id(&at("sweep").join(run).join("model")), expected);
    shell(folder.path(), &format!("{fit} --config sweep/best.toml --out best"));
    assert_eq!(id(&at("best")), expected);

    // The library.
    let config = Some(ConfigFile::read(&at("settings.toml")).unwrap());
    let recipe = Recipe { config, seed: Some(3), ..Recipe::default() };
    let session = nwb::read(&at("session.nwb")).unwrap();
    let Prepared { data, config, .. } = recipe.prepare(&[session]).unwrap();
    let fit = training::fit(&data, &config, None, &mut training::unwatched).unwrap();
    let origin = provenance(&[at("session.nwb")], config.optimiser.seed, fit.epoch, None).unwrap();
    let bundle = export::bundle(&fit, &data, &config, origin).unwrap();
    assert_eq!(bundle.write(&at("library")).unwrap().id, expected);
}

#[test]
fn notes_and_the_bundle_tell_what_was_taken() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let settings = settings().replace("redrawn", "coordinated-dropout = 0.1\nredrawn");
    std::fs::write(at("other.toml"), settings).unwrap();
    let fit = "ndt-train fit --data session.nwb";
    let (_, said) = shell(folder.path(), &format!("{fit} --config other.toml --out other"));
    assert!(said.contains("coordinated-dropout = 0.1 as configured; the default is 0.3: "), "{said}");
    assert_eq!(taken(&at("other"), "objective.coordinated-dropout"), "0.1");

    let record = Bundle::read(&at("other")).unwrap().origin.record.unwrap();
    assert_eq!(record.curve.len(), 3);
    assert_eq!(record.command[1..4], ["fit", "--data", "session.nwb"]);
    let (text, _) = shell(folder.path(), "ndt-replay inspect --bundle other");
    for part in [
        "config     objective: channel-dropout 0.01, cold 0.5, coordinated-dropout 0.1, ",
        ": 24 fitted, 8 for validation, 8 for test\n",
        "command    ",
    ] {
        assert!(text.contains(part), "{text}");
    }

    // A configuration that is given and empty is said; nothing is fitted for a printed one.
    let (text, _) = shell(folder.path(), &format!("{fit} --config /dev/null --print-config"));
    assert!(text.contains("# the configuration /dev/null is empty: all values are defaults\n"), "{text}");
    // The teacher is switched off, or shortened with the model, by one option.
    let (text, _) = shell(folder.path(), &format!("{fit} --no-teacher --print-config"));
    assert!(text.contains("\nredrawn = 0.0\n") && text.contains("\nteacher-weight = 0.0\n"), "{text}");
    let (text, _) = shell(folder.path(), &format!("{fit} --epochs 7 --print-config"));
    assert!(text.contains("\nepochs = [7, 7]\n") && text.contains("\nepochs = 7\n"), "{text}");
    std::fs::write(at("none.toml"), "[teacher]\nepochs = []\n").unwrap();
    let (text, _) = shell(folder.path(), &format!("{fit} --config none.toml --print-config"));
    assert!(text.starts_with("# ") && text.contains("\nredrawn = 0.0\n"), "{text}");

    // Fine-tuning takes its defaults from the new session in the same way.
    std::fs::write(at("weight.toml"), "[optimiser]\nweight-decay = 0.5\n").unwrap();
    let line =
        "ndt-train finetune --bundle other --data session.nwb --epochs 1 --config weight.toml --out tuned";
    let (_, said) = shell(folder.path(), line);
    assert!(said.contains("optimiser.batch-trials = 8: 24 training trials"), "{said}");
    assert_eq!(taken(&at("tuned"), "optimiser.batch-trials"), "8");
    assert_eq!(taken(&at("tuned"), "optimiser.weight-decay"), "0.5");
    assert_eq!(taken(&at("tuned"), "model.width"), "16");
    let line = "ndt-train finetune --bundle other --data session.nwb --epochs 1 --trials 5 --out five";
    shell(folder.path(), line);
    let five = &Bundle::read(&at("five")).unwrap().origin.splits[0];
    let all = &Bundle::read(&at("other")).unwrap().origin.splits[0];
    assert_eq!((&five.train[..], &five.val), (&all.train[..5], &all.val), "only what was fitted is listed");
}

#[test]
fn a_bundle_knows_the_validation_trials_of_a_recording_without_splits() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let mut session = nwb::read(&at("session.nwb")).unwrap();
    session.trials.iter_mut().for_each(|trial| trial.split = None);
    let end = session.trials.last().unwrap().interval.stop;
    for (name, trials) in [("unmarked", 40), ("few", 1)] {
        let recording: PathBuf = at(&format!("{name}.nwb"));
        session.trials.truncate(trials);
        // One trial that lasts as long as all: it is cut into pieces.
        session.trials.last_mut().unwrap().interval.stop = end;
        nwb::write(&session, &recording).unwrap();
        let fit = format!("ndt-train fit --data {name}.nwb --config settings.toml --out {name}");
        shell(folder.path(), &fit);
        let bundle = Bundle::read(&at(name)).unwrap();
        let evaluate = format!("ndt-train evaluate --bundle {name} --data {name}.nwb --split val --json");
        let (report, _) = shell(folder.path(), &evaluate);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert!(report["trials"].as_u64() > Some(0), "{report}");
        let scored = report["readouts"][0]["mean"].as_f64().unwrap();
        let fitted = bundle.manifest.scores["velocity-r2"];
        assert!((scored - fitted).abs() < 1e-4, "evaluate {scored}, fit {fitted}");

        // A baseline's bundle knows them as well.
        shell(
            folder.path(),
            &format!("ndt-train baselines --data {name}.nwb --only wiener --units all --out linear-{name}"),
        );
        let line = format!("ndt-train evaluate --bundle linear-{name}/wiener --data {name}.nwb --json");
        let report: serde_json::Value = serde_json::from_str(&shell(folder.path(), &line).0).unwrap();
        let linear =
            Bundle::read(&at(&format!("linear-{name}/wiener"))).unwrap().manifest.scores["velocity-r2"];
        let scored = report["readouts"][0]["mean"].as_f64().unwrap();
        assert!((scored - linear).abs() < 1e-3, "evaluate {scored}, baselines {linear}");
    }
}

/// The configuration in a text, without the keys that may differ.
fn configured(text: &str, without: &[&str]) -> toml::Table {
    let mut config: toml::Table = text.parse().unwrap();
    for name in without {
        let (table, key) = name.split_once('.').unwrap();
        config[table].as_table_mut().unwrap().remove(key);
    }
    config
}

#[test]
fn preset_units_and_defaults_mean_the_same_in_every_command_that_fits() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    for (name, seed, units) in [("session", 7, 12), ("other", 8, 10)] {
        let recipe = simulate::Recipe { trials: 40, units, heldout: 4, seed };
        nwb::write(&simulate(&recipe), &at(&format!("{name}.nwb"))).unwrap();
    }
    let fit = "ndt-train fit --data session.nwb --config settings.toml --seed 3";
    for (which, (units, preset)) in
        [("held-in", ""), ("all", ""), ("held-in", "ndt"), ("all", "ndt")].into_iter().enumerate()
    {
        let preset_option = if preset.is_empty() { String::new() } else { format!(" --preset {preset}") };
        let options = format!("--units {units}{preset_option}");
        let out = format!("fit{which}");
        shell(folder.path(), &format!("{fit} {options} --out {out}"));
        let bundle = Bundle::read(&at(&out)).unwrap();
        let found = |without: &[&str]| configured(&bundle.origin.config, without);
        assert_eq!(bundle.manifest.channels(), if units == "all" { 12 } else { 8 }, "{options}");

        let (printed, _) = shell(folder.path(), &format!("{fit} {options} --print-config"));
        assert_eq!(configured(&printed, &[]), found(&[]), "printed, {options}");

        let base = settings().replace('[', "[base.");
        let preset_key = if preset.is_empty() { String::new() } else { format!("preset = \"{preset}\"\n") };
        let sweep = format!(
            "data = [\"session.nwb\"]\nout = \"sweep{which}\"\nunits = \"{units}\"\n{preset_key}seeds = [3]\n{base}[space]\nmodel.heads = [2]\n"
        );
        std::fs::write(at("sweep.toml"), sweep).unwrap();
        let (report, _) = shell(folder.path(), "ndt-train sweep --config sweep.toml --json");
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let run = at(&format!("sweep{which}")).join(report["points"][0]["best-run"].as_str().unwrap());
        assert_eq!(id(&run.join("model")), bundle.manifest.id, "sweep, {options}");

        // Both sessions decide what follows from the data, and none has heads for later bins.
        let apart = ["optimiser.batch-trials", "objective.forward-bins", "objective.coordinated-dropout"];
        let both = fit.replace("session.nwb", "session.nwb other.nwb");
        let (printed, _) = shell(folder.path(), &format!("{both} {options} --print-config"));
        assert_eq!(configured(&printed, &apart), found(&apart), "separate, {options}");

        // A fine-tuning takes units and behaviour of its bundle, and has a number of epochs of its own.
        let own = ["optimiser.epochs", "objective.forward-bins", "data.behavior"];
        let finetune =
            format!("ndt-train finetune --bundle {out} --data session.nwb --config settings.toml --seed 3");
        shell(folder.path(), &format!("{finetune}{preset_option} --epochs 1 --out tuned{which}"));
        let tuned = Bundle::read(&at(&format!("tuned{which}"))).unwrap();
        assert_eq!(configured(&tuned.origin.config, &own), found(&own), "finetune, {options}");
        assert_eq!(tuned.manifest.channel_ids, bundle.manifest.channel_ids, "finetune, {options}");
        let other = if units == "all" { "held-in" } else { "all" };
        shell(folder.path(), &format!("{finetune} --units {other} --epochs 0 --out other{which}"));
        assert_eq!(taken(&at(&format!("other{which}")), "data.units"), format!("\"{other}\""));

        let baselines =
            format!("ndt-train baselines --data session.nwb --only wiener --units {units} --json");
        let rows: serde_json::Value = serde_json::from_str(&shell(folder.path(), &baselines).0).unwrap();
        assert_eq!(rows[0]["units"], bundle.manifest.channels(), "baselines, {options}");
    }
}

#[test]
fn the_preset_ndt_fits_trials_that_are_longer_than_its_window_and_says_how() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let mut session = nwb::read(&at("session.nwb")).unwrap();
    // Every other trial, so that each can last 97 bins of 20 ms.
    session.trials = session.trials.into_iter().step_by(2).collect();
    session.trials.iter_mut().for_each(|trial| trial.interval.stop = trial.interval.start + 1.94);
    session.observed = session.trials.iter().map(|trial| trial.interval).collect();
    nwb::write(&session, &at("long.nwb")).unwrap();
    let fit = "ndt-train fit --data long.nwb --preset ndt --config settings.toml";
    let (printed, said) = shell(folder.path(), &format!("{fit} --out model"));
    let note = "learned positions exist for 50 bins, and trials have up to 97: trials are fitted and validated in windows of 50 bins";
    assert!(said.contains(note), "{said}");
    let (text, _) = shell(folder.path(), &format!("{fit} --print-config"));
    assert!(text.contains(note), "{text}");
    assert!(printed.contains("to be expected (test), stream:"), "{printed}");
    let bundle = Bundle::read(&at("model")).unwrap();
    assert_eq!(bundle.manifest.reach_bins(), 50);
    // All bins of a trial are scored, in both histories.
    for history in ["cold", "stream"] {
        let evaluate = format!(
            "ndt-train evaluate --bundle model --data long.nwb --split test --history {history} --json"
        );
        let report: serde_json::Value = serde_json::from_str(&shell(folder.path(), &evaluate).0).unwrap();
        assert_eq!(report["bins"], 97 * report["trials"].as_u64().unwrap(), "{report}");
    }
    let tune = "ndt-train finetune --bundle model --data long.nwb --epochs 1 --out tuned";
    assert!(shell(folder.path(), tune).1.contains(note));
    // Trials that fit into the window need no sentence.
    let wide = settings().replace("[model]\n", "[model]\nwindow-ms = 2000.0\n");
    std::fs::write(at("settings.toml"), wide).unwrap();
    let (text, _) = shell(folder.path(), &format!("{fit} --print-config"));
    assert!(!text.contains("learned positions exist"), "{text}");
}
