//! A daemon between its rig and its subscriber, and one behaviour after the other beside them.

use crate::daemon::{Daemon, Start};
use crate::rig::{BIN, CHANNELS, Record, Recorder, Rig, a_newcomer_is_served};
use crate::script;
use crate::table::{MEMORY_MB_MAX, Row};
use ndt_protocol::Quality;
use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long estimates of bins that were sent are waited for.
const SOON: Duration = Duration::from_secs(30);

/// How long memory may take to be given back.
const GIVEN_BACK: Duration = Duration::from_secs(30);

/// How long the script may take to end after its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A rig that was never delayed by so much is not stale, whose limit is 1.28 s.
const PUNCTUAL: Duration = Duration::from_millis(300);

/// A daemon, its rig and its subscriber.
pub struct Bench {
    // In the order in which they are dropped.
    rig: Rig,
    recorder: Recorder,
    daemon: Daemon,
    start: Start,
    /// Number of estimates that have been judged, and the number of the last one.
    judged: (usize, Option<u64>),
}

/// What was due and came within a part of a run.
#[derive(Default)]
struct Part {
    due: u64,
    records: Vec<Record>,
    /// What is out of order, if anything is.
    disorder: Option<String>,
    /// Whether not all that was due came in time.
    incomplete: bool,
}

impl Part {
    fn count(&self, quality: Quality) -> u64 {
        self.records.iter().filter(|record| record.quality == quality).count() as u64
    }

    /// Estimates that are of no use to who moves something by them.
    fn misses(&self) -> u64 {
        self.records.len() as u64 - self.count(Quality::Good)
    }
}

impl Bench {
    /// Starts all three, and waits for a second of estimates.
    pub fn start(start: Start) -> Bench {
        let daemon = Daemon::start(start);
        let recorder = Recorder::start(&daemon, start);
        let rig = Rig::start(&daemon, start);
        let mut bench = Bench { rig, recorder, daemon, start, judged: (0, None) };
        let begin = Instant::now();
        while bench.recorder.last().1 < 200 {
            assert!(
                bench.is_alive() && begin.elapsed() < SOON,
                "expected estimates, found {}",
                bench.daemon.says(0)
            );
            std::thread::sleep(BIN);
        }
        bench.judged = (bench.recorder.last().1, bench.recorder.last().0.map(|last| last.seq));
        bench
    }

    /// Whether the daemon runs.
    pub fn is_alive(&mut self) -> bool {
        self.daemon.ended().is_none()
    }

    /// Runs a calm part of length `time`, and then a behaviour for as long; compares the two.
    pub fn bother(&mut self, name: &str, seed: u64, time: Duration) -> Row {
        if self.start != Start::RealTime {
            std::thread::sleep(time);
        }
        let calm = self.part();
        // Starts a new measurement.
        let _ = self.rig.longest_delay();
        let (lines, before) = (self.daemon.log().len(), self.daemon.memory_mb().unwrap_or(0.0));
        let mut row = Row { name: name.to_owned(), before_mb: before, peak_mb: before, ..Row::default() };
        self.run(name, seed, time, &mut row);
        self.settle(&mut row);
        let part = self.part();
        let expected =
            calm.misses() as f64 * part.records.len() as f64 / (calm.records.len() as f64).max(1.0);
        row.added_misses = part.misses() as i64 - expected.round() as i64;
        self.judge(name, &part, &mut row);
        row.says = self.daemon.says(lines);
        row
    }

    /// Runs the script to its end, and watches the daemon's memory meanwhile.
    fn run(&mut self, name: &str, seed: u64, time: Duration, row: &mut Row) {
        let mut command = self.daemon.session.command(script().get_program());
        command.args(script().get_args()).args([name, "--lsl", "rig"]);
        command.args(["--input", &self.daemon.input, "--output", &self.daemon.output]);
        let numbers = [("--seed", seed.to_string()), ("--pid", self.daemon.id().to_string())];
        let numbers = numbers.into_iter().chain([("--channels", CHANNELS.to_string())]);
        let numbers = numbers.chain([("--seconds", time.as_secs_f64().to_string())]);
        for (option, number) in numbers {
            command.args([option, &number]);
        }
        let mut adversary: Child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begin = Instant::now();
        let status = loop {
            row.peak_mb = row.peak_mb.max(self.daemon.memory_mb().unwrap_or(0.0));
            if let Some(status) = adversary.try_wait().unwrap() {
                break Some(status);
            }
            if begin.elapsed() > time + PATIENCE || !self.is_alive() {
                adversary.kill().unwrap();
                adversary.wait().unwrap();
                break None;
            }
            std::thread::sleep(BIN);
        };
        let read = |from: Option<&mut dyn Read>| {
            let mut text = String::new();
            from.into_iter().for_each(|from| drop(from.read_to_string(&mut text)));
            text.trim().lines().last().unwrap_or_default().to_owned()
        };
        row.seen = read(adversary.stdout.as_mut().map(|out| out as &mut dyn Read));
        match status {
            Some(status) if status.success() => {}
            Some(_) => {
                let error = read(adversary.stderr.as_mut().map(|out| out as &mut dyn Read));
                row.faults.push(if row.seen.is_empty() {
                    format!("the script: {error}")
                } else {
                    row.seen.clone()
                });
            }
            None if self.is_alive() => row.faults.push("the script does not end".to_owned()),
            None => {}
        }
    }

