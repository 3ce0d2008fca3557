//! The ending of an output's name, by which a command chooses the format that it writes.

use std::path::Path;

/// A name whose ending stands for no format of the command.
#[derive(Debug, thiserror::Error)]
#[error("expected an output whose name ends in .{} or .{}, found {found}", .known[0], .known[1])]
pub struct UnknownEnding {
    known: [&'static str; 2],
    found: String,
}

/// Returns which of the two endings the name of `out` has, in upper or lower case.
///
/// # Errors
/// [`UnknownEnding`].
pub fn of(out: &Path, known: [&'static str; 2]) -> Result<&'static str, UnknownEnding> {
    let found = out.extension().unwrap_or_default();
    let is_it = |ending: &&'static str| found.eq_ignore_ascii_case(ending);
    known.into_iter().find(is_it).ok_or_else(|| UnknownEnding { known, found: out.display().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_counts_in_any_case_and_others_are_named() {
        assert_eq!(of(Path::new("a.b/Session.NPZ"), ["nwb", "npz"]).unwrap(), "npz");
        for path in ["npz", "a.npz/session", "session.npz.txt", ""] {
            let sentence = of(Path::new(path), ["nwb", "npz"]).unwrap_err().to_string();
            assert_eq!(sentence, format!("expected an output whose name ends in .nwb or .npz, found {path}"));
        }
    }
}
