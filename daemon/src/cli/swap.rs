//! `ndtd swap`.

use super::order::{Daemon, from_bin};
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ndt_daemon::control::request::{Request, SHADOW_S_DEFAULT};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

pub const HELP: &str = "The daemon reads and checks the bundle as at its start, and lets it decode every bin in shadow, beside the present \
                        model. Then it takes over between two bins, with its history in place; the first estimate has the reason \
                        swapped. A bundle that differs in channels, bins, units or outputs is refused, and so is one that does not \
                        reproduce its golden vectors; nothing is changed then. The command waits until the model has taken over. A \
                        restart of the daemon takes the bundle of its configuration again.\n\
                        Example: ndtd swap /var/lib/ndtd/day2 --shadow-s 30";

#[derive(Args)]
pub struct Swap {
    /// Model bundle: a folder or a .ndt file that the daemon can read.
    bundle: PathBuf,
    /// Time for which the new model runs in shadow, s; 0 takes as long as its history.
    #[arg(long, default_value_t = SHADOW_S_DEFAULT)]
    shadow_s: f64,
    #[command(flatten)]
    daemon: Daemon,
}

impl Swap {
    pub fn execute(self) -> anyhow::Result<()> {
        let path = std::path::absolute(&self.bundle).context("path of the bundle")?;
        let for_person = !self.daemon.json && std::io::stderr().is_terminal();
        let bar = if for_person { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{spinner} in shadow for {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(250));
        let swapped = self.daemon.ask(&Request::Swap { path, shadow_s: self.shadow_s }, |answer| {
            bar.finish_and_clear();
            let id = answer["bundle"]["id"].as_str().unwrap_or_default();
            let compared = super::status::comparison(&answer["comparison"]);
            format!("bundle {id:.12} decodes {}\n{compared}", from_bin(answer))
        });
        bar.finish_and_clear();
        swapped
    }
}
