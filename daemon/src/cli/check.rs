//! `ndtd check`.

use super::{print, read_bundle};
use clap::Args;
use ndt_daemon::config::Config;
use ndt_daemon::engine::native::simd::InstructionSet;
use ndt_daemon::engine::{Choice, EngineKind, check, onnx};
use ndt_daemon::host::readiness;
use std::path::PathBuf;

pub const HELP: &str = "With --config, every problem is printed at once, and the exit status is 1 if there is one. Stop a daemon that runs \
                        with the same configuration first: it holds its endpoints.\n\
                        Example: ndtd check --bundle model --engine native --json\n\
                        Example: ndtd check --config /etc/ndtd/ndtd.toml";

#[derive(Args)]
pub struct Check {
    /// Model bundle: a folder or a .ndt file.
    #[arg(long, required_unless_present = "config")]
    bundle: Option<PathBuf>,
    /// Configuration file: checks all that `ndtd run` needs with it, which is its values, the bundles, the endpoints, the
    /// libraries, and what the computer grants to the real-time threads. The other options override it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Engine that computes the model: native or onnx [default: native].
    #[arg(long, value_parser = EngineKind::named)]
    engine: Option<EngineKind>,
    /// Instruction set of the native engine: avx512-bf16, avx512-vnni, avx512, avx2, neon or portable [default: the best of
    /// this computer].
    #[arg(long, value_parser = InstructionSet::named)]
    instruction_set: Option<InstructionSet>,
    /// Shared library of ONNX Runtime [default: the system's].
    #[arg(long)]
    onnxruntime_library: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub fn execute(self) -> anyhow::Result<()> {
        if let Some(path) = &self.config {
            let (config, unread) = Config::read_all(path)?;
            return self.check_configuration(config, unread);
        }
        let bundle = read_bundle(&self.bundle.unwrap_or_default())?;
        let choice = Choice {
            kind: self.engine.unwrap_or(EngineKind::Native),
            instruction_set: self.instruction_set,
            precision: None,
            onnxruntime_library: self.onnxruntime_library,
            onnx: onnx::OnnxSettings::default(),
        };
        print(&check::examine(&choice, &bundle)?, self.json)
    }

    /// Checks a configuration with the options over it. `unread` says what could not be read of its file.
    fn check_configuration(self, mut config: Config, unread: Vec<String>) -> anyhow::Result<()> {
        config.bundle = self.bundle.unwrap_or(config.bundle);
        config.engine = self.engine.unwrap_or(config.engine);
        config.instruction_set = self.instruction_set.or(config.instruction_set);
        config.onnxruntime_library = self.onnxruntime_library.or(config.onnxruntime_library);
        let readiness = readiness::examine(&config, unread);
        print(&readiness, self.json)?;
        match readiness.problems.len() {
            0 => Ok(()),
            problems => anyhow::bail!("expected a configuration without problems, found {problems}"),
        }
    }
}
