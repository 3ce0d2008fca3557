//! The log on standard error. A thread of its own writes it, so that a terminal, a pipe or a disk that is closed, full or blocked
//! costs no estimate and ends nothing.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tracing::Level;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Number of lines that wait for the writing thread: hours of a session in which something is wrong every second.
const LINES_MAX: usize = 8_192;

/// The running log. What still waits is written when this is dropped, for at most a second.
pub struct Log {
    /// Lines that were dropped because too many waited.
    dropped: ErrorCounter,
    /// Lines that standard error did not take.
    failed: Arc<AtomicU64>,
    /// Replaces the filter of levels; returns what is wrong with the new one.
    refilter: Box<dyn Fn(EnvFilter) -> Result<(), String>>,
    _writer: WorkerGuard,
}

impl Log {
    /// Starts the log. When the journal reads it, each line starts with its priority and has neither time nor colour, which the
    /// journal adds itself; otherwise lines are formatted for a person.
    pub fn start(filter: &str) -> Log {
        let filter = EnvFilter::new(filter);
        let (lines, mut log) = Log::writing_to(std::io::stderr());
        // The library's own message about a line that was not written would panic on a closed standard error.
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
        let builder = builder.log_internal_errors(false);
        if std::env::var_os("JOURNAL_STREAM").is_some() {
            let builder = builder.without_time().with_level(false).with_ansi(false);
            let builder = builder.with_writer(Journal(lines)).with_filter_reloading();
            let handle = builder.reload_handle();
            log.refilter = Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()));
            builder.init();
        } else {
            let builder = builder.with_ansi(std::io::stderr().is_terminal()).with_writer(lines);
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            log.refilter = Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()));
            builder.init();
        }
        log
    }

    /// Replaces the filter of levels.
    ///
    /// # Errors
    /// What is wrong with the filter, which then stays as it was.
    pub fn set_filter(&self, filter: &str) -> Result<(), String> {
        let filter: EnvFilter = filter.parse().map_err(|error| format!("{error}"))?;
        (self.refilter)(filter)
    }

    fn writing_to(destination: impl Write + Send + 'static) -> (NonBlocking, Log) {
        let failed = Arc::new(AtomicU64::new(0));
        let counted = Counted { destination, failed: failed.clone() };
        // Full: drops the newest line.
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX);
        let (lines, writer) = builder.thread_name("ndt-log").finish(counted);
        let refilter = Box::new(|_| Ok(()));
        let log = Log { dropped: lines.error_counter(), failed, refilter, _writer: writer };
        (lines, log)
    }

    /// Number of lines that could not be written.
    pub fn lost(&self) -> u64 {
        self.dropped.dropped_lines() as u64 + self.failed.load(Relaxed)
    }
}

/// Counts lines that cannot be written, and goes on.
struct Counted<W> {
    destination: W,
    failed: Arc<AtomicU64>,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if self.destination.write_all(line).is_err() {
            self.failed.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        drop(self.destination.flush());
        Ok(())
    }
}

/// Puts syslog's priority in front of each line, as `sd-daemon(3)` describes.
struct Journal(NonBlocking);

struct JournalLine {
    lines: NonBlocking,
    line: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Journal {
    type Writer = JournalLine;

    fn make_writer(&'a self) -> JournalLine {
        JournalLine { lines: self.0.clone(), line: b"<6>".to_vec() }
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> JournalLine {
        let priority: &[u8] = match *meta.level() {
            Level::ERROR => b"<3>",
            Level::WARN => b"<4>",
            Level::INFO => b"<6>",
            Level::DEBUG | Level::TRACE => b"<7>",
        };
        JournalLine { lines: self.0.clone(), line: priority.to_vec() }
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
    /// Hands the whole line to the writing thread at once, so that lines of two threads do not mix.
    fn drop(&mut self) {
        drop(self.lines.write_all(&self.line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A destination that refuses its first line, and tells of each.
    struct Refusing {
        lines: u64,
        tell: Sender<String>,
    }

    impl Write for Refusing {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.lines += 1;
            self.tell.send(String::from_utf8_lossy(line).into_owned()).unwrap();
            if self.lines == 1 { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(line.len()) }
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn refusing() -> (NonBlocking, Log, Receiver<String>) {
        let (tell, told) = channel();
        let (lines, log) = Log::writing_to(Refusing { lines: 0, tell });
        (lines, log, told)
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_the_next_is_written() {
        let (mut lines, log, told) = refusing();
        for line in ["one\n", "two\n"] {
            lines.write_all(line.as_bytes()).unwrap();
            assert_eq!(told.recv().unwrap(), line);
        }
        assert_eq!(log.lost(), 1);
    }

    #[test]
    fn a_line_for_the_journal_begins_with_its_priority() {
        let (lines, _log, told) = refusing();
        let mut line = Journal(lines).make_writer();
        line.write_all(b"the source ").unwrap();
        line.write_all(b"is back\n").unwrap();
        drop(line);
        assert_eq!(told.recv().unwrap(), "<6>the source is back\n");
    }
}
