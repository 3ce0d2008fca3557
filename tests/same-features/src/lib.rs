//! Nothing: this crate exists for the features of its dependencies, as its `Cargo.toml` says.
