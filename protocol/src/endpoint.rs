//! Where a program meets its peers, as every command line and configuration of the project writes it.
//!
//! `tcp://127.0.0.1:5570` is a ZeroMQ socket, which takes the role that suits the program (the stable side binds);
//! `bind:` or `connect:` in front of it says otherwise. `lsl:NAME`, `lsl:type=TYPE` and so on is a stream of Lab
//! Streaming Layer, which is found by what it says of itself: see [`Query`]; `lsl` alone is the program's usual one.

use crate::lsl::{Query, QueryError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Which side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Waits for peers.
    Bind,
    /// Goes to a peer, and again whenever it comes back.
    Connect,
}

/// An address with an optional role, or a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    role: Option<Role>,
    address: String,
    stream: Option<Query>,
}

/// A text that is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is neither of the kinds.
    #[error(
        "expected an endpoint such as tcp://127.0.0.1:5570, bind:ipc:///run/ndtd/bins or lsl:NAME, found \"{found}\""
    )]
    Kind {
        /// The text.
        found: String,
    },
    /// It is a stream of Lab Streaming Layer, and does not say which.
    #[error(transparent)]
    Stream(#[from] QueryError),
}

impl Endpoint {
    /// The role that was written, else `usual`.
    pub fn role_or(&self, usual: Role) -> Role {
        self.role.unwrap_or(usual)
    }

    /// The ZeroMQ address, `tcp://host:port` or `ipc://path`; of a stream, the text.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Which stream of Lab Streaming Layer is meant, where one is.
    pub fn lsl(&self) -> Option<&Query> {
        self.stream.as_ref()
    }

    /// Whether only programs of this machine can reach the address. A stream may be found from others: whether it is,
    /// the library's own configuration says.
    pub fn is_local(&self) -> bool {
        if self.stream.is_some() {
            return false;
        }
        let host =
            self.address.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':')).map(|(host, _)| host);
        host.is_none_or(|host| host.starts_with("127.") || host == "localhost" || host == "[::1]")
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let error = || EndpointError::Kind { found: text.to_owned() };
        if let Some(query) = text.strip_prefix("lsl:").or((text == "lsl").then_some("")) {
            return Ok(Endpoint { role: None, address: text.to_owned(), stream: Some(query.parse()?) });
        }
        let (role, address) = match text.split_once(':') {
            Some(("bind", rest)) => (Some(Role::Bind), rest),
            Some(("connect", rest)) => (Some(Role::Connect), rest),
            _ => (None, text),
        };
        let usable = match address.split_once("://") {
            Some(("tcp", rest)) => rest
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()),
            Some(("ipc", path)) => !path.is_empty(),
            _ => false,
        };
        if usable { Ok(Endpoint { role, address: address.to_owned(), stream: None }) } else { Err(error()) }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> String {
        endpoint.to_string()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Some(Role::Bind) => write!(f, "bind:{}", self.address),
            Some(Role::Connect) => write!(f, "connect:{}", self.address),
            None => f.write_str(&self.address),
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
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("lsl:rig".parse::<Endpoint>().unwrap().lsl(), Some(&Query::of_name("rig")));
        assert!("tcp://a:1".parse::<Endpoint>().unwrap().lsl().is_none());
        assert_eq!("bind:tcp://a:1".parse::<Endpoint>().unwrap().role_or(Role::Connect), Role::Bind);
        assert_eq!("tcp://a:1".parse::<Endpoint>().unwrap().role_or(Role::Connect), Role::Connect);
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_a_sentence() {
        for text in [
            "",
            "tcp://",
            "tcp://host",
            "tcp://:1",
            "udp://a:1",
            "tcp://a:99999",
            "ipc://",
            "127.0.0.1:1",
            "lsl:a=b",
        ] {
            assert!(text.parse::<Endpoint>().unwrap_err().to_string().contains(&format!("found \"{text}\"")));
        }
    }

    #[test]
    fn loopback_is_told_from_the_network() {
        for (text, local) in [
            ("tcp://127.0.0.1:1", true),
            ("tcp://localhost:1", true),
            ("ipc:///x", true),
            ("tcp://0.0.0.0:1", false),
            ("tcp://*:1", false),
            ("lsl:rig", false),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().is_local(), local, "{text}");
        }
    }
}
