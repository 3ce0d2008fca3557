//! `ndtd status`.

use super::order::Daemon;
use super::print_line;
use clap::Args;
use ndt_daemon::control::request::Request;
use serde_json::Value;
use std::time::Duration;

pub const HELP: &str = "Exit status: 1 where no daemon answers.\n\
                        Example: ndtd status --watch";

/// Time between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct Status {
    /// Print the status each second, until the daemon or the command ends.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    daemon: Daemon,
}

impl Status {
    pub fn execute(self) -> anyhow::Result<()> {
        if !self.watch {
            return self.daemon.ask(&Request::Status, told);
        }
        let mut client = self.daemon.connect()?;
        loop {
            let answer = client.ask(&Request::Status)?;
            match self.daemon.json {
                true => print_line(answer)?,
                false => print_line(told(&answer))?,
            }
            std::thread::sleep(WATCH_EVERY);
        }
    }
}

/// The answer as lines.
fn told(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let model = |model: &Value| {
        let (id, path, engine) = (text(&model["id"]), text(&model["path"]), text(&model["engine"]));
        format!("{id:.12} at {path}, engine {engine}")
    };
    let state = match (answer["unhealthy"].as_str(), answer["paused"] == true) {
        (Some(unhealthy), _) => unhealthy.to_owned(),
        (None, true) => "paused: all outputs are zero".to_owned(),
        (None, false) => "decoding".to_owned(),
    };
    let mut lines = vec![
        format!("state      {state}, for {} s", answer["uptime-s"]),
        format!("source     {}", text(&answer["source"])),
        format!("bundle     {}", model(&answer["bundle"])),
    ];
    let beside = &answer["beside"];
    if !beside.is_null() {
        let role = text(&beside["role"]);
        lines.push(format!("{role:<10} {}, after {} bins", model(beside), beside["bins"]));
        if !beside["comparison"].is_null() {
            lines.push(comparison(&beside["comparison"]));
        }
    }
    let masked = answer["masked"].as_array().map_or(&[][..], Vec::as_slice);
    if !masked.is_empty() {
        let ids: Vec<String> = masked.iter().map(Value::to_string).collect();
        lines.push(format!("masked     {}", ids.join(" ")));
    }
    lines.push(format!("estimates  {}", counted(&answer["estimates"])));
    lines.push(format!("counters   {}", counted(&answer["counters"])));
    lines.join("\n")
}

/// The counts above 0.
fn counted(counts: &Value) -> String {
    let counts = counts.as_object().into_iter().flatten().filter(|(_, count)| **count != 0);
    let counts: Vec<String> = counts.map(|(name, count)| format!("{name} {count}")).collect();
    if counts.is_empty() { "none yet".to_owned() } else { counts.join(", ") }
}

/// Two models side by side, as one line.
pub fn comparison(found: &Value) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let mut line = format!(
        "compared   {} bins: outputs differ by {:.4} rms, {:.4} at most",
        found["bins"],
        number(&found["rms-difference"]),
        number(&found["max-difference"])
    );
    if let Some(correlation) = found["correlation"].as_f64() {
        line += &format!(", correlation {correlation:.3}");
    }
    if let Some(bits) = found["bits-per-spike-gained"].as_f64() {
        line += &format!(", {bits:+.4} bits/spike");
    }
    let (shadow, present) = (&found["shadow"], &found["present"]);
    line += &format!(
        "; a step takes {:.0} us, {:.0} at most (the present model {:.0}, {:.0})",
        number(&shadow["p50-us"]),
        number(&shadow["max-us"]),
        number(&present["p50-us"]),
        number(&present["max-us"])
    );
    line
}
