//! All limits of the system, with their reasons; their relations are asserted.
//!
//! The real-time path stores bins and estimates inline, so that these numbers also decide its memory: a queue of
//! [`QUEUE_BINS`] bins takes about nine megabytes, allocated once at the start.

use std::fmt::Display;

/// Largest number of input channels of a model. Four Utah arrays and a few Neuropixels shanks fit; a larger rig would bin
/// elsewhere.
pub const CHANNELS_MAX: usize = 4096;

/// Most units whose rates a model estimates; at least as many as its channels.
pub const UNITS_MAX: usize = 4096;

/// Narrowest bin, ms.
pub const BIN_WIDTH_MS_MIN: f64 = 0.1;

/// Widest bin, ms.
pub const BIN_WIDTH_MS_MAX: f64 = 10_000.0;

/// Largest lag of a readout to either side of the bin's centre, ms.
pub const LAG_MS_MAX: f64 = 10_000.0;

/// Largest number of a bin. At 1 kHz it is reached after 146 million years. A larger number is an error, and sums
/// with an accepted number do not overflow.
pub const SEQ_MAX: u64 = 1 << 62;

/// The most spikes in one bin of one channel that a bundle may call plausible. At 100 ms bins this is 10 kHz, ten
/// times what any refractory period allows.
pub const COUNT_MAX: u32 = 1000;

/// Smallest positive value that is taken for a count. Fractions are allowed, because a rig may weight its spikes; but an
/// integer from 1 to 13 whose bytes are read as a float, and a count as a float of the other byte order, are all below this.
pub const COUNT_POSITIVE_MIN: f32 = 1e-30;

/// Most spikes of one channel in a millisecond. A neuron is silent for about 1 ms after a spike, and a threshold detector for
/// some hundred microseconds; ten neurons that fire without a pause on one electrode are more than any recording shows.
pub const COUNTS_PER_MS_MAX: f64 = 10.0;

/// Most components of a velocity: x, y and z.
pub const VELOCITY_DIMS_MAX: usize = 3;

/// Most outputs of an estimate, and components of a readout: two dozen muscles, or the joints of a hand.
pub const OUTPUTS_MAX: usize = 32;

/// Most readouts of a model: quantities times lags.
pub const READOUTS_MAX: usize = 16;

/// Length of the queue between two threads, bins: what a source sends at once after a stall of 2.5 s at 5 ms bins,
/// and more than the reach of any model that is stepped so often.
pub const QUEUE_BINS: usize = 512;

/// Largest number of bins that one attention layer can see.
pub const WINDOW_BINS_MAX: usize = 4096;

/// Largest width of the transformer.
pub const WIDTH_MAX: usize = 4096;

/// Most layers of the transformer.
pub const LAYERS_MAX: usize = 64;

/// Highest firing rate, spikes/s: no neuron is faster. A log rate is clipped here before it is exponentiated, so that
/// no estimate is infinite.
pub const RATE_HZ_MAX: f32 = 1e6;

/// Largest file of a bundle, bytes. The largest model within the limits above is far smaller.
pub const BUNDLE_FILE_BYTES_MAX: u64 = 4 << 30;

/// Returns a sentence when `found` is outside `low..=high` (a NaN is outside), and `None` when it is inside.
pub fn range_problem<T: PartialOrd + Display>(what: &str, found: T, low: T, high: T) -> Option<String> {
    let is_inside = (&low..=&high).contains(&&found);
    (!is_inside).then(|| format!("expected {what} from {low} to {high}, found {found}"))
}

const _: () = assert!(UNITS_MAX >= CHANNELS_MAX, "every channel can be a unit");
const _: () = assert!(OUTPUTS_MAX >= VELOCITY_DIMS_MAX, "the velocity is the first of the outputs");
const _: () = assert!(QUEUE_BINS.is_power_of_two());
const _: () = assert!(
    CHANNELS_MAX <= u32::MAX as usize && UNITS_MAX <= u32::MAX as usize,
    "counts are u32 on the wire"
);
