//! One socket of the library.

use super::library::{Functions, Handle, PollItem};
use super::{
    Context, Frames, HANDSHAKE_MS, HEARTBEAT_MS, HEARTBEAT_PATIENCE_MS, Options, RECONNECT_MS,
    UNACKNOWLEDGED_MS, ZeromqError,
};
use std::ffi::{CString, c_int};
use std::time::Duration;

/// What a socket does, as the library numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Kind {
    /// One end of a connection within the program.
    Pair = 0,
    /// Sends to every subscriber, and drops what a subscriber has no room for.
    Pub = 1,
    /// Receives what it has subscribed to.
    Sub = 2,
    /// Answers requests.
    Rep = 4,
    /// As `Pub`, and receives the subscriptions.
    XPub = 9,
}

/// Numbers of options, as in `zmq.h`.
mod option {
    use std::ffi::c_int;

    pub const AFFINITY: c_int = 4;
    pub const SUBSCRIBE: c_int = 6;
    pub const SEND_BUFFER: c_int = 11;
    pub const RECEIVE_BUFFER: c_int = 12;
    pub const MORE: c_int = 13;
    pub const LINGER: c_int = 17;
    pub const RECONNECT_INTERVAL: c_int = 18;
    pub const FRAME_BYTES_MAX: c_int = 22;
    pub const SEND_QUEUE: c_int = 23;
    pub const RECEIVE_QUEUE: c_int = 24;
    pub const RECEIVE_TIMEOUT: c_int = 27;
    pub const LAST_ENDPOINT: c_int = 32;
    pub const KEEPALIVE: c_int = 34;
    pub const KEEPALIVE_COUNT: c_int = 35;
    pub const KEEPALIVE_IDLE: c_int = 36;
    pub const KEEPALIVE_INTERVAL: c_int = 37;
    pub const IMMEDIATE: c_int = 39;
    pub const IPV6: c_int = 42;
    pub const CURVE_SERVER: c_int = 47;
    pub const CURVE_PUBLIC_KEY: c_int = 48;
    pub const CURVE_SECRET_KEY: c_int = 49;
    pub const CURVE_SERVER_KEY: c_int = 50;
    pub const ZAP_DOMAIN: c_int = 55;
    pub const HANDSHAKE: c_int = 66;
    pub const NO_DROP: c_int = 69;
    pub const HEARTBEAT: c_int = 75;
    pub const HEARTBEAT_TTL: c_int = 76;
    pub const HEARTBEAT_TIMEOUT: c_int = 77;
    pub const UNACKNOWLEDGED: c_int = 80;
}

/// `ZMQ_DONTWAIT` of sending and receiving.
const DO_NOT_WAIT: c_int = 1;
/// `ZMQ_SNDMORE`: another frame follows.
const MORE_FOLLOWS: c_int = 2;
/// `ZMQ_POLLIN` of `zmq_poll`.
const READABLE: i16 = 1;

/// A socket. May move to another thread, but cannot be shared.
pub struct Socket {
    context: Context,
    handle: Handle,
}

// SAFETY: the library lets a socket move between threads where a full memory barrier lies between their uses, as it does wherever a value
// moves between threads in Rust. It is not `Sync`.
unsafe impl Send for Socket {}

impl Socket {
    pub(super) fn open(context: &Context, kind: Kind, options: &Options) -> Result<Socket, ZeromqError> {
        let library = context.library();
        // SAFETY: the handle is a context.
        let handle = unsafe { (library.functions().zmq_socket)(context.handle(), kind as c_int) };
        if handle.is_null() {
            return Err(library.refused("open a socket"));
        }
        let socket = Socket { context: context.clone(), handle };
        socket.set_limits(kind, options)?;
        if let Some(keys) = &options.keys {
            if !library.has_curve() {
                let found = format!("{} without it", library.version());
                return Err(ZeromqError::Version { expected: "with encryption (CURVE)", found });
            }
            socket.set_bytes(option::CURVE_PUBLIC_KEY, keys.own.public.text().as_bytes())?;
            socket.set_bytes(option::CURVE_SECRET_KEY, keys.own.secret_text().as_bytes())?;
        }
        Ok(socket)
    }

