//! What `--faults` says: read, checked, and printed so that it reads the same again.

use ndt_protocol::limits::CHANNELS_MAX;
use std::fmt;
use std::str::FromStr;

/// Most bins that one bin is sent after; a network does less.
pub const REORDER_BINS_MAX: usize = 64;

/// Longest jitter, ns. Beyond ten seconds it is a stall.
pub const JITTER_NS_MAX: u64 = 10_000_000_000;

/// Most bins that are lost together: a cable that is out for some seconds.
pub const BURST_BINS_MAX: usize = 1000;

/// Longest time of any other kind, ns: a day, longer than any session.
pub const TIME_NS_MAX: u64 = 86_400_000_000_000;

const KEYS: &str = "drop, dup, reorder, jitter, burst, stall, nan, channels, clock, restart";

/// What goes wrong, and how often or when. The default is nothing; the lists may be in any order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Faults {
    /// `drop=P%`: how many bins are lost.
    pub drop_percent: f64,
    /// `dup=P%`: how many bins are sent twice, the second copy right behind the first.
    pub dup_percent: f64,
    /// `reorder=N`: one bin in a hundred is sent after up to so many later ones.
    pub reorder_bins: usize,
    /// `jitter=D`: each bin is sent up to so many ns after its instant, and not before the bin ahead of it.
    pub jitter_ns: u64,
    /// `burst=N`: once in 500 bins, so many are lost together.
    pub burst_bins: usize,
    /// `stall=D@T`: at T nothing is sent for so many ns, then all that was due: a process that was stopped.
    pub stalls: Vec<At<u64>>,
    /// `nan=P%`: how many counts are NaN.
    pub nan_percent: f64,
    /// `channels=+K@T`, `channels=-K@T`: for one second from T on, bins carry so many channels more.
    pub channels: Vec<At<i32>>,
    /// `clock=+D@T`, `clock=-D@T`: from T on the source's time is so many ns ahead of where it was.
    pub clocks: Vec<At<i64>>,
    /// `restart@T`: from T on, ns, the source is another run, whose first bin is number 0. It starts no segment.
    pub restarts_ns: Vec<u64>,
}

/// What happens at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At<T> {
    /// When, from the first bin's instant, ns of played time.
    pub at_ns: u64,
    /// How much.
    pub value: T,
}

/// Everything that is wrong with a text of faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultsError {
    /// One sentence each.
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
            let key = &item[..item.find(['=', '@']).unwrap_or(item.len())];
            if keys.contains(&key) && !["stall", "channels", "clock", "restart"].contains(&key) {
                problems.push(format!("expected {key} once, found it again in \"{item}\""));
            }
            keys.push(key);
            if let Err(expected) = faults.take(key, &item[key.len()..]) {
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
    /// Takes in one item; an error is what was expected of it.
    fn take(&mut self, key: &str, rest: &str) -> Result<(), String> {
        let value = rest.strip_prefix('=').unwrap_or_default();
        match key {
            "drop" => self.drop_percent = percent(key, value)?,
            "dup" => self.dup_percent = percent(key, value)?,
            "nan" => self.nan_percent = percent(key, value)?,
            "reorder" => self.reorder_bins = bins(key, value, REORDER_BINS_MAX)?,
            "burst" => self.burst_bins = bins(key, value, BURST_BINS_MAX)?,
            "jitter" => {
                let expected =
                    || format!("jitter=D with a time D of up to {} such as 3ms", Time(JITTER_NS_MAX));
                self.jitter_ns = time(value, JITTER_NS_MAX).ok_or_else(expected)?;
            }
            "stall" => {
                let stall = at(value, |text| time(text, TIME_NS_MAX)).filter(|stall| stall.value > 0);
                let expected = || "stall=D@T with times D and T of up to 86400s such as 2s@30s";
                self.stalls.push(stall.ok_or_else(expected)?);
            }
            "channels" => {
                let expected = || {
                    format!("channels=+K@T or -K@T with K from 1 to {CHANNELS_MAX} and a time T such as 60s")
                };
                self.channels.push(at(value, channels).ok_or_else(expected)?);
            }
            "clock" => {
                let clock = at(value, jump).filter(|clock| clock.value != 0);
                let expected = || "clock=+D@T or -D@T with times D and T of up to 86400s such as +5s@45s";
                self.clocks.push(clock.ok_or_else(expected)?);
            }
            "restart" => {
                let instant = rest.strip_prefix('@').and_then(|instant| time(instant, TIME_NS_MAX));
                self.restarts_ns.push(instant.ok_or("restart@T with a time T such as 50s")?);
            }
            _ => return Err(format!("one of {KEYS}")),
        }
        Ok(())
    }
}

/// A number without sign, exponent or words, which `f64` would take too.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { text.parse().ok() } else { None }
}

fn percent(key: &str, text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(number).filter(|percent| *percent <= 100.0);
    percent.ok_or_else(|| format!("{key}=P% with P from 0 to 100"))
}

fn bins(key: &str, text: &str, max: usize) -> Result<usize, String> {
    let bins = text.parse().ok().filter(|bins| *bins <= max && !text.starts_with('+'));
    bins.ok_or_else(|| format!("{key}=N with N from 0 to {max}"))
}

/// The units of time, the longest first: how a time is printed.
const UNITS: [(&str, u64); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

fn time(text: &str, max_ns: u64) -> Option<u64> {
    // `s` ends the other units too; where it is not the unit, what stands before it is no number.
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

/// A time in the longest unit of which it is a whole number.
struct Time(u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, unit_ns)| self.0.is_multiple_of(*unit_ns));
        let (unit, unit_ns) = whole.copied().unwrap_or(("ns", 1));
        write!(f, "{}{unit}", self.0 / unit_ns)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = |negative: bool| if negative { '-' } else { '+' };
        let mut items = Vec::new();
        let mut some = |is: bool, item: String| items.extend(is.then_some(item));
        some(self.drop_percent > 0.0, format!("drop={}%", self.drop_percent));
        some(self.dup_percent > 0.0, format!("dup={}%", self.dup_percent));
        some(self.reorder_bins > 0, format!("reorder={}", self.reorder_bins));
        some(self.jitter_ns > 0, format!("jitter={}", Time(self.jitter_ns)));
        some(self.burst_bins > 0, format!("burst={}", self.burst_bins));
        for At { at_ns, value } in &self.stalls {
            some(true, format!("stall={}@{}", Time(*value), Time(*at_ns)));
        }
        some(self.nan_percent > 0.0, format!("nan={}%", self.nan_percent));
        for At { at_ns, value } in &self.channels {
            some(true, format!("channels={value:+}@{}", Time(*at_ns)));
        }
        for At { at_ns, value } in &self.clocks {
            some(true, format!("clock={}{}@{}", sign(*value < 0), Time(value.unsigned_abs()), Time(*at_ns)));
        }
        for at_ns in &self.restarts_ns {
            some(true, format!("restart@{}", Time(*at_ns)));
        }
        f.write_str(if items.is_empty() { "none" } else { "" })?;
        f.write_str(&items.join(","))
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
    fn all_problems_are_told_at_once() {
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
                "expected one of drop, dup, reorder, jitter, burst, stall, nan, channels, clock, restart, found \
                 \"lose=1%\"",
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
