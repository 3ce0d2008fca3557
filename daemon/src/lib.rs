//! The real-time path of `ndtd`, in the order in which a bin takes it:
//!
//! ```text
//!  transport --Bin--> input::Intake --> decoder::Decoder --Estimate--> guard::Guard --> output::Outputs --> transport
//!  zeromq | lsl       runs, fallback    order, gaps, engine            deadline, policy                     zeromq | lsl
//! ```
//!
//! [`pipeline`] gives each part its thread and connects the threads with bounded queues ([`queue`]). [`transport`] is the only
//! place that knows a network library, [`engine`] the only one that knows how a model is computed. [`decoder::fallback`] holds a linear
//! decoder's velocity ready for bins that the model does not answer in time. [`control`] takes the orders of people and programs to a
//! daemon that runs.
//!
//! Everything that depends on time takes the time as an argument, so that tests run the same code on a simulated clock.

pub mod bench;
pub mod config;
pub mod control;
pub mod decoder;
pub mod engine;
pub mod guard;
pub mod host;
pub mod input;
pub mod offline;
pub mod output;
pub mod pipeline;
pub mod queue;
pub mod transport;
