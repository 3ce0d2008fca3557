//! `ndtd.toml`: what to run and where. `ndtd.example.toml` documents every key with its default.
//!
//! Unknown keys are refused. All problems of a configuration are reported at once.

use crate::engine::native::simd::InstructionSet;
use crate::engine::{self, EngineKind};
use crate::guard::GuardSettings;
use crate::guard::policy::{Fade, Policy, VelocityLimits};
use crate::host::realtime;
use crate::transport::lsl::LslSettings;
use crate::transport::zeromq::ipc::IpcSettings;
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
    /// Longest time from a bin's arrival to its estimate, ms. Default: the width of a bin.
    pub deadline_ms: Option<f64>,
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
            keep_warm_ms: 2,
            policy: Policy::Decay,
            decay_time_constant_ms: 50.0,
            stale_after_bins: 3,
            speed_max_m_per_s: None,
            acceleration_max_m_per_s2: None,
            mask_channels: Vec::new(),
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
    /// [`ConfigError::Io`] or [`ConfigError::Format`] with the line and the key.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Io { path: path.to_owned(), error })?;
        toml::from_str(&text).map_err(|error| {
            let before = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count();
            let found = format!("{} in line {line}", error.message().replace('\n', " "));
            ConfigError::Format { path: path.to_owned(), found }
        })
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
        expect("keep-warm-ms", self.keep_warm_ms as f64, 0.0, KEEP_WARM_MS_MAX);
        expect("decay-time-constant-ms", self.decay_time_constant_ms, 0.1, 60_000.0);
        expect("stale-after-bins", self.stale_after_bins as f64, 1.0, DEADLINE_BINS_MAX as f64);
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
    /// [`ConfigError::Check`] when `mask-channels` holds an id that the bundle does not have, or all of its ids, or when the
    /// deadline is too long for the bin width, or when limits in m/s are set for a velocity in another unit.
    pub fn guard(&self, manifest: &Manifest) -> Result<GuardSettings, ConfigError> {
        let unknown = self.mask_channels.iter().filter(|id| !manifest.channel_ids.contains(id));
        let mut problems: Vec<String> =
            unknown.map(|id| format!("expected mask-channels of the bundle, found channel {id}")).collect();
        if manifest.channel_ids.iter().all(|id| self.mask_channels.contains(id)) {
            problems.push("expected a channel that is not in mask-channels, found none".to_owned());
        }
        let width_ms = manifest.bin_width_ms;
        let deadline_ms = self.deadline_ms.unwrap_or(width_ms);
        if deadline_ms > DEADLINE_BINS_MAX as f64 * width_ms {
            let most_ms = DEADLINE_BINS_MAX as f64 * width_ms;
            problems.push(format!(
                "expected deadline-ms of at most {most_ms} for this bundle, found {deadline_ms}"
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
            deadline_ns: (deadline_ms * 1e6).round() as u64,
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
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ndtd.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    fn sentence(text: &str) -> String {
        let error = read(text).unwrap_err().to_string();
        error.split_once("ndtd.toml: ").unwrap().1.to_owned()
    }

    #[test]
    fn the_shipped_example_documents_the_defaults() {
        let text = include_str!("../ndtd.example.toml");
        let expected = Config { bundle: "/var/lib/ndtd/model".into(), ..Config::default() };
        assert_eq!(read(text).unwrap(), expected);
        expected.check().unwrap();
        // Keys without a default are shown too, commented out.
        let is_key = |text: &str| text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        let shown = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| is_key(key));
        let lines = text.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
        let all: Vec<&str> = lines.filter(|line| line.starts_with('[') || shown(line)).collect();
        let all = read(&all.join("\n")).unwrap();
        assert_eq!((all.deadline_ms, all.speed_max_m_per_s), (Some(20.0), Some(1.5)));
        assert!(all.acceleration_max_m_per_s2.is_some() && all.onnxruntime_library.is_some());
        assert_eq!(all.fallback_bundle, Some("/var/lib/ndtd/linear".into()));
    }

    /// The keys of a table of the configuration, as the parser lists them when it finds another one.
    fn keys(table: &str) -> Vec<String> {
        let error = sentence(&format!("{table}\nnone-of-them = 0\n"));
        error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn every_key_stands_in_the_shipped_example_even_one_without_a_default() {
        let text = include_str!("../ndtd.example.toml");
        let mut sections = text.split("\n[");
        let mut missing = Vec::new();
        let mut expect = |table: &str, section: &str| {
            let shown = |key: &str| {
                section.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")))
            };
            let is_table = |key: &str| text.contains(&format!("\n[{key}]\n"));
            let keys = keys(table);
            assert!(!keys.is_empty(), "no keys of \"{table}\"");
            missing.extend(
                keys.into_iter()
                    .filter(|key| !shown(key) && !is_table(key))
                    .map(|key| format!("{table}{key}")),
            );
        };
        expect("", sections.next().unwrap());
        for section in sections {
            expect(&format!("[{}]", section.split(']').next().unwrap()), section);
        }
        assert!(missing.is_empty(), "keys that ndtd.example.toml does not show: {}", missing.join(", "));
    }

    #[test]
    fn an_unknown_key_or_a_wrong_value_is_told_with_its_line() {
        let found = sentence("engine = \"native\"\nengin = \"native\"\n");
        assert!(
            found
                .starts_with("expected a configuration as in ndtd.example.toml, found unknown field `engin`")
        );
        assert!(found.ends_with(" in line 2"), "{found}");
        let found = sentence("\ninput = \"pigeon://rig:1\"\n");
        assert!(found.contains("expected an endpoint such as") && found.ends_with(" in line 2"), "{found}");
        assert!(sentence("[realtime]\nprio = 3\n").contains("unknown field `prio`"));
        assert!(sentence("[onnx]\nthreads = 3\n").contains("unknown field `threads`"));
        let found = sentence("[onnx]\nprovider = \"tensorrt\"\n");
        assert!(found.contains("unknown variant `tensorrt`") && found.ends_with(" in line 2"), "{found}");
    }

    #[test]
    fn one_output_or_several_are_read_and_a_stream_among_them_has_only_a_name() {
        let outputs =
            |text: &str| read(text).unwrap().outputs.iter().map(Output::to_string).collect::<Vec<_>>();
        assert_eq!(outputs("output = \"tcp://a:1\"\n"), ["tcp://a:1"]);
        assert_eq!(outputs("output = [\"tcp://a:1\", \"lsl:arm\"]\n"), ["tcp://a:1", "lsl:arm"]);
        assert!(sentence("output = 3\n").contains("expected an endpoint or a list of them"));
        assert!(
            sentence("output = \"lsl:type=x\"\n")
                .contains("expected lsl:NAME as an output, found lsl:type=x")
        );
        let config = read("output = [\"lsl\", \"lsl\"]\n[lsl]\nbuffer-bins = 0\n").unwrap();
        let problems = config.check().unwrap_err().to_string();
        for expected in ["found lsl:ndtd twice", "buffer-bins in [lsl]"] {
            assert!(problems.contains(expected), "{expected} in {problems}");
        }
    }

    #[test]
    fn a_mistyped_log_level_is_refused_and_not_taken_for_a_module() {
        let problems = |log: &str| {
            let config = Config { bundle: "model".into(), log: log.to_owned(), ..Config::default() };
            config.check().err().map(|error| error.to_string())
        };
        for log in ["info", "WARN", "warn,ndt_daemon=debug", "off"] {
            assert_eq!(problems(log), None, "{log}");
        }
        for (log, found) in [("warning", "warning"), ("info, loud", "loud")] {
            assert!(problems(log).unwrap().ends_with(&format!("found \"{found}\"")), "{log}");
        }
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let config = read(
            "output = \"tcp://127.0.0.1:5570\"\nstale-after-bins = 0\ndeadline-ms = -1.0\nlog = \"=\"\n",
        );
        let mut config = config.unwrap();
        config.onnx.intra_op_threads = 0;
        config.keep_warm_ms = 3_600_000;
        let problems = config.check().unwrap_err().to_string();
        for expected in [
            "a bundle",
            "different addresses",
            "stale-after-bins",
            "deadline-ms",
            "keep-warm-ms",
            "a log filter",
            "onnx.intra-op-threads",
        ] {
            assert!(problems.contains(&format!("expected {expected}")), "{expected} in {problems}");
        }
    }
}
