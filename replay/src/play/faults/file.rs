//! A fault plan as a text file: JSON, one object in each line. First the head, then each fault, then each sending.
//!
//! The head and the faults tell people what will go wrong. The sendings are for programs that check the daemon's answers.

use super::{FaultEvent, FaultPlan, Faults, Sending};
use ndt_protocol::destination::{Form, Kind, first_bytes};
use ndt_protocol::files::{FileError, write_file};
use ndt_protocol::limits::CHANNELS_MAX;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Version of the file.
///
/// **It rises by one with every change that lets an old program misread a new file, or a new program an old one**: a new
/// kind of fault, a new or renamed field, another meaning of a field, other draws from the same seed. The golden file of the
/// version holds every kind of fault and is never rewritten, so that a test fails until the version has risen.
pub const VERSION: u32 = 1;

/// Longest head that is looked for in a file that may be a fault plan of another version.
const HEAD_BYTES_MAX: u64 = 1 << 16;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Plan(Head),
    Fault(FaultEvent),
    Sending(Sending),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Head {
    version: u32,
    faults: String,
    seed: u64,
    bins: usize,
    bin_width_ns: u64,
    channels: usize,
    /// Number of fault lines and of sending lines that follow. A file that was cut off is refused.
    events: usize,
    sendings: usize,
}

/// Head of a file of any version.
#[derive(Deserialize)]
struct AnyHead {
    plan: AnyVersion,
}

#[derive(Deserialize)]
struct AnyVersion {
    version: u32,
}

/// Why a file cannot be read as a fault plan.
#[derive(Debug, thiserror::Error)]
pub enum FaultPlanError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line of the file is wrong.
    #[error("{path}: line {line}: {problem}")]
    Line {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with the line.
        problem: String,
    },
}

impl FaultPlan {
    /// A fault plan of any version, for the rule about what a program may replace.
    pub const KIND: Kind = Kind {
        name: "a fault plan",
        form: Form::File,
        other: |path| {
            let start = first_bytes(path, HEAD_BYTES_MAX);
            let head = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let is_plan = serde_json::from_slice::<AnyHead>(head).is_ok();
            (!is_plan).then(|| "a file that is no fault plan".to_owned())
        },
    };

    /// Returns the lines that announce the plan: its head and the faults.
    pub fn announcement(&self) -> impl Iterator<Item = String> {
        let head = Head {
            version: VERSION,
            faults: self.faults.to_string(),
            seed: self.seed,
            bins: self.bins,
            bin_width_ns: self.bin_width_ns,
            channels: self.channels,
            events: self.events.len(),
            sendings: self.sendings.len(),
        };
        let events = self.events.iter().map(|fault| Line::Fault(*fault));
        std::iter::once(Line::Plan(head)).chain(events).map(|line| json(&line))
    }

    /// Text of the whole file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let sendings = self.sendings.iter().map(|sending| json(&Line::Sending(sending.clone())));
        for line in self.announcement().chain(sendings) {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    /// Writes the file. A file that is already at `path` is replaced as a whole.
    ///
    /// # Errors
    /// [`FileError`]; a file that was at `path` is then unchanged.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        write_file(path, self.text().as_bytes())
    }

    /// Reads a file that [`FaultPlan::write`] wrote.
    ///
    /// # Errors
    /// [`FaultPlanError`] if the file cannot be read or is not a fault plan of this version.
    pub fn read(path: &Path) -> Result<FaultPlan, FaultPlanError> {
        let text = std::fs::read_to_string(path).map_err(FileError::at(path))?;
        let problem = |(line, problem)| FaultPlanError::Line { path: path.to_owned(), line, problem };
        parse(&text).map_err(problem)
    }
}

fn json(line: &Line) -> String {
    serde_json::to_string(line).unwrap_or_else(|error| panic!("plain data always serialises: {error}"))
}

/// Parses the text of a file. An error is the number of the wrong line, from 1, and what is wrong with it.
fn parse(text: &str) -> Result<FaultPlan, (usize, String)> {
    let mut lines = text.lines();
    let head = head(lines.next().unwrap_or_default()).map_err(|problem| (1, problem))?;
    let faults: Faults = head.faults.parse().map_err(|error: super::FaultsError| (1, error.to_string()))?;
    let (mut events, mut sendings) = (Vec::new(), Vec::new());
    let mut count = 1;
    for (at, line) in lines.enumerate() {
        count = at + 2;
        let problem = match serde_json::from_str(line) {
            Ok(Line::Fault(fault)) if sendings.is_empty() => {
                events.push(fault);
                continue;
            }
            Ok(Line::Sending(sending)) => match check(&sending, &head) {
                Ok(()) => {
                    sendings.push(sending);
                    continue;
                }
                Err(problem) => problem,
            },
            Ok(Line::Plan(_) | Line::Fault(_)) => "expected a sending, found another line".to_owned(),
            Err(error) => format!("expected a fault or a sending, found {error}"),
        };
        return Err((count, problem));
    }
    let (expected, found) = ((head.events, head.sendings), (events.len(), sendings.len()));
    if expected != found {
        let problem = |(events, sendings)| format!("{events} faults and {sendings} sendings");
        return Err((count, format!("expected {}, found {} to the end", problem(expected), problem(found))));
    }
    let Head { seed, bins, bin_width_ns, channels, .. } = head;
    Ok(FaultPlan { faults, seed, bins, bin_width_ns, channels, events, sendings })
}

