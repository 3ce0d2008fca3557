//! `ndtd doctor`.

use super::print;
use clap::Args;
use ndt_daemon::host::doctor;
use std::path::PathBuf;
use std::process::ExitCode;

pub const HELP: &str = "Exit status: 0 when nothing needs to be done, 1 with a warning, 2 with a problem.\n\
                        Example: ndtd doctor --config /etc/ndtd/ndtd.toml --json";

#[derive(Args)]
pub struct Doctor {
    /// Configuration file whose `[realtime]` section is compared with what this computer grants: to the installed unit
    /// ndtd.service, or else to whoever runs this command.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Shared library of ONNX Runtime [default: the system's].
    #[arg(long)]
    onnxruntime_library: Option<PathBuf>,
    /// Shared library liblsl [default: the one beside the executable, or else the system's].
    #[arg(long)]
    lsl_library: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        let report =
            doctor::examine_this_machine(self.config.as_deref(), self.onnxruntime_library, self.lsl_library);
        print(&report, self.json)?;
        Ok(ExitCode::from(report.exit_status()))
    }
}
