//! The baseline decoders that a transformer is compared with: smoothing and ridge, Wiener, Kalman, a GRU, and Poisson
//! regression of held-out units. [`comparison`] fits the cheap ones beside a model.
//!
//! All are fitted on the training trials, choose their settings on the validation trials, and decode as the daemon
//! would: the estimate of a bin depends on no later bin, and every trial is a cold start. A decoder that is linear in
//! the last bins' counts can be exported as a bundle that the daemon runs.

pub mod clock;
pub mod comparison;
pub mod gru;
pub mod kalman;
pub mod linear;
pub mod poisson;
pub mod runs;
pub mod smoothing;
pub mod table;
#[cfg(test)]
mod tests;
pub mod wiener;
