//! `ndtd reset`.

use super::order::{Daemon, from_bin};
use clap::Args;
use ndt_daemon::control::request::Request;

pub const HELP: &str = "The next estimates are warm-up, as at the start of a segment.\n\
                        Example: ndtd reset";

#[derive(Args)]
pub struct Reset {
    #[command(flatten)]
    daemon: Daemon,
}

impl Reset {
    pub fn execute(self) -> anyhow::Result<()> {
        self.daemon.ask(&Request::Reset, |answer| format!("the history is forgotten {}", from_bin(answer)))
    }
}
