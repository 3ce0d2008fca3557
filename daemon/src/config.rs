//! `ndtd.toml`: what to run and where. `ndtd.example.toml` documents every key with its default.
//!
//! Unknown keys are refused; what is wrong is reported all at once.

use crate::engine::EngineKind;
use crate::guard;
use crate::policy::{Fallback, Policy, VelocityLimits};
use crate::realtime;
use ndt_protocol::Manifest;
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
    /// From a bin's arrival to its answer at the latest; the width of a bin where not set.
    pub deadline_ms: Option<f64>,
    /// What becomes of the velocity while there is no result.
    pub policy: Policy,
    /// Time constant of the policy `decay`; the velocity is zero after four of them.
    pub decay_time_constant_ms: f64,
    /// Silent bin periods after which the source counts as stale.
    pub stale_after_bins: u64,
    /// Highest speed that is published; none where not set.
    pub speed_max_m_per_s: Option<f32>,
    /// Highest change of velocity that is published; none where not set.
    pub acceleration_max_m_per_s2: Option<f32>,
    /// Ids of channels to be taken as silent.
    pub mask_channels: Vec<i64>,
    /// ONNX Runtime's shared library; beside the executable or the system's where not set.
    pub onnxruntime_library: Option<PathBuf>,
    /// What the real-time threads ask of the system.
    pub realtime: realtime::Settings,
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
            deadline_ms: None,
            policy: Policy::Decay,
            decay_time_constant_ms: 50.0,
            stale_after_bins: 3,
            speed_max_m_per_s: None,
            acceleration_max_m_per_s2: None,
            mask_channels: Vec::new(),
            onnxruntime_library: None,
            realtime: realtime::Settings::default(),
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
        let mut expect = |name: &str, found: f64, low: f64, high: f64| {
            if !(low..=high).contains(&found) {
                problems.push(format!("expected {name} from {low} to {high}, found {found}"));
            }
        };
        expect("deadline-ms", self.deadline_ms.unwrap_or(1.0), 0.1, 10_000.0);
        expect("decay-time-constant-ms", self.decay_time_constant_ms, 0.1, 60_000.0);
        expect("stale-after-bins", self.stale_after_bins as f64, 1.0, 1000.0);
        expect("speed-max-m-per-s", self.speed_max_m_per_s.unwrap_or(1.0).into(), 1e-6, 1e3);
        expect("acceleration-max-m-per-s2", self.acceleration_max_m_per_s2.unwrap_or(1.0).into(), 1e-6, 1e6);
        if let Some(library) = self.onnxruntime_library.as_ref().filter(|library| !library.exists()) {
            problems.push(format!("expected ONNX Runtime in {}, found no such file", library.display()));
        }
        if let Err(error) = self.log.parse::<tracing_subscriber::EnvFilter>() {
            problems.push(format!("expected a log filter such as \"info\", found \"{}\": {error}", self.log));
        }
        problems.extend(self.realtime.problems());
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Check(problems)) }
    }

    /// What the guard holds for a bundle.
    ///
    /// # Errors
    /// [`ConfigError::Check`] when a channel is to be masked that the bundle does not have, or all of them are.
    pub fn guard(&self, manifest: &Manifest) -> Result<guard::Settings, ConfigError> {
        let unknown = self.mask_channels.iter().filter(|id| !manifest.channel_ids.contains(id));
        let mut problems: Vec<String> =
            unknown.map(|id| format!("expected mask-channels of the bundle, found channel {id}")).collect();
        if manifest.channel_ids.iter().all(|id| self.mask_channels.contains(id)) {
            problems.push("expected a channel that is not in mask-channels, found none".to_owned());
        }
        if !problems.is_empty() {
            return Err(ConfigError::Check(problems));
        }
        let width_ms = manifest.bin_width_ms;
        Ok(guard::Settings {
            deadline_ns: (self.deadline_ms.unwrap_or(width_ms) * 1e6).round() as u64,
            stale_after_bins: self.stale_after_bins,
            fallback: Fallback {
                policy: self.policy,
                time_constant_bins: self.decay_time_constant_ms / width_ms,
            },
            limits: VelocityLimits {
                speed_max: self.speed_max_m_per_s,
                change_max: self.acceleration_max_m_per_s2.map(|max| max * width_ms as f32 * 1e-3),
            },
        })
    }
}
