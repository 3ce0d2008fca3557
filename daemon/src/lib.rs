//! The real-time path of `ndtd`, in the order that a bin takes it:
//!
//! ```text
//!  zeromq::ZeromqSource --Bin--> decoder::Decoder (window + engine) --Estimate--> guard::Guard --> zeromq::ZeromqPublisher
//!    rebin, source::Intake                                                          deadline, policy
//! ```
//!
//! [`degraded`] has a linear decoder's velocity ready on the source thread, for bins without a result.
//! [`lsl`] has a source and publishers of its own; [`outputs`] gives an estimate to all publishers.
//!
//! [`pipeline`] gives each its thread and the bounded queues between them; [`config`] says what to run;
//! everything that needs the time takes it as an argument, so that tests run the same code on a fake clock.

pub mod bench;
pub mod check;
pub mod config;
pub mod counts;
pub mod decode;
pub mod decoder;
pub mod degraded;
pub mod engine;
pub mod guard;
pub mod host;
pub mod keep_warm;
pub mod lsl;
pub mod outputs;
pub mod pipeline;
pub mod policy;
pub mod rebin;
pub mod source;
pub mod source_clock;
pub mod zeromq;
