//! Everything on which two programs of this project must agree.
//!
//! A [`bin`] of spike counts goes in, an [`estimate`] of firing rates and hand velocity comes out, and a [`bundle`]
//! is the model in between.
//!
//! | module | what it defines |
//! |---|---|
//! | [`bin`], [`binner`] | a bin of spike counts; spike times or narrow bins to bins |
//! | [`estimate`] | an estimate, its quality and its reasons |
//! | [`wire`] | the bytes of bins, estimates and descriptions |
//! | [`lsl`] | streams of Lab Streaming Layer, and the library, which is loaded at run time |
//! | [`zeromq`] | sockets, keys and who may come in; the library, which is loaded at run time |
//! | [`bundle`] | a model on disk |
//! | [`session_log`] | a session on disk: what came, what was computed and what was published |
//! | [`destination`] | where a program may write, so that nothing is lost |
//! | [`endpoint`] | the address at which programs meet, for each side |
//! | [`limits`], [`clock`], [`files`] | how large anything may be; the local clock; files that are complete or absent |
//! | [`terminal`] | lines for the user, which never end a program |
//!
//! Only [`bundle`], [`destination`], [`endpoint::socket_file`], [`files`], [`lsl`], [`session_log::reader`], [`terminal`] and [`zeromq`] do I/O, and only
//! [`zeromq::admission`] has a thread of its own.
//! Nothing here knows an engine or a trainer.

pub mod bin;
pub mod binner;
pub mod bundle;
pub mod clock;
pub mod destination;
pub mod endpoint;
pub mod estimate;
pub mod files;
pub mod limits;
pub mod lsl;
pub mod session_log;
mod shared_library;
pub mod terminal;
pub mod wire;
pub mod zeromq;

pub use bin::Bin;
pub use bin::count::CountRange;
pub use bundle::Bundle;
pub use bundle::manifest::{Manifest, Positions};
pub use estimate::{Estimate, Quality, Reasons};
