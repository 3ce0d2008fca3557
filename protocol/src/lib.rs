//! What two programs of this project must agree on.
//!
//! A [`bin`] of spike counts goes in, an [`estimate`] of firing rates and hand velocity comes out; [`wire`]
//! gives both their bytes, [`bundle`] is the model that stands between them, [`binner`] says what a bin is,
//! and [`limits`] how large any of it may be. Nothing here does I/O but the bundle and [`lsl`], the
//! binding to a library that both ends load; and nothing here knows an engine or a trainer.

pub mod bin;
pub mod binner;
pub mod bundle;
pub mod clock;
pub mod endpoint;
pub mod estimate;
pub mod files;
pub mod limits;
pub mod lsl;
pub mod wire;

pub use bin::Bin;
pub use bundle::Bundle;
pub use bundle::manifest::{Manifest, Positions};
pub use estimate::{Estimate, Quality, Reasons};
