//! The faults that `--faults` asks for: parsed, checked, and printed so that they parse to the same again.

use super::kind::{FaultKind, FaultRow};
use ndt_protocol::limits::CHANNELS_MAX;
use std::fmt;
use std::str::FromStr;

/// Largest N of `reorder=N`; networks delay a packet by fewer bins.
pub const REORDER_BINS_MAX: usize = 64;

/// Longest jitter, in ns. A delay of more than ten seconds is a stall.
pub const JITTER_NS_MAX: u64 = 10_000_000_000;

/// Largest N of `burst=N`: a cable that is unplugged for some seconds.
pub const BURST_BINS_MAX: usize = 1000;

/// Longest time in any kind of fault other than jitter, in ns: a day, which is longer than any session.
pub const TIME_NS_MAX: u64 = 86_400_000_000_000;

/// Faults to draw: which ones, how often, and when. The default is no faults. The lists may be in any order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Faults {
    /// `drop=P%`: percentage of bins that are lost.
    pub drop_percent: f64,
    /// `dup=P%`: percentage of bins that are sent twice. The second copy follows the first immediately.
    pub dup_percent: f64,
    /// `reorder=N`: one bin in a hundred is sent after up to this many later bins.
    pub reorder_bins: usize,
    /// `jitter=D`: each bin is sent up to this many ns after it is due, and not before the bin ahead of it.
    pub jitter_ns: u64,
    /// `burst=N`: once in 500 bins, this many bins in a row are lost.
    pub burst_bins: usize,
    /// `stall=D@T`: at T nothing is sent for D ns, then everything that was due, as from a process that was stopped.
    pub stalls: Vec<At<u64>>,
    /// `nan=P%`: percentage of counts that are NaN.
    pub nan_percent: f64,
    /// `channels=+K@T`, `channels=-K@T`: for one second from T on, bins carry K channels too many or too few.
    pub channels: Vec<At<i32>>,
    /// `clock=+D@T`, `clock=-D@T`: from T on, the source time is D ns ahead of the planned one, or behind it.
    pub clocks: Vec<At<i64>>,
    /// `restart@T`: at T (in ns) the source starts again, and its bins are numbered from 0. A restart starts no segment.
    pub restarts_ns: Vec<u64>,
}

/// A fault that happens at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At<T> {
    /// Instant, counted from the instant of the first bin, in ns of played time.
    pub at_ns: u64,
    /// Amount of the fault, in the unit of its kind.
    pub value: T,
}

/// Everything that is wrong with the text of `--faults`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultsError {
    /// Problems, one sentence each.
    pub problems: Vec<String>,
}

impl std::error::Error for FaultsError {}

impl fmt::Display for FaultsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("; "))
    }
}

impl FromStr for Faults {
    type Err = FaultsError;

    fn from_str(text: &str) -> Result<Faults, FaultsError> {
        let mut faults = Faults::default();
        let mut problems = Vec::new();
        let mut keys = Vec::new();
        let items = if text == "none" { "" } else { text }.split(',').map(str::trim);
        for item in items.filter(|item| !item.is_empty()) {
            let (key, rest) = item.split_at(item.find(['=', '@']).unwrap_or(item.len()));
            let kind = FaultKind::with_key(key);
            if keys.contains(&key) && !kind.is_some_and(|kind| kind.row().repeats) {
                problems.push(format!("expected {key} once, found it again in \"{item}\""));
            }
            keys.push(key);
            let added = match kind {
                Some(kind) => faults.add(kind, rest),
                None => Err(format!("one of {}", FaultKind::keys())),
            };
            if let Err(expected) = added {
                problems.push(format!("expected {expected}, found \"{item}\""));
            }
        }
        faults.stalls.sort();
        faults.channels.sort();
        faults.clocks.sort();
        faults.restarts_ns.sort_unstable();
        if problems.is_empty() { Ok(faults) } else { Err(FaultsError { problems }) }
    }
}

