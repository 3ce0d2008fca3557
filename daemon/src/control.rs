//! The control plane: what people and programs may see of a running daemon, and ask of it. Nothing here runs on a real-time thread.
//!
//! | module | what it does |
//! |---|---|
//! | [`monitor`] | the thread that reads the pipeline's taps and serves what it has seen |
//! | [`settings`] | `[monitor]` of the configuration |
//! | [`state`] | all that the monitor has seen so far: [`observed`], [`recent`], [`channels`] |
//! | [`health`] | the judgements behind `/healthz` and `/readyz` |
//! | [`metrics`] | `/metrics`, the text that Prometheus reads |
//! | [`frames`], [`summary`] | what the live page is sent 30 times a second, and once a second |
//! | [`http`] | the server: who may come in, what each path answers |

pub mod channels;
pub mod frames;
pub mod health;
pub mod histogram;
pub mod http;
pub mod metrics;
pub mod monitor;
pub mod observed;
pub mod recent;
pub mod settings;
pub mod state;
pub mod summary;
