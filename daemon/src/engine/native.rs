//! Our own kernels: nothing to install, nothing allocated, and the same bits for the same bins on the same kind of CPU.
//!
//! With lag biases a bin costs one row ([`streaming`]); with a learned position table the window is recomputed
//! ([`window`]). [`simd`] chooses the machine's vector instructions at run time.

mod affine;
mod packed;
pub mod simd;
mod streaming;
mod window;

use super::{Engine, Input, Output, StepFailed};
use ndt_protocol::Bundle;
use ndt_protocol::manifest::Positions;
use simd::InstructionSet;
use streaming::Streaming;
use window::Window;

/// The kernel that a bundle's positions ask for.
pub struct Native {
    set: InstructionSet,
    kernel: Kernel,
}

enum Kernel {
    Streaming(Box<Streaming>),
    Window(Box<Window>),
}

impl Native {
    /// A kernel for `bundle` with the best instructions of this machine, reset.
    pub fn new(bundle: &Bundle) -> Native {
        Native::with(bundle, InstructionSet::best())
    }

    /// A kernel for `bundle` with the instructions of `set`, where the machine has them. Allocates all that it will ever need.
    pub fn with(bundle: &Bundle, set: InstructionSet) -> Native {
        match bundle.manifest.architecture.positions {
            Positions::LagBias => {
                let set = if set.is_there() { set } else { InstructionSet::Portable };
                Native { set, kernel: Kernel::Streaming(Box::new(Streaming::new(bundle, set))) }
            }
            // The window's kernel is plain Rust whatever the machine has, and its name says so.
            Positions::Learned => {
                let kernel = Kernel::Window(Box::new(Window::new(bundle)));
                Native { set: InstructionSet::Portable, kernel }
            }
        }
    }

    fn kernel(&mut self) -> &mut dyn Engine {
        match &mut self.kernel {
            Kernel::Streaming(streaming) => streaming.as_mut(),
            Kernel::Window(window) => window.as_mut(),
        }
    }
}

impl Engine for Native {
    /// Does not allocate and cannot fail.
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed> {
        self.kernel().step(input, output)
    }

    fn observe(&mut self, input: Input) -> Result<(), StepFailed> {
        self.kernel().observe(input)
    }

    fn name(&self) -> String {
        format!("native {}", self.set.name())
    }

    fn reset(&mut self) {
        self.kernel().reset();
    }
}