impl Faults {
    /// Adds one item, whose text after the key is `rest`. An error says what was expected.
    fn add(&mut self, kind: FaultKind, rest: &str) -> Result<(), String> {
        let FaultRow { syntax, .. } = kind.row();
        let value = rest.strip_prefix('=').unwrap_or_default();
        match kind {
            FaultKind::Drop => self.drop_percent = percent(syntax, value)?,
            FaultKind::Dup => self.dup_percent = percent(syntax, value)?,
            FaultKind::Reorder => self.reorder_bins = bins(syntax, value, REORDER_BINS_MAX)?,
            FaultKind::Jitter => {
                let expected =
                    || format!("{syntax} with a time D of up to {} such as 3ms", Time(JITTER_NS_MAX));
                self.jitter_ns = time(value, JITTER_NS_MAX).ok_or_else(expected)?;
            }
            FaultKind::Burst => self.burst_bins = bins(syntax, value, BURST_BINS_MAX)?,
            FaultKind::Stall => {
                let stall = at(value, |text| time(text, TIME_NS_MAX)).filter(|stall| stall.value > 0);
                let expected = || format!("{syntax} with times D and T of up to 86400s such as 2s@30s");
                self.stalls.push(stall.ok_or_else(expected)?);
            }
            FaultKind::Nan => self.nan_percent = percent(syntax, value)?,
            FaultKind::Channels => {
                let expected =
                    || format!("{syntax} or -K@T with K from 1 to {CHANNELS_MAX} and a time T such as 60s");
                self.channels.push(at(value, channels).ok_or_else(expected)?);
            }
            FaultKind::Clock => {
                let clock = at(value, jump).filter(|clock| clock.value != 0);
                let expected =
                    || format!("{syntax} or -D@T with times D and T of up to 86400s such as +5s@45s");
                self.clocks.push(clock.ok_or_else(expected)?);
            }
            FaultKind::Restart => {
                let instant = rest.strip_prefix('@').and_then(|instant| time(instant, TIME_NS_MAX));
                let expected = || format!("{syntax} with a time T such as 50s");
                self.restarts_ns.push(instant.ok_or_else(expected)?);
            }
        }
        Ok(())
    }

    /// The items of one kind, as they are written in `--faults`.
    fn items(&self, kind: FaultKind) -> Vec<String> {
        let key = kind.row().key;
        let percent = |percent: f64| if percent > 0.0 { vec![format!("{key}={percent}%")] } else { vec![] };
        let bins = |bins: usize| if bins > 0 { vec![format!("{key}={bins}")] } else { vec![] };
        match kind {
            FaultKind::Drop => percent(self.drop_percent),
            FaultKind::Dup => percent(self.dup_percent),
            FaultKind::Reorder => bins(self.reorder_bins),
            FaultKind::Jitter if self.jitter_ns == 0 => Vec::new(),
            FaultKind::Jitter => vec![format!("{key}={}", Time(self.jitter_ns))],
            FaultKind::Burst => bins(self.burst_bins),
            FaultKind::Stall => {
                let item = |stall: &At<u64>| format!("{key}={}@{}", Time(stall.value), Time(stall.at_ns));
                self.stalls.iter().map(item).collect()
            }
            FaultKind::Nan => percent(self.nan_percent),
            FaultKind::Channels => {
                let item = |window: &At<i32>| format!("{key}={:+}@{}", window.value, Time(window.at_ns));
                self.channels.iter().map(item).collect()
            }
            FaultKind::Clock => {
                let sign = |value: i64| if value < 0 { '-' } else { '+' };
                let item = |At { at_ns, value }: &At<i64>| {
                    format!("{key}={}{}@{}", sign(*value), Time(value.unsigned_abs()), Time(*at_ns))
                };
                self.clocks.iter().map(item).collect()
            }
            FaultKind::Restart => {
                self.restarts_ns.iter().map(|at_ns| format!("{key}@{}", Time(*at_ns))).collect()
            }
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: Vec<String> = FaultKind::all().flat_map(|kind| self.items(kind)).collect();
        f.write_str(if items.is_empty() { "none" } else { "" })?;
        f.write_str(&items.join(","))
    }
}

/// Parses a number of digits and a point. Signs, exponents and words are refused, which the parser of `f64` accepts.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { text.parse().ok() } else { None }
}

fn percent(syntax: &str, text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(number).filter(|percent| *percent <= 100.0);
    percent.ok_or_else(|| format!("{syntax} with P from 0 to 100"))
}

fn bins(syntax: &str, text: &str, max: usize) -> Result<usize, String> {
    let bins = text.parse().ok().filter(|bins| *bins <= max && !text.starts_with('+'));
    bins.ok_or_else(|| format!("{syntax} with N from 0 to {max}"))
}