    /// Waits until the daemon has given memory back, for half a minute at most: a busy machine takes its time to end connections.
    fn settle(&mut self, row: &mut Row) {
        let begin = Instant::now();
        std::thread::sleep(BIN * 40);
        while self.daemon.memory_mb().is_some_and(|now| now > row.before_mb + MEMORY_MB_MAX)
            && begin.elapsed() < GIVEN_BACK
        {
            std::thread::sleep(BIN);
        }
        row.after_mb = self.daemon.memory_mb().unwrap_or(0.0);
    }

    /// What was due and came since the last part: waits for the estimates of all bins that have been sent.
    fn part(&mut self) -> Part {
        let (judged, last) = self.judged;
        let (sent, begin) = (self.rig.sent(), Instant::now());
        let wanted =
            sent.map_or(self.recorder.last().0.map_or(0, |last| last.seq), |sent| sent.saturating_sub(1));
        let mut incomplete = false;
        while self.recorder.last().0.is_none_or(|last| last.seq < wanted) {
            incomplete = begin.elapsed() > SOON || !self.is_alive();
            if incomplete {
                break;
            }
            std::thread::sleep(BIN);
        }
        let records = self.recorder.since(judged);
        let mut part = Part { due: wanted - last.unwrap_or(0).min(wanted), incomplete, ..Part::default() };
        let mut before = last;
        for record in &records {
            if let Some(before) = before.filter(|before| !record.is_ours || record.seq != before + 1) {
                let whose = if record.is_ours { "" } else { " of another stream" };
                part.disorder.get_or_insert_with(|| format!("{} {whose} after {before}", record.seq));
            }
            before = Some(record.seq);
        }
        // Estimates of bins that were sent meanwhile are due too.
        part.due = part.due.max(before.unwrap_or(0).saturating_sub(last.unwrap_or(0)));
        self.judged = (judged + records.len(), before);
        part.records = records;
        part
    }

    /// Writes into `row` what the behaviour cost.
    fn judge(&mut self, name: &str, part: &Part, row: &mut Row) {
        (row.due, row.published) = (part.due, part.records.len() as u64);
        row.late = part.count(Quality::Late);
        let mut fault = |text: String| row.faults.push(text);
        if let Some(status) = self.daemon.ended() {
            fault(format!("the daemon is gone: {status}"));
            return;
        }
        if part.incomplete || row.due != row.published {
            fault(format!("{} estimates due, {} published", row.due, row.published));
        }
        part.disorder.iter().for_each(|disorder| fault(format!("out of order: {disorder}")));
        // A stopped daemon answers late, and may find that its source was silent.
        if name != "stopped-daemon" {
            for quality in [Quality::Warmup, Quality::Gap, Quality::Fault] {
                let count = part.count(quality);
                if count > 0 {
                    fault(format!("{count} {}", quality.name()));
                }
            }
            let stale = part.count(Quality::Stale);
            if stale > 0 && self.rig.longest_delay() < PUNCTUAL {
                fault(format!("{stale} stale, of a rig that was punctual"));
            }
        }
        if row.after_mb > row.before_mb + MEMORY_MB_MAX {
            fault(format!("memory from {:.1} to {:.1} MB", row.before_mb, row.after_mb));
        }
        if !a_newcomer_is_served(&self.daemon) {
            fault("a new subscriber is not served".to_owned());
        }
    }
}

/// Threads that compute for ever at normal priority, until they are dropped.
pub struct Load(Arc<AtomicBool>);

impl Load {
    /// One for each core.
    pub fn on_every_core() -> Load {
        let end = Arc::new(AtomicBool::new(false));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for end in vec![Arc::clone(&end); cores] {
            std::thread::spawn(move || while !end.load(Relaxed) {});
        }
        Load(end)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
