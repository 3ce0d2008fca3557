//! What ends a fit before its time, Ctrl-C and SIGTERM, and what is kept of the fit then.

use anyhow::anyhow;
use ndt_protocol::terminal::say;
use ndt_replay::stop;
use ndt_trainer::training::FitError;
use ndt_trainer::training::checkpoint::{self, CheckpointError, Reached};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Interval at which it is looked whether a signal has come, so that the user gets an answer at once.
const TICK: Duration = Duration::from_millis(100);

/// Stops a fit after an epoch when the user asks for it.
pub struct Interruption {
    stop: Arc<AtomicBool>,
}

impl Interruption {
    /// From now on the first Ctrl-C or SIGTERM stops the fit after its epoch, and a second one ends the process at once. Starts a
    /// thread that answers the first signal.
    ///
    /// # Errors
    /// The system's error if it refuses a signal handler.
    pub fn expected() -> std::io::Result<Interruption> {
        let stop = stop::on_first_signal()?;
        let asked = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !asked.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
            }
            say("the fit stops after this epoch; the same signal once more ends it at once");
        });
        Ok(Interruption { stop })
    }

    /// Whether the fit goes on after an epoch.
    pub fn flow(&self) -> ControlFlow<()> {
        if self.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// The error of a fit. If the fit was stopped, the error also says what is kept in the checkpoint, and how to go on.
pub fn with_checkpoint(error: FitError, folder: &Path) -> anyhow::Error {
    match (&error, checkpoint::reached(folder)) {
        (FitError::Stopped { .. } | FitError::Checkpoint(CheckpointError::File(_)), Some(reached)) => {
            anyhow!("{error}; {}", kept(folder, reached))
        }
        (FitError::Stopped { .. }, None) => anyhow!("{error}; no checkpoint has been written"),
        // A checkpoint does not help against a wrong configuration or a loss that diverges.
        _ => error.into(),
    }
}

/// What a checkpoint holds, and how to go on from it.
pub fn kept(folder: &Path, reached: Reached) -> String {
    format!(
        "{} holds the fit after {reached}, and the same command with --resume goes on from it",
        folder.display()
    )
}
