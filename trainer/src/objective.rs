//! What a model is taught by: what it is shown of a batch, what it is asked for, and what a wrong answer costs.
//!
//! [`history`] puts trials one after another, [`masking`] hides parts of a [`batch`]; [`targets`] are the behaviour to be read out; [`loss`] holds the terms of
//! the loss, which [`shard`] adds up over a batch in parts that can be computed side by side. Nothing here steps an
//! optimiser.

pub mod batch;
pub mod history;
pub mod loss;
pub mod masking;
pub mod shard;
pub mod targets;
