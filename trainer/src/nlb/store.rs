//! HDF5 files with the benchmark's names: tensors and targets, submissions.

use super::array::Tensor;
use super::tensors::Tensors;
use ndt_replay::h5::{self, Group, H5Error};
use std::path::{Path, PathBuf};

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file could not be put in its place.
    #[error("write {}: {error}", path.display())]
    Place {
        /// Where the file should be.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// HDF5 could not read or write a part of it.
    #[error(transparent)]
    H5(#[from] H5Error),
    /// An array with other axes.
    #[error("expected three axes in {object}, found {found}")]
    Axes {
        /// The array's path in the file.
        object: String,
        /// How many it has.
        found: usize,
    },
    /// A negative index of a trial.
    #[error("expected trials counted from 0 in {object}, found {found}")]
    Trial {
        /// The list's path in the file.
        object: String,
        /// The index.
        found: i64,
    },
}

/// Predicted rates in the benchmark's layout: spikes per bin, `[trials, bins, neurons]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// Name of the data set's group.
    pub group: String,
    /// Held-in and held-out neurons in the training trials.
    pub train: (Tensor, Tensor),
    /// Held-in and held-out neurons in the evaluation trials.
    pub eval: (Tensor, Tensor),
    /// Both in the evaluation trials, in the window of forward prediction; `None` of a model that does not
    /// predict it.
    pub forward: Option<(Tensor, Tensor)>,
}

/// Writes all tensors into one file: those that a model reads at its root, those that it is scored against in
/// the data set's group. The benchmark's own tools write three files of the same names.
///
/// # Errors
/// [`StoreError`]; the file that was at `path` is then as it was.
pub fn write_tensors(tensors: &Tensors, path: &Path) -> Result<(), StoreError> {
    create(path, |root| {
        let (train, eval) = (&tensors.train, &tensors.eval);
        write(root, "train_spikes_heldin", Some(&train.heldin))?;
        write(root, "train_spikes_heldout", train.heldout.as_ref())?;
        write(root, "train_spikes_heldin_forward", train.forward.as_ref().map(|(heldin, _)| heldin))?;
        write(root, "train_spikes_heldout_forward", train.forward.as_ref().map(|(_, heldout)| heldout))?;
        write(root, "train_behavior", train.behavior.as_ref())?;
        write(root, "eval_spikes_heldin", Some(&eval.heldin))?;
        write(root, "eval_spikes_heldout", eval.heldout.as_ref())?;
        let Some(heldout) = &eval.heldout else { return Ok(()) };
        let group = root.create_group(&tensors.group)?;
        write(&group, "eval_spikes_heldout", Some(heldout))?;
        write(&group, "eval_spikes_heldin_forward", eval.forward.as_ref().map(|(heldin, _)| heldin))?;
        write(&group, "eval_spikes_heldout_forward", eval.forward.as_ref().map(|(_, heldout)| heldout))?;
        write(&group, "train_behavior", train.behavior.as_ref())?;
        write(&group, "eval_behavior", eval.behavior.as_ref())?;
        if let Some(psths) = &tensors.psths {
            write(&group, "psth", Some(&psths.rates))?;
            let lists = |trials: &[Vec<usize>]| -> Vec<Vec<i64>> {
                trials.iter().map(|trials| trials.iter().map(|trial| *trial as i64).collect()).collect()
            };
            group.write_lists("train_cond_idx", &lists(&psths.train_trials))?;
            group.write_lists("eval_cond_idx", &lists(&psths.eval_trials))?;
        }
        Ok(())
    })
}

/// Writes a submission, float32 and gzip as the benchmark asks for.
///
/// # Errors
/// [`StoreError`]; the file that was at `path` is then as it was.
pub fn write_submission(submission: &Submission, path: &Path) -> Result<(), StoreError> {
    create(path, |root| {
        let group = root.create_group(&submission.group)?;
        write(&group, "train_rates_heldin", Some(&submission.train.0))?;
        write(&group, "train_rates_heldout", Some(&submission.train.1))?;
        write(&group, "eval_rates_heldin", Some(&submission.eval.0))?;
        write(&group, "eval_rates_heldout", Some(&submission.eval.1))?;
        write(&group, "eval_rates_heldin_forward", submission.forward.as_ref().map(|(heldin, _)| heldin))?;
        write(&group, "eval_rates_heldout_forward", submission.forward.as_ref().map(|(_, heldout)| heldout))
    })
}

/// An array of three axes; `None` where the group has none of this name.
///
/// # Errors
/// [`StoreError`] when it is something else.
pub fn read(group: &Group, name: &str) -> Result<Option<Tensor>, StoreError> {
    if !group.has(name) {
        return Ok(None);
    }
    let stored = group.dataset(name)?;
    let shape = stored.shape();
    let Ok(shape) = <[usize; 3]>::try_from(shape.as_slice()) else {
        return Err(StoreError::Axes { object: stored.name(), found: shape.len() });
    };
    Ok(Some(Tensor { shape, values: stored.numbers::<f32>()? }))
}

/// The trials of each condition; `None` where the group has no such list.
///
/// # Errors
/// [`StoreError`] when it is something else.
pub fn read_trials(group: &Group, name: &str) -> Result<Option<Vec<Vec<usize>>>, StoreError> {
    if !group.has(name) {
        return Ok(None);
    }
    let stored = group.dataset(name)?;
    let trial =
        |found: i64| usize::try_from(found).map_err(|_| StoreError::Trial { object: stored.name(), found });
    let lists = stored.lists()?.into_iter().map(|list| list.into_iter().map(trial).collect());
    lists.collect::<Result<Vec<Vec<usize>>, _>>().map(Some)
}

fn write(group: &Group, name: &str, tensor: Option<&Tensor>) -> Result<(), StoreError> {
    if let Some(tensor) = tensor {
        group.write_gzip(name, &tensor.values, &tensor.shape)?;
    }
    Ok(())
}

/// Writes a file beside its place and renames it, so that a reader never sees a part.
fn create(path: &Path, fill: impl FnOnce(&Group) -> Result<(), StoreError>) -> Result<(), StoreError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let refused = |error| StoreError::Place { path: path.to_owned(), error };
    // HDF5 would say of a missing folder only that it cannot create a file.
    std::fs::File::create(&beside).map_err(refused)?;
    let filled = h5::create(&beside).map_err(StoreError::from).and_then(|root| {
        fill(&root)?;
        Ok(root.flush()?)
    });
    let placed = filled.and_then(|()| std::fs::rename(&beside, path).map_err(refused));
    if placed.is_err() {
        // Best effort: the error that matters is the one that is returned.
        let _ = std::fs::remove_file(&beside);
    }
    placed
}
