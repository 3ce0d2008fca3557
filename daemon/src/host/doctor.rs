//! `ndtd doctor`: whether this computer gives a real-time thread what it needs, and what would make it.
//!
//! Facts are gathered at the edge ([`facts`], [`libraries`]) and judged by a pure function ([`examine`]), so
//! that tests have machines that nobody owns. Nothing is changed here: what to do stands in each finding.

pub mod examine;
pub mod facts;
pub mod libraries;

use crate::config::{Config, ConfigError};
use crate::engine::EngineKind;
use crate::engine::onnx::Provider;
use crate::host::machine::Machine;
use facts::Facts;
use libraries::Loaded;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// How much a finding matters, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Good to know; nothing has to be done.
    Note,
    /// Estimates will come, some of them late.
    Warning,
    /// Something that the configuration asks for will not happen.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// What it has to do with latency.
    pub why: &'static str,
    /// The command or the lines that mend it; none where there is nothing to mend.
    pub mend: Option<String>,
}

/// What `ndtd doctor` has to say. Its `Display` is for people, its JSON for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Diagnosis {
    /// The version of ndtd.
    pub version: &'static str,
    /// The computer.
    pub machine: Machine,
    /// Every check, whatever it found.
    pub findings: Vec<Finding>,
}

/// Looks at this machine with the configuration in `config`, else with the defaults.
///
/// A configuration that cannot be read is a finding like others: the machine is looked at all the same.
pub fn examine_this_machine(config: Option<&Path>, onnxruntime_library: Option<PathBuf>) -> Diagnosis {
    let read = config.map_or_else(|| Ok(Config::default()), Config::read);
    let settings = read.as_ref().map(|config| config.realtime.clone()).unwrap_or_default();
    let configured = read.as_ref().ok().and_then(|config| config.onnxruntime_library.clone());
    let is_needed = read.as_ref().is_ok_and(|config| config.engine == EngineKind::Onnx);
    let onnxruntime = libraries::onnxruntime(onnxruntime_library.or(configured), is_needed);
    let wants_cuda = is_needed && read.as_ref().is_ok_and(|config| config.onnx.provider == Provider::Cuda);
    let has_cuda = wants_cuda.then(|| onnxruntime.found.as_ref().is_ok_and(Loaded::has_cuda));
    let liblsl = libraries::liblsl(
        read.as_ref().ok().and_then(|config| config.lsl.library.clone()),
        read.as_ref().is_ok_and(Config::uses_lsl),
    );
    let facts = Facts { onnxruntime_cuda: has_cuda, ..Facts::read(Path::new("/"), onnxruntime, liblsl) };
    // Whether the CPUs exist is among the checks of the machine.
    let mut findings = vec![configuration(config, read.as_ref().err(), settings.problems_on(&[]))];
    findings.extend(examine::examine(&facts, &settings));
    Diagnosis { version: env!("CARGO_PKG_VERSION"), machine: facts.machine, findings }
}

fn configuration(path: Option<&Path>, error: Option<&ConfigError>, problems: Vec<String>) -> Finding {
    let why = "the checks below are made for what [realtime] of it asks for";
    let finding = |severity, found, mend| Finding { name: "configuration", severity, found, why, mend };
    let change = "change it to what is expected; ndtd.example.toml documents every key".to_owned();
    match (path, error) {
        (_, Some(error)) => finding(Severity::Problem, error.to_string(), Some(change)),
        _ if !problems.is_empty() => finding(Severity::Problem, problems.join("; "), Some(change)),
        (Some(path), None) => finding(Severity::Ok, path.display().to_string(), None),
        (None, None) => {
            let mend = "ndtd doctor --config /etc/ndtd/ndtd.toml".to_owned();
            finding(Severity::Note, "none given, so the defaults".to_owned(), Some(mend))
        }
    }
}

impl Diagnosis {
    /// The worst of the findings.
    pub fn severity(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
    }

    /// The exit status: 0 where nothing has to be done, 1 with a warning, 2 with a problem.
    pub fn exit_status(&self) -> u8 {
        match self.severity() {
            Severity::Ok | Severity::Note => 0,
            Severity::Warning => 1,
            Severity::Problem => 2,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Problem => "problem",
        })
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cpu, cpus, virtual_machine, kernel, .. } = &self.machine;
        let place = if *virtual_machine { ", in a virtual machine" } else { "" };
        writeln!(f, "ndtd {} on Linux {kernel}: {cpu}, {cpus} CPUs{place}\n", self.version)?;
        let width = self.findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
        for Finding { name, severity, found, why, mend } in &self.findings {
            writeln!(f, "{severity:<9}{name:<width$}  {found}")?;
            if *severity == Severity::Ok {
                continue;
            }
            writeln!(f, "{:9}  why   {why}", "")?;
            if let Some(mend) = mend {
                writeln!(f, "{:9}  mend  {mend}", "")?;
            }
        }
        let of = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let [ok, notes, warnings, problems] =
            [Severity::Ok, Severity::Note, Severity::Warning, Severity::Problem].map(of);
        write!(f, "\nok {ok}, note {notes}, warning {warnings}, problem {problems}")
    }
}

#[cfg(test)]
mod tests;
