//! `ndtd rollback`.

use super::order::{Daemon, from_bin};
use clap::Args;
use ndt_daemon::control::request::Request;

pub const HELP: &str = "The model that was replaced last has taken in every bin since, and takes over before the next one. The model \
                        that it replaces stays beside it: a second rollback goes forth again. While a candidate is still in shadow, \
                        rollback gives it up.\n\
                        Example: ndtd rollback";

#[derive(Args)]
pub struct Rollback {
    #[command(flatten)]
    daemon: Daemon,
}

impl Rollback {
    pub fn execute(self) -> anyhow::Result<()> {
        self.daemon.ask(&Request::RollBack, |answer| {
            let id = answer["bundle"]["id"].as_str().unwrap_or_default();
            let path = answer["bundle"]["path"].as_str().unwrap_or_default();
            match answer["given-up"] == true {
                true => format!("the candidate is given up; bundle {id:.12} at {path} goes on"),
                false => format!("bundle {id:.12} at {path} decodes {}", from_bin(answer)),
            }
        })
    }
}
