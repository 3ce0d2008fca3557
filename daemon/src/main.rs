//! `ndtd`: the command line of the daemon.

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use ndt_daemon::bench::load::Load;
use ndt_daemon::bench::schedule::Length;
use ndt_daemon::bench::{Progress, Transport};
use ndt_daemon::config::Config;
use ndt_daemon::engine::native::simd::InstructionSet;
use ndt_daemon::engine::{self, EngineKind};
use ndt_daemon::host::{doctor, realtime, service};
use ndt_daemon::{bench, check, decode, pipeline};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::precision::Precision;
use ndt_protocol::endpoint::{Endpoint, Input, Output};
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing::{info, warn};

/// Decodes binned spikes as they come: denoised firing rates and hand velocity, one estimate for each bin.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run until SIGTERM.
    #[command(
        after_help = "Example: ndtd run --bundle model --input tcp://127.0.0.1:5570 --output tcp://127.0.0.1:5571"
    )]
    Run(Run),
    /// Read a bundle, have the engine reproduce its golden vectors, and say what it is and what fewer bits would lose.
    #[command(after_help = "Example: ndtd check --bundle model --engine native --json")]
    Check(Check),
    /// Look at this computer's scheduling, clock, memory and libraries, and say what would lower latency.
    #[command(
        after_help = "Exit status: 0 where nothing has to be done, 1 with a warning, 2 with a problem.\n\
                      Example: ndtd doctor --config /etc/ndtd/ndtd.toml --json"
    )]
    Doctor(Doctor),
    /// Measure how long a bin takes from the instant it is due to its estimate, on this computer.
    #[command(
        after_help = "Example: ndtd bench --bundle model --config /etc/ndtd/ndtd.toml --load stress --seconds 60\n\
                      Bins are due at the bundle's rate whether or not those before them are answered, and every \
                      latency counts from when its bin was due. The first second is not counted."
    )]
    Bench(Bench),
    /// Decode whole trials from a file, offline: the same function on all CPUs at once.
    #[command(
        after_help = "Example: ndtd decode --bundle model --counts trials.safetensors --out rates.safetensors\n\
                      The input holds f32 arrays: counts [trials, bins, channels] and, where bins are missing, \
                      missing [trials, bins] with 1 for those. The output holds log_rates [trials, bins, units] in \
                      ln(spikes/s) and velocity [trials, bins, dims]. Each trial starts cold."
    )]
    Decode(Decode),
}

#[derive(Args)]
struct Decode {
    /// Bundle folder or .ndt file.
    #[arg(long)]
    bundle: PathBuf,
    /// Safetensors file of counts.
    #[arg(long)]
    counts: PathBuf,
    /// Safetensors file to be written; one that is there is replaced.
    #[arg(long)]
    out: PathBuf,
    /// Threads that compute; as many as there are CPUs where not set. The output is the same.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Run {
    /// Configuration file; the options below come before it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Bundle folder or .ndt file.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Where bins come from, e.g. tcp://127.0.0.1:5570, bind:tcp://127.0.0.1:5570 or lsl:NAME.
    #[arg(long)]
    input: Option<Input>,
    /// Where estimates go, e.g. tcp://127.0.0.1:5571 or lsl:NAME; may be given several times.
    #[arg(long)]
    output: Vec<Output>,
    /// What computes.
    #[arg(long)]
    engine: Option<EngineKind>,
    /// Bits of the native engine's numbers: f32, bf16 or int8.
    #[arg(long, value_parser = Precision::named)]
    precision: Option<Precision>,
    /// Which of the bundle's velocities is published: ms from a bin's centre to the instant that it is for, e.g. 100.
    #[arg(long, allow_negative_numbers = true)]
    velocity_lag_ms: Option<f64>,
    /// A linear bundle that answers a bin whose result is late or a fault, e.g. linear/wiener; else the policy does.
    #[arg(long)]
    fallback_bundle: Option<PathBuf>,
    /// ONNX Runtime's shared library.
    #[arg(long)]
    onnxruntime_library: Option<PathBuf>,
    /// liblsl's shared library.
    #[arg(long)]
    lsl_library: Option<PathBuf>,
}

