//! Where sockets live: the library's I/O threads.

use super::library::{Handle, Library};
use super::{Kind, Options, Socket, ZeromqError};
use std::ffi::c_int;
use std::sync::Arc;

/// `ZMQ_IO_THREADS` of `zmq_ctx_set`.
const IO_THREADS: c_int = 1;

/// The sockets of a program and the threads that move their bytes. Clones share one; it ends with the last clone and the last socket.
#[derive(Clone)]
pub struct Context {
    shared: Arc<Shared>,
}

struct Shared {
    library: Library,
    handle: Handle,
}

// SAFETY: the library documents that a context may be used by several threads at once.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Context {
    /// Makes a context whose sockets are served by so many threads, which start with its first socket.
    ///
    /// # Errors
    /// [`ZeromqError::Refused`] when the system has no file descriptors left.
    pub fn new(library: &Library, io_threads: u32) -> Result<Context, ZeromqError> {
        // SAFETY: takes nothing.
        let handle = unsafe { (library.functions().zmq_ctx_new)() };
        if handle.is_null() {
            return Err(library.refused("make a context"));
        }
        let context = Context { shared: Arc::new(Shared { library: library.clone(), handle }) };
        let threads = io_threads.clamp(1, 64) as c_int;
        // SAFETY: the handle is a context.
        match unsafe { (library.functions().zmq_ctx_set)(handle, IO_THREADS, threads) } {
            0 => Ok(context),
            _ => Err(library.refused("set the number of I/O threads")),
        }
    }

    /// Opens a socket that is neither bound nor connected.
    ///
    /// # Errors
    /// [`ZeromqError::Refused`] or [`ZeromqError::Version`] when the library cannot do what the options say.
    pub fn socket(&self, kind: Kind, options: &Options) -> Result<Socket, ZeromqError> {
        Socket::open(self, kind, options)
    }

    /// The library of the context.
    pub fn library(&self) -> &Library {
        &self.shared.library
    }

    pub(super) fn handle(&self) -> Handle {
        self.shared.handle
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("library", &self.shared.library).finish()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the handle is a context, and each of its sockets held a clone until it was closed. A signal interrupts the wait
        // for what lingers, and then it goes on.
        while unsafe { (self.library.functions().zmq_ctx_term)(self.handle) } != 0
            && self.library.errno() == libc::EINTR
        {}
    }
}
