//! Runs the daemon as a systemd service: readiness, status, what happened to the stream, an orderly end.
//!
//! All of this is the control plane: it reads counters and never touches the real-time threads.

use crate::host::log::Log;
use crate::host::report::{Message, Reporter, summary};
use crate::pipeline::Pipeline;
use sd_notify::NotifyState;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

/// Interval between two summaries in the log and in `systemctl status`.
const SUMMARY_EVERY: Duration = Duration::from_secs(10);

/// Interval between two reads of the counters; no event is reported more often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells systemd that the daemon is ready, logs what happens to the stream, and stops the pipeline on SIGTERM or SIGINT. The
/// signal of a closed terminal and those for users are logged and change nothing.
///
/// # Errors
/// The error of the system when the runtime or the signal handlers cannot be set up.
pub fn supervise(pipeline: Pipeline, log: &Log) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut user1 = signal(SignalKind::user_defined1())?;
        let mut user2 = signal(SignalKind::user_defined2())?;
        notify(&[NotifyState::Ready, NotifyState::Status("waiting for bins")]);
        let mut summarise = tokio::time::interval(SUMMARY_EVERY);
        // What was last logged; an idle daemon does not repeat it.
        let mut logged = String::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let (mut reporter, mut lost) = (Reporter::new(pipeline.input()), 0);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => warn!("SIGHUP: the terminal was closed, or somebody sent the signal; decoding goes on, and the configuration is not read again"),
                _ = user1.recv() => info!("SIGUSR1 has no meaning here; decoding goes on"),
                _ = user2.recv() => info!("SIGUSR2 has no meaning here; decoding goes on"),
                _ = look.tick() => {
                    let turned_away = reporter.turned_away(&pipeline.turned_away());
                    for message in reporter.messages(&pipeline.stats()).into_iter().chain(turned_away) {
                        match message {
                            Message::Info(sentence) => info!("{sentence}"),
                            Message::Warning(sentence) => warn!("{sentence}"),
                        }
                    }
                    let before = std::mem::replace(&mut lost, log.lost());
                    if lost > before {
                        warn!("lines of the log that could not be written: {lost}");
                    }
                }
                _ = summarise.tick() => {
                    let line = summary(&pipeline.stats());
                    notify(&[NotifyState::Status(&line)]);
                    if line != logged {
                        info!("{line}");
                        logged = line;
                    }
                }
            }
        }
        Ok::<(), std::io::Error>(())
    })?;
    notify(&[NotifyState::Stopping]);
    let stats = pipeline.stats();
    if !pipeline.stop() {
        warn!("expected the threads to end within 2 s, found one that hangs");
    }
    info!("stopped; {}", summary(&stats));
    Ok(())
}

/// Notifies systemd. Without systemd nothing is sent, and that is no error.
fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("expected systemd to take a notification, found {error}");
    }
}
