//! The receiving end of a stream.

use super::library::{Handle, Library};
use super::{LslError, StreamInfo};
use std::marker::PhantomData;

/// Flag of the library: the length of a buffer is in samples, not in seconds.
const IN_SAMPLES: i32 = 1;

/// The offset of the sender's clock, as the library measures it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correction {
    /// What must be added to the sender's time to get ours, s.
    pub offset_s: f64,
    /// How far the offset may be wrong, s: the shortest round trip.
    pub uncertainty_s: f64,
}

/// Receives a stream. May move between threads; only one thread may use it at a time.
///
/// It does not reconnect by itself: a lost stream is an error at once, and not half a minute of silence.
pub struct Inlet {
    library: Library,
    handle: Handle,
    channels: usize,
    _not_shared: PhantomData<*mut ()>,
}

// SAFETY: the library's inlets have no tie to the thread that made them; this one is used through one owner.
unsafe impl Send for Inlet {}

impl Inlet {
    /// Makes an inlet that keeps at most `buffer_samples` samples that were not pulled, the newest ones. The sender
    /// hands over each sample at once. Nothing is received yet.
    ///
    /// # Errors
    /// [`LslError::Refused`] when the library cannot make the inlet.
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

    /// Asks the sender for the whole description, channels included. Blocks for up to `wait_s`.
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

    /// Starts to receive. Blocks for up to `wait_s`.
    ///
    /// # Errors
    /// [`LslError::Timeout`] or [`LslError::Lost`].
    pub fn open(&self, wait_s: f64) -> Result<(), LslError> {
        let mut code = 0;
        // SAFETY: the handle is an inlet's.
        unsafe { (self.library.functions().lsl_open_stream)(self.handle, wait_s, &mut code) };
        self.library.check(code, "open the stream")
    }

    /// Drops the samples that were received and not pulled, and returns how many there were.
    pub fn flush(&self) -> u32 {
        // SAFETY: the handle is an inlet's.
        unsafe { (self.library.functions().lsl_inlet_flush)(self.handle) }
    }

    /// Number of samples that were received and not pulled. Takes no lock, so that real-time threads may ask.
    pub fn waiting(&self) -> usize {
        // SAFETY: the handle is an inlet's.
        unsafe { (self.library.functions().lsl_samples_available)(self.handle) as usize }
    }

    /// Pulls the next sample into `values`, one value for each channel, whatever the stream's number format. Returns
    /// its time stamp by the sender's clock, s; `None` when no sample comes within `wait_s`. Does not allocate.
    ///
    /// # Errors
    /// [`LslError::Lost`]; [`LslError::Refused`] when `values` has another length.
    pub fn pull(&self, values: &mut [f32], wait_s: f64) -> Result<Option<f64>, LslError> {
        self.check_length(values.len())?;
        let (mut code, pull) = (0, self.library.functions().lsl_pull_sample_f);
        // SAFETY: the buffer has as many places as is said, and as the stream has channels.
        let stamp_s =
            unsafe { pull(self.handle, values.as_mut_ptr(), values.len() as i32, wait_s, &mut code) };
        self.pulled(stamp_s, code)
    }

    /// Does what [`Inlet::pull`] does in 64 bits, for values other than counts.
    ///
    /// # Errors
    /// The same as for [`Inlet::pull`].
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

    /// Returns the offset of the sender's clock. The first call asks the sender's host and waits for up to `wait_s`;
    /// later calls return the library's last measurement, which it repeats every few seconds.
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

    /// Whether the sender's clock was reset since the last call, as far as [`Inlet::time_correction`] shows.
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
