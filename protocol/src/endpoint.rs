//! Endpoints: the addresses at which programs meet, as command lines and configuration files write them.
//!
//! `tcp://127.0.0.1:5570` and `ipc:///run/ndtd/bins` are ZeroMQ sockets. Each program has a default [`Role`] for its
//! sockets; `bind:` or `connect:` in front of the address overrides it. `lsl:NAME`, `lsl:type=TYPE` and so on select a
//! stream of Lab Streaming Layer ([`Query`]); `lsl` alone selects the default stream of the program.
//!
//! [`Endpoint`] is the grammar, with one variant for each transport. What a program can do with a transport depends on
//! the side that it is on, so that each side has a type of its own: [`Input`], [`Output`], [`PlayTarget`] and
//! [`ListenSource`]. Reading the text as one of these types refuses an endpoint that the side cannot use, and no later
//! code has to.

mod side;
pub mod socket_file;

pub use side::{Input, ListenSource, Output, PlayTarget};

use crate::lsl::{Query, QueryError};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::str::FromStr;

/// The side that a program takes of a ZeroMQ connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Binds the address and waits for peers.
    Bind,
    /// Connects to the address, and again whenever the peer comes back.
    Connect,
}

/// The address of a ZeroMQ socket, with the role that was written in front of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketAddress {
    /// Role that was written; `None` for the program's default.
    pub role: Option<Role>,
    /// `tcp://host:port` or `ipc://path`.
    pub address: String,
}

impl SocketAddress {
    /// Returns the role that was written, or else `default`.
    pub fn role_or(&self, default: Role) -> Role {
        self.role.unwrap_or(default)
    }

    /// Path of the socket's file; `None` for a socket that has none.
    pub fn file(&self) -> Option<&Path> {
        self.address.strip_prefix("ipc://").map(Path::new)
    }

    /// Whether only programs on this machine can reach the address.
    pub fn is_local(&self) -> bool {
        let host =
            self.address.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':')).map(|(host, _)| host);
        let is_loopback = |host: &str| host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
        host.is_none_or(|host| is_loopback(host) || host == "localhost" || host == "[::1]")
    }
}

impl FromStr for SocketAddress {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (role, address) = match text.split_once(':') {
            Some(("bind", rest)) => (Some(Role::Bind), rest),
            Some(("connect", rest)) => (Some(Role::Connect), rest),
            _ => (None, text),
        };
        let is_usable = match address.split_once("://") {
            Some(("tcp", rest)) if rest.starts_with("*:") => {
                return Err(EndpointError::Star { found: text.to_owned() });
            }
            Some(("tcp", rest)) => rest
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()),
            // libzmq would choose a path in the place of `*`, and nobody would know which.
            Some(("ipc", path)) => !path.is_empty() && path != "*",
            _ => false,
        };
        match is_usable {
            true => Ok(SocketAddress { role, address: address.to_owned() }),
            false => Err(EndpointError::Unknown { found: text.to_owned() }),
        }
    }
}

impl fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Some(Role::Bind) => write!(f, "bind:{}", self.address),
            Some(Role::Connect) => write!(f, "connect:{}", self.address),
            None => f.write_str(&self.address),
        }
    }
}

/// Any endpoint that can be written, whichever side may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A ZeroMQ socket.
    Zeromq(SocketAddress),
    /// One or more streams of Lab Streaming Layer.
    Lsl(Query),
}

/// Why a text cannot be used as an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No transport has endpoints of this form.
    #[error(
        "expected an endpoint such as tcp://127.0.0.1:5570, bind:ipc:///run/ndtd/bins or lsl:NAME, found \"{found}\""
    )]
    Unknown {
        /// Text that was given as the endpoint.
        found: String,
    },
    /// The host is libzmq's star.
    #[error(
        "expected a host or an IP address, found \"{found}\"; to bind every address of this machine, write 0.0.0.0 in place of *"
    )]
    Star {
        /// Text that was given as the endpoint.
        found: String,
    },
    /// The text starts with `lsl:`, and what follows does not select a stream.
    #[error(transparent)]
    Stream(#[from] QueryError),
    /// The side that was given the endpoint cannot use it.
    #[error("expected {expected}, found {found}")]
    Side {
        /// Endpoints that this side of the connection (input, output, player or listener) can use.
        expected: &'static str,
        /// Text that was given as the endpoint.
        found: String,
    },
}

