//! The sending end of a stream.

use super::library::{Handle, Library};
use super::{LslError, StreamInfo};
use std::marker::PhantomData;

/// Flag of the library: the length of a buffer is in samples, not in seconds.
const IN_SAMPLES: i32 = 1;

/// Sends a stream. May move between threads; only one thread may use it at a time.
///
/// A receiver that does not read loses the oldest samples, and delays nobody.
pub struct Outlet {
    library: Library,
    handle: Handle,
    channels: usize,
    _not_shared: PhantomData<*mut ()>,
}

// SAFETY: the library's outlets have no tie to the thread that made them; this one is used through one owner.
unsafe impl Send for Outlet {}

impl Outlet {
    /// Offers a stream to all who look for it. At most `buffer_samples` samples wait for each receiver.
    ///
    /// # Errors
    /// [`LslError::Refused`] when the library cannot offer it, for lack of a port.
    pub fn new(info: &StreamInfo, buffer_samples: usize) -> Result<Outlet, LslError> {
        let library = info.library().clone();
        let buffer = i32::try_from(buffer_samples.max(1)).unwrap_or(i32::MAX);
        // SAFETY: the handle is a description's, of which the library makes a copy.
        let handle =
            unsafe { (library.functions().lsl_create_outlet_ex)(info.handle(), 1, buffer, IN_SAMPLES) };
        if handle.is_null() {
            return Err(library.refused("offer a stream"));
        }
        Ok(Outlet { library, handle, channels: info.channels(), _not_shared: PhantomData })
    }

    /// Sends one sample, one value for each channel, with the time stamp `stamp_s` by [`Library::clock_s`]. Hands the
    /// sample to the library's threads and waits for no receiver; it takes a copy, a lock that is held for the copy,
    /// and a wake-up for each receiver.
    ///
    /// # Errors
    /// [`LslError::Refused`] when there is not one value for each channel.
    pub fn push(&self, values: &[f32], stamp_s: f64) -> Result<(), LslError> {
        if values.len() != self.channels {
            let found = format!("{} of {} channels", values.len(), self.channels);
            return Err(LslError::Refused { what: "push a sample of all channels", found });
        }
        let push_through = 1;
        // SAFETY: there are as many values as channels.
        let code = unsafe {
            (self.library.functions().lsl_push_sample_ftp)(
                self.handle,
                values.as_ptr(),
                stamp_s,
                push_through,
            )
        };
        self.library.check(code, "push a sample")
    }

    /// Whether there is a receiver.
    pub fn has_receivers(&self) -> bool {
        // SAFETY: the handle is an outlet's.
        unsafe { (self.library.functions().lsl_have_consumers)(self.handle) != 0 }
    }

    /// Waits for up to `wait_s` until there is a receiver, and returns whether there is one.
    pub fn wait_for_receiver(&self, wait_s: f64) -> bool {
        // SAFETY: the handle is an outlet's.
        unsafe { (self.library.functions().lsl_wait_for_consumers)(self.handle, wait_s) != 0 }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, and nobody has it any more. Waits for the outlet's threads.
        unsafe { (self.library.functions().lsl_destroy_outlet)(self.handle) };
    }
}
