//! A rig that isn't there: reads recordings, simulates them, plays them out, listens.
//!
//! A [`session::Session`] is what all parts meet on. [`nwb`] reads one, [`simulate`] makes one up,
//! [`nwb_write`] writes one, [`inspect`] tells what is in one; [`play`] sends its bins, with whatever [`faults`] are
//! asked for, and [`listen`] counts and scores what a daemon makes of them; [`expect`] knows what it may make of
//! the faults.

pub mod expect;
pub mod faults;
pub mod h5;
pub mod inspect;
pub mod listen;
pub mod lsl;
pub mod nwb;
mod nwb_behavior;
pub mod nwb_write;
mod order;
pub mod play;
mod population;
mod reach;
mod score;
pub mod session;
pub mod simulate;
pub mod stop;
pub mod summary;
pub mod zeromq;
