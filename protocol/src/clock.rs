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