/// Units of time, the longest first.
const UNITS: [(&str, u64); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

fn time(text: &str, max_ns: u64) -> Option<u64> {
    // The other units also end in `s`. If `s` is not the unit, the text before it is no number.
    let ns = UNITS.iter().find_map(|(unit, unit_ns)| {
        text.strip_suffix(unit).and_then(number).map(|number| (number * *unit_ns as f64).round())
    })?;
    (ns <= max_ns as f64).then_some(ns as u64)
}

fn signed<T: std::ops::Neg<Output = T>>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    match text.strip_prefix('-') {
        Some(text) => read(text).map(T::neg),
        None => text.strip_prefix('+').and_then(read),
    }
}

fn jump(text: &str) -> Option<i64> {
    signed(text, |text| time(text, TIME_NS_MAX).map(u64::cast_signed))
}

fn channels(text: &str) -> Option<i32> {
    let size = |text: &str| number(text).and_then(|_| text.parse::<i32>().ok());
    signed(text, size).filter(|channels| (1..=CHANNELS_MAX).contains(&(channels.unsigned_abs() as usize)))
}

fn at<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<At<T>> {
    let (value, instant) = text.split_once('@')?;
    Some(At { at_ns: time(instant, TIME_NS_MAX)?, value: read(value)? })
}

