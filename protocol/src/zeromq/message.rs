//! Messages as they are received: a few frames that are reused from message to message.

use super::library::{Library, RawMessage};
use std::ffi::c_int;

/// `ZMQ_SRCFD` of `zmq_msg_get`.
const SOURCE_FD: c_int = 2;

/// The frames of one message. The bytes belong to the library until the next message is received into the same place.
pub struct Frames<const N: usize> {
    library: Library,
    frames: [RawMessage; N],
    count: usize,
}

// SAFETY: the library ties no message to a thread.
unsafe impl<const N: usize> Send for Frames<N> {}

impl<const N: usize> Frames<N> {
    /// Room for messages of up to `N` frames.
    pub fn new(library: &Library) -> Frames<N> {
        let mut frames = [const { RawMessage([0; 64]) }; N];
        for frame in &mut frames {
            // SAFETY: initialises 64 bytes; the library's constructor cannot fail.
            unsafe { (library.functions().zmq_msg_init)(frame) };
        }
        Frames { library: library.clone(), frames, count: 0 }
    }

    /// Number of frames that the last message had, which may be more than there is room for.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The frames of the last message, at most `N`; the rest of a longer one was thrown away.
    pub fn get(&self) -> [&[u8]; N] {
        std::array::from_fn(|at| if at < self.count { self.bytes(at) } else { &[][..] })
    }

    /// Number of the connection by which the last message came, which another connection may get once that one is closed; -1 if the library does not
    /// say.
    pub fn connection(&self) -> i32 {
        // SAFETY: an initialised message.
        unsafe { (self.library.functions().zmq_msg_get)(&self.frames[0], SOURCE_FD) }
    }

    fn bytes(&self, at: usize) -> &[u8] {
        let (functions, frame) = (self.library.functions(), &self.frames[at]);
        // SAFETY: an initialised message, whose bytes live until it is received into or closed, for both of which the borrow of
        // `self` has to end. `zmq_msg_data` takes a pointer that is not const, and writes nothing.
        unsafe {
            let data = (functions.zmq_msg_data)(std::ptr::from_ref(frame).cast_mut());
            let length = (functions.zmq_msg_size)(frame);
            if length == 0 { &[] } else { std::slice::from_raw_parts(data.cast::<u8>(), length) }
        }
    }

    /// The place of frame `at`; that of the last frame for frames for which there is no room.
    pub(super) fn place(&mut self, at: usize) -> *mut RawMessage {
        &mut self.frames[at.min(N - 1)]
    }

    pub(super) fn set_count(&mut self, count: usize) {
        self.count = count;
    }
}

impl<const N: usize> Drop for Frames<N> {
    fn drop(&mut self) {
        for frame in &mut self.frames {
            // SAFETY: an initialised message that is not used again.
            unsafe { (self.library.functions().zmq_msg_close)(frame) };
        }
    }
}
