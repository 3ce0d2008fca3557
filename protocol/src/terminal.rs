//! Lines for the user of a program, on standard error and standard output. A terminal, a pipe or a log that cannot be written to never
//! ends a program that has work to finish.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

/// Writes a line to standard error. A line that cannot be written is dropped.
pub fn say(line: impl Display) {
    // The terminal may be closed and the disk of the log full; the work goes on all the same.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints a report to standard output. A reader that has closed the pipe (`| head`) is no error.
///
/// # Errors
/// The system's error.
pub fn print(report: impl Display) -> std::io::Result<()> {
    match writeln!(std::io::stdout().lock(), "{report}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
