//! Locked memory, and how little of it there is to lock.
//!
//! Locking counts address space and not only what is in use. The allocator of glibc reserves 64 MB for each thread that allocates, and
//! a thread that a library starts has a stack of 8 MB: with 9 threads that were 584 MB for a model of 150,000 parameters, of which 52
//! MB were in use. [`bound`] keeps both small.

use super::{RealtimeSettings, Refused, last_error};
use crate::host::machine;
use std::path::Path;

/// Stack of a thread for which nothing else is said, bytes: those of libzmq and liblsl.
const LIBRARY_STACK: usize = 1024 * 1024;

/// Keeps the address space small that [`lock`] will lock. Called once, before the process starts a thread.
///
/// All threads then allocate from one pool, which a thread locks for the time of an allocation. The loops of the real-time threads do
/// not allocate. libzmq does for each message, mostly from blocks that its thread keeps for itself.
pub fn bound(settings: &RealtimeSettings) {
    if !settings.lock_memory {
        return;
    }
    // What cannot be set stays as it was: more is locked then, and the log says how much.
    #[cfg(target_env = "gnu")]
    // SAFETY: no other thread runs yet. The attributes are initialised before they are used, and destroyed once.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        if libc::pthread_attr_init(&mut attributes) == 0 {
            if libc::pthread_attr_setstacksize(&mut attributes, LIBRARY_STACK) == 0 {
                pthread_setattr_default_np(&attributes);
            }
            libc::pthread_attr_destroy(&mut attributes);
        }
    }
}

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// Sets what threads are started with for which nothing else is said (glibc 2.18).
    fn pthread_setattr_default_np(attributes: *const libc::pthread_attr_t) -> libc::c_int;
}

/// Locks the present and future memory of this process. Called once, before the real-time threads start.
pub fn lock(settings: &RealtimeSettings) -> Vec<Refused> {
    let done = if settings.lock_memory { lock_all() } else { Ok(()) };
    done.err().into_iter().collect()
}

fn lock_all() -> Result<(), Refused> {
    let refused = |found: String| Refused::Memory { found };
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    let is_above_limits = machine::has_capability(Path::new("/"), machine::CAP_IPC_LOCK);
    // Under a limit the lock may succeed now, and an allocation fail because of it hours later.
    if limit.rlim_cur != libc::RLIM_INFINITY && !is_above_limits {
        return Err(refused(format!("a limit of {} KB", limit.rlim_cur / 1024)));
    }
    // SAFETY: takes flags alone.
    match unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } {
        0 => Ok(()),
        _ => Err(refused(last_error())),
    }
}
