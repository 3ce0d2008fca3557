//! `ndtd resume`.

use super::order::{Daemon, from_bin};
use clap::Args;
use ndt_daemon::control::request::Request;

pub const HELP: &str = "The model has gone on meanwhile, so that the first estimate has its whole history.\n\
                        Example: ndtd resume";

#[derive(Args)]
pub struct Resume {
    #[command(flatten)]
    daemon: Daemon,
}

impl Resume {
    pub fn execute(self) -> anyhow::Result<()> {
        self.daemon.ask(&Request::Resume, |answer| format!("resumed {}", from_bin(answer)))
    }
}
