//! The C interface of libzmq.

use super::ZeromqError;
use crate::shared_library::{self, NotLoaded, functions};
use std::ffi::{CStr, c_char, c_int, c_long, c_short, c_void};
use std::path::Path;
use std::sync::Arc;

/// A pointer that belongs to the library.
pub(super) type Handle = *mut c_void;

/// Oldest version that has heartbeats and says when a handshake has succeeded.
const VERSION_MIN: (i32, i32, i32) = (4, 3, 0);

/// A message of the library, `zmq_msg_t`: 64 bytes that are aligned as a pointer is.
#[repr(C, align(8))]
pub(super) struct RawMessage(pub [u8; 64]);

/// What is waited for on a socket, `zmq_pollitem_t`.
#[repr(C)]
pub(super) struct PollItem {
    pub socket: Handle,
    pub fd: c_int,
    pub events: c_short,
    pub revents: c_short,
}

functions! {
    /// The functions, declared as in `zmq.h` of version 4.3.
    zmq_version: fn(*mut c_int, *mut c_int, *mut c_int);
    zmq_has: fn(*const c_char) -> c_int;
    zmq_errno: fn() -> c_int;
    zmq_strerror: fn(c_int) -> *const c_char;
    zmq_ctx_new: fn() -> Handle;
    zmq_ctx_set: fn(Handle, c_int, c_int) -> c_int;
    zmq_ctx_term: fn(Handle) -> c_int;
    zmq_socket: fn(Handle, c_int) -> Handle;
    zmq_close: fn(Handle) -> c_int;
    zmq_setsockopt: fn(Handle, c_int, *const c_void, usize) -> c_int;
    zmq_getsockopt: fn(Handle, c_int, *mut c_void, *mut usize) -> c_int;
    zmq_bind: fn(Handle, *const c_char) -> c_int;
    zmq_connect: fn(Handle, *const c_char) -> c_int;
    zmq_disconnect: fn(Handle, *const c_char) -> c_int;
    zmq_socket_monitor: fn(Handle, *const c_char, c_int) -> c_int;
    zmq_send: fn(Handle, *const c_void, usize, c_int) -> c_int;
    zmq_msg_init: fn(*mut RawMessage) -> c_int;
    zmq_msg_close: fn(*mut RawMessage) -> c_int;
    zmq_msg_recv: fn(*mut RawMessage, Handle, c_int) -> c_int;
    zmq_msg_data: fn(*mut RawMessage) -> *mut c_void;
    zmq_msg_size: fn(*const RawMessage) -> usize;
    zmq_msg_get: fn(*const RawMessage, c_int) -> c_int;
    zmq_poll: fn(*mut PollItem, c_int, c_long) -> c_int;
    zmq_curve_keypair: fn(*mut c_char, *mut c_char) -> c_int;
    zmq_z85_encode: fn(*mut c_char, *const u8, usize) -> *mut c_char;
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
    /// Loads the library: the configured one, or the one beside the executable, or the system's. It is never unloaded.
    ///
    /// # Errors
    /// [`ZeromqError::Library`], which says how to get the library; [`ZeromqError::Version`] for one that is too old.
    pub fn load(configured: Option<&Path>) -> Result<Library, ZeromqError> {
        let loaded = shared_library::load(&shared_library::paths(configured, &["libzmq.so.5", "libzmq.so"]));
        let missing = |NotLoaded { looked_for, found }| ZeromqError::Library { looked_for, found };
        Library { functions: Arc::new(loaded.map_err(missing)?) }.if_new_enough()
    }

    fn if_new_enough(self) -> Result<Library, ZeromqError> {
        match self.numbers() >= VERSION_MIN {
            true => Ok(self),
            false => Err(ZeromqError::Version { expected: "from version 4.3.0 on", found: self.version() }),
        }
    }

    fn numbers(&self) -> (i32, i32, i32) {
        let (mut major, mut minor, mut patch) = (0, 0, 0);
        // SAFETY: writes three integers.
        unsafe { (self.functions.zmq_version)(&mut major, &mut minor, &mut patch) };
        (major, minor, patch)
    }

    /// Version of the library, such as `4.3.5`.
    pub fn version(&self) -> String {
        let (major, minor, patch) = self.numbers();
        format!("{major}.{minor}.{patch}")
    }

    /// Whether the library was built with encryption.
    pub fn has_curve(&self) -> bool {
        // SAFETY: takes a string that ends with a zero.
        unsafe { (self.functions.zmq_has)(c"curve".as_ptr()) == 1 }
    }

    pub(super) fn functions(&self) -> &Functions {
        &self.functions
    }

    /// Number of the last failure on this thread, an `errno`.
    pub(super) fn errno(&self) -> c_int {
        // SAFETY: takes nothing.
        unsafe { (self.functions.zmq_errno)() }
    }

    /// The library's words for its last failure on this thread.
    pub(super) fn last_error(&self) -> String {
        // SAFETY: the string is a constant of the library.
        let text = unsafe { CStr::from_ptr((self.functions.zmq_strerror)(self.errno())) };
        let mut text = text.to_string_lossy().into_owned();
        // As the other messages of this project, and as the standard library's after its first word.
        if let Some(first) = text.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        text
    }

    pub(super) fn refused(&self, what: &'static str) -> ZeromqError {
        ZeromqError::Refused { what, found: self.last_error() }
    }
}
