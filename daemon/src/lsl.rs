//! Lab Streaming Layer in and out.
//!
//! Four threads have to do with it beside those of the library: the source thread pulls samples ([`source`]), `lsl-search`
//! looks for the stream, checks it and tells the operator ([`search`]), `lsl-clock` compares the clocks ([`clock`]), and
//! `lsl-out` pushes estimates ([`outlets`]). What a sample means is decided by pure functions that take time as an
//! argument: [`labels`], [`grid`] and [`events`]. `protocol/LSL.md` says what the streams consist of.

pub mod clock;
pub mod events;
pub mod grid;
pub mod labels;
pub mod outlets;
pub mod search;
pub mod source;

use serde::Deserialize;
use std::path::PathBuf;

/// `[lsl]` of the configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// liblsl; beside the executable or the system's where not set.
    pub library: Option<PathBuf>,
    /// How often it is told that a stream is still looked for, s.
    pub resolve_timeout_s: f64,
    /// Whether a stream may have channels that the bundle does not know; they are left out.
    pub allow_unknown_channels: bool,
    /// Bins of samples that wait in the library at most; beyond that it drops the oldest.
    pub buffer_bins: usize,
    /// How long after a bin's end its last spike may come, where a stream has one sample for each, ms.
    pub event_wait_ms: f64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            library: None,
            resolve_timeout_s: 5.0,
            allow_unknown_channels: false,
            buffer_bins: 16,
            event_wait_ms: 2.0,
        }
    }
}

impl Settings {
    /// Everything that is wrong, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut expect = |name: &str, found: f64, low: f64, high: f64| {
            if !(low..=high).contains(&found) {
                problems.push(format!("expected {name} in [lsl] from {low} to {high}, found {found}"));
            }
        };
        expect("resolve-timeout-s", self.resolve_timeout_s, 0.5, 3600.0);
        expect("buffer-bins", self.buffer_bins as f64, 1.0, 512.0);
        expect("event-wait-ms", self.event_wait_ms, 0.0, 1000.0);
        if let Some(library) = self.library.as_ref().filter(|library| !library.exists()) {
            problems.push(format!("expected liblsl in {}, found no such file", library.display()));
        }
        problems
    }
}
