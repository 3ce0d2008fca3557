//! Where a session log comes from.

use crate::bundle::manifest::Readout;
use crate::wire::Description;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The first frame of each file of a log, as JSON. All files of a log have the same header but for the number of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Header {
    /// Name of the session: when it began (UTC), and a number that no other session of that second has.
    pub session: String,
    /// Number of this file in the log, from 0.
    pub file: u32,
    /// Name and version of the program that wrote the log.
    pub program: String,
    /// Commit that the program was built from, if its build knew it.
    pub commit: Option<String>,
    /// When the log began, ns since 1970 (UTC).
    pub started_unix_ns: u64,
    /// The same instant by `CLOCK_MONOTONIC`, ns: the clock of every other time in the log.
    pub started_monotonic_ns: u64,
    /// Where the bundle lay.
    pub bundle_path: PathBuf,
    /// Channel ids in the order of the counts.
    pub channel_ids: Vec<i64>,
    /// The estimates: id of the bundle, engine, bin width, units and outputs.
    pub description: Description,
    /// What the outputs of the estimates are; `None` for a model of rates alone.
    pub readout: Option<Readout>,
    /// Instruction set that the engine computed with.
    pub instruction_set: String,
    /// Precision that the engine computed in.
    pub precision: String,
    /// Model of the CPU.
    pub cpu: String,
    /// Instruction sets that the CPU has, of those that an engine can use.
    pub cpu_features: Vec<String>,
    /// The configuration that was in force, as TOML with every key.
    pub configuration: String,
}
