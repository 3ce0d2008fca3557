//! `ndtd mask` and `ndtd unmask`.

use super::order::{Daemon, from_bin};
use clap::Args;
use ndt_daemon::control::request::Request;
use serde_json::Value;

pub const MASK_HELP: &str = "The channels are masked beside those that are masked already, as by mask-channels of the configuration, until \
                             `ndtd unmask` or a restart.\n\
                             Example: ndtd mask 17 42";

pub const UNMASK_HELP: &str = "Example: ndtd unmask 17\n\
                               Example: ndtd unmask --all";

#[derive(Args)]
pub struct Mask {
    /// Ids of the channels, as in the bundle.
    #[arg(required = true, allow_negative_numbers = true)]
    ids: Vec<i64>,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Args)]
pub struct Unmask {
    /// Ids of the channels, as in the bundle.
    #[arg(required_unless_present = "all", allow_negative_numbers = true)]
    ids: Vec<i64>,
    /// Mask no channel any more, those of the configuration included.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    daemon: Daemon,
}

impl Mask {
    pub fn execute(self) -> anyhow::Result<()> {
        self.daemon.ask(&Request::Mask(self.ids.into_iter().collect()), told)
    }
}

impl Unmask {
    pub fn execute(self) -> anyhow::Result<()> {
        let request = match self.all {
            true => Request::UnmaskAll,
            false => Request::Unmask(self.ids.into_iter().collect()),
        };
        self.daemon.ask(&request, told)
    }
}

fn told(answer: &Value) -> String {
    let masked = answer["masked"].as_array().map_or(&[][..], Vec::as_slice);
    let masked = match masked {
        [] => "no channel is masked".to_owned(),
        ids => format!("masked: {}", ids.iter().map(Value::to_string).collect::<Vec<_>>().join(" ")),
    };
    let fault = match answer["too-few-channels"] == true {
        true => "; more than max-masked-share allows, so that every estimate is a fault",
        false => "",
    };
    format!("{masked} {}{fault}", from_bin(answer))
}
