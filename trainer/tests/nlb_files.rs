//! Files of targets and submissions: what is written can be read and scored, and what does not fit is refused in one
//! sentence.

use ndt_replay::h5::{self, Group};
use ndt_replay::simulate::{Recipe, simulate};
use ndt_trainer::nlb::array::Tensor;
use ndt_trainer::nlb::score::{Scores, score};
use ndt_trainer::nlb::store::{self, Submission};
use ndt_trainer::nlb::tensors::{Phase, TensorError, Tensors};
use ndt_trainer::nlb::variant::Variant;
use std::path::{Path, PathBuf};

const GROUP: &str = "mc_maze_small_20";

fn tensors() -> Tensors {
    let session = simulate(&Recipe { trials: 40, units: 12, heldout: 4, seed: 2 });
    let (mut seen, mut of) = (Vec::new(), 0);
    let mut watch = |done, all| {
        seen.push(done);
        of = all;
    };
    let variant = Variant::named("mc_maze_small");
    let tensors = Tensors::watched(&[session], &variant, 20, Phase::Val, &mut watch).unwrap();
    assert!(of > 0 && seen.iter().copied().eq(1..=of), "each window is told once, and all of them");
    tensors
}

/// A submission whose rates are the recorded counts.
fn oracle(tensors: &Tensors) -> Submission {
    let rates = |counts: &Tensor| Tensor {
        shape: counts.shape,
        values: counts.values.iter().map(|count| count + 0.01).collect(),
    };
    let known = |counts: &Option<Tensor>| rates(counts.as_ref().unwrap());
    let (heldin, heldout) = tensors.eval.forward.as_ref().unwrap();
    Submission {
        group: tensors.group.clone(),
        train: (rates(&tensors.train.heldin), known(&tensors.train.heldout)),
        eval: (rates(&tensors.eval.heldin), known(&tensors.eval.heldout)),
        forward: Some((rates(heldin), rates(heldout))),
    }
}

fn written(folder: &Path, tensors: &Tensors, submission: &Submission) -> (PathBuf, PathBuf) {
    let (targets, rates) = (folder.join("targets.h5"), folder.join("submission.h5"));
    store::write_tensors(tensors, &targets).unwrap();
    store::write_submission(submission, &rates).unwrap();
    (targets, rates)
}

fn scored(tensors: &Tensors, submission: &Submission) -> Result<Scores, String> {
    let folder = tempfile::tempdir().unwrap();
    let (targets, rates) = written(folder.path(), tensors, submission);
    let group = |path: &Path| h5::open(path).unwrap().group(GROUP).unwrap();
    score(&group(&targets), &group(&rates)).map_err(|error| error.to_string())
}

#[test]
fn what_is_written_is_read_and_scored() {
    let tensors = tensors();
    let scores = scored(&tensors, &oracle(&tensors)).unwrap();
    assert!(scores.co_bps > 2.0 && scores.fp_bps.unwrap() > 2.0, "{scores:?}");
    assert!(scores.psth_r2.is_some() && scores.velocity_r2.is_some(), "{scores:?}");
    let causal = Submission { forward: None, ..oracle(&tensors) };
    assert_eq!(scored(&tensors, &causal), Ok(Scores { fp_bps: None, ..scores }));
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = written(folder.path(), &tensors, &causal);
    let root: Group = h5::open(&path).unwrap();
    assert_eq!(store::read(&root, "eval_spikes_heldin").unwrap().as_ref(), Some(&tensors.eval.heldin));
    let trials = store::read_trials(&root.group(GROUP).unwrap(), "eval_cond_idx").unwrap();
    assert_eq!(trials.as_ref(), tensors.psths.as_ref().map(|psths| &psths.eval_trials));
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn what_does_not_fit_is_one_sentence() {
    let tensors = tensors();
    let refused = |change: &dyn Fn(&mut Submission)| {
        let mut submission = oracle(&tensors);
        change(&mut submission);
        scored(&tensors, &submission).unwrap_err()
    };
    let negative = refused(&|submission| submission.eval.1.values[3] = -0.5);
    assert_eq!(negative, "co-bps: expected rates of at least 0 spikes per bin, found -0.5");
    let unknown = refused(&|submission| submission.train.0.values[8] = f32::NAN);
    assert_eq!(unknown, "vel R2: expected finite features, found NaN in row 1");
    let fewer = refused(&|submission| {
        submission.eval.1.shape[0] -= 1;
        submission.eval.1.values.truncate(7 * 35 * 4);
    });
    let expected = "expected the shape [8, 35, 8] of the targets in eval_rates_heldout, found [7, 35, 4]";
    assert_eq!(fewer, expected);
}

#[test]
fn targets_of_another_kind_of_set_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = h5::create(&folder.path().join("targets.h5")).unwrap();
    let targets = root.create_group("area2_bump").unwrap();
    targets.write("eval_decode_mask", &[1.0], &[1, 1]).unwrap();
    let refused = score(&targets, &targets).unwrap_err().to_string();
    assert_eq!(refused, "expected the targets of a maze set, found eval_decode_mask in /area2_bump");
    targets.write("psth", &[1.0], &[1, 1]).unwrap();
    let refused = store::read(&targets, "psth").unwrap_err().to_string();
    assert_eq!(refused, "expected three axes in /area2_bump/psth, found 2");
}

#[test]
fn a_recording_without_the_trials_or_neurons_is_refused() {
    let variant = Variant::named("mc_maze_small");
    let refused = |recipe: Recipe, variant: &Variant, bin_ms: usize| -> String {
        let error: TensorError = Tensors::new(&[simulate(&recipe)], variant, bin_ms, Phase::Val).unwrap_err();
        error.to_string()
    };
    let recipe = Recipe { trials: 5, units: 4, heldout: 1, seed: 1 };
    assert_eq!(refused(recipe.clone(), &variant, 30), "expected a window of whole 30 ms bins, found 700 ms");
    let no_heldout = refused(Recipe { heldout: 0, ..recipe.clone() }, &variant, 20);
    assert_eq!(no_heldout, "expected held-in and held-out units, found 4 and 0");
    let other = Variant { align: "peak_time".to_owned(), ..variant.clone() };
    let expected = "expected trials of the split train with a column peak_time, found none; the recording's splits are test, \
                    train, val";
    assert_eq!(refused(recipe, &other, 20), expected);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let tensors = tensors();
    let path = Path::new("/nowhere/tensors.h5");
    let refused = store::write_tensors(&tensors, path).unwrap_err().to_string();
    assert!(refused.starts_with("write /nowhere/tensors.h5: "), "{refused}");
}
