//! The C interface of liblsl.

use super::{LslError, Query, StreamInfo};
use crate::clock::monotonic_ns;
use crate::shared_library::{self, NotLoaded, functions};
use std::ffi::{CStr, CString, c_char, c_double, c_float, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A pointer that belongs to the library.
pub(super) type Handle = *mut c_void;

/// Most streams that one search returns: more than one is an error anyway.
const FOUND_MAX: usize = 16;

functions! {
    /// The functions, declared as in `lsl_c.h` of version 1.16.
    lsl_library_version: fn() -> c_int;
    lsl_local_clock: fn() -> c_double;
    lsl_last_error: fn() -> *const c_char;
    lsl_resolve_bypred: fn(*mut Handle, u32, *const c_char, c_int, c_double) -> c_int;
    lsl_create_streaminfo: fn(*const c_char, *const c_char, c_int, c_double, c_int, *const c_char) -> Handle;
    lsl_copy_streaminfo: fn(Handle) -> Handle;
    lsl_destroy_streaminfo: fn(Handle);
    lsl_get_name: fn(Handle) -> *const c_char;
    lsl_get_type: fn(Handle) -> *const c_char;
    lsl_get_source_id: fn(Handle) -> *const c_char;
    lsl_get_uid: fn(Handle) -> *const c_char;
    lsl_get_hostname: fn(Handle) -> *const c_char;
    lsl_get_channel_count: fn(Handle) -> c_int;
    lsl_get_channel_format: fn(Handle) -> c_int;
    lsl_get_nominal_srate: fn(Handle) -> c_double;
    lsl_get_desc: fn(Handle) -> Handle;
    lsl_empty: fn(Handle) -> c_int;
    lsl_child: fn(Handle, *const c_char) -> Handle;
    lsl_next_sibling_n: fn(Handle, *const c_char) -> Handle;
    lsl_child_value_n: fn(Handle, *const c_char) -> *const c_char;
    lsl_append_child: fn(Handle, *const c_char) -> Handle;
    lsl_append_child_value: fn(Handle, *const c_char, *const c_char) -> Handle;
    lsl_create_inlet_ex: fn(Handle, c_int, c_int, c_int, c_int) -> Handle;
    lsl_destroy_inlet: fn(Handle);
    lsl_get_fullinfo: fn(Handle, c_double, *mut c_int) -> Handle;
    lsl_open_stream: fn(Handle, c_double, *mut c_int);
    lsl_time_correction_ex: fn(Handle, *mut c_double, *mut c_double, c_double, *mut c_int) -> c_double;
    lsl_was_clock_reset: fn(Handle) -> u32;
    lsl_pull_sample_f: fn(Handle, *mut c_float, c_int, c_double, *mut c_int) -> c_double;
    lsl_pull_sample_d: fn(Handle, *mut c_double, c_int, c_double, *mut c_int) -> c_double;
    lsl_inlet_flush: fn(Handle) -> u32;
    lsl_samples_available: fn(Handle) -> u32;
    lsl_create_outlet_ex: fn(Handle, c_int, c_int, c_int) -> Handle;
    lsl_destroy_outlet: fn(Handle);
    lsl_push_sample_ftp: fn(Handle, *const c_float, c_double, c_int) -> c_int;
    lsl_have_consumers: fn(Handle) -> c_int;
    lsl_wait_for_consumers: fn(Handle, c_double) -> c_int;
}

/// The loaded library. Clones share one.
#[derive(Clone)]
pub struct Library {
    functions: Arc<Functions>,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").field("version", &self.version()).finish()
    }
}

impl Library {
    /// Paths at which the library is looked for, in this order: the configured one alone, or the one beside the executable
    /// alone, or names that the system's loader searches for.
    pub fn paths(configured: Option<&Path>) -> Vec<PathBuf> {
        shared_library::paths(configured, &["liblsl.so", "liblsl.so.2"])
    }

