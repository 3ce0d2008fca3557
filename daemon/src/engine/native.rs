//! Our own kernels: nothing to install, nothing allocated, and the same bits for the same bins on the same kind of CPU.
//!
//! With lag biases a bin costs one row ([`streaming`]); with a learned position table the window is recomputed
//! ([`window`]). Offline, whole trials are one pass ([`batch`]). [`simd`] chooses the machine's vector instructions at run
//! time.

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

/// The kernel that a bundle's positions ask for.
pub struct Native {
    set: InstructionSet,
    precision: Precision,
    /// Whether it recomputes its window at each bin.
    is_window: bool,
    kernel: Box<dyn Engine>,
}

impl Native {
    /// A kernel for `bundle` in 32 bits with the best instructions of this machine, reset.
    pub fn new(bundle: &Bundle) -> Native {
        Native::with(bundle, InstructionSet::best(), Precision::F32)
    }

    /// A kernel for `bundle` with the instructions of `set`, where the machine has them. Allocates all that it will ever
    /// need. Learned positions are computed in 32 bits whatever `precision` says: a window is bound by its arithmetic.
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
    /// Does not allocate and cannot fail.
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

    /// With lag biases; a window's step is too long to be in a bin's way.
    fn keep_warm(&mut self) -> bool {
        self.kernel.keep_warm()
    }

    fn reset(&mut self) {
        self.kernel.reset();
    }
}
