//! A rig that isn't there: reads recordings, simulates them, plays them out, listens.
//!
//! A [`session::Session`] is what all parts meet on. [`nwb`] reads one, [`simulate`] makes one up,
//! [`nwb_write`] writes one, [`inspect`] tells what is in one.

pub mod h5;
pub mod inspect;
pub mod nwb;
mod nwb_behavior;
pub mod nwb_write;
mod population;
mod reach;
pub mod session;
pub mod simulate;