#[derive(Args)]
struct Check {
    /// Bundle folder or .ndt file.
    #[arg(long)]
    bundle: PathBuf,
    /// What computes.
    #[arg(long, default_value = "native")]
    engine: EngineKind,
    /// Vector instructions of the native engine; the best that there are where not set.
    #[arg(long)]
    instruction_set: Option<InstructionSet>,
    /// ONNX Runtime's shared library.
    #[arg(long)]
    onnxruntime_library: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Doctor {
    /// Configuration file, whose [realtime] is checked against this computer.
    #[arg(long)]
    config: Option<PathBuf>,
    /// ONNX Runtime's shared library.
    #[arg(long)]
    onnxruntime_library: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Bench {
    /// Bundle folder or .ndt file.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// What computes.
    #[arg(long)]
    engine: Option<EngineKind>,
    /// ONNX Runtime's shared library.
    #[arg(long)]
    onnxruntime_library: Option<PathBuf>,
    /// liblsl's shared library, for the measurement over Lab Streaming Layer.
    #[arg(long)]
    lsl_library: Option<PathBuf>,
    /// Configuration file, for its [realtime], deadline and policy; the options above come before it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// What else the computer does.
    #[arg(long, default_value = "none")]
    load: Load,
    /// What carries bins and estimates.
    #[arg(long, default_value = "both")]
    transport: Transports,
    /// Bins that count, for each transport.
    #[arg(long, conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    bins: Option<u64>,
    /// Seconds that count, for each transport.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Measure no time: take so many bins, one after the other on one thread, for programs that count instructions.
    #[arg(long, conflicts_with_all = ["load", "transport", "bins", "seconds", "json"])]
    steps: Option<u64>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Transports {
    Both,
    InProcess,
    Loopback,
    Lsl,
    All,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(run_) => run(run_),
        Command::Check(check_) => check(&check_),
        Command::Doctor(doctor_) => return doctor(doctor_),
        Command::Bench(bench_) => bench(bench_),
        Command::Decode(decode_) => decode(decode_),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ndtd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(run: Run) -> anyhow::Result<()> {
    let mut config = run.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
    config.bundle = run.bundle.unwrap_or(config.bundle);
    config.input = run.input.unwrap_or(config.input);
    if !run.output.is_empty() {
        config.outputs = run.output;
    }
    config.lsl.library = run.lsl_library.or(config.lsl.library);
    config.engine = run.engine.unwrap_or(config.engine);
    config.precision = run.precision.or(config.precision);
    config.velocity_lag_ms = run.velocity_lag_ms.or(config.velocity_lag_ms);
    config.fallback_bundle = run.fallback_bundle.or(config.fallback_bundle);
    config.onnxruntime_library = run.onnxruntime_library.or(config.onnxruntime_library);
    config.check()?;
    service::start_logging(&config.log);
    let bundle = bundle(&config)?;
    let engine = engine::load(&config.engine(), &bundle)?;
    for endpoint in config.endpoints() {
        let reached = match &endpoint {
            Endpoint::Lsl(_) => "may be found from other machines, as far as lsl_api.cfg lets",
            Endpoint::Zeromq(socket) if socket.is_local() => continue,
            Endpoint::Zeromq(_) => "is reached from other machines",
        };
        warn!("{endpoint} {reached}, and nothing on it is authenticated or encrypted");
    }
    let name = engine.name();
    let pipeline = pipeline::start(&config, &bundle, engine)?;
    for refused in realtime::once_each(pipeline.refused()) {
        warn!("{refused}");
    }
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
    Ok(service::supervise(pipeline)?)
}

/// The configured bundle, with the configured velocity published.
fn bundle(config: &Config) -> anyhow::Result<Bundle> {
    let path = || format!("bundle {}", config.bundle.display());
    let bundle = Bundle::read(&config.bundle).with_context(path)?;
    config.velocity_lag_ms.map_or(Ok(bundle.clone()), |lag_ms| bundle.reading(lag_ms)).with_context(path)
}

fn check(check: &Check) -> anyhow::Result<()> {
    let bundle = Bundle::read(&check.bundle).with_context(|| format!("bundle {}", check.bundle.display()))?;
    let choice = engine::Choice {
        kind: check.engine,
        instruction_set: check.instruction_set,
        precision: None,
        onnxruntime_library: check.onnxruntime_library.clone(),
        onnx: engine::onnx::OnnxSettings::default(),
    };
    let report = check::examine(&choice, &bundle)?;
    if check.json {
        println!("{:#}", serde_json::json!(report));
    } else {
        println!("{report}");
    }
    Ok(())
}

fn doctor(doctor: Doctor) -> ExitCode {
    let report = doctor::examine_this_machine(doctor.config.as_deref(), doctor.onnxruntime_library);
    if doctor.json {
        println!("{:#}", serde_json::json!(report));
    } else {
        println!("{report}");
    }
    ExitCode::from(report.exit_status())
}

fn bench(bench: Bench) -> anyhow::Result<()> {
    let mut config = bench.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
    config.bundle = bench.bundle.unwrap_or(config.bundle);
    config.engine = bench.engine.unwrap_or(config.engine);
    config.onnxruntime_library = bench.onnxruntime_library.or(config.onnxruntime_library);
    config.lsl.library = bench.lsl_library.or(config.lsl.library);
    config.check()?;
    let bundle = bundle(&config)?;
    if let Some(steps) = bench.steps {
        let done = bench::steps::take_steps(&config, &bundle, steps)?;
        println!(
            "{steps} steps, {} estimates, checksum {:016x}, {}",
            done.estimates, done.checksum, done.engine
        );
        return Ok(());
    }
    let settings = bench::BenchSettings {
        transports: match bench.transport {
            Transports::Both => vec![Transport::InProcess, Transport::Loopback],
            Transports::InProcess => vec![Transport::InProcess],
            Transports::Loopback => vec![Transport::Loopback],
            Transports::Lsl => vec![Transport::Lsl],
            Transports::All => vec![Transport::InProcess, Transport::Loopback, Transport::Lsl],
        },
        load: bench.load,
        length: bench.bins.map_or(Length::Seconds(bench.seconds), Length::Bins),
    };
    let mut shown = 0;
    let mut show = |progress: Progress| shown = show_progress(progress, shown);
    let report = bench::measure(&config, &bundle, &settings, &mut show)?;
    match bench.json {
        true => println!("{:#}", serde_json::json!(report)),
        false => println!("{report}"),
    }
    Ok(())
}

/// One line each second of a longer run, for who waits at a terminal; gives the second that is shown.
fn show_progress(progress: Progress, shown: u64) -> u64 {
    let Progress { transport, seconds, seconds_total } = progress;
    let second = seconds as u64;
    if second != shown && seconds_total >= 10.0 && std::io::stderr().is_terminal() {
        eprintln!("{} {second} of {seconds_total:.0} s", transport.name());
    }
    second
}

fn decode(decode: Decode) -> anyhow::Result<()> {
    let bundle =
        Bundle::read(&decode.bundle).with_context(|| format!("bundle {}", decode.bundle.display()))?;
    let cpus = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let Decode { counts, out, json, .. } = decode;
    let settings = decode::Settings { counts, out, threads: decode.threads.unwrap_or(cpus) };
    let for_person = !json && std::io::stderr().is_terminal();
    let bar = if for_person { ProgressBar::no_length() } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{pos}/{len} trials {bar:40} {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let decoded = decode::run(&bundle, &settings, &|total| bar.set_length(total as u64), &|| bar.inc(1));
    bar.finish_and_clear();
    let report = decoded?;
    if json {
        println!("{:#}", serde_json::json!(report));
    } else {
        let decode::Report { trials, bins, seconds, engine, threads, .. } = report;
        println!("{trials} trials of {bins} bins in {seconds:.3} s: {engine}, up to {threads} threads");
    }
    Ok(())
}
