//! Lab Streaming Layer: bins in ([`source`]), estimates out ([`publisher`]).
//!
//! These threads work on it beside those of the library:
//!
//! | thread | what it does |
//! |---|---|
//! | the source thread | pulls samples ([`source`]) |
//! | `lsl-search` | looks for the stream, checks it and informs the operator ([`search`]) |
//! | `lsl-inlets` | opens and closes streams ([`inlets`]) |
//! | `lsl-clock` | compares the clocks, and logs what was lost ([`clock`], [`lost_spikes`]) |
//! | `lsl-out` | pushes estimates ([`publisher`]) |
//! | `lsl-out-log` | logs what `lsl-out` had to drop |
//!
//! What a sample means is decided by pure functions that take time as an argument: [`labels`], [`stamps`], [`grid`] and [`events`].
//! `protocol/LSL.md` says what the streams consist of.

pub mod clock;
pub mod events;
pub mod grid;
pub mod inlets;
pub mod labels;
pub mod lost_spikes;
pub mod publisher;
pub mod search;
pub mod source;
pub mod stamps;

use ndt_protocol::lsl::{Library, LslError};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// The first version of liblsl without the faults that [`version_remark`] names.
const VERSION_MIN: (u32, u32) = (1, 18);

/// Longest wait for a thread of this module to end. The library may never come back to it.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// `[lsl]` of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// Loads the library, and logs its version.
///
/// # Errors
/// [`LslError::Library`], which says how to get the library.
pub fn load(settings: &LslSettings) -> Result<Library, LslError> {
    let library = Library::load(settings.library.as_deref())?;
    let version = library.version();
    info!("liblsl {}.{}", version.0, version.1);
    if let Some(remark) = version_remark(version) {
        warn!("{remark}");
    }
    Ok(library)
}

/// Returns what an operator should know of this version of the library; `None` if there is nothing.
fn version_remark(version: (u32, u32)) -> Option<String> {
    (version < VERSION_MIN).then(|| {
        format!(
            "expected liblsl {}.{} or later, found {}.{}: it may end this program when a stream goes away, wait for ever for the \
             description of a stream that is gone, and lose the first sample; get a later one with `pip install -U pylsl`",
            VERSION_MIN.0, VERSION_MIN.1, version.0, version.1
        )
    })
}

/// Waits for a thread that has been asked to end, but not for ever: a call of the library that never returns must not keep the daemon
/// from ending.
fn wait_for(thread: Option<JoinHandle<()>>) {
    let until = Instant::now() + END_PATIENCE;
    let Some(thread) = thread else { return };
    while !thread.is_finished() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    if thread.is_finished() {
        drop(thread.join());
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_library_is_remarked_upon() {
        assert_eq!([(1, 18), (1, 19), (2, 0)].map(version_remark), [None, None, None]);
        let remark = version_remark((1, 16)).unwrap();
        assert!(
            remark.starts_with("expected liblsl 1.18 or later, found 1.16: it may end this program"),
            "{remark}"
        );
        assert!(version_remark((0, 0)).is_some());
    }

    #[test]
    fn a_thread_that_never_ends_is_not_waited_for_for_ever() {
        let (keep, kept) = std::sync::mpsc::channel::<()>();
        wait_for(Some(std::thread::spawn(move || assert!(kept.recv().is_err()))));
        drop(keep);
        wait_for(None);
    }
}
