//! What all commands that talk to a running daemon have in common.

use super::print_line;
use clap::Args;
use ndt_daemon::control::request::Request;
use ndt_daemon::control::socket::client::{Client, ClientError, DEFAULT_PATH};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Which daemon is meant, and how its answer is printed.
#[derive(Args)]
pub struct Daemon {
    /// Control socket of the daemon, e.g. /run/ndtd-left/control.sock.
    #[arg(long, default_value = DEFAULT_PATH)]
    socket: PathBuf,
    /// Print the answer as JSON, also where it is an error.
    #[arg(long)]
    pub json: bool,
}

impl Daemon {
    /// Connects to the daemon.
    pub fn connect(&self) -> Result<Client, ClientError> {
        Client::connect(&self.socket)
    }

    /// Asks, and prints the answer: as JSON, or what `told` makes of it.
    pub fn ask(&self, request: &Request, told: impl FnOnce(&Value) -> String) -> anyhow::Result<()> {
        let answered = self.connect().and_then(|mut client| client.ask(request));
        match answered {
            Ok(answer) if self.json => print_line(answer),
            Ok(answer) => print_line(told(&answer)),
            Err(error) => {
                if self.json {
                    print_line(json!({ "error": error.to_string() }))?;
                }
                Err(error.into())
            }
        }
    }
}

/// From which bin on an order holds, as the end of a sentence.
pub fn from_bin(answer: &Value) -> String {
    match (&answer["from-bin"], &answer["stream"]) {
        (Value::Number(seq), Value::Number(stream)) => format!("from bin {seq} of stream {stream} on"),
        _ => "from the first bin on".to_owned(),
    }
}
