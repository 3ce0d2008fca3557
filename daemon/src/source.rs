//! Where bins come from. One implementation for each transport, and one for tests.

use ndt_protocol::Bin;
use ndt_protocol::wire::WireError;

/// What a source has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// `bin` holds the next bin.
    Bin,
    /// Nothing came for a while; ask again.
    Nothing,
    /// Something came that is no bin for this model; `bin` is as it was.
    Refused(WireError),
    /// The stream's channels are not the bundle's, or not in its order; `bin` is as it was.
    WrongChannels,
    /// The source has ended; nothing more will come.
    Ended,
}

/// A stream of bins. Owned by the source thread, which calls `receive` in a loop.
pub trait Source: Send {
    /// Waits for the next bin, at most about 100 ms, so that the thread can be asked to stop.
    /// Stamps the arrival as early as it can. May allocate only what its transport's library does.
    fn receive(&mut self, bin: &mut Bin) -> Received;
}
