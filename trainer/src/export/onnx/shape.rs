//! The dimensions that decide what a graph looks like, and the outputs that all graphs have.

use super::graph::Graph;
use super::messages::{Dimension, FLOAT};
use ndt_protocol::bundle::manifest::{Architecture, Manifest};
use std::ops::Range;

/// The dimensions that decide what a graph looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphShape {
    /// The transformer's dimensions.
    pub architecture: Architecture,
    /// Input channels.
    pub channels: usize,
    /// Output units.
    pub units: usize,
    /// Columns of all readouts together.
    pub readout_dims: usize,
    /// Columns of the velocity that is published; where there are none, the graph has no output `velocity`.
    pub velocity: Range<usize>,
}

impl GraphShape {
    /// The dimensions of a bundle's model.
    pub fn of(manifest: &Manifest) -> GraphShape {
        GraphShape {
            architecture: manifest.architecture,
            channels: manifest.channels(),
            units: manifest.units(),
            readout_dims: manifest.readout_dims(),
            velocity: manifest.velocity_columns(),
        }
    }
}

/// Declares the outputs `log_rates`, `rates` and, if there is a velocity, `velocity`; `dims` gives the shape for a last
/// axis.
pub(super) fn declare_outputs(graph: &mut Graph, shape: &GraphShape, dims: impl Fn(usize) -> Vec<Dimension>) {
    graph.output("log_rates", FLOAT, &dims(shape.units));
    graph.output("rates", FLOAT, &dims(shape.units));
    if !shape.velocity.is_empty() {
        graph.output("velocity", FLOAT, &dims(shape.velocity.len()));
    }
}
