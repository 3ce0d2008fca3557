//! `ndtd doctor`: whether this computer gives real-time threads what they need, and what would improve it.
//!
//! Facts are gathered by [`facts`] and [`libraries`] and judged by a pure function ([`examine`]), so that tests can
//! describe machines that nobody owns. Nothing is changed: each finding says what to do.

pub mod examine;
pub mod facts;
pub mod libraries;
pub mod unit;

use crate::config::{Config, ConfigError};
use crate::engine::EngineKind;
use crate::engine::onnx::Provider;
use crate::host::machine::Machine;
use facts::Facts;
use libraries::Loaded;
use ndt_protocol::Bundle;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// How much a finding matters, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Nothing to improve.
    Ok,
    /// Worth knowing; nothing has to be done.
    Note,
    /// A finding that will make some estimates late.
    Warning,
    /// Something that the configuration asks for will not happen.
    Problem,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// What was checked.
    pub name: &'static str,
    /// How much the finding matters.
    pub severity: Severity,
    /// What the check found.
    pub found: String,
    /// How the checked setting affects latency.
    pub why: &'static str,
    /// Commands or configuration lines that fix the problem; `None` when there is nothing to improve.
    pub mend: Option<String>,
}

/// The report of `ndtd doctor`. Its `Display` is for people, its JSON for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Diagnosis {
    /// Version of ndtd.
    pub version: &'static str,
    /// Computer that was examined.
    pub machine: Machine,
    /// Findings of all checks, whatever they found.
    pub findings: Vec<Finding>,
}

/// Examines this machine for the configuration file `config`, or for the default configuration. The libraries override those of the
/// configuration.
///
/// A configuration that cannot be read is itself a finding; the machine is examined all the same.
pub fn examine_this_machine(
    config: Option<&Path>,
    onnxruntime_library: Option<PathBuf>,
    lsl_library: Option<PathBuf>,
) -> Diagnosis {
    let read = config.map_or_else(|| Ok(Config::default()), Config::read);
    let mut examined = read.as_ref().map_or_else(|_| Config::default(), Config::clone);
    examined.onnxruntime_library = onnxruntime_library.or(examined.onnxruntime_library);
    examined.lsl.library = lsl_library.or(examined.lsl.library);
    let facts = facts(&examined);
    let settings = &examined.realtime;
    // The checks of the machine find out whether the CPUs exist.
    let mut findings = vec![configuration(config, read.as_ref().err(), settings.problems_on(&[]))];
    findings.extend(config.and(read.as_ref().ok()).and_then(bundle));
    findings.extend(examine::examine(&facts, settings));
    Diagnosis { version: env!("CARGO_PKG_VERSION"), machine: facts.machine, findings }
}

/// What `config` asks of this machine and will not have.
pub fn problems(config: &Config) -> Vec<Finding> {
    let findings = examine::examine(&facts(config), &config.realtime);
    findings.into_iter().filter(|finding| finding.severity == Severity::Problem).collect()
}

/// Gathers the facts that matter for `config`.
fn facts(config: &Config) -> Facts {
    let is_onnx = config.engine == EngineKind::Onnx;
    let onnxruntime = libraries::onnxruntime(config.onnxruntime_library.clone(), is_onnx);
    let wants_cuda = is_onnx && config.onnx.provider == Provider::Cuda;
    let has_cuda = wants_cuda.then(|| onnxruntime.found.as_ref().is_ok_and(Loaded::has_cuda));
    let liblsl = libraries::liblsl(config.lsl.library.clone(), config.uses_lsl());
    Facts { onnxruntime_cuda: has_cuda, ..Facts::read(Path::new("/"), onnxruntime, liblsl) }
}

fn configuration(path: Option<&Path>, error: Option<&ConfigError>, problems: Vec<String>) -> Finding {
    let why = "the checks below are made for its [realtime] settings";
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

/// Whether the bundle that a configuration names can be run with it; `None` where it names none.
fn bundle(config: &Config) -> Option<Finding> {
    if config.bundle.as_os_str().is_empty() {
        return None;
    }
    // What was found, and what to do about it.
    let read = || -> Result<String, (String, String)> {
        let fit = || format!("ndt-train fit --out {}", config.bundle.display());
        let change = |key: &str| {
            format!("change {key} in ndtd.toml to what is expected; ndtd check prints what the bundle has")
        };
        let bundle = Bundle::read(&config.bundle).map_err(|error| (error.to_string(), fit()))?;
        config.guard(&bundle.manifest).map_err(|error| (error.to_string(), change("the key")))?;
        let found = format!("{}: {} channels", &bundle.manifest.id[..12], bundle.manifest.channels());
        if let Some(lag_ms) = config.velocity_lag_ms {
            bundle.reading(lag_ms).map_err(|error| (error.to_string(), change("velocity-lag-ms")))?;
        }
        Ok(found)
    };
    let (severity, found, mend) = match read() {
        Ok(found) => (Severity::Ok, found, None),
        Err((found, mend)) => (Severity::Problem, found, Some(mend)),
    };
    Some(Finding { name: "bundle", severity, found, why: "ndtd run does not start without it", mend })
}

impl Diagnosis {
    /// Severity of the worst finding.
    pub fn severity(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
    }

    /// Exit status: 0 when nothing has to be done, 1 with a warning, 2 with a problem.
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
