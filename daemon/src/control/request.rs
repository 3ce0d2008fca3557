//! One line of the control protocol: a word and its arguments, separated by spaces.

use ndt_protocol::limits::CHANNELS_MAX;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

/// Longest time for which a candidate may be asked to run in shadow, s.
pub const SHADOW_S_MAX: f64 = 3_600.0;

/// Time for which a candidate runs in shadow where the request names none, s.
pub const SHADOW_S_DEFAULT: f64 = 10.0;

/// What is asked of a running daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// How it is.
    Status,
    /// Publish outputs of zero.
    Pause,
    /// Publish what is computed again.
    Resume,
    /// Forget the history, as at the start of a segment.
    Reset,
    /// Mask these channels too, by their ids.
    Mask(BTreeSet<i64>),
    /// Mask these channels no more, by their ids.
    Unmask(BTreeSet<i64>),
    /// Mask no channel.
    UnmaskAll,
    /// Load a bundle, run it in shadow, and let it take over.
    Swap {
        /// The bundle: a folder or a `.ndt` file, by its full path.
        path: PathBuf,
        /// For how long it runs in shadow at least, s.
        shadow_s: f64,
    },
    /// Let the model that was replaced take over again, or give up a candidate.
    RollBack,
    /// End the daemon, as SIGTERM does.
    Stop,
}

/// Words of the requests, for messages.
const WORDS: &str = "status, pause, resume, reset, mask, unmask, swap, rollback or stop";

impl Request {
    /// Reads a line without its end.
    ///
    /// # Errors
    /// One sentence.
    pub fn parse(line: &str) -> Result<Request, String> {
        let line = line.trim();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_start();
        let alone = |request: Request| match rest {
            "" => Ok(request),
            more => Err(format!("expected nothing after {word}, found \"{}\"", shortened(more))),
        };
        match word {
            "status" => alone(Request::Status),
            "pause" => alone(Request::Pause),
            "resume" => alone(Request::Resume),
            "reset" => alone(Request::Reset),
            "rollback" => alone(Request::RollBack),
            "stop" => alone(Request::Stop),
            "mask" => Ok(Request::Mask(ids(word, rest)?)),
            "unmask" if rest == "all" => Ok(Request::UnmaskAll),
            "unmask" => Ok(Request::Unmask(ids(word, rest)?)),
            "swap" => swap(rest),
            found => Err(format!("expected {WORDS}, found \"{}\"", shortened(found))),
        }
    }
}

fn ids(word: &str, text: &str) -> Result<BTreeSet<i64>, String> {
    let id = |id: &str| {
        id.parse::<i64>()
            .map_err(|_| format!("expected channel ids after {word}, found \"{}\"", shortened(id)))
    };
    let ids = text.split_whitespace().map(id).collect::<Result<BTreeSet<i64>, String>>()?;
    match ids.len() {
        0 => Err(format!("expected channel ids after {word}, found none")),
        1..=CHANNELS_MAX => Ok(ids),
        found => Err(format!("expected at most {CHANNELS_MAX} channel ids after {word}, found {found}")),
    }
}

/// `[shadow-s=S] /PATH`: the path is the rest of the line, so that it may hold spaces.
fn swap(text: &str) -> Result<Request, String> {
    let (shadow_s, path) = match text.strip_prefix("shadow-s=") {
        Some(rest) => {
            let (number, path) = rest.split_once(' ').unwrap_or((rest, ""));
            let shadow_s = number.parse().ok().filter(|s| (0.0..=SHADOW_S_MAX).contains(s));
            let refused =
                || format!("expected shadow-s from 0 to {SHADOW_S_MAX}, found \"{}\"", shortened(number));
            (shadow_s.ok_or_else(refused)?, path.trim_start())
        }
        None => (SHADOW_S_DEFAULT, text),
    };
    match path.starts_with('/') && !path.contains('\0') {
        true => Ok(Request::Swap { path: path.into(), shadow_s }),
        false => Err(format!("expected the full path of a bundle after swap, found \"{}\"", shortened(path))),
    }
}

/// The beginning of what somebody else has written.
fn shortened(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

impl fmt::Display for Request {
    /// Writes the line that [`Request::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &BTreeSet<i64>| ids.iter().map(i64::to_string).collect::<Vec<_>>().join(" ");
        match self {
            Request::Status => f.write_str("status"),
            Request::Pause => f.write_str("pause"),
            Request::Resume => f.write_str("resume"),
            Request::Reset => f.write_str("reset"),
            Request::Mask(ids) => write!(f, "mask {}", list(ids)),
            Request::Unmask(ids) => write!(f, "unmask {}", list(ids)),
            Request::UnmaskAll => f.write_str("unmask all"),
            Request::Swap { path, shadow_s } => write!(f, "swap shadow-s={shadow_s} {}", path.display()),
            Request::RollBack => f.write_str("rollback"),
            Request::Stop => f.write_str("stop"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_request_is_read_and_written_again() {
        for line in [
            "status",
            "pause",
            "resume",
            "reset",
            "mask -3 7",
            "unmask 7",
            "unmask all",
            "swap shadow-s=0.5 /models/a b/day 2.ndt",
            "rollback",
            "stop",
        ] {
            assert_eq!(Request::parse(line).map(|request| request.to_string()), Ok(line.to_owned()));
        }
        let found = Request::parse("  swap /m  ");
        assert_eq!(found, Ok(Request::Swap { path: "/m".into(), shadow_s: SHADOW_S_DEFAULT }));
    }

    #[test]
    fn what_is_no_request_is_answered_with_one_sentence() {
        for (line, expected) in [
            ("", format!("expected {WORDS}, found \"\"")),
            ("Pause", format!("expected {WORDS}, found \"Pause\"")),
            ("pause now", "expected nothing after pause, found \"now\"".to_owned()),
            ("mask", "expected channel ids after mask, found none".to_owned()),
            ("mask 1 two", "expected channel ids after mask, found \"two\"".to_owned()),
            ("swap model", "expected the full path of a bundle after swap, found \"model\"".to_owned()),
            ("swap shadow-s=-1 /m", "expected shadow-s from 0 to 3600, found \"-1\"".to_owned()),
            ("swap shadow-s=NaN /m", "expected shadow-s from 0 to 3600, found \"NaN\"".to_owned()),
        ] {
            assert_eq!(Request::parse(line), Err(expected), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics_and_a_refusal_is_short(line in ".{0,300}") {
            if let Err(sentence) = Request::parse(&line) {
                prop_assert!(sentence.starts_with("expected ") && sentence.len() < 1_000, "{sentence}");
            }
        }
    }
}
