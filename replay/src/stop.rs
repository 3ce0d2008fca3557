//! Ctrl-C and SIGTERM for programs that have something to print before they end.

use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the signal handler. It is made before the handler is installed, so that the handler only reads it.
static STOP: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Returns a flag that becomes `true` on Ctrl-C (SIGINT) or SIGTERM, which then no longer end the process. Every call
/// returns the same flag.
///
/// # Errors
/// The system's error if it refuses the signal handler.
pub fn on_signal() -> io::Result<Arc<AtomicBool>> {
    install(0)
}

/// As [`on_signal`], for the first signal of each kind only: a second one ends the process at once.
///
/// # Errors
/// The system's error if it refuses the signal handler.
pub fn on_first_signal() -> io::Result<Arc<AtomicBool>> {
    install(libc::SA_RESETHAND)
}

/// Lets this process and those that it starts outlive their terminal: SIGHUP no longer ends them.
///
/// # Errors
/// The system's error if it refuses.
pub fn outlive_terminal() -> io::Result<()> {
    // SAFETY: a signal is ignored; no handler runs.
    match unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Installs the handler that sets the flag, with these flags of `sigaction` besides.
fn install(flags: libc::c_int) -> io::Result<Arc<AtomicBool>> {
    let stop = STOP.get_or_init(Arc::default);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: an all-zero sigaction is a valid one, to which the handler, its flags and an empty mask are added; the
        // handler only loads a pointer and stores an atomic, which is allowed in a signal handler.
        let installed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = set_stop as extern "C" fn(libc::c_int) as usize;
            // System calls that the signal interrupts go on, as they do without a handler.
            action.sa_flags = libc::SA_RESTART | flags;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(signal, &action, std::ptr::null_mut())
        };
        if installed != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(Arc::clone(stop))
}

extern "C" fn set_stop(_signal: libc::c_int) {
    if let Some(stop) = STOP.get() {
        stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_sets_the_flag_and_does_not_end_the_process() {
        let (first, second) = (on_signal().unwrap(), on_signal().unwrap());
        assert!(!first.load(Ordering::Relaxed));
        // SAFETY: raising a signal for which a handler is installed.
        assert_eq!(unsafe { libc::raise(libc::SIGTERM) }, 0);
        assert!(first.load(Ordering::Relaxed) && second.load(Ordering::Relaxed));
    }
}