    fn set_limits(&self, kind: Kind, options: &Options) -> Result<(), ZeromqError> {
        self.set(option::AFFINITY, 1u64 << options.io_thread.min(63))?;
        self.set(option::FRAME_BYTES_MAX, i64::try_from(options.frame_bytes_max).unwrap_or(i64::MAX))?;
        // 0 would mean no limit.
        let queue = c_int::try_from(options.queue_messages.max(1)).unwrap_or(c_int::MAX);
        let buffers = [
            (option::SEND_BUFFER, options.send_buffer_bytes),
            (option::RECEIVE_BUFFER, options.receive_buffer_bytes),
        ];
        for (option, bytes) in buffers {
            if let Some(bytes) = bytes {
                self.set(option, c_int::try_from(bytes).unwrap_or(c_int::MAX))?;
            }
        }
        let numbers = [
            (option::SEND_QUEUE, queue),
            // No limit: at a limit the library stops reading, and ends the program where the peer then resets the connection and a
            // heartbeat is due (daemon/docs/transport.md); and where the peer ends, what it had sent is lost.
            (option::RECEIVE_QUEUE, 0),
            (option::LINGER, options.linger_ms),
            (option::RECONNECT_INTERVAL, RECONNECT_MS),
            (option::HANDSHAKE, HANDSHAKE_MS),
            (option::HEARTBEAT, HEARTBEAT_MS),
            (option::HEARTBEAT_TIMEOUT, HEARTBEAT_PATIENCE_MS),
            // The peer, too, takes this end as gone where it hears nothing of it for so long.
            (option::HEARTBEAT_TTL, HEARTBEAT_PATIENCE_MS),
            (option::KEEPALIVE, 1),
            (option::KEEPALIVE_IDLE, 1),
            (option::KEEPALIVE_INTERVAL, 1),
            (option::KEEPALIVE_COUNT, 2),
            (option::UNACKNOWLEDGED, UNACKNOWLEDGED_MS),
            // What is sent while nobody is connected is not kept for whoever comes. For a subscriber, the option would throw away what has
            // come and is not received yet when a connection ends.
            (option::IMMEDIATE, c_int::from(matches!(kind, Kind::Pub | Kind::XPub))),
        ];
        numbers.into_iter().try_for_each(|(option, value)| self.set(option, value))?;
        if let Some(domain) = &options.domain {
            self.set_bytes(option::ZAP_DOMAIN, domain.as_bytes())?;
        }
        Ok(())
    }

    /// Makes this end, which is about to bind, the one whose public key the peers know.
    pub(super) fn serve_encrypted(&self) -> Result<(), ZeromqError> {
        self.set(option::CURVE_SERVER, 1)
    }

    /// Sets the public key of the end that this socket is about to connect to.
    pub(super) fn expect_server(&self, key: &super::curve::PublicKey) -> Result<(), ZeromqError> {
        self.set_bytes(option::CURVE_SERVER_KEY, key.text().as_bytes())
    }

    fn functions(&self) -> &Functions {
        self.context.library().functions()
    }

    fn set<T: Copy>(&self, option: c_int, value: T) -> Result<(), ZeromqError> {
        // SAFETY: the option takes a number of this size, or is refused.
        let set = unsafe {
            (self.functions().zmq_setsockopt)(self.handle, option, (&raw const value).cast(), size_of::<T>())
        };
        self.checked(set, "set an option")
    }

    fn set_bytes(&self, option: c_int, bytes: &[u8]) -> Result<(), ZeromqError> {
        // SAFETY: reads as many bytes as is said.
        let set = unsafe {
            (self.functions().zmq_setsockopt)(self.handle, option, bytes.as_ptr().cast(), bytes.len())
        };
        self.checked(set, "set an option")
    }

    fn checked(&self, result: c_int, what: &'static str) -> Result<(), ZeromqError> {
        if result == 0 { Ok(()) } else { Err(self.context.library().refused(what)) }
    }

    /// Binds an address, and returns it as bound: with the port that the system chose for port 0.
    ///
    /// # Errors
    /// [`ZeromqError::Bind`] with the reason.
    pub fn bind(&self, address: &str) -> Result<String, ZeromqError> {
        self.prepare(address)?;
        let text = c_text(address)?;
        // SAFETY: a string that ends with a zero.
        if unsafe { (self.functions().zmq_bind)(self.handle, text.as_ptr()) } != 0 {
            let library = self.context.library();
            let found = match library.errno() {
                // libzmq does not look up the host name of a socket that binds.
                libc::ENODEV => "a host that is no address of this computer: expected its IP address, such \
                                                as 127.0.0.1 for localhost, or * for every one"
                    .to_owned(),
                _ => library.last_error(),
            };
            return Err(ZeromqError::Bind { address: address.to_owned(), found });
        }
        let mut bytes = [0u8; 256];
        let mut length = bytes.len();
        // SAFETY: writes at most as many bytes as is said, and how many it wrote.
        let found = unsafe {
            (self.functions().zmq_getsockopt)(
                self.handle,
                option::LAST_ENDPOINT,
                bytes.as_mut_ptr().cast(),
                &mut length,
            )
        };
        self.checked(found, "say what was bound")?;
        // The length counts the zero at the end.
        Ok(String::from_utf8_lossy(&bytes[..length.saturating_sub(1)]).into_owned())
    }

    /// Connects to an address, now or whenever a peer is there.
    ///
    /// # Errors
    /// [`ZeromqError::Connect`] when the address cannot be one.
    pub fn connect(&self, address: &str) -> Result<(), ZeromqError> {
        self.prepare(address)?;
        let text = c_text(address)?;
        // SAFETY: a string that ends with a zero.
        match unsafe { (self.functions().zmq_connect)(self.handle, text.as_ptr()) } {
            0 => Ok(()),
            _ => {
                let found = self.context.library().last_error();
                Err(ZeromqError::Connect { address: address.to_owned(), found })
            }
        }
    }

