//! What the computer does besides decoding while it is measured.

use super::BenchError;
use serde::Serialize;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

/// Bytes that each busy thread walks through: more than a CPU's own caches and its share of the shared one.
const WALKED_BYTES: usize = 32 << 20;

/// The load on the computer during a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// No load.
    None,
    /// As many busy threads as CPUs, of normal priority, that compute and use memory bandwidth.
    Stress,
    /// No load, and bins come in bursts with half a second of silence between them, so that the CPU goes to sleep.
    IdleGap,
}

impl Load {
    /// All loads.
    pub const ALL: [Load; 3] = [Load::None, Load::Stress, Load::IdleGap];

    /// Returns the name of the load on the command line and in JSON.
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

/// The threads of [`Load::Stress`]. They end when it is dropped.
pub struct Stress {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Stress {
    /// Starts a thread for each CPU, with the priority of the calling thread.
    ///
    /// # Errors
    /// [`BenchError::Thread`] when the system gives no thread.
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

/// Allocates a block of memory, and reads and writes all over it, with some arithmetic at each place, until `stop` is set.
fn keep_busy(stop: &AtomicBool) {
    let mut walked = vec![1u64; WALKED_BYTES / size_of::<u64>()];
    let mut at = 0usize;
    while !stop.load(Relaxed) {
        for _ in 0..1 << 14 {
            // This step shares no factor with the power of two at which it wraps, and is too long for the CPU to
            // prefetch.
            at = (at + 1_000_003) % walked.len();
            let value = walked[at];
            walked[at] = (0..8).fold(value, |value, turn| value.wrapping_mul(value | 1).rotate_left(turn));
        }
        black_box(&mut walked);
    }
}