    /// Loads the library from the first of [`Library::paths`] that loads. It is never unloaded, because its threads
    /// run until the process ends.
    ///
    /// # Errors
    /// [`LslError::Library`], which says how to get the library.
    pub fn load(configured: Option<&Path>) -> Result<Library, LslError> {
        let loaded = shared_library::load(&Library::paths(configured));
        let missing = |NotLoaded { looked_for, found }| LslError::Library { looked_for, found };
        Ok(Library { functions: Arc::new(loaded.map_err(missing)?) })
    }

    /// Major and minor version of the library.
    pub fn version(&self) -> (u32, u32) {
        // SAFETY: takes nothing; 100 times the major plus the minor version.
        let version = unsafe { (self.functions.lsl_library_version)() }.unsigned_abs();
        (version / 100, version % 100)
    }

    /// Returns the time of the library's clock on this host, s. May be called on real-time threads: a vDSO call, no
    /// allocation.
    pub fn clock_s(&self) -> f64 {
        // SAFETY: takes nothing.
        unsafe { (self.functions.lsl_local_clock)() }
    }

    /// Measures what must be added to `CLOCK_MONOTONIC` to get the library's clock, ns. On Linux both are the same
    /// clock, so that the result is 0 within a microsecond and never changes.
    pub fn ahead_of_monotonic_ns(&self) -> i64 {
        let measure = |_| {
            let (before, lsl, after) = (monotonic_ns(), self.clock_s(), monotonic_ns());
            let middle = before + (after - before) / 2;
            (after - before, (lsl * 1e9).round() as i64 - middle as i64)
        };
        // The measurement with the shortest interval is the most exact.
        let (width, ahead) = (0..32).map(measure).min().unwrap_or_default();
        if ahead.unsigned_abs() <= width { 0 } else { ahead }
    }

    /// Searches for the streams of `query` for up to `wait_s`, and returns earlier once `minimum` are found. Blocks.
    ///
    /// # Errors
    /// [`LslError::Refused`] when the condition of the query is not valid.
    pub fn resolve(&self, query: &Query, minimum: usize, wait_s: f64) -> Result<Vec<StreamInfo>, LslError> {
        let predicate = text("a predicate", &query.predicate())?;
        let mut found: [Handle; FOUND_MAX] = [std::ptr::null_mut(); FOUND_MAX];
        // SAFETY: the buffer has as many places as is said, and the predicate ends with a zero.
        let count = unsafe {
            let resolve = self.functions.lsl_resolve_bypred;
            resolve(found.as_mut_ptr(), FOUND_MAX as u32, predicate.as_ptr(), minimum as c_int, wait_s)
        };
        let Ok(count) = usize::try_from(count) else { return Err(self.refused("search for the stream")) };
        // The handles belong to us from here on.
        Ok(found[..count].iter().map(|handle| StreamInfo::own(self.clone(), *handle)).collect())
    }

    pub(super) fn functions(&self) -> &Functions {
        &self.functions
    }

    /// Returns the library's message for its last failure on this thread as an error.
    pub(super) fn refused(&self, what: &'static str) -> LslError {
        // SAFETY: a string of this thread's that lives until its next call.
        let found = unsafe { read((self.functions.lsl_last_error)()) };
        let found = if found.is_empty() { "no reason given".to_owned() } else { found };
        LslError::Refused { what, found }
    }

    /// Converts the error code that a function left.
    pub(super) fn check(&self, code: c_int, what: &'static str) -> Result<(), LslError> {
        match code {
            0 => Ok(()),
            -1 => Err(LslError::Timeout),
            -2 => Err(LslError::Lost),
            _ => Err(self.refused(what)),
        }
    }
}

/// Reads a string of the library; empty when there is none.
///
/// # Safety
/// Null, or a string that ends with a zero and lives for the call.
pub(super) unsafe fn read(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: guaranteed by the caller.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

/// Makes a string for the library.
pub(super) fn text(what: &'static str, text: &str) -> Result<CString, LslError> {
    CString::new(text).map_err(|_| LslError::Text { what, text: text.to_owned() })
}
