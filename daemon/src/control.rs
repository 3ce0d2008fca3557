//! Orders from people and programs to a daemon that runs: pause, mask, another model.
//!
//! | module | what it does |
//! |---|---|
//! | [`request`] | reads one line of the protocol |
//! | [`commands`] | carries a request out on the running pipeline, and answers |
//! | [`candidate`] | reads and checks the bundle that is to take over |
//! | [`socket`] | who may ask: the unix socket, its limits, and the client's side |
//!
//! All of this runs on the control plane. It reaches the real-time threads by [`orders`](crate::pipeline::orders) alone.

pub mod candidate;
pub mod commands;
pub mod request;
pub mod socket;
