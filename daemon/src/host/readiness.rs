//! `ndtd check --config`: whether `ndtd run` can start with a configuration and gets what it asks for. All problems are found at
//! once, by the code that `ndtd run` itself uses.

use crate::config::{Config, ConfigError};
use crate::control::monitor;
use crate::control::socket::ControlSocket;
use crate::decoder::fallback::FallbackDecoder;
use crate::engine::check::{self, Report};
use crate::host::doctor::unit::Unit;
use crate::host::doctor::{self, Finding};
use crate::transport;
use crate::transport::zeromq::ipc::group_id;
use ndt_protocol::Bundle;
use ndt_protocol::endpoint::SocketAddress;
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// A configuration, examined.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Readiness {
    /// The bundle; `None` where it cannot be used.
    pub bundle: Option<Report>,
    /// One sentence for each thing that `ndtd run` needs or asks for and will not have.
    pub problems: Vec<String>,
}

/// Examines `config` on this computer, of whose file the entries of `unread` could not be read. Reads the bundles, runs their golden streams, binds the endpoints and lets go of them, and loads
/// the libraries. A daemon that runs with the same configuration holds its endpoints.
pub fn examine(config: &Config, unread: Vec<String>) -> Readiness {
    let is_whole = unread.is_empty();
    let mut problems: Vec<String> = unread
        .into_iter()
        .map(|found| format!("expected keys as in ndtd.example.toml, found {found}"))
        .collect();
    problems.extend(config.check().err().into_iter().flat_map(sentences));
    let read = (!config.bundle.as_os_str().is_empty()).then(|| config.read_bundle());
    let is_engine_tried = matches!(read, Some(Ok(_)));
    for Finding { name, found, mend, .. } in doctor::problems(config) {
        // The check of the configuration has told what it found, and the engine tells what it lacks.
        let is_told = |what: &str| problems.iter().any(|problem| problem.contains(what));
        let is_told = match name {
            "cpus" => is_told("realtime.cpus"),
            "liblsl" => is_told("expected liblsl in"),
            "ONNX Runtime" => is_engine_tried || is_told("expected ONNX Runtime in"),
            _ => false,
        };
        if !is_told {
            problems.push(format!("{name}: {found}; {}", mend.unwrap_or_default()));
        }
    }
    // Where an entry could not be read, the endpoints may be others than are meant.
    if is_whole {
        let unit = Unit::installed(Path::new("/"));
        problems.extend(endpoint_problems(config, unit.as_ref()));
        problems.extend(control_problem(config, unit.as_ref()));
        problems.extend(monitor::try_bind(&config.monitor).err().map(|error| error.to_string()));
    }
    let bundle = match read {
        Some(Ok(bundle)) => examine_bundle(config, &bundle, &mut problems),
        Some(Err(error)) => {
            problems.push(of_bundle(config, &error));
            problems.extend(config.fallback_bundle.as_deref().and_then(unreadable_fallback));
            None
        }
        None => None,
    };
    Readiness { bundle, problems }
}

/// Whether a folder is there only while the service of `unit` runs, and is not there now.
fn is_of_service(folder: &Path, unit: Option<&Unit>) -> bool {
    !folder.exists() && unit.is_some_and(|unit| unit.runtime_folders.iter().any(|of| of == folder))
}

/// Tries the control socket as [`endpoint_problems`] tries the endpoints.
fn control_problem(config: &Config, unit: Option<&Unit>) -> Option<String> {
    let path = config.control_socket.as_deref()?;
    let is_group_wrong = config.control_group.as_deref().is_some_and(|group| group_id(group).is_none());
    if is_group_wrong || path.parent().is_some_and(|folder| is_of_service(folder, unit)) {
        return None;
    }
    ControlSocket::bind(path, config.control_group.as_deref()).err().map(|error| error.to_string())
}

/// Tries the endpoints, except for those in a folder that is there only while the service of `unit` runs, and for files whose mode
/// or group is known to be wrong. Leaves no file that was not there before.
fn endpoint_problems(config: &Config, unit: Option<&Unit>) -> Vec<String> {
    let of_service = |socket: &SocketAddress| {
        socket.file().and_then(Path::parent).is_some_and(|folder| is_of_service(folder, unit))
    };
    let sockets = transport::bound_sockets(&config.input, &config.outputs);
    let is_ipc_wrong = !config.ipc.problems().is_empty();
    let tried = sockets.into_iter().filter(|socket| !of_service(socket));
    let tried = tried.filter(|socket| !(is_ipc_wrong && socket.file().is_some()));
    let tried = tried.filter_map(|socket| transport::try_bind(socket, &config.zeromq, &config.ipc).err());
    tried.map(|error| error.to_string()).collect()
}

/// Runs the golden streams of the bundle and of the fallback bundle.
fn examine_bundle(config: &Config, bundle: &Bundle, problems: &mut Vec<String>) -> Option<Report> {
    problems.extend(config.guard(&bundle.manifest).err().into_iter().flat_map(sentences));
    if let Some(path) = &config.fallback_bundle {
        let loaded = FallbackDecoder::load(path, bundle, &config.mask_channels, config.max_masked_share);
        problems.extend(loaded.err().map(|error| error.to_string()));
    }
    match check::examine(&config.engine(), bundle) {
        Ok(report) => Some(report),
        Err(error) => {
            problems.push(of_bundle(config, &error));
            None
        }
    }
}

/// What is wrong with a fallback bundle that cannot be read. Whether it fits is only known beside the bundle that it stands in for.
fn unreadable_fallback(path: &Path) -> Option<String> {
    let error = Bundle::read(path).err()?;
    Some(format!("fallback bundle {}: {error}", path.display()))
}

fn of_bundle(config: &Config, error: &dyn fmt::Display) -> String {
    format!("bundle {}: {error}", config.bundle.display())
}

fn sentences(error: ConfigError) -> Vec<String> {
    match error {
        ConfigError::Check(problems) => problems,
        other => vec![other.to_string()],
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(bundle) = &self.bundle {
            writeln!(f, "{bundle}")?;
        }
        match &self.problems[..] {
            [] => write!(f, "run        can start with this configuration"),
            problems => {
                let lines: Vec<String> =
                    problems.iter().map(|problem| format!("problem    {problem}")).collect();
                write!(f, "{}", lines.join("\n"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_socket_in_the_folder_of_a_service_that_does_not_run_is_not_tried() {
        let folder = PathBuf::from("/run/no-such-service");
        let output = format!("ipc://{}", folder.join("estimates").display());
        let config = Config { outputs: vec![output.parse().unwrap()], ..Config::default() };
        let unit = Unit { runtime_folders: vec![folder], ..Unit::shipped() };
        assert_eq!(endpoint_problems(&config, Some(&unit)), Vec::<String>::new());
        let problems = endpoint_problems(&config, None);
        assert!(problems[0].starts_with(&format!("expected to bind {output}, found ")), "{problems:?}");
        let path = PathBuf::from("/run/no-such-service/control.sock");
        let config = Config { control_socket: Some(path.clone()), ..Config::default() };
        assert_eq!(control_problem(&config, Some(&unit)), None);
        let problem = control_problem(&config, None).unwrap();
        let expected = format!("expected to bind the control socket {}, found ", path.display());
        assert!(problem.starts_with(&expected), "{problem}");
    }
}
