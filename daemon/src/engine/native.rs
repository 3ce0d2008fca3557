//! Our own kernels: nothing to install, no allocation per bin, and the same bits for the same bins on the same kind
//! of CPU.
//!
//! With lag biases one new bin costs one row of the network (`streaming`). With a learned position table the whole
//! window is recomputed at each bin (`window`). Offline, whole trials are computed in one pass ([`batch`]).
//! [`simd`] chooses the vector instructions at run time.
//!
//! The layers have these names, from the bundle to the kernels:
//!
//! | type | what it is |
//! |---|---|
//! | `Affine` (protocol) | `y = x W + b` as the bundle stores it, with norms and scales folded in |
//! | `EncoderLayer` (protocol) | one encoder layer: four `Affine`s (query-key-value, attention output, feed-forward up and down) and its lag biases |
//! | `PackedAffine` | an `Affine` laid out for one row at a time (matrix-vector product, `gemv`) |
//! | `BlockedAffine` | an `Affine` laid out for many rows at a time (matrix-matrix product, `gemm`) |
//! | `ReadIn` | the first `PackedAffine`, which skips channels without a spike |
//! | `CachedLayer` | an encoder layer of `PackedAffine`s with its key and value cache, for `streaming` |
//! | `BlockedLayer` | an encoder layer of `BlockedAffine`s, for `forward` passes over many rows |
//! | `PackedMatrix` | a matrix that a matrix-vector product reads: packed weights, or cached keys or values |

mod affine;
mod aligned;
mod attention;
pub mod batch;
mod format;
mod forward;
mod gemm;
mod gemv;
mod norm;
mod read_in;
pub mod simd;
mod streaming;
mod window;

use super::{Engine, Input, Output, StepFailed};
use format::{Bf16, F32, Int8};
use ndt_protocol::Bundle;
use ndt_protocol::bundle::manifest::Positions;
use ndt_protocol::bundle::precision::Precision;
use simd::InstructionSet;
use streaming::Streaming;
use window::Window;

/// The kernel that fits the position scheme of a bundle.
pub struct Native {
    set: InstructionSet,
    precision: Precision,
    /// Whether the kernel recomputes its window at each bin.
    is_window: bool,
    kernel: Box<dyn Engine>,
}

impl Native {
    /// Makes a kernel for `bundle` in `f32` with the best instructions of this machine, reset.
    pub fn new(bundle: &Bundle) -> Native {
        Native::with(bundle, InstructionSet::best(), Precision::F32)
    }

    /// Makes a kernel for `bundle` with the instructions of `set`, or with portable ones when the machine lacks them.
    /// Allocates everything that it will ever need. With learned positions it computes in `f32` whatever `precision`
    /// says: a window is limited by its arithmetic, not by memory.
    pub fn with(bundle: &Bundle, set: InstructionSet, precision: Precision) -> Native {
        let set = if set.is_available() { set } else { InstructionSet::Portable };
        let (set, precision, kernel): (_, _, Box<dyn Engine>) =
            match (bundle.manifest.architecture.positions, precision) {
                (Positions::LagBias, Precision::F32) => {
                    (set, precision, Box::new(Streaming::<F32>::new(bundle, set)))
                }
                (Positions::LagBias, Precision::Bf16) => {
                    (set, precision, Box::new(Streaming::<Bf16>::new(bundle, set)))
                }
                (Positions::LagBias, Precision::Int8) => {
                    (set, precision, Box::new(Streaming::<Int8>::new(bundle, set)))
                }
                (Positions::Learned, _) => {
                    let window = Window::new(bundle, set);
                    (window.instruction_set(), Precision::F32, Box::new(window))
                }
            };
        let is_window = bundle.manifest.architecture.positions == Positions::Learned;
        Native { set, precision, is_window, kernel }
    }
}

impl Engine for Native {
    /// Computes the answer to one bin. Does not allocate and cannot fail.
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed> {
        self.kernel.step(input, output)
    }

    fn observe(&mut self, input: Input) -> Result<(), StepFailed> {
        self.kernel.observe(input)
    }

    fn name(&self) -> String {
        let kind = if self.is_window { "window " } else { "" };
        format!("native {kind}{} {}", self.precision.name(), self.set.name())
    }

    /// Keeps the caches warm for a model with lag biases, and does nothing for one with learned positions, whose step takes so
    /// long that it would delay a bin.
    fn keep_warm(&mut self) -> bool {
        self.kernel.keep_warm()
    }

    fn reset(&mut self) {
        self.kernel.reset();
    }
}
