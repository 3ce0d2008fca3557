//! `ndtd.toml`: what to run and where. `ndtd.example.toml` documents every key with its default.
//!
//! Unknown keys are refused. All problems of a configuration are reported at once.

mod changes;
mod entries;

use crate::decoder::masked_max;
use crate::engine::native::simd::InstructionSet;
use crate::engine::{self, EngineKind};
use crate::guard::GuardSettings;
use crate::guard::policy::{Fade, Policy, VelocityLimits};
use crate::host::realtime;
use crate::input::deadline::TimeLimits;
use crate::transport::lsl::LslSettings;
use crate::transport::zeromq::ipc::{IpcSettings, group_id};
use crate::transport::zeromq::settings::ZeromqSettings;
use ndt_protocol::bundle::BundleError;
use ndt_protocol::bundle::precision::Precision;
use ndt_protocol::bundle::readouts::ReadoutError;
use ndt_protocol::endpoint::{Endpoint, Input, Output, Role, SocketAddress};
use ndt_protocol::{Bundle, Manifest};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::path::{Path, PathBuf};

/// Longest deadline, in bin widths: half of the capacity of the queues, so that no queue is full before a deadline passes.
const DEADLINE_BINS_MAX: usize = ndt_protocol::limits::QUEUE_BINS / 2;

/// Longest `keep-warm-ms`: after a minute of silence caches and clocks are cold in any case.
const KEEP_WARM_MS_MAX: f64 = 60_000.0;

/// The configuration of `ndtd run`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Model bundle: a folder or a `.ndt` file. Empty if none is set.
    pub bundle: PathBuf,
    /// Source of bins. A socket connects, unless `bind:` is in front.
    pub input: Input,
    /// Destinations of estimates, at least one. A socket binds, unless `connect:` is in front.
    #[serde(rename = "output", deserialize_with = "one_or_several")]
    pub outputs: Vec<Output>,
    /// Engine that computes the model.
    pub engine: EngineKind,
    /// Instruction set of the native engine. Default: the best that the CPU has.
    pub instruction_set: Option<InstructionSet>,
    /// Precision of the native engine. Default: the fewest bits whose measured loss is negligible.
    pub precision: Option<Precision>,
    /// Lag of the published velocity, for a bundle with several: ms from a bin's centre to the instant that the velocity is for.
    /// Default: the one that the bundle publishes.
    pub velocity_lag_ms: Option<f64>,
    /// Linear bundle whose velocity is published for a bin that arrived but that the model did not answer in time. Default:
    /// none, the policy applies.
    pub fallback_bundle: Option<PathBuf>,
    /// Longest time from when a bin was due to its estimate, ms. Default: the width of a bin.
    pub deadline_ms: Option<f64>,
    /// Age above which an estimate of a bin is not published, ms. Default: two bin widths, or the deadline if that is longer.
    pub max_age_ms: Option<f64>,
    /// Silence after which the decode thread runs a step whose result is discarded, ms, and again after as much silence. 0
    /// means never.
    pub keep_warm_ms: u64,
    /// Velocity that is published while nothing new is computed.
    pub policy: Policy,
    /// Time constant of the policy `decay`, ms. The velocity is zero after four of them.
    pub decay_time_constant_ms: f64,
    /// Number of silent bin periods after which the source is stale.
    pub stale_after_bins: u64,
    /// Highest published speed. Default: no limit.
    pub speed_max_m_per_s: Option<f32>,
    /// Highest published change of velocity. Default: no limit.
    pub acceleration_max_m_per_s2: Option<f32>,
    /// Ids of channels that are treated as silent.
    pub mask_channels: Vec<i64>,
    /// Highest share of the channels that may be masked or have no count, from 0 to 1. The estimate of a bin with more is a fault.
    pub max_masked_share: f64,
    /// Whether the daemon starts paused: all outputs are zero until the order `resume`.
    pub start_paused: bool,
    /// Socket that takes orders to the running daemon. Default: `control.sock` in the service's folder under systemd, else none.
    pub control_socket: Option<PathBuf>,
    /// Group whose members may give orders: a name or a number. Default: that of the process.
    pub control_group: Option<String>,
    /// Shared library of ONNX Runtime. Default: the one beside the executable, or else the system's.
    pub onnxruntime_library: Option<PathBuf>,
    /// Settings of ONNX Runtime.
    pub onnx: engine::onnx::OnnxSettings,
    /// Mode and group of the `ipc://` sockets that the daemon binds.
    pub ipc: IpcSettings,
    /// What ZeroMQ peers may do, and how they are known.
    pub zeromq: ZeromqSettings,
    /// Settings of Lab Streaming Layer, for endpoints that begin with `lsl`.
    pub lsl: LslSettings,
    /// Settings that the real-time threads ask the system for.
    pub realtime: realtime::RealtimeSettings,
    /// Lowest level that is logged: `error`, `warn`, `info`, `debug`, or a filter such as `ndt_daemon=debug`.
    pub log: String,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        error: std::io::Error,
    },
    /// The text is no configuration.
    #[error("{path}: expected a configuration as in ndtd.example.toml, found {found}")]
    Format {
        /// Path of the file.
        path: PathBuf,
        /// Error of the parser, with the line.
        found: String,
    },
    /// Some values are out of range or contradict each other: one sentence for each problem.
    #[error("{}", .0.join("; "))]
    Check(Vec<String>),
}

