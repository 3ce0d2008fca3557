//! How a model came to be: the configuration of its fit, the trials that were used, and the course of the fit.
//!
//! Configuration and trials determine the model, and are covered by the bundle's id. The record of the fit tells when, where and how
//! fast it was made, and is not: the same fit on another machine gives a bundle of the same id.

use super::BundleError;
use serde::{Deserialize, Serialize};

/// File of the resolved configuration of the fit; absent in a bundle that was not fitted by `ndt-train fit` or `finetune`.
pub const CONFIG: &str = "config.toml";
/// File of the trials that the model was fitted to, was validated on and has not seen.
pub const SPLITS: &str = "splits.toml";
/// File of the record of the fit, which is no part of the bundle's id.
pub const RECORD: &str = "fit.json";
/// File of the record's learning curve as a table, for programs that read no JSON. It is no part of the bundle's id, and is never read
/// back: what it says is in [`RECORD`] too.
pub const CURVE: &str = "curve.csv";
/// The files that the bundle's id does not cover.
pub(super) const UNCOVERED: [&str; 2] = [RECORD, CURVE];

/// How a model came to be. Empty where it is not known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Origin {
    /// Configuration of the fit, every key with its value (TOML); empty if unknown.
    pub config: String,
    /// The trials of each recording, in the order of the recordings; empty if unknown.
    pub splits: Vec<RecordingSplits>,
    /// The record of the fit.
    pub record: Option<FitRecord>,
}

/// The trials of one recording by their use.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RecordingSplits {
    /// Identifier that the recording gives itself.
    pub identifier: String,
    /// Ids of the trials that the model was fitted to.
    pub train: Vec<i64>,
    /// Ids of the trials by which the epoch and other settings were chosen.
    pub val: Vec<i64>,
    /// Ids of the trials that are reserved for a test.
    pub test: Vec<i64>,
    /// Start and stop (s) of each piece that the model was fitted to, where time is fitted and not trials; else empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub train_pieces_s: Vec<[f64; 2]>,
    /// Start and stop (s) of each piece that the model was validated on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub val_pieces_s: Vec<[f64; 2]>,
    /// Start and stop (s) of each piece that is reserved for a test.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test_pieces_s: Vec<[f64; 2]>,
}

/// The record of a fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FitRecord {
    /// Command line of the program that fitted the model.
    pub command: Vec<String>,
    /// Name and version of the program.
    pub program: String,
    /// Processor, number of CPUs and system.
    pub machine: String,
    /// When the fit ended, in seconds since 1970 (UTC).
    pub ended_unix_s: u64,
    /// Duration of the fit, s; of its last part if it was interrupted.
    pub seconds: f64,
    /// The learning curve, teachers included, in the order of the epochs.
    pub curve: Vec<CurvePoint>,
    /// The scores of the model and of the baselines on the same bins, the model's first; empty where they were not computed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparison: Vec<DecoderScore>,
}

impl FitRecord {
    /// The learning curve as the text of [`CURVE`]: one row for each epoch, in the order of the epochs. A cell is empty where nothing
    /// was measured.
    pub fn curve_csv(&self) -> String {
        let cell = |score: Option<f64>| score.map_or_else(String::new, |score| score.to_string());
        let row = |point: &CurvePoint| {
            let CurvePoint { generation, epoch, loss, bits_per_spike, velocity_r2 } = *point;
            format!("{generation},{epoch},{loss},{},{}\n", cell(bits_per_spike), cell(velocity_r2))
        };
        let rows: String = self.curve.iter().map(row).collect();
        format!("generation,epoch,loss,bits_per_spike,velocity_r2\n{rows}")
    }
}

/// The scores of one decoder: of the model, or of a baseline that was fitted to the same trials. R2 is that of the published behaviour,
/// the mean of the components that change, with every trial from a cold start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DecoderScore {
    /// Name of the decoder, such as `Wiener 15 bins`; `transformer` is the model.
    pub decoder: String,
    /// Number of bins that an estimate depends on; absent where it depends on no count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_bins: Option<usize>,
    /// Settings that were chosen on the validation trials; empty without any.
    pub chosen: String,
    /// R2 on the validation trials; absent where the behaviour is unknown there or never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_r2: Option<f64>,
    /// R2 on the test trials; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_r2: Option<f64>,
    /// Duration of the decoder's fit, s; 0 for the model, whose duration is the record's.
    pub seconds: f64,
    /// Why the decoder has no scores; absent of one that was fitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// One epoch of a learning curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CurvePoint {
    /// Generation of the teacher that was fitted, from 1; 0 for the model itself.
    pub generation: usize,
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Mean loss of the epoch's batches.
    pub loss: f64,
    /// Validation score by which the epoch is chosen, bits/spike; absent where it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_spike: Option<f64>,
    /// Velocity R2 on the validation trials; absent where it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub velocity_r2: Option<f64>,
}

/// The file of the splits.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitsFile {
    recording: Vec<RecordingSplits>,
}

impl Origin {
    /// The files of the origin that are there, with their contents.
    ///
    /// # Errors
    /// [`BundleError::Check`] for contents that cannot be written.
    pub(super) fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>, BundleError> {
        let broken = |file: &str, error: String| BundleError::Check(vec![format!("{file}: {error}")]);
        let mut files = Vec::new();
        if !self.config.is_empty() {
            files.push((CONFIG, self.config.clone().into_bytes()));
        }
        if !self.splits.is_empty() {
            let text = toml::to_string(&SplitsFile { recording: self.splits.clone() });
            files.push((SPLITS, text.map_err(|error| broken(SPLITS, error.to_string()))?.into_bytes()));
        }
        if let Some(record) = &self.record {
            let text = serde_json::to_vec(record);
            files.push((RECORD, text.map_err(|error| broken(RECORD, error.to_string()))?));
            files.push((CURVE, record.curve_csv().into_bytes()));
        }
        Ok(files)
    }

    /// The origin in the contents of its files, which `take` gives; `None` for a file that is not there.
    ///
    /// # Errors
    /// [`BundleError::Check`] for a file that cannot be understood.
    pub(super) fn of(mut take: impl FnMut(&str) -> Option<Vec<u8>>) -> Result<Origin, BundleError> {
        let broken = |file: &str, found: String| {
            let found = found.trim_end().replace('\n', " ");
            BundleError::Check(vec![format!("{file}: expected what ndt-train writes, found {found}")])
        };
        let mut text = |file: &str| {
            let text = take(file).map(String::from_utf8).transpose();
            text.map_err(|error| broken(file, error.to_string()))
        };
        let config = text(CONFIG)?.unwrap_or_default();
        toml::from_str::<toml::Table>(&config).map_err(|error| broken(CONFIG, error.message().to_owned()))?;
        let splits = match text(SPLITS)? {
            Some(text) => {
                let file = toml::from_str::<SplitsFile>(&text);
                file.map_err(|error| broken(SPLITS, error.message().to_owned()))?.recording
            }
            None => Vec::new(),
        };
        let record = match text(RECORD)? {
            Some(text) => {
                Some(serde_json::from_str(&text).map_err(|error| broken(RECORD, error.to_string()))?)
            }
            None => None,
        };
        Ok(Origin { config, splits, record })
    }

    /// The trials of the recording that gives itself this identifier; `None` unless exactly one does.
    pub fn splits_of(&self, identifier: &str) -> Option<&RecordingSplits> {
        let mut found = self.splits.iter().filter(|splits| splits.identifier == identifier);
        found.next().filter(|_| found.next().is_none())
    }
}
