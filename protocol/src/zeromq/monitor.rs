//! What the library tells of the connections of a socket.

use super::{Context, Frames, Kind, Options, Socket, ZeromqError};
use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Numbers of the library's events that are asked for.
mod number {
    pub const CONNECTED: u16 = 0x0001;
    pub const RETRIED: u16 = 0x0004;
    pub const ACCEPTED: u16 = 0x0020;
    pub const DISCONNECTED: u16 = 0x0200;
    pub const HANDSHAKE_SUCCEEDED: u16 = 0x1000;
    pub const ALL: u16 = CONNECTED | RETRIED | ACCEPTED | DISCONNECTED | HANDSHAKE_SUCCEEDED;
}

/// Something that happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The address that this end connects to has answered, by the connection of this number; whether it speaks ZeroMQ is not known yet.
    Reached(i32),
    /// This end will try again to connect.
    Retried,
    /// A peer has connected to this end, which is bound, by the connection of this number; whether it speaks ZeroMQ is not known yet.
    Accepted(i32),
    /// A connection with a peer of ZeroMQ is there, and messages can pass.
    Met,
    /// The connection of this number is closed, whether or not it ever was one of ZeroMQ. Messages that came by it may still wait to be
    /// received.
    Lost(i32),
}

/// Receives the events of one socket.
pub struct Monitor {
    socket: Socket,
    frames: Frames<2>,
}

impl Monitor {
    /// Starts to receive the events of `socket`.
    ///
    /// # Errors
    /// [`ZeromqError::Refused`] when the system has no file descriptors left.
    pub fn of(socket: &Socket) -> Result<Monitor, ZeromqError> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let address = format!("inproc://ndt-monitor-{}", MADE.fetch_add(1, Relaxed));
        socket.tell(&address, c_int::from(number::ALL))?;
        Monitor::at(socket.context(), &address)
    }

    fn at(context: &Context, address: &str) -> Result<Monitor, ZeromqError> {
        // The library's I/O thread never waits for this program: what is received has no limit.
        let socket = context.socket(Kind::Pair, &Options::default())?;
        socket.connect(address)?;
        Ok(Monitor { socket, frames: Frames::new(context.library()) })
    }

    /// The next event, or `None` when nothing more has happened. Does not wait, lock or allocate.
    pub fn next_event(&mut self) -> Option<Event> {
        while self.socket.receive(&mut self.frames, false) {
            // A number of 16 bits and a value of 32, in the order of this machine's bytes; then the address.
            let [what, _] = self.frames.get();
            let Some((number, value)) = what.split_at_checked(2) else { continue };
            let value = value.try_into().map_or(-1, i32::from_ne_bytes);
            return Some(match number.try_into().map_or(0, u16::from_ne_bytes) {
                number::CONNECTED => Event::Reached(value),
                number::RETRIED => Event::Retried,
                number::ACCEPTED => Event::Accepted(value),
                number::HANDSHAKE_SUCCEEDED => Event::Met,
                number::DISCONNECTED => Event::Lost(value),
                _ => continue,
            });
        }
        None
    }

    /// The socket on which events come, to wait for.
    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }
}
