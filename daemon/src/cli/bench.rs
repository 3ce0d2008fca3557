//! `ndtd bench`.

use super::{configured_bundle, print, print_line};
use clap::Args;
use ndt_daemon::bench::load::Load;
use ndt_daemon::bench::schedule::Length;
use ndt_daemon::bench::{self, BenchSettings, Progress, Transport};
use ndt_daemon::config::Config;
use ndt_daemon::engine::EngineKind;
use ndt_daemon::host::realtime::memory;
use std::io::IsTerminal;
use std::path::PathBuf;

pub const HELP: &str = "Example: ndtd bench --bundle model --config /etc/ndtd/ndtd.toml --load stress --seconds 60\n\
Bins are due at the bundle's rate, whether or not the bins before them have been answered, and every latency counts from \
the instant that its bin was due. The first second is not counted.";

#[derive(Args)]
pub struct Bench {
    /// Model bundle: a folder or a .ndt file.
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Engine that computes the model: native or onnx [default: native].
    #[arg(long, value_parser = EngineKind::named)]
    engine: Option<EngineKind>,
    /// Shared library of ONNX Runtime [default: the system's].
    #[arg(long)]
    onnxruntime_library: Option<PathBuf>,
    /// Shared library liblsl, for the measurement over Lab Streaming Layer.
    #[arg(long)]
    lsl_library: Option<PathBuf>,
    /// Configuration file, for its `[realtime]` section, deadline and policy. The options above override it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Load on this computer meanwhile: none, stress (all CPUs busy), or idle-gap (none, and bins come in bursts with half a
    /// second of silence between them).
    #[arg(long, default_value = "none", value_parser = Load::named)]
    load: Load,
    /// Transport of bins and estimates.
    #[arg(long, default_value = "both")]
    transport: TransportChoice,
    /// Number of bins that count, for each transport.
    #[arg(long, conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    bins: Option<u64>,
    /// Number of seconds that count, for each transport.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Number of pages of the monitor that are open meanwhile, each with 30 updates a second, for the transport loopback.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    pages: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Measure no time: decode this many bins one after the other on one thread, for programs that count instructions.
    #[arg(long, conflicts_with_all = ["load", "transport", "bins", "seconds", "pages", "json"])]
    steps: Option<u64>,
}

/// Transports that `--transport` measures, one after the other.
#[derive(Clone, Copy, clap::ValueEnum)]
enum TransportChoice {
    /// The transports in-process and loopback.
    Both,
    /// No transport: bins come from memory.
    InProcess,
    /// ZeroMQ on 127.0.0.1.
    Loopback,
    /// Lab Streaming Layer.
    Lsl,
    /// All transports.
    All,
}

impl TransportChoice {
    fn transports(self) -> Vec<Transport> {
        match self {
            TransportChoice::Both => vec![Transport::InProcess, Transport::Loopback],
            TransportChoice::InProcess => vec![Transport::InProcess],
            TransportChoice::Loopback => vec![Transport::Loopback],
            TransportChoice::Lsl => vec![Transport::Lsl],
            TransportChoice::All => vec![Transport::InProcess, Transport::Loopback, Transport::Lsl],
        }
    }
}

impl Bench {
    pub fn execute(self) -> anyhow::Result<()> {
        let mut config = self.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
        config.bundle = self.bundle.unwrap_or(config.bundle);
        config.engine = self.engine.unwrap_or(config.engine);
        config.onnxruntime_library = self.onnxruntime_library.or(config.onnxruntime_library);
        config.lsl.library = self.lsl_library.or(config.lsl.library);
        config.check()?;
        memory::bound(&config.realtime);
        let bundle = configured_bundle(&config)?;
        if let Some(steps) = self.steps {
            let done = bench::steps::take_steps(&config, &bundle, steps)?;
            return print_line(format_args!(
                "{steps} steps, {} estimates, checksum {:016x}, {}",
                done.estimates, done.checksum, done.engine
            ));
        }
        let settings = BenchSettings {
            transports: self.transport.transports(),
            load: self.load,
            length: self.bins.map_or(Length::Seconds(self.seconds), Length::Bins),
            pages: self.pages.into(),
        };
        let mut shown = 0;
        let mut show = |progress: Progress| shown = show_progress(progress, shown);
        let report = bench::measure(&config, &bundle, &settings, &mut show)?;
        print(&report, self.json)
    }
}

/// Prints one line each second of a long measurement when a person watches. Returns the second that was printed last.
fn show_progress(progress: Progress, shown: u64) -> u64 {
    let Progress { transport, seconds, seconds_total } = progress;
    let second = seconds as u64;
    if second != shown && seconds_total >= 10.0 && std::io::stderr().is_terminal() {
        eprintln!("{} {second} of {seconds_total:.0} s", transport.name());
    }
    second
}
