//! The model as ONNX graphs: `window.onnx` for a batch of bins, `step.onnx` for one bin with its cache.
//!
//! Both compute the function of the bundle's weights in SI units: counts go in, ln(spikes/s) and m/s come out. The two
//! position schemes share every layer (`encoder`). They differ in the bias of the attention scores and in what a step
//! remembers: keys and values (`lag-bias`), or the raw bins of the window (`learned`). A step takes its memory as
//! inputs and gives the next memory as outputs named `*_next`. The two differ in one row, the slot that the new bin
//! takes, so that a runtime which is given the same buffer for both copies nothing. Only operators of opset 23 from
//! ONNX's own domain are used, and a step has no dynamic dimension.

mod encoder;
mod graph;
mod messages;
mod shape;
mod step;
#[cfg(test)]
mod tests;
mod window;

pub use shape::GraphShape;
pub use step::step_graph;
pub use window::window_graph;
