//! The fit: epochs of AdamW over masked batches, early stopping on validation co-smoothing, the best weights kept.
//!
//! **The same data, configuration and seed give the same weights**, on any number of cores ([`workers`]). Each epoch
//! draws its order and masks from a generator of its own (seed and epoch), so that a resumed fit goes on as if it had
//! never stopped.
//!
//! [`fit()`] fits a model, after its [`teacher`]; [`sessions`] fits several sessions on one body; [`finetune`] adapts a
//! bundle to a new session. All of them step the weights of a `Trainer`, which validates as it goes.

pub mod checkpoint;
pub mod device;
pub mod early_stopping;
mod epochs;
pub mod finetune;
pub mod fit;
pub mod fitted;
pub mod gradients;
pub mod schedule;
pub mod scores;
pub mod sessions;
pub mod teacher;
#[cfg(test)]
mod tests;
mod trainer;
mod validation;
pub mod workers;

pub use checkpoint::Checkpoints;
pub use device::ComputeDevice;
pub use fit::{fit, fit_on};
pub use fitted::{Fit, FitError};
pub use scores::{Progress, Scores, Watch, unwatched};