    /// Ends the connection to an address, or the attempts to make one.
    pub fn disconnect(&self, address: &str) {
        if let Ok(text) = CString::new(address) {
            // SAFETY: a string that ends with a zero. It fails where the library has given the connection up, which is what is wanted.
            unsafe { (self.functions().zmq_disconnect)(self.handle, text.as_ptr()) };
        }
    }

    /// With IPv6 allowed, the library looks a host name up as one of IPv6 first, and does not find a rig that is bound to 127.0.0.1 by
    /// `localhost`. So it is allowed for addresses that are written as one of IPv6.
    fn prepare(&self, address: &str) -> Result<(), ZeromqError> {
        if address.starts_with("tcp://[") { self.set(option::IPV6, 1) } else { Ok(()) }
    }

    /// Subscribes to all topics that begin with `prefix`.
    ///
    /// # Errors
    /// [`ZeromqError::Refused`] for a socket that is no `Sub`.
    pub fn subscribe(&self, prefix: &str) -> Result<(), ZeromqError> {
        self.set_bytes(option::SUBSCRIBE, prefix.as_bytes())
    }

    /// How long [`Socket::receive`] waits for a message.
    ///
    /// # Errors
    /// [`ZeromqError::Refused`], which does not happen.
    pub fn set_patience(&self, patience: Duration) -> Result<(), ZeromqError> {
        self.set(option::RECEIVE_TIMEOUT, c_int::try_from(patience.as_millis()).unwrap_or(c_int::MAX))
    }

    /// Whether a message that finds the queue of a subscriber full is refused as a whole instead of dropped for that subscriber.
    pub(super) fn refuse_when_full(&self, refuse: bool) {
        // Fails for other kinds of socket alone.
        drop(self.set(option::NO_DROP, c_int::from(refuse)));
    }

    /// Sends one frame without waiting, and returns whether the library took it. A following frame is taken where the first was.
    pub fn send(&self, frame: &[u8], more: bool) -> bool {
        let flags = DO_NOT_WAIT | if more { MORE_FOLLOWS } else { 0 };
        loop {
            // SAFETY: reads as many bytes as is said.
            let sent = unsafe {
                (self.functions().zmq_send)(self.handle, frame.as_ptr().cast(), frame.len(), flags)
            };
            if sent >= 0 || self.context.library().errno() != libc::EINTR {
                return sent >= 0;
            }
        }
    }

    /// Receives a message, and waits for it if `wait` says so, up to the patience of the socket. Returns whether one came. Frames
    /// for which there is no room are received and thrown away.
    pub fn receive<const N: usize>(&self, frames: &mut Frames<N>, wait: bool) -> bool {
        let mut flags = if wait { 0 } else { DO_NOT_WAIT };
        let mut count = 0;
        loop {
            let place = frames.place(count);
            // SAFETY: an initialised message; what was in it is released.
            let received = unsafe { (self.functions().zmq_msg_recv)(place, self.handle, flags) };
            if received < 0 {
                // The frames of a message come together, so that only the first can be missing. A signal ends the wait.
                frames.set_count(0);
                return false;
            }
            count += 1;
            flags = DO_NOT_WAIT;
            if !self.has_more() {
                frames.set_count(count);
                return true;
            }
        }
    }

    fn has_more(&self) -> bool {
        let (mut more, mut length) = (0 as c_int, size_of::<c_int>());
        // SAFETY: writes a number of this size.
        let found = unsafe {
            (self.functions().zmq_getsockopt)(self.handle, option::MORE, (&raw mut more).cast(), &mut length)
        };
        found == 0 && more != 0
    }

    /// Starts to tell what happens to the connections of this socket, on an address within the program.
    pub(super) fn tell(&self, address: &str, events: c_int) -> Result<(), ZeromqError> {
        let text = c_text(address)?;
        // SAFETY: a string that ends with a zero.
        let told = unsafe { (self.functions().zmq_socket_monitor)(self.handle, text.as_ptr(), events) };
        self.checked(told, "tell what happens to connections")
    }

    /// Waits until one of `sockets` has a message, for at most `patience`.
    pub fn wait_for_any(sockets: &[&Socket], patience: Duration) {
        let item = |socket: &&Socket| PollItem { socket: socket.handle, fd: 0, events: READABLE, revents: 0 };
        let mut items: Vec<PollItem> = sockets.iter().map(item).collect();
        let Some(first) = sockets.first() else { return };
        let wait_ms = patience.as_millis().try_into().unwrap_or(i32::MAX);
        // SAFETY: as many items as is said, of sockets that are open.
        unsafe {
            (first.functions().zmq_poll)(items.as_mut_ptr(), items.len() as c_int, wait_ms.into());
        }
    }

    /// The context that the socket belongs to.
    pub fn context(&self) -> &Context {
        &self.context
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // SAFETY: the handle is a socket that is not used again.
        unsafe { (self.functions().zmq_close)(self.handle) };
    }
}

fn c_text(address: &str) -> Result<CString, ZeromqError> {
    let zero =
        |_| ZeromqError::Connect { address: address.to_owned(), found: "a zero byte in it".to_owned() };
    CString::new(address).map_err(zero)
}
