//! The receiving end of a stream.

use super::library::{Handle, Library};
use super::{LslError, StreamInfo};
use std::marker::PhantomData;

/// Length of a buffer is in samples, not in seconds.
const IN_SAMPLES: i32 = 1;

/// What must be added to the sender's clock to get ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correction {
    /// s.
    pub offset_s: f64,
    /// How far it may be wrong, s: the shortest way there and back.
    pub uncertainty_s: f64,
}

/// Receives a stream. May move between threads; only one uses it at a time.
///
/// It does not recover by itself: a stream that is lost is an error at once, and not half a minute of silence.
pub struct Inlet {
    library: Library,
    handle: Handle,
    channels: usize,
    _not_shared: PhantomData<*mut ()>,
}

// SAFETY: the library's inlets have no tie to the thread that made them; this one is used through one owner.
unsafe impl Send for Inlet {}

impl Inlet {
    /// An inlet that keeps at most `buffer_samples` samples that were not pulled, the newest; the sender hands over each
    /// sample at once. Nothing is received yet.
    ///
    /// # Errors
    /// [`LslError::Refused`] when the library cannot make it.
    pub fn new(info: &StreamInfo, buffer_samples: usize) -> Result<Inlet, LslError> {
        let library = info.library().clone();
        let buffer = i32::try_from(buffer_samples.max(1)).unwrap_or(i32::MAX);
        let (chunk_samples, recover) = (1, 0);
        // SAFETY: the handle is a description's, of which the library makes a copy.
        let handle = unsafe {
            (library.functions().lsl_create_inlet_ex)(
                info.handle(),
                buffer,
                chunk_samples,
                recover,
                IN_SAMPLES,
            )
        };
        if handle.is_null() {
            return Err(library.refused("receive the stream"));
        }
        Ok(Inlet { library, handle, channels: info.channels(), _not_shared: PhantomData })
    }

    /// The whole description, channels included. Blocks for up to `wait_s`.
    ///
    /// # Errors
    /// [`LslError::Timeout`] or [`LslError::Lost`].
    pub fn full_info(&self, wait_s: f64) -> Result<StreamInfo, LslError> {
        let mut code = 0;
        // SAFETY: the handle is an inlet's; the description is ours.
        let handle = unsafe { (self.library.functions().lsl_get_fullinfo)(self.handle, wait_s, &mut code) };
        self.library.check(code, "describe the stream")?;
        if handle.is_null() {
            return Err(self.library.refused("describe the stream"));
        }
        Ok(StreamInfo::own(self.library.clone(), handle))
    }

    /// Begins to receive. Blocks for up to `wait_s`.
    ///
    /// # Errors
    /// [`LslError::Timeout`] or [`LslError::Lost`].
    pub fn open(&self, wait_s: f64) -> Result<(), LslError> {
        let mut code = 0;
        // SAFETY: the handle is an inlet's.
        unsafe { (self.library.functions().lsl_open_stream)(self.handle, wait_s, &mut code) };
        self.library.check(code, "open the stream")
    }

    /// Drops what was received and not pulled; how many samples that were.
    pub fn flush(&self) -> u32 {
        // SAFETY: the handle is an inlet's.
        unsafe { (self.library.functions().lsl_inlet_flush)(self.handle) }
    }

    /// Pulls the next sample into `values`, one for each channel, whatever the stream's format. Its time stamp by the
    /// sender's clock, s; `None` where none comes within `wait_s`. Does not allocate.
    ///
    /// # Errors
    /// [`LslError::Lost`]; [`LslError::Refused`] where `values` has another length.
    pub fn pull(&self, values: &mut [f32], wait_s: f64) -> Result<Option<f64>, LslError> {
        self.check_length(values.len())?;
        let (mut code, pull) = (0, self.library.functions().lsl_pull_sample_f);
        // SAFETY: the buffer has as many places as is said, and as the stream has channels.
        let stamp_s =
            unsafe { pull(self.handle, values.as_mut_ptr(), values.len() as i32, wait_s, &mut code) };
        self.pulled(stamp_s, code)
    }

    /// As [`Inlet::pull`], for values that are no counts.
    ///
    /// # Errors
    /// As [`Inlet::pull`].
    pub fn pull_f64(&self, values: &mut [f64], wait_s: f64) -> Result<Option<f64>, LslError> {
        self.check_length(values.len())?;
        let (mut code, pull) = (0, self.library.functions().lsl_pull_sample_d);
        // SAFETY: as above.
        let stamp_s =
            unsafe { pull(self.handle, values.as_mut_ptr(), values.len() as i32, wait_s, &mut code) };
        self.pulled(stamp_s, code)
    }

    fn check_length(&self, found: usize) -> Result<(), LslError> {
        if found == self.channels {
            return Ok(());
        }
        let found = format!("{found} of {} channels", self.channels);
        Err(LslError::Refused { what: "pull a sample of all channels", found })
    }

    fn pulled(&self, stamp_s: f64, code: i32) -> Result<Option<f64>, LslError> {
        match self.library.check(code, "pull a sample") {
            Ok(()) => Ok((stamp_s != 0.0).then_some(stamp_s)),
            Err(LslError::Timeout) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How the sender's clock stands to ours. The first call asks its host for up to `wait_s`; later ones give what the
    /// library has measured last, which it does every few seconds.
    ///
    /// # Errors
    /// [`LslError::Timeout`] or [`LslError::Lost`].
    pub fn time_correction(&self, wait_s: f64) -> Result<Correction, LslError> {
        let (mut code, mut remote_s, mut uncertainty_s) = (0, 0.0, 0.0);
        // SAFETY: the handle is an inlet's; the numbers are written to while they are borrowed.
        let offset_s = unsafe {
            let correct = self.library.functions().lsl_time_correction_ex;
            correct(self.handle, &mut remote_s, &mut uncertainty_s, wait_s, &mut code)
        };
        self.library.check(code, "compare the clocks")?;
        Ok(Correction { offset_s, uncertainty_s })
    }

    /// Whether the sender's clock has begun anew since the last call, as far as [`Inlet::time_correction`] shows.
    pub fn was_clock_reset(&self) -> bool {
        // SAFETY: the handle is an inlet's.
        unsafe { (self.library.functions().lsl_was_clock_reset)(self.handle) != 0 }
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, and nobody has it any more. Waits for the inlet's threads.
        unsafe { (self.library.functions().lsl_destroy_inlet)(self.handle) };
    }
}