/// Why the bundle of a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadBundleError {
    /// The bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle has no velocity of the configured lag.
    #[error(transparent)]
    Readout(#[from] ReadoutError),
}

impl Default for Config {
    fn default() -> Self {
        let local = |port: u16| SocketAddress { role: None, address: format!("tcp://127.0.0.1:{port}") };
        Config {
            bundle: PathBuf::new(),
            input: Input::Zeromq(local(5570)),
            outputs: vec![Output::Zeromq(local(5571))],
            engine: EngineKind::Native,
            instruction_set: None,
            precision: None,
            velocity_lag_ms: None,
            fallback_bundle: None,
            deadline_ms: None,
            max_age_ms: None,
            keep_warm_ms: 2,
            policy: Policy::Decay,
            decay_time_constant_ms: 50.0,
            stale_after_bins: 3,
            speed_max_m_per_s: None,
            acceleration_max_m_per_s2: None,
            mask_channels: Vec::new(),
            max_masked_share: 0.5,
            start_paused: false,
            control_socket: None,
            control_group: None,
            onnxruntime_library: None,
            onnx: engine::onnx::OnnxSettings::default(),
            ipc: IpcSettings::default(),
            zeromq: ZeromqSettings::default(),
            lsl: LslSettings::default(),
            realtime: realtime::RealtimeSettings::default(),
            log: "info".to_owned(),
        }
    }
}