fn head(line: &str) -> Result<Head, String> {
    // A file of another version is refused as such, whatever else it contains.
    if let Ok(AnyHead { plan: AnyVersion { version } }) = serde_json::from_str(line)
        && version != VERSION
    {
        return Err(format!("expected a fault plan of version {VERSION}, found {version}"));
    }
    match serde_json::from_str(line) {
        Ok(Line::Plan(head)) if head.bin_width_ns > 0 => Ok(head),
        Ok(Line::Plan(_)) => Err("expected bins that last, found a width of 0 ns".to_owned()),
        Ok(_) => Err("expected a plan, found another line".to_owned()),
        Err(error) => Err(format!("expected a fault plan, found {error}")),
    }
}

/// Checks that the bin, its number and its channels are within the ranges that users of a fault plan rely on.
fn check(sending: &Sending, head: &Head) -> Result<(), String> {
    // Taken apart, so that a new field does not compile before it is decided what users rely on.
    let Sending { due_ns: _, bin, run: _, seq, source_ns: _, ref nan_channels, channels_delta, copy: _ } =
        *sending;
    if bin >= head.bins || seq > bin as u64 {
        return Err(format!(
            "expected a bin below {} and no number above it, found bin {bin}, number {seq}",
            head.bins
        ));
    }
    if channels_delta.unsigned_abs() as usize > CHANNELS_MAX {
        return Err(format!(
            "expected at most {CHANNELS_MAX} channels more or fewer, found {channels_delta:+}"
        ));
    }
    match nan_channels.iter().find(|channel| **channel as usize >= head.channels) {
        Some(channel) => Err(format!("expected channels below {}, found {channel}", head.channels)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"
        {"plan":{"version":VERSION,"faults":"drop=1%","seed":3,"bins":3,"bin-width-ns":20000000,
            "channels":2,"events":1,"sendings":2}}
        {"fault":{"kind":"drop","run":0,"first-seq":1,"last-seq":1,
            "from-ns":40000000,"to-ns":40000000,"by":1}}
        {"sending":{"due-ns":20000000,"bin":0,"run":0,"seq":0,"source-ns":-5}}
        {"sending":{"due-ns":60000000,"bin":2,"run":1,"seq":0,"source-ns":7,
            "nan-channels":[1],"channels-delta":-1,"copy":true}}
    "#;

    /// Joins each object into one line.
    fn text() -> String {
        let lines = LINES.replace("VERSION", &VERSION.to_string());
        lines.trim_start().replace(",\n            ", ",").replace("        ", "").replace("\n    ", "\n")
    }

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let plan = parse(&text()).unwrap();
        assert_eq!(plan.text(), text());
        assert_eq!(plan.announcement().count(), 2);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.jsonl");
        plan.write(&path).unwrap();
        assert_eq!(FaultPlan::read(&path).unwrap(), plan);
        std::fs::write(&path, "{}").unwrap();
        let error = FaultPlan::read(&path).unwrap_err().to_string();
        assert!(error.contains("plan.jsonl: line 1: expected a fault plan, found "), "{error}");
        assert!(FaultPlan::read(&folder.path().join("none")).is_err());
    }

    #[test]
    fn what_is_no_plan_of_this_version_is_refused_with_its_line() {
        let check = |from: &str, to: &str, line: usize, problem: &str| {
            let (at, found) = parse(&text().replacen(from, to, 1)).unwrap_err();
            assert!(at == line && found.starts_with(problem), "{from} {to}: line {at}: {found}");
        };
        check(
            &format!("\"version\":{VERSION}"),
            "\"version\":9999,\"new\":1",
            1,
            &format!("expected a fault plan of version {VERSION}, found 9999"),
        );
        check("\"seed\":3", "\"seed\":3,\"new\":1", 1, "expected a fault plan, found unknown field `new`");
        check("drop=1%", "drop=1", 1, "expected drop=P%");
        check("\"bin-width-ns\":20000000", "\"bin-width-ns\":0", 1, "expected bins that last");
        check(
            "\"kind\":\"drop\"",
            "\"kind\":\"lose\"",
            2,
            "expected a fault or a sending, found unknown variant",
        );
        check(
            "\"bin\":2",
            "\"bin\":3",
            4,
            "expected a bin below 3 and no number above it, found bin 3, number 0",
        );
        check("\"seq\":0,\"source-ns\":7", "\"seq\":3,\"source-ns\":7", 4, "expected a bin below 3");
        check("\"nan-channels\":[1]", "\"nan-channels\":[2]", 4, "expected channels below 2, found 2");
        check(
            "\"sendings\":2",
            "\"sendings\":3",
            4,
            "expected 1 faults and 3 sendings, found 1 faults and 2",
        );
        check("{\"fault\":", "{\"sending\":", 2, "expected a fault or a sending, found unknown field `kind`");
        let (line, problem) = parse("").unwrap_err();
        assert!(line == 1 && problem.starts_with("expected a fault plan, found EOF"), "{problem}");
    }
}
