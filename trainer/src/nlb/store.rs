//! HDF5 files in the benchmark's layout: tensors, targets and submissions.

use super::array::Tensor;
use super::tensors::Tensors;
use ndt_protocol::destination::{Form, Kind};
use ndt_protocol::files::{self, FileError};
use ndt_replay::h5::{self, Group, H5Error};
use std::path::Path;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be created or renamed.
    #[error("write {0}")]
    Place(#[from] FileError),
    /// HDF5 cannot read or write a part of the file.
    #[error(transparent)]
    H5(#[from] H5Error),
    /// An array does not have three axes.
    #[error("expected three axes in {object}, found {found}")]
    Axes {
        /// Path of the array in the file.
        object: String,
        /// Number of axes.
        found: usize,
    },
    /// A trial's number is negative.
    #[error("expected trials counted from 0 in {object}, found {found}")]
    Trial {
        /// Path of the list in the file.
        object: String,
        /// The negative trial number.
        found: i64,
    },
}

/// Tensors, for the rule about what a program may replace: an HDF5 file with the training spikes at its root.
pub const TENSORS: Kind = Kind {
    name: "the tensors of an earlier run",
    form: Form::File,
    other: |path| {
        let is_ours = h5::open(path).is_ok_and(|root| root.has(TRAIN_SPIKES));
        (!is_ours).then(|| "a file that holds no tensors".to_owned())
    },
};

/// A submission, for the rule about what a program may replace: an HDF5 file in which a group holds predicted rates.
pub const SUBMISSION: Kind = Kind {
    name: "a submission",
    form: Form::File,
    other: |path| (!holds_rates(path).unwrap_or(false)).then(|| "a file that is no submission".to_owned()),
};

/// Name of the array at the root of every file of tensors.
const TRAIN_SPIKES: &str = "train_spikes_heldin";
/// Name of the array in the group of every submission.
const TRAIN_RATES: &str = "train_rates_heldin";

fn holds_rates(path: &Path) -> Result<bool, H5Error> {
    let root = h5::open(path)?;
    for name in root.members()? {
        if root.is_group(&name)? && root.group(&name)?.has(TRAIN_RATES) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Predicted rates in the benchmark's layout: spikes per bin, `[trials, bins, neurons]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// Name of the data set's group in the file.
    pub group: String,
    /// Rates of held-in and of held-out neurons in the training trials.
    pub train: (Tensor, Tensor),
    /// Rates of held-in and of held-out neurons in the evaluation trials.
    pub eval: (Tensor, Tensor),
    /// Rates of held-in and of held-out neurons in the evaluation trials' window of forward prediction; `None` if the
    /// model does not predict it.
    pub forward: Option<(Tensor, Tensor)>,
}

/// Writes all tensors into one file: what a model reads at the file's root, and what it is scored against in the data
/// set's group. The benchmark's own tools write three files with arrays of the same names.
///
/// # Errors
/// [`StoreError`]; an existing file at `path` is then unchanged.
pub fn write_tensors(tensors: &Tensors, path: &Path) -> Result<(), StoreError> {
    create(path, |root| {
        let (train, eval) = (&tensors.train, &tensors.eval);
        write(root, TRAIN_SPIKES, Some(&train.heldin))?;
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

/// Writes a submission in float32 with gzip compression, as the benchmark requires.
///
/// # Errors
/// [`StoreError`]; an existing file at `path` is then unchanged.
pub fn write_submission(submission: &Submission, path: &Path) -> Result<(), StoreError> {
    create(path, |root| {
        let group = root.create_group(&submission.group)?;
        write(&group, TRAIN_RATES, Some(&submission.train.0))?;
        write(&group, "train_rates_heldout", Some(&submission.train.1))?;
        write(&group, "eval_rates_heldin", Some(&submission.eval.0))?;
        write(&group, "eval_rates_heldout", Some(&submission.eval.1))?;
        write(&group, "eval_rates_heldin_forward", submission.forward.as_ref().map(|(heldin, _)| heldin))?;
        write(&group, "eval_rates_heldout_forward", submission.forward.as_ref().map(|(_, heldout)| heldout))
    })
}

/// Reads an array of three axes; `None` if the group has no array of this name.
///
/// # Errors
/// [`StoreError`] when the array has other axes or other contents.
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

/// Reads the trials of each condition; `None` if the group has no list of this name.
///
/// # Errors
/// [`StoreError`] when the list has other contents.
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

/// Writes a file under another name and renames it, so that a reader never sees a part of it.
fn create(path: &Path, fill: impl FnOnce(&Group) -> Result<(), StoreError>) -> Result<(), StoreError> {
    files::fill_file(path, |part| {
        let root = h5::create(part)?;
        fill(&root)?;
        Ok(root.flush()?)
    })
}
