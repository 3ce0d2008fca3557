//! The local clock: `CLOCK_MONOTONIC` in nanoseconds. Linux, BRAND and Python's `time.monotonic_ns()` count it in the
//! same way, so that time stamps of several programs on one machine can be compared.
//!
//! Only the edges of the system read the clock (sources, publishers, `play`, `listen`); everything in between takes
//! time as an argument.

/// Returns `CLOCK_MONOTONIC` in nanoseconds. A vDSO call: no system call, no allocation.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec; CLOCK_MONOTONIC exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Sleeps until the clock shows `deadline_ns`; returns at once if it already does.
///
/// An absolute sleep (`clock_nanosleep` with `TIMER_ABSTIME`): a loop over deadlines does not drift.
pub fn sleep_until_ns(deadline_ns: u64) {
    let until = libc::timespec {
        tv_sec: (deadline_ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (deadline_ns % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: `until` is a valid timespec; a null remainder is allowed for absolute sleeps.
    while unsafe {
        libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &until, std::ptr::null_mut())
    } == libc::EINTR
    {}
}

/// A time in seconds since 1970 as ISO 8601 in UTC, by the calendar that the standard prescribes.
pub fn utc(unix_s: u64) -> String {
    let (mut days, seconds) = (unix_s / 86_400, unix_s % 86_400);
    let is_leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let [hour, minute, second] = [seconds / 3600, seconds / 60 % 60, seconds % 60];
    format!("{year:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}+00:00", month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_since_1970_are_a_date() {
        for (unix_s, date) in [
            (0, "1970-01-01T00:00:00+00:00"),
            (951_782_399, "2000-02-28T23:59:59+00:00"),
            (951_782_400, "2000-02-29T00:00:00+00:00"),
            (1_735_689_599, "2024-12-31T23:59:59+00:00"),
            (4_107_542_400, "2100-03-01T00:00:00+00:00"),
        ] {
            assert_eq!(utc(unix_s), date);
        }
    }
}
