//! Recognises a source that was paused and goes on where it stopped.
//!
//! Its bins carry numbers that were answered as stale meanwhile. A source that merely sends late catches up; one that
//! was paused does not, and numbering then has to follow it.

/// Largest number of stale periods after which the guard decides whether a source that is behind was paused or catches up.
pub const BEHIND_PERIODS_MAX: u64 = 16;

/// Tracks a source whose bins are behind the numbers that the guard has already answered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Paused {
    /// Number of stale periods since the first one in which a new bin arrived behind the next answer.
    periods: u64,
    /// Number of stale periods in a row, up to the last one, in which no new bin arrived.
    idle: u64,
    /// Newest bin number at the end of the last stale period.
    newest: u64,
    /// Number of bins by which the source was behind in the first of the counted stale periods.
    behind_at_first: u64,
}

impl Paused {
    /// Whether a bin of this number is newer than the newest one seen.
    pub fn is_new(&self, seq: u64) -> bool {
        seq != self.newest
    }

    /// Notes one stale period at the end of which `newest` is the newest number, `behind` bins behind the next answer; `came`
    /// says whether that bin came within the period. Returns whether the source has turned out to be paused: for `patience`
    /// periods bins came, all behind, without catching up.
    ///
    /// Runs on the publish thread, once a stale period. Must not allocate, block, lock or log.
    pub fn is_paused_after(&mut self, newest: u64, came: bool, behind: u64, patience: u64) -> bool {
        self.idle = if came { 0 } else { self.idle + 1 };
        if self.idle >= patience || (self.periods == 0 && !came) {
            *self = Paused { newest, ..Paused::default() };
            return false;
        }
        self.newest = newest;
        if self.periods == 0 {
            self.behind_at_first = behind;
        }
        self.periods += 1;
        // A source may send several bins at once, and none for as many periods.
        if self.periods < patience || !came {
            return false;
        }
        // A source that catches up gains at least as many bins as periods pass.
        let gained = self.behind_at_first.saturating_sub(behind);
        let catches_up = gained + 1 >= self.periods;
        *self = Paused { newest, ..Paused::default() };
        !catches_up
    }
}
