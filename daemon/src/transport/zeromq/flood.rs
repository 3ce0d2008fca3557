//! Cuts off a peer that floods a bound input. libzmq reads what peers send without a limit, because a limit would let a peer end the
//! program (`daemon/docs/transport.md`), so that messages which come faster than the source thread refuses them would take memory without
//! end. The source whose bins are taken is never cut off.

use std::os::fd::RawFd;

/// Part of time in which refused messages are counted, ns.
const WINDOW_NS: u64 = 100_000_000;

/// Refused messages in a window that are a flood: 10 times those of a second rig with bins of 1 ms.
const REFUSED_MAX: u32 = 1_000;

/// Of the messages above the limit, each of this many closes its connection.
const CLOSES: u32 = 100;

/// Counts what is refused. Owned by the source thread.
#[derive(Debug)]
pub struct Flood {
    /// Port that the input has bound; `None` for an input that connects, or that is a file.
    port: Option<u16>,
    begun_ns: u64,
    refused: u32,
}

impl Flood {
    /// For an input with this address, as bound or connected to.
    pub fn new(address: &str, is_bound: bool) -> Flood {
        let port = address.strip_prefix("tcp://").and_then(|address| address.rsplit_once(':'));
        let port = port.and_then(|(_, port)| port.parse().ok()).filter(|_| is_bound);
        Flood { port, begun_ns: 0, refused: 0 }
    }

    /// Notes that a message was refused that came by `connection` at `now_ns`. While there are too many in this window, closes connections
    /// that messages came by, again and again: a peer that connects anew goes on with the flood, often with the same number. A second rig
    /// that is closed with it connects again.
    ///
    /// Runs on the source thread, once for each refused message. Must not allocate, block, lock or log.
    pub fn refused(&mut self, connection: RawFd, now_ns: u64) {
        if self.is_flood(now_ns)
            && let Some(port) = self.port
        {
            close(connection, port);
        }
    }

    /// Whether this window has too many messages with this one, and its connection is to be closed.
    fn is_flood(&mut self, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.begun_ns) > WINDOW_NS {
            (self.begun_ns, self.refused) = (now_ns, 0);
        }
        self.refused = self.refused.saturating_add(1);
        self.refused >= REFUSED_MAX && self.refused.is_multiple_of(CLOSES)
    }
}

/// Ends a connection that was accepted at `port`; libzmq then closes it. A message may be read after its connection was closed, and the
/// number may be that of something else by now, which is left alone.
fn close(connection: RawFd, port: u16) {
    let mut bytes = [0u8; size_of::<libc::sockaddr_storage>()];
    let mut length = bytes.len() as libc::socklen_t;
    // SAFETY: the address is written to a buffer of the length that is said. A number that is no open socket is an error.
    unsafe {
        let found = libc::getsockname(connection, bytes.as_mut_ptr().cast(), &mut length);
        let family = libc::c_int::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        // The port stands behind the family, in the order of the network, for both versions of IP.
        let its_port = u16::from_be_bytes([bytes[2], bytes[3]]);
        if found == 0 && [libc::AF_INET, libc::AF_INET6].contains(&family) && its_port == port {
            libc::shutdown(connection, libc::SHUT_RDWR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    #[test]
    fn a_flood_is_many_refused_messages_in_a_short_time() {
        let mut flood = Flood::new("tcp://127.0.0.1:5570", true);
        let second_rig =
            (0..60_000).map(|at| at * 1_000_000).filter(|now_ns| flood.is_flood(*now_ns)).count();
        assert_eq!(second_rig, 0, "a rig with bins of 1 ms for a minute");
        let mut flood = Flood::new("tcp://127.0.0.1:5570", true);
        let found = (0..1_000_000).filter(|at| flood.is_flood(at * 1_000)).count();
        // A window ends with the first message after 100 ms: 100,001 messages, of which the first 999 close nothing.
        assert_eq!(found, 9 * (100_001 / 100 - 9) + (99_991 / 100 - 9), "each hundredth above the limit");
    }

    #[test]
    fn only_a_connection_of_the_input_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let mut flooded = |address: &str, is_bound| {
            let mut flood = Flood::new(address, is_bound);
            (0..2 * REFUSED_MAX).for_each(|_| flood.refused(accepted.as_raw_fd(), 1));
            peer.set_nonblocking(true).unwrap();
            let read = peer.read(&mut [0]);
            peer.set_nonblocking(false).unwrap();
            read.is_ok_and(|length| length == 0)
        };
        assert!(!flooded(&address, false), "an input that connects");
        assert!(!flooded("tcp://127.0.0.1:1", true), "a connection of something else");
        assert!(!flooded("ipc:///run/ndtd/bins", true), "a file");
        assert!(flooded(&address, true));
    }
}
