//! `ndtd.toml`: what to run and where. `ndtd.example.toml` documents every key with its default.
//!
//! Unknown keys are refused; what is wrong is reported all at once.

use crate::engine::EngineKind;
use ndt_protocol::endpoint::Endpoint;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The configuration of `ndtd run`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// The model: a bundle folder or `.ndt` file. Empty where none is set.
    pub bundle: PathBuf,
    /// Where bins come from; connects unless it says `bind:`.
    pub input: Endpoint,
    /// Where estimates go; binds unless it says `connect:`.
    pub output: Endpoint,
    /// What computes.
    pub engine: EngineKind,
    /// ONNX Runtime's shared library; beside the executable or the system's where not set.
    pub onnxruntime_library: Option<PathBuf>,
    /// What is logged: `error`, `warn`, `info`, `debug`, or a filter such as `ndt_daemon=debug`.
    pub log: String,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The text is no configuration.
    #[error("{path}: expected a configuration as in ndtd.example.toml, found {found}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// What the parser says, with the line.
        found: String,
    },
    /// Values that cannot be.
    #[error("{}", .0.join("; "))]
    Check(Vec<String>),
}

impl Default for Config {
    fn default() -> Self {
        let local = |port: u16| format!("tcp://127.0.0.1:{port}").parse();
        let endpoint =
            |port| local(port).unwrap_or_else(|error| panic!("the default endpoint is one: {error}"));
        Config {
            bundle: PathBuf::new(),
            input: endpoint(5570),
            output: endpoint(5571),
            engine: EngineKind::Native,
            onnxruntime_library: None,
            log: "info".to_owned(),
        }
    }
}

impl Config {
    /// Reads a configuration; `check` is the caller's, after the command line has had its say.
    ///
    /// # Errors
    /// [`ConfigError::Io`] or [`ConfigError::Format`] with the line and the key.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Io { path: path.to_owned(), error })?;
        toml::from_str(&text).map_err(|error| {
            let line =
                error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
            let found = format!("{} in line {line}", error.message().replace('\n', " "));
            ConfigError::Format { path: path.to_owned(), found }
        })
    }

    /// Looks at the values.
    ///
    /// # Errors
    /// [`ConfigError::Check`] with every problem.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        if self.bundle.as_os_str().is_empty() {
            problems.push("expected a bundle, found none (bundle = \"...\" or --bundle)".to_owned());
        }
        if self.input.address() == self.output.address() {
            problems.push(format!(
                "expected different addresses for input and output, found {} twice",
                self.input
            ));
        }
        if let Some(library) = self.onnxruntime_library.as_ref().filter(|library| !library.exists()) {
            problems.push(format!("expected ONNX Runtime in {}, found no such file", library.display()));
        }
        if let Err(error) = self.log.parse::<tracing_subscriber::EnvFilter>() {
            problems.push(format!("expected a log filter such as \"info\", found \"{}\": {error}", self.log));
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Check(problems)) }
    }
}