impl Endpoint {
    /// Returns the text without its role. Two endpoints with the same address meet the same peers.
    pub fn address(&self) -> String {
        match self {
            Endpoint::Zeromq(socket) => socket.address.clone(),
            Endpoint::Lsl(_) => self.to_string(),
        }
    }

    /// The clause of a warning that says how other machines reach the endpoint, or how it reaches them; `None` for an endpoint
    /// of this machine only. A socket without a role has the role `default`.
    pub fn reach_from_other_machines(&self, default: Role) -> Option<&'static str> {
        match self {
            Endpoint::Zeromq(socket) => (!socket.is_local()).then(|| match socket.role_or(default) {
                Role::Bind => "is reached from other machines",
                Role::Connect => "is on another machine",
            }),
            Endpoint::Lsl(_) => Some("may be found from other machines, as far as lsl_api.cfg lets"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        match text.strip_prefix("lsl:").or((text == "lsl").then_some("")) {
            Some(query) => Ok(Endpoint::Lsl(query.parse()?)),
            None => Ok(Endpoint::Zeromq(text.parse()?)),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Zeromq(socket) => socket.fmt(f),
            Endpoint::Lsl(query) if query.is_any() => f.write_str("lsl"),
            Endpoint::Lsl(query) => write!(f, "lsl:{query}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_written_alike() {
        for text in [
            "tcp://127.0.0.1:5570",
            "bind:tcp://0.0.0.0:1",
            "connect:tcp://[::1]:9",
            "bind:ipc:///run/x",
            "lsl",
            "lsl:rig",
            "lsl:type=Spikes,name=a:b",
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint, "{text}");
        }
        assert_eq!("lsl:rig".parse(), Ok(Endpoint::Lsl(Query::of_name("rig"))));
        let role = |text: &str, default| text.parse::<SocketAddress>().unwrap().role_or(default);
        assert_eq!(role("bind:tcp://a:1", Role::Connect), Role::Bind);
        assert_eq!(role("tcp://a:1", Role::Connect), Role::Connect);
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_a_sentence() {
        for text in [
            "",
            "tcp://",
            "tcp://host",
            "tcp://:1",
            "tcp://*:1",
            "bind:tcp://*:1",
            "pigeon://a:1",
            "tcp://a:99999",
            "ipc://",
            "ipc://*",
            "127.0.0.1:1",
            "lsl:a=b",
        ] {
            assert!(text.parse::<Endpoint>().unwrap_err().to_string().contains(&format!("found \"{text}\"")));
        }
    }

    #[test]
    fn a_warning_says_who_reaches_whom() {
        for (text, default, expected) in [
            ("tcp://10.0.0.2:1", Role::Connect, Some("is on another machine")),
            ("tcp://10.0.0.2:1", Role::Bind, Some("is reached from other machines")),
            ("bind:tcp://0.0.0.0:1", Role::Connect, Some("is reached from other machines")),
            ("tcp://127.0.0.1:1", Role::Bind, None),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.reach_from_other_machines(default), expected, "{text}");
        }
    }

    #[test]
    fn loopback_is_told_from_the_network() {
        for (address, is_local) in [
            ("tcp://127.0.0.1:1", true),
            ("tcp://localhost:1", true),
            ("ipc:///x", true),
            ("tcp://0.0.0.0:1", false),
            ("tcp://127.example.org:1", false),
        ] {
            let socket = SocketAddress { role: None, address: address.to_owned() };
            assert_eq!(socket.is_local(), is_local, "{address}");
        }
    }
}
