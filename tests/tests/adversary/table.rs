//! The table that the tests print: what each behaviour cost.

use std::fmt;
use std::time::Duration;

/// Growth of the daemon's memory that a behaviour may leave behind.
pub const MEMORY_MB_MAX: f64 = 8.0;

/// Longest text of a log line in a row.
const SAYS_CHARS: usize = 110;

/// Names of a row's columns. Memory is before, at the most, and after.
pub const HEADER: &str =
    "behaviour                      due  published  added misses   late  memory, MB            result";

/// Names of the columns of [`hour`].
pub const HOUR_HEADER: &str = "time      due  published   late  memory, MB  faults  behaviour";

/// What a behaviour cost.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Name of the behaviour.
    pub name: String,
    /// Bins that the rig sent meanwhile.
    pub due: u64,
    /// Estimates that came.
    pub published: u64,
    /// Estimates that are not good, less those of the calm part before.
    pub added_misses: i64,
    /// Estimates that are late.
    pub late: u64,
    /// Memory before the behaviour, MB.
    pub before_mb: f64,
    /// Most memory meanwhile, MB.
    pub peak_mb: f64,
    /// Memory after it, MB.
    pub after_mb: f64,
    /// The script's last line.
    pub seen: String,
    /// The daemon's last warning, or line of the log.
    pub says: String,
    /// What it cost that it may not cost.
    pub faults: Vec<String>,
}

impl Row {
    /// Adds the counts of another row, and its faults.
    pub fn add(&mut self, other: &Row) {
        (self.due, self.published) = (self.due + other.due, self.published + other.published);
        self.late += other.late;
        self.after_mb = other.after_mb;
        self.faults.extend(other.faults.iter().map(|fault| format!("{}: {fault}", other.name)));
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = format!("{:.1} {:.1} {:.1}", self.before_mb, self.peak_mb, self.after_mb);
        let result = if self.faults.is_empty() { "ok".to_owned() } else { self.faults.join("; ") };
        write!(
            f,
            "{:<28} {:>5} {:>10} {:>13} {:>6}  ",
            self.name, self.due, self.published, self.added_misses, self.late
        )?;
        writeln!(f, "{memory:<20}  {result}")?;
        let says: String = self.says.chars().take(SAYS_CHARS).collect();
        write!(f, "    {}\n    log: {says}", self.seen)
    }
}

/// A row of the table over time: the totals so far, and the behaviour that was the last.
pub fn hour(time: Duration, row: &Row, total: &Row) -> String {
    let (minutes, seconds) = (time.as_secs() / 60, time.as_secs() % 60);
    format!(
        "{minutes:>3}:{seconds:02} {:>9} {:>10} {:>6} {:>11.1} {:>7}  {}",
        total.due,
        total.published,
        total.late,
        row.after_mb,
        total.faults.len(),
        row.name
    )
}
