//! What a neural data transformer has to be better than: smoothing and ridge, Wiener, Kalman, a GRU, and Poisson
//! regression of held-out units.
//!
//! All are fitted on the training trials, choose their settings on the validation trials, and answer as the daemon
//! would: the estimate of a bin depends on no later one, and before a trial's first bin there is nothing. What is linear
//! in the last bins' counts makes a bundle that the daemon runs.

pub mod cosmoothing;
pub mod data;
pub mod gru;
pub mod kalman;
pub mod linear;
mod smoothing;
pub mod table;
#[cfg(test)]
mod tests;
pub mod wiener;
