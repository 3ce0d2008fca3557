//! The model as ONNX graphs: `window.onnx` for a batch of bins, `step.onnx` for one bin with its cache.
//!
//! Both compute the function of the bundle's weights, with folded units: counts go in, ln(spikes/s) and m/s
//! come out. The two position schemes share every layer ([`encoder`]) and differ in the score bias and in
//! what a step remembers: keys and values (`lag-bias`), or the raw bins of the window (`learned`). A step
//! takes its memory as inputs and gives the next one as outputs named `*_next`; the two differ in one row, that of the
//! slot which the new bin is told to take, so that a runtime which is given the same buffer for both copies nothing.
//! Only operators of opset 23 from ONNX's own domain are used, and a step has no dynamic dimension.

mod encoder;
mod graph;
mod step;
#[cfg(test)]
mod tests;
mod window;

pub use step::step_graph;
pub use window::window_graph;

use crate::pb::{Dimension, FLOAT};
use graph::Graph;
use ndt_protocol::bundle::manifest::{Architecture, Manifest};

/// The dimensions that decide what a graph looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GraphShape {
    /// The transformer's dimensions.
    pub architecture: Architecture,
    /// Input channels.
    pub channels: usize,
    /// Output units.
    pub units: usize,
    /// Components of the velocity; 0 leaves the output `velocity` out.
    pub velocity_dims: usize,
}

impl GraphShape {
    /// The dimensions that a manifest gives.
    pub fn of(manifest: &Manifest) -> GraphShape {
        GraphShape {
            architecture: manifest.architecture,
            channels: manifest.channels(),
            units: manifest.units(),
            velocity_dims: manifest.velocity_dims(),
        }
    }
}

fn declare_outputs(graph: &mut Graph, shape: &GraphShape, dims: impl Fn(usize) -> Vec<Dimension>) {
    graph.output("log_rates", FLOAT, &dims(shape.units));
    graph.output("rates", FLOAT, &dims(shape.units));
    if shape.velocity_dims > 0 {
        graph.output("velocity", FLOAT, &dims(shape.velocity_dims));
    }
}
