//! What the computer does beside decoding while it is measured.

use super::BenchError;
use serde::Serialize;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

/// Bytes that each busy thread walks through: beyond a CPU's own caches and its share of the common one.
const WALKED_BYTES: usize = 32 << 20;

/// What else goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// Nothing.
    None,
    /// As many busy threads as CPUs, of normal priority, which compute and use up memory bandwidth.
    Stress,
    /// Nothing, and bins come in bursts with half a second of silence between them: the CPU has gone to sleep.
    IdleGap,
}

impl Load {
    /// All loads.
    pub const ALL: [Load; 3] = [Load::None, Load::Stress, Load::IdleGap];

    /// The name used on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Load::None => "none",
            Load::Stress => "stress",
            Load::IdleGap => "idle-gap",
        }
    }

    /// Returns the load of this name.
    ///
    /// # Errors
    /// One sentence, where there is none.
    pub fn named(name: &str) -> Result<Load, String> {
        let found = Load::ALL.into_iter().find(|load| load.name() == name);
        found.ok_or_else(|| {
            format!("expected one of {}, found \"{name}\"", Load::ALL.map(Load::name).join(", "))
        })
    }
}

/// The threads of [`Load::Stress`]; they end when it is dropped.
pub struct Stress {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Stress {
    /// Starts a thread for each CPU. The caller's priority is theirs.
    ///
    /// # Errors
    /// [`BenchError::Thread`] when the system gives none.
    pub fn start() -> Result<Stress, BenchError> {
        let mut stress = Stress { stop: Arc::new(AtomicBool::new(false)), threads: Vec::new() };
        let name = "bench-stress";
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let stop = stress.stop.clone();
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || keep_busy(&stop));
            stress
                .threads
                .push(thread.map_err(|error| BenchError::Thread { name, found: error.to_string() })?);
        }
        Ok(stress)
    }
}

impl Drop for Stress {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// Reads and writes all over its memory, with some arithmetic for each place.
fn keep_busy(stop: &AtomicBool) {
    let mut walked = vec![1u64; WALKED_BYTES / size_of::<u64>()];
    let mut at = 0usize;
    while !stop.load(Relaxed) {
        for _ in 0..1 << 14 {
            // A step that shares no factor with the power of two that it wraps at, and too long to be foreseen.
            at = (at + 1_000_003) % walked.len();
            let value = walked[at];
            walked[at] = (0..8).fold(value, |value, turn| value.wrapping_mul(value | 1).rotate_left(turn));
        }
        black_box(&mut walked);
    }
}
