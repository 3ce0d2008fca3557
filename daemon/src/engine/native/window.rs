//! The window recomputed at each bin, for learned positions: each new bin moves all others to other positions, so
//! that only their read-ins can be kept. Rows go through the layers together ([`super::forward`]).

use super::aligned::Aligned;
use super::forward::{Network, Pass, Wanted};
use super::simd::InstructionSet;
use crate::engine::{Engine, Input, Output, StepFailed};
use ndt_protocol::Bundle;

/// The window kernel: its weights and its state.
pub struct Window {
    network: Network,
    pass: Pass,
    /// Bins since the last reset.
    seen: usize,
    /// Read-ins of the last bins, a ring of shape `[window, width]`.
    readins: Aligned<f32>,
}

impl Window {
    /// Makes a kernel for `bundle` with the instructions of `set`, reset. Allocates everything that it will ever
    /// need.
    pub fn new(bundle: &Bundle, set: InstructionSet) -> Self {
        let network = Network::new(bundle, set);
        Window {
            pass: Pass::new(&network, network.window()),
            seen: 0,
            readins: Aligned::zeros(network.window() * network.stride()),
            network,
        }
    }

    /// Instruction set that the kernel computes with.
    pub fn instruction_set(&self) -> InstructionSet {
        self.network.instruction_set()
    }

    /// Stores the bin's read-in, which is all that later bins need of it.
    fn keep(&mut self, input: Input) {
        let newest = self.seen % self.network.window();
        let stride = self.network.stride();
        self.network.read_in(input, &mut self.readins[newest * stride..][..stride]);
        self.seen += 1;
    }
}

impl Engine for Window {
    /// Computes one bin. Does not allocate and cannot fail.
    fn step(&mut self, input: Input, output: &mut Output) -> Result<(), StepFailed> {
        self.keep(input);
        let Window { network, pass, seen, readins } = self;
        let (window, stride) = (network.window(), network.stride());
        let in_view = (*seen).min(window);
        for place in 0..in_view {
            let slot = (*seen - in_view + place) % window;
            let readin = &readins[slot * stride..][..stride];
            network.at_position(place, readin, pass.row(network, place));
        }
        pass.run(network, in_view, Wanted::Newest, &mut |_, log_rates, velocity| {
            output.log_rates.copy_from_slice(log_rates);
            output.velocity.copy_from_slice(velocity);
        });
        Ok(())
    }

    fn observe(&mut self, input: Input) -> Result<(), StepFailed> {
        self.keep(input);
        Ok(())
    }

    fn reset(&mut self) {
        self.seen = 0;
    }
}
