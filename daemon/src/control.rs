//! The control plane: what people and programs ask of a daemon that runs (pause, mask, another model), and what they may see of it (metrics,
//! health, a live page). Nothing here runs on a real-time thread; it reaches those threads by [`orders`](crate::pipeline::orders) and
//! [`taps`](crate::pipeline::taps) alone.
//!
//! | module | what it does |
//! |---|---|
//! | [`request`] | reads one line of the protocol |
//! | [`commands`] | carries a request out on the running pipeline, and answers |
//! | [`candidate`] | reads and checks the bundle that is to take over |
//! | [`socket`] | who may ask: the unix socket, its limits, and the client's side |
//! | [`monitor`] | the thread that reads the pipeline's taps and serves what it has seen |
//! | [`settings`] | `[monitor]` of the configuration |
//! | [`state`] | all that the monitor has seen so far: [`observed`], [`recent`], [`channels`] |
//! | [`health`] | the judgements behind `/healthz` and `/readyz` |
//! | [`metrics`] | `/metrics`, the text that Prometheus reads |
//! | [`frames`], [`summary`] | what the live page is sent 30 times a second, and once a second |
//! | [`http`] | the server: who may come in, what each path answers |

pub mod candidate;
pub mod channels;
pub mod commands;
pub mod frames;
pub mod health;
pub mod histogram;
pub mod http;
pub mod metrics;
pub mod monitor;
pub mod observed;
pub mod recent;
pub mod request;
pub mod settings;
pub mod socket;
pub mod state;
pub mod summary;