impl Config {
    /// Reads a configuration file. The caller checks it with [`Config::check`] once the command line has overridden it.
    ///
    /// # Errors
    /// [`ConfigError::Io`], or [`ConfigError::Format`] with the line of every key that cannot be read.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let (config, problems) = Config::read_all(path)?;
        match problems.is_empty() {
            true => Ok(config),
            false => Err(ConfigError::Format { path: path.to_owned(), found: problems.join("; ") }),
        }
    }

    /// Reads what can be read of a configuration file, and returns one phrase for each key that cannot: what was found, and in
    /// which line.
    ///
    /// # Errors
    /// [`ConfigError::Io`], or [`ConfigError::Format`] when the text is no TOML.
    pub fn read_all(path: &Path) -> Result<(Config, Vec<String>), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Io { path: path.to_owned(), error })?;
        entries::read(&text).map_err(|found| ConfigError::Format { path: path.to_owned(), found })
    }

    /// Checks the values.
    ///
    /// # Errors
    /// [`ConfigError::Check`] with every problem.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        if self.bundle.as_os_str().is_empty() {
            problems.push("expected a bundle, found none (bundle = \"...\" or --bundle)".to_owned());
        }
        problems.extend(self.endpoint_problems());
        let mut expect = |name: &str, found: f64, low: f64, high: f64| {
            if !(low..=high).contains(&found) {
                problems.push(format!("expected {name} from {low} to {high}, found {found}"));
            }
        };
        expect("deadline-ms", self.deadline_ms.unwrap_or(1.0), 0.1, 10_000.0);
        expect("max-age-ms", self.max_age_ms.unwrap_or(1.0), 0.1, 60_000.0);
        expect("keep-warm-ms", self.keep_warm_ms as f64, 0.0, KEEP_WARM_MS_MAX);
        expect("decay-time-constant-ms", self.decay_time_constant_ms, 0.1, 60_000.0);
        expect("stale-after-bins", self.stale_after_bins as f64, 1.0, DEADLINE_BINS_MAX as f64);
        expect("max-masked-share", self.max_masked_share, 0.0, 1.0);
        expect("speed-max-m-per-s", self.speed_max_m_per_s.unwrap_or(1.0).into(), 1e-6, 1e3);
        expect("acceleration-max-m-per-s2", self.acceleration_max_m_per_s2.unwrap_or(1.0).into(), 1e-6, 1e6);
        if let Some(library) = self.onnxruntime_library.as_ref().filter(|library| !library.exists()) {
            problems.push(format!("expected ONNX Runtime in {}, found no such file", library.display()));
        }
        // The library takes a word that is no level for the name of a module, of which nothing is then logged.
        let is_level = |part: &str| part.parse::<tracing::level_filters::LevelFilter>().is_ok();
        if let Some(found) =
            self.log.split(',').map(str::trim).find(|part| !part.contains('=') && !is_level(part))
        {
            problems.push(format!(
                "expected a log level (error, warn, info, debug) or a filter such as \"ndt_daemon=debug\", found \"{found}\""
            ));
        } else if let Err(error) = self.log.parse::<tracing_subscriber::EnvFilter>() {
            problems.push(format!("expected a log filter such as \"info\", found \"{}\": {error}", self.log));
        }
        problems.extend(self.onnx.problems());
        problems.extend(self.zeromq.problems(&self.endpoints_with_roles()));
        problems.extend(self.ipc.problems());
        if let Some(group) = self.control_group.as_deref().filter(|group| group_id(group).is_none()) {
            problems.push(format!("expected a group of this computer in control-group, found \"{group}\""));
        }
        problems.extend(self.lsl.problems());
        problems.extend(self.realtime.problems());
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Check(problems)) }
    }

    fn endpoint_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.outputs.is_empty() {
            problems.push("expected at least one output, found none".to_owned());
        }
        let mut seen = Vec::new();
        for endpoint in self.endpoints() {
            let address = endpoint.address();
            // Port 0 stands for any free port.
            if seen.contains(&address) && !address.ends_with(":0") {
                problems.push(format!(
                    "expected different addresses for input and output, found {endpoint} twice"
                ));
            }
            seen.push(address);
        }
        problems
    }

    /// Returns the input, then the outputs in the order of the configuration.
    pub fn endpoints(&self) -> impl Iterator<Item = Endpoint> {
        let outputs = self.outputs.iter().cloned().map(Endpoint::from);
        std::iter::once(Endpoint::from(self.input.clone())).chain(outputs)
    }

    /// Returns the endpoints with the role that each has: the input connects unless it is told to bind, and outputs bind.
    pub fn endpoints_with_roles(&self) -> Vec<(Endpoint, Role)> {
        let defaults = std::iter::once(Role::Connect).chain(std::iter::repeat(Role::Bind));
        let role = |(endpoint, default): (Endpoint, Role)| match &endpoint {
            Endpoint::Zeromq(socket) => (endpoint.clone(), socket.role_or(default)),
            Endpoint::Lsl(_) => (endpoint, default),
        };
        self.endpoints().zip(defaults).map(role).collect()
    }

    /// Whether any endpoint is a stream of Lab Streaming Layer.
    pub fn uses_lsl(&self) -> bool {
        self.endpoints().any(|endpoint| matches!(endpoint, Endpoint::Lsl(_)))
    }

    /// Returns the choice of the engine and its settings.
    pub fn engine(&self) -> engine::Choice {
        engine::Choice {
            kind: self.engine,
            instruction_set: self.instruction_set,
            precision: self.precision,
            onnxruntime_library: self.onnxruntime_library.clone(),
            onnx: self.onnx.clone(),
        }
    }

    /// Reads the bundle, with the configured velocity as the published one.
    ///
    /// # Errors
    /// [`ReadBundleError`] when the bundle cannot be read, or has no velocity of the configured lag.
    pub fn read_bundle(&self) -> Result<Bundle, ReadBundleError> {
        let bundle = Bundle::read(&self.bundle)?;
        match self.velocity_lag_ms {
            Some(lag_ms) => Ok(bundle.reading(lag_ms)?),
            None => Ok(bundle),
        }
    }

    /// Returns the settings of the guard for the bundle of `manifest`.
    ///
    /// # Errors
    /// [`ConfigError::Check`] when `mask-channels` holds an id that the bundle does not have, or more of its ids than
    /// `max-masked-share` allows, or all of them, or when the deadline is too long for the bin width or longer than the highest age, or
    /// when limits in m/s are set for a velocity in another unit.
    pub fn guard(&self, manifest: &Manifest) -> Result<GuardSettings, ConfigError> {
        let unknown = self.mask_channels.iter().filter(|id| !manifest.channel_ids.contains(id));
        let mut problems: Vec<String> =
            unknown.map(|id| format!("expected mask-channels of the bundle, found channel {id}")).collect();
        if manifest.channel_ids.iter().all(|id| self.mask_channels.contains(id)) {
            problems.push("expected a channel that is not in mask-channels, found none".to_owned());
        } else {
            let masked = manifest.channel_ids.iter().filter(|id| self.mask_channels.contains(id)).count();
            let (channels, share) = (manifest.channels(), self.max_masked_share);
            let most = masked_max(channels, share);
            if masked > most {
                problems.push(format!(
                    "expected at most {most} of the bundle's {channels} channels in mask-channels, because max-masked-share is \
                     {share}, found {masked}"
                ));
            }
        }
        let width_ms = manifest.bin_width_ms;
        let deadline_ms = self.deadline_ms.unwrap_or(width_ms);
        if deadline_ms > DEADLINE_BINS_MAX as f64 * width_ms {
            let most_ms = DEADLINE_BINS_MAX as f64 * width_ms;
            problems.push(format!(
                "expected deadline-ms of at most {most_ms} for this bundle, found {deadline_ms}"
            ));
        }
        let max_age_ms = self.max_age_ms.unwrap_or_else(|| (2.0 * width_ms).max(deadline_ms));
        if max_age_ms < deadline_ms {
            problems.push(format!(
                "expected max-age-ms of at least the deadline of {deadline_ms} ms, found {max_age_ms}"
            ));
        }
        let limits = [
            ("speed-max-m-per-s", self.speed_max_m_per_s),
            ("acceleration-max-m-per-s2", self.acceleration_max_m_per_s2),
        ];
        let unit = manifest.velocity().map(|velocity| velocity.unit.as_str()).filter(|unit| *unit != "m/s");
        for (key, _) in limits.iter().filter(|(_, limit)| limit.is_some()) {
            let other = unit
                .map(|unit| format!("expected a bundle whose velocity is in m/s for {key}, found {unit}"));
            problems.extend(other);
        }
        if !problems.is_empty() {
            return Err(ConfigError::Check(problems));
        }
        Ok(GuardSettings {
            time: TimeLimits {
                deadline_ns: (deadline_ms * 1e6).round() as u64,
                max_age_ns: (max_age_ms * 1e6).round() as u64,
            },
            stale_after_bins: self.stale_after_bins,
            fade: Fade { policy: self.policy, time_constant_bins: self.decay_time_constant_ms / width_ms },
            limits: VelocityLimits {
                speed_max: self.speed_max_m_per_s,
                change_max: self.acceleration_max_m_per_s2.map(|max| max * width_ms as f32 * 1e-3),
            },
        })
    }
}

/// Reads one endpoint or a list of endpoints.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Output>, D::Error> {
    struct OneOrSeveral;

    impl<'de> Visitor<'de> for OneOrSeveral {
        type Value = Vec<Output>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an endpoint or a list of them")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<Output>, E> {
            Ok(vec![text.parse().map_err(E::custom)?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Output>, A::Error> {
            let mut endpoints = Vec::new();
            while let Some(endpoint) = list.next_element()? {
                endpoints.push(endpoint);
            }
            Ok(endpoints)
        }
    }

    deserializer.deserialize_any(OneOrSeveral)
}

#[cfg(test)]
mod tests;
