//! `ndtd check`.

use super::{print, read_bundle};
use clap::Args;
use ndt_daemon::engine::native::simd::InstructionSet;
use ndt_daemon::engine::{Choice, EngineKind, check, onnx};
use std::path::PathBuf;

pub const HELP: &str = "Example: ndtd check --bundle model --engine native --json";

#[derive(Args)]
pub struct Check {
    /// Model bundle: a folder or a .ndt file.
    #[arg(long)]
    bundle: PathBuf,
    /// Engine that computes the model: native or onnx.
    #[arg(long, default_value = "native", value_parser = EngineKind::named)]
    engine: EngineKind,
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
        let bundle = read_bundle(&self.bundle)?;
        let choice = Choice {
            kind: self.engine,
            instruction_set: self.instruction_set,
            precision: None,
            onnxruntime_library: self.onnxruntime_library,
            onnx: onnx::OnnxSettings::default(),
        };
        print(&check::examine(&choice, &bundle)?, self.json)
    }
}
