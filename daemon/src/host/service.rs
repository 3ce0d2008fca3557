//! Runs the daemon as a systemd service: readiness, status, log lines for the journal, an orderly end.
//!
//! All of this is the control plane: it reads counters and never touches the real-time threads.

use crate::host::report::{Message, Reporter, summary};
use crate::pipeline::Pipeline;
use sd_notify::NotifyState;
use std::io::{IsTerminal, Write};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{Level, info, warn};
use tracing_subscriber::fmt::MakeWriter;

/// Interval between two summaries in the log and in `systemctl status`.
const SUMMARY_EVERY: Duration = Duration::from_secs(10);

/// Interval between two reads of the counters; no event is reported more often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Starts the log on standard error. When the journal reads it, each line starts with its priority and has neither time
/// nor colour, which the journal adds itself; otherwise lines are formatted for a person.
pub fn start_logging(filter: &str) {
    // The ZeroMQ client logs every reconnection; our own lines already report those that matter.
    let filter = tracing_subscriber::EnvFilter::new(format!("zeromq=error,{filter}"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().with_level(false).with_ansi(false).with_writer(Journal).init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).init();
    }
}

/// Writes to standard error with syslog's priority in front of each line, as `sd-daemon(3)` describes.
struct Journal;

struct JournalLine {
    priority: &'static [u8],
    line: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Journal {
    type Writer = JournalLine;

    fn make_writer(&'a self) -> JournalLine {
        JournalLine { priority: b"<6>", line: Vec::new() }
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> JournalLine {
        let priority: &[u8] = match *meta.level() {
            Level::ERROR => b"<3>",
            Level::WARN => b"<4>",
            Level::INFO => b"<6>",
            Level::DEBUG | Level::TRACE => b"<7>",
        };
        JournalLine { priority, line: Vec::new() }
    }
}

impl Write for JournalLine {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for JournalLine {
    /// Writes the whole line at once, so that lines of two threads do not mix.
    fn drop(&mut self) {
        let line = [self.priority, &self.line].concat();
        drop(std::io::stderr().write_all(&line));
    }
}

/// Tells systemd that the daemon is ready, logs what happens to the stream, and stops the pipeline on SIGTERM or SIGINT.
///
/// # Errors
/// The error of the system when the runtime or the signal handlers cannot be set up.
pub fn supervise(pipeline: Pipeline) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        notify(&[NotifyState::Ready, NotifyState::Status("waiting for bins")]);
        let mut summarise = tokio::time::interval(SUMMARY_EVERY);
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut reporter = Reporter::default();
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = look.tick() => for message in reporter.messages(&pipeline.stats()) {
                    match message {
                        Message::Info(sentence) => info!("{sentence}"),
                        Message::Warning(sentence) => warn!("{sentence}"),
                    }
                },
                _ = summarise.tick() => {
                    let line = summary(&pipeline.stats());
                    notify(&[NotifyState::Status(&line)]);
                    info!("{line}");
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
