//! The endpoints that each side can use: a daemon's input and output, a player's target and a listener's source.
//!
//! A text is refused when it is read as an endpoint of a side that cannot use it. A new transport is one more variant
//! of [`Endpoint`]; the compiler then asks every side here whether it takes it.

use super::{Endpoint, EndpointError, SocketAddress};
use crate::lsl::{NAME_DAEMON, NAME_REPLAY, Query};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Where a daemon takes bins from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Input {
    /// A ZeroMQ socket; connects by default.
    Zeromq(SocketAddress),
    /// The single stream that the query selects.
    Lsl(Query),
}

/// Where a daemon publishes estimates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Output {
    /// A ZeroMQ socket; binds by default.
    Zeromq(SocketAddress),
    /// The streams `NAME-velocity` and `NAME-rates`.
    Lsl {
        /// The NAME in the names of the streams.
        name: String,
    },
}

/// Where a player sends bins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PlayTarget {
    /// A ZeroMQ socket; binds by default.
    Zeromq(SocketAddress),
    /// The stream `NAME`, and `NAME-behavior` beside it.
    Lsl {
        /// The NAME in the names of the streams.
        name: String,
    },
}

/// Where a listener receives estimates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ListenSource {
    /// A ZeroMQ socket; connects by default.
    Zeromq(SocketAddress),
    /// The streams of the daemon's output that the query selects.
    Lsl(Query),
}

impl TryFrom<Endpoint> for Input {
    type Error = EndpointError;

    fn try_from(endpoint: Endpoint) -> Result<Input, EndpointError> {
        match endpoint {
            Endpoint::Zeromq(socket) => Ok(Input::Zeromq(socket)),
            Endpoint::Lsl(query) => Ok(Input::Lsl(query)),
        }
    }
}

impl TryFrom<Endpoint> for Output {
    type Error = EndpointError;

    fn try_from(endpoint: Endpoint) -> Result<Output, EndpointError> {
        match endpoint {
            Endpoint::Zeromq(socket) => Ok(Output::Zeromq(socket)),
            Endpoint::Lsl(query) => {
                Ok(Output::Lsl { name: stream_name(query, NAME_DAEMON, "lsl:NAME as an output")? })
            }
        }
    }
}

impl TryFrom<Endpoint> for PlayTarget {
    type Error = EndpointError;

    fn try_from(endpoint: Endpoint) -> Result<PlayTarget, EndpointError> {
        match endpoint {
            Endpoint::Zeromq(socket) => Ok(PlayTarget::Zeromq(socket)),
            Endpoint::Lsl(query) => {
                Ok(PlayTarget::Lsl { name: stream_name(query, NAME_REPLAY, "lsl:NAME to play to")? })
            }
        }
    }
}

impl TryFrom<Endpoint> for ListenSource {
    type Error = EndpointError;

    fn try_from(endpoint: Endpoint) -> Result<ListenSource, EndpointError> {
        match endpoint {
            Endpoint::Zeromq(socket) => Ok(ListenSource::Zeromq(socket)),
            Endpoint::Lsl(query) => Ok(ListenSource::Lsl(query)),
        }
    }
}

impl From<Input> for Endpoint {
    fn from(input: Input) -> Endpoint {
        match input {
            Input::Zeromq(socket) => Endpoint::Zeromq(socket),
            Input::Lsl(query) => Endpoint::Lsl(query),
        }
    }
}

impl From<Output> for Endpoint {
    fn from(output: Output) -> Endpoint {
        match output {
            Output::Zeromq(socket) => Endpoint::Zeromq(socket),
            Output::Lsl { name } => Endpoint::Lsl(Query::of_name(name)),
        }
    }
}

impl From<PlayTarget> for Endpoint {
    fn from(target: PlayTarget) -> Endpoint {
        match target {
            PlayTarget::Zeromq(socket) => Endpoint::Zeromq(socket),
            PlayTarget::Lsl { name } => Endpoint::Lsl(Query::of_name(name)),
        }
    }
}

impl From<ListenSource> for Endpoint {
    fn from(source: ListenSource) -> Endpoint {
        match source {
            ListenSource::Zeromq(socket) => Endpoint::Zeromq(socket),
            ListenSource::Lsl(query) => Endpoint::Lsl(query),
        }
    }
}

/// Returns the name of a stream that a program offers. A stream that is offered has a name; a query that says more
/// than a name is refused.
fn stream_name(query: Query, default: &str, expected: &'static str) -> Result<String, EndpointError> {
    match query.only_name() {
        Some(name) => Ok(name.to_owned()),
        None if query.is_any() => Ok(default.to_owned()),
        None => Err(EndpointError::Side { expected, found: Endpoint::Lsl(query).to_string() }),
    }
}

/// Implements parsing and formatting for the endpoint type of each side, through the text of [`Endpoint`].
macro_rules! as_text {
    ($($side:ident)*) => {$(
        impl FromStr for $side {
            type Err = EndpointError;

            fn from_str(text: &str) -> Result<$side, EndpointError> {
                text.parse::<Endpoint>()?.try_into()
            }
        }

        impl TryFrom<String> for $side {
            type Error = EndpointError;

            fn try_from(text: String) -> Result<$side, EndpointError> {
                text.parse()
            }
        }

        impl From<$side> for String {
            fn from(side: $side) -> String {
                side.to_string()
            }
        }

        impl fmt::Display for $side {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Endpoint::from(self.clone()).fmt(f)
            }
        }
    )*};
}

as_text!(Input Output PlayTarget ListenSource);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_refuses_what_it_cannot_use_when_the_text_is_read() {
        for text in ["lsl:type=Spikes", "lsl:name=a,source-id=b"] {
            assert!(text.parse::<Input>().is_ok() && text.parse::<ListenSource>().is_ok());
            let sentences = [
                text.parse::<Output>().unwrap_err().to_string(),
                text.parse::<PlayTarget>().unwrap_err().to_string(),
            ];
            for sentence in sentences {
                assert!(sentence.starts_with("expected lsl:NAME ") && sentence.contains(", found lsl:"));
            }
        }
        assert_eq!("lsl".parse(), Ok(Output::Lsl { name: NAME_DAEMON.to_owned() }));
        assert_eq!("lsl".parse(), Ok(PlayTarget::Lsl { name: NAME_REPLAY.to_owned() }));
        assert_eq!("lsl:arm".parse::<Output>().unwrap().to_string(), "lsl:arm");
        assert_eq!("bind:tcp://a:1".parse::<Input>().unwrap().to_string(), "bind:tcp://a:1");
    }
}
