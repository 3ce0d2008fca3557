//! `ndtd run`.

use super::{Refusal, configured_bundle};
use anyhow::Context;
use clap::Args;
use ndt_daemon::config::Config;
use ndt_daemon::control::commands::Commands;
use ndt_daemon::control::socket::{self, ControlSocket};
use ndt_daemon::engine::{self, Engine, EngineKind};
use ndt_daemon::host::log::Log;
use ndt_daemon::host::realtime::{self, granted, memory};
use ndt_daemon::host::reload::Reload;
use ndt_daemon::host::service;
use ndt_daemon::pipeline;
use ndt_protocol::Bundle;
use ndt_protocol::bundle::precision::Precision;
use ndt_protocol::endpoint::{Endpoint, Input, Output};
use std::path::PathBuf;
use tracing::{info, warn};

pub const HELP: &str = "Exit status: 0 after SIGTERM or SIGINT, 1 after a failure, such as an address that another program has, 2 for a wrong \
                        command line, 78 where the configuration or a bundle is refused.\n\
                        Example: ndtd run --bundle model --input tcp://127.0.0.1:5570 --output tcp://127.0.0.1:5571";

#[derive(Args, Clone)]
pub struct Run {
    /// Configuration file (TOML). The options below override it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Model bundle: a folder or a .ndt file.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Source of bins: tcp://HOST:PORT or ipc://PATH (connects; bind: in front binds), or lsl:NAME.
    #[arg(long)]
    input: Option<Input>,
    /// Destination of estimates: tcp://HOST:PORT or ipc://PATH (binds; connect: in front connects), or lsl:NAME. Repeat the
    /// option for several outputs.
    #[arg(long)]
    output: Vec<Output>,
    /// Engine that computes the model: native or onnx [default: native].
    #[arg(long, value_parser = EngineKind::named)]
    engine: Option<EngineKind>,
    /// Precision of the native engine: f32, bf16 or int8 [default: the fewest bits whose measured loss is negligible].
    #[arg(long, value_parser = Precision::named)]
    precision: Option<Precision>,
    /// Lag of the published velocity, in ms from a bin's centre, for bundles with several, e.g. 100 [default: the bundle's].
    #[arg(long, allow_negative_numbers = true)]
    velocity_lag_ms: Option<f64>,
    /// Linear bundle whose velocity is published for a bin that the model did not answer in time, e.g. linear/wiener
    /// [default: none, the policy applies].
    #[arg(long)]
    fallback_bundle: Option<PathBuf>,
    /// Let ZeroMQ endpoints that other machines reach do without encryption: whoever reaches them can send bins or read estimates.
    #[arg(long)]
    allow_unencrypted: bool,
    /// Shared library of ONNX Runtime [default: the system's].
    #[arg(long)]
    onnxruntime_library: Option<PathBuf>,
    /// Socket that takes orders, for `ndtd status`, `pause`, `swap` and so on [default: control.sock in the folder of the service under
    /// systemd, else none].
    #[arg(long)]
    control_socket: Option<PathBuf>,
    /// Shared library liblsl [default: the one beside the executable, or else the system's].
    #[arg(long)]
    lsl_library: Option<PathBuf>,
    /// Lowest level that is logged: error, warn, info or debug [default: the environment variable NDTD_LOG, then the configuration].
    #[arg(long)]
    log: Option<String>,
}

impl Run {
    pub fn execute(self) -> anyhow::Result<()> {
        let config = self.configuration().map_err(Refusal)?;
        memory::bound(&config.realtime);
        let log = Log::start(&config.log);
        let (bundle, engine) = model(&config).map_err(Refusal)?;
        warn_of_other_machines(&config);
        let name = engine.name();
        let socket = socket::path(&config, std::env::var_os("RUNTIME_DIRECTORY"));
        let socket =
            socket.map(|path| ControlSocket::bind(&path, config.control_group.as_deref())).transpose()?;
        let mut pipeline =
            pipeline::start(&config, &bundle, engine).map_err(|error| match error.is_refusal() {
                true => Refusal(error.into()).into(),
                false => anyhow::Error::from(error),
            })?;
        for refused in realtime::once_each(pipeline.refused()) {
            warn!("{refused}");
        }
        info!("{}", granted::sentence(pipeline.granted(), granted::locked_kb()));
        let manifest = &bundle.manifest;
        info!(
            "bundle {}: {} channels, {} units, {} ms bins; engine {name}; bins from {}, estimates on {}",
            &manifest.id[..12],
            manifest.channels(),
            manifest.units(),
            manifest.bin_width_ms,
            pipeline.input(),
            pipeline.outputs().join(" and "),
        );
        if let Some(path) = &config.fallback_bundle {
            info!("late and faulty bins are answered by the linear decoder in {}", path.display());
        }
        if let Some(socket) = &socket {
            info!("orders are taken at {}", socket.path().display());
        }
        if config.start_paused {
            info!("paused from the start: all outputs are zero until the order resume");
        }
        let commands = pipeline.control().map(|ends| Commands::new(&config, &bundle, &name, ends));
        let commands = commands.context("a pipeline that is not controlled yet")?;
        let mut reload =
            Reload::new(config, move || self.configuration().map_err(|error| format!("{error:#}")));
        Ok(service::supervise(pipeline, &log, &mut reload, commands, socket)?)
    }

    /// The configuration file, or the defaults, with the command line's options over it.
    fn configuration(&self) -> anyhow::Result<Config> {
        let options = self.clone();
        let mut config = options.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
        config.bundle = options.bundle.unwrap_or(config.bundle);
        config.input = options.input.unwrap_or(config.input);
        if !options.output.is_empty() {
            config.outputs = options.output;
        }
        config.zeromq.allow_unencrypted |= options.allow_unencrypted;
        config.lsl.library = options.lsl_library.or(config.lsl.library);
        config.engine = options.engine.unwrap_or(config.engine);
        config.precision = options.precision.or(config.precision);
        config.velocity_lag_ms = options.velocity_lag_ms.or(config.velocity_lag_ms);
        config.fallback_bundle = options.fallback_bundle.or(config.fallback_bundle);
        config.control_socket = options.control_socket.or(config.control_socket);
        config.onnxruntime_library = options.onnxruntime_library.or(config.onnxruntime_library);
        config.log = options.log.or_else(|| std::env::var("NDTD_LOG").ok()).unwrap_or(config.log);
        config.check()?;
        Ok(config)
    }
}

/// Reads the bundle, and has the engine reproduce its golden vectors.
fn model(config: &Config) -> anyhow::Result<(Bundle, Box<dyn Engine>)> {
    let bundle = configured_bundle(config)?;
    let engine = engine::load(&config.engine(), &bundle)?;
    Ok((bundle, engine))
}

fn warn_of_other_machines(config: &Config) {
    for (endpoint, role) in config.endpoints_with_roles() {
        let is_encrypted = matches!(endpoint, Endpoint::Zeromq(_)) && config.zeromq.is_encrypted();
        if let Some(reached) = endpoint.reach_from_other_machines(role).filter(|_| !is_encrypted) {
            warn!("{endpoint} {reached}, and nothing on it is authenticated or encrypted");
        }
    }
}
