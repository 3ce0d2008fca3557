//! `ndtd stop`.

use super::order::Daemon;
use clap::Args;
use ndt_daemon::control::request::Request;

pub const HELP: &str = "It ends as after SIGTERM: what was received is still published. systemd does not start it again.\n\
                        Example: ndtd stop";

#[derive(Args)]
pub struct Stop {
    #[command(flatten)]
    daemon: Daemon,
}

impl Stop {
    pub fn execute(self) -> anyhow::Result<()> {
        self.daemon.ask(&Request::Stop, |_| "the daemon stops".to_owned())
    }
}
