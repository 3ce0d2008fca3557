//! `ndtd pause`.

use super::order::{Daemon, from_bin};
use clap::Args;
use ndt_daemon::control::request::Request;

pub const HELP: &str = "Every estimate is published on time as before, with outputs of zero, the quality stale and the reason inhibited; \
                        the rates go on. It lasts until `ndtd resume`, also over a swap of the model, and ends with the daemon.\n\
                        Example: ndtd pause";

#[derive(Args)]
pub struct Pause {
    #[command(flatten)]
    daemon: Daemon,
}

impl Pause {
    pub fn execute(self) -> anyhow::Result<()> {
        self.daemon
            .ask(&Request::Pause, |answer| format!("paused: all outputs are zero {}", from_bin(answer)))
    }
}
