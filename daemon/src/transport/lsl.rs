//! Lab Streaming Layer: bins in ([`source`]), estimates out ([`publisher`]).
//!
//! Four threads work on it beside those of the library: the source thread pulls samples ([`source`]), `lsl-search` looks for
//! the stream, checks it and informs the operator ([`search`]), `lsl-clock` compares the clocks and logs lost spikes
//! ([`clock`], [`lost_spikes`]), and `lsl-out` pushes estimates ([`publisher`]). What a sample means is decided by pure
//! functions that take time as an argument: [`labels`], [`grid`] and [`events`]. `protocol/LSL.md` says what the streams consist of.

pub mod clock;
pub mod events;
pub mod grid;
pub mod labels;
pub mod lost_spikes;
pub mod publisher;
pub mod search;
pub mod source;

use serde::Deserialize;
use std::path::PathBuf;

/// `[lsl]` of the configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LslSettings {
    /// Path of liblsl; by default the one beside the executable, or else the system's.
    pub library: Option<PathBuf>,
    /// Interval between two log lines while no stream is found, s.
    pub resolve_timeout_s: f64,
    /// Whether a stream may have channels that the bundle does not know. They are ignored.
    pub allow_unknown_channels: bool,
    /// Whether a stream without labels is taken to have the bundle's channels in the bundle's order. Otherwise its estimates are
    /// faults.
    pub allow_unlabelled_channels: bool,
    /// Whether a stream that is gone is only replaced by one of the same source id.
    pub pin_source_id: bool,
    /// Capacity of the library's buffer, in bins of samples. A full buffer drops its oldest sample.
    pub buffer_bins: usize,
    /// How long a bin stays open after its end for spikes that come late, ms. Only for streams with one sample a spike.
    pub event_wait_ms: f64,
}

impl Default for LslSettings {
    fn default() -> LslSettings {
        LslSettings {
            library: None,
            resolve_timeout_s: 5.0,
            allow_unknown_channels: false,
            allow_unlabelled_channels: false,
            pin_source_id: false,
            buffer_bins: 16,
            event_wait_ms: 2.0,
        }
    }
}

impl LslSettings {
    /// Returns one sentence for each setting that is out of its range.
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