/// A time in ns, printed in the longest unit of which it is a whole number.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = UNITS.iter().find(|(_, unit_ns)| self.0.is_multiple_of(*unit_ns));
        let (unit, unit_ns) = longest.copied().unwrap_or(("ns", 1));
        write!(f, "{}{unit}", self.0 / unit_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: &str = "drop=1%,dup=0.5%,reorder=2,jitter=3ms,burst=10,stall=2s@30s,nan=0.1%,channels=+1@60s,\
                       clock=+5s@45s,restart@50s";

    fn check(text: &str, problems: &[&str]) {
        assert_eq!(text.parse::<Faults>().unwrap_err().problems, problems, "{text}");
    }

    #[test]
    fn every_fault_is_read_and_printed_again() {
        let faults: Faults = ALL.parse().unwrap();
        let expected = Faults {
            drop_percent: 1.0,
            dup_percent: 0.5,
            reorder_bins: 2,
            jitter_ns: 3_000_000,
            burst_bins: 10,
            stalls: vec![At { at_ns: 30_000_000_000, value: 2_000_000_000 }],
            nan_percent: 0.1,
            channels: vec![At { at_ns: 60_000_000_000, value: 1 }],
            clocks: vec![At { at_ns: 45_000_000_000, value: 5_000_000_000 }],
            restarts_ns: vec![50_000_000_000],
        };
        assert_eq!((&faults, faults.to_string()), (&expected, ALL.to_owned()));
        assert!(FaultKind::all().all(|kind| !faults.items(kind).is_empty()), "{ALL} lacks a kind");
    }

    #[test]
    fn the_example_of_every_kind_is_a_fault_of_that_kind_alone() {
        for row in FaultKind::TABLE {
            let faults: Faults = row.example.parse().unwrap();
            assert_eq!(faults.to_string(), row.example);
            let kinds: Vec<FaultKind> =
                FaultKind::all().filter(|kind| !faults.items(*kind).is_empty()).collect();
            assert_eq!(kinds, [row.kind]);
            let twice = format!("{0},{0}", row.example);
            assert_eq!(twice.parse::<Faults>().is_ok(), row.repeats, "{twice}");
        }
    }

    #[test]
    fn what_is_printed_has_one_order_and_the_longest_unit() {
        let print = |text: &str| text.parse::<Faults>().unwrap().to_string();
        assert_eq!(
            print("restart@2000ms, restart@1.5s ,clock=-0.5us@1s,drop=01.50%"),
            "drop=1.5%,clock=-500ns@1s,restart@1500ms,restart@2s"
        );
        assert_eq!(
            (print(""), print("none"), print("drop=0%")),
            ("none".into(), "none".into(), "none".into())
        );
        assert_eq!(print("channels=-3@0s,channels=+2@0ms"), "channels=-3@0s,channels=+2@0s");
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        check(
            "drop=1,dup=101%,reorder=65,burst=-1,jitter=11s,nan=x%",
            &[
                "expected drop=P% with P from 0 to 100, found \"drop=1\"",
                "expected dup=P% with P from 0 to 100, found \"dup=101%\"",
                "expected reorder=N with N from 0 to 64, found \"reorder=65\"",
                "expected burst=N with N from 0 to 1000, found \"burst=-1\"",
                "expected jitter=D with a time D of up to 10s such as 3ms, found \"jitter=11s\"",
                "expected nan=P% with P from 0 to 100, found \"nan=x%\"",
            ],
        );
        check(
            "stall=2s,channels=1@60s,channels=+0@1s,clock=5s@4s,restart=50s,restart",
            &[
                "expected stall=D@T with times D and T of up to 86400s such as 2s@30s, found \"stall=2s\"",
                "expected channels=+K@T or -K@T with K from 1 to 4096 and a time T such as 60s, found \
                 \"channels=1@60s\"",
                "expected channels=+K@T or -K@T with K from 1 to 4096 and a time T such as 60s, found \
                 \"channels=+0@1s\"",
                "expected clock=+D@T or -D@T with times D and T of up to 86400s such as +5s@45s, found \
                 \"clock=5s@4s\"",
                "expected restart@T with a time T such as 50s, found \"restart=50s\"",
                "expected restart@T with a time T such as 50s, found \"restart\"",
            ],
        );
        check(
            "drop=1%,drop=2%,lose=1%,stall=0s@1s,restart@86401s,drop=1e1%,drop=infinity%",
            &[
                "expected drop once, found it again in \"drop=2%\"",
                &format!("expected one of {}, found \"lose=1%\"", FaultKind::keys()),
                "expected stall=D@T with times D and T of up to 86400s such as 2s@30s, found \"stall=0s@1s\"",
                "expected restart@T with a time T such as 50s, found \"restart@86401s\"",
                "expected drop once, found it again in \"drop=1e1%\"",
                "expected drop=P% with P from 0 to 100, found \"drop=1e1%\"",
                "expected drop once, found it again in \"drop=infinity%\"",
                "expected drop=P% with P from 0 to 100, found \"drop=infinity%\"",
            ],
        );
        let error = "lose=1%,restart@x".parse::<Faults>().unwrap_err().to_string();
        assert_eq!(error.matches("; expected").count(), 1, "{error}");
    }

    fn timed<T: std::fmt::Debug + Copy + Ord>(
        value: impl Strategy<Value = T>,
    ) -> impl Strategy<Value = Vec<At<T>>> {
        let at = (0..=TIME_NS_MAX, value).prop_map(|(at_ns, value)| At { at_ns, value });
        proptest::collection::vec(at, 0..4).prop_map(|mut all| {
            all.sort();
            all
        })
    }

    fn faults() -> impl Strategy<Value = Faults> {
        let percent = || 0.0..=100.0;
        let sign = || prop_oneof![Just(-1i64), Just(1)];
        let scalars = (
            (percent(), percent(), percent()),
            (0..=REORDER_BINS_MAX, 0..=BURST_BINS_MAX, 0..=JITTER_NS_MAX),
        );
        let lists = (
            timed(1..=TIME_NS_MAX),
            timed((1..=CHANNELS_MAX as i64, sign()).prop_map(|(size, sign)| (size * sign) as i32)),
            timed((1..=TIME_NS_MAX as i64, sign()).prop_map(|(size, sign)| size * sign)),
            timed(Just(())),
        );
        (scalars, lists).prop_map(|((percents, sizes), (stalls, channels, clocks, restarts))| Faults {
            drop_percent: percents.0,
            dup_percent: percents.1,
            nan_percent: percents.2,
            reorder_bins: sizes.0,
            burst_bins: sizes.1,
            jitter_ns: sizes.2,
            stalls,
            channels,
            clocks,
            restarts_ns: restarts.into_iter().map(|restart| restart.at_ns).collect(),
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_as_the_same(faults in faults()) {
            let text = faults.to_string();
            prop_assert_eq!(text.parse::<Faults>(), Ok(faults), "{}", text);
        }

        #[test]
        fn no_text_is_too_strange_to_be_refused(text in "[a-z=@%+.0-9, -]{0,40}|\\PC{0,20}") {
            if let Ok(faults) = text.parse::<Faults>() {
                prop_assert_eq!(faults.to_string().parse::<Faults>(), Ok(faults));
            }
        }
    }
}
