//! Who may see the monitor. Pure: the head of a request in, a decision out.

use hyper::Request;
use hyper::header::{AUTHORIZATION, HOST};
use ndt_protocol::bundle::sha256;
use std::net::IpAddr;

/// Who may come in.
#[derive(Debug, Clone)]
pub struct Access {
    /// Digest of the token; `None` where everybody on this computer may.
    token: Option<String>,
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It carries no token, or another one.
    Token,
    /// It was made for another host: a page of somebody else's, in a browser on this computer, asks under a name of its own.
    Host,
}

impl Access {
    /// Asks for `token`, or for requests to this computer where there is none.
    pub fn new(token: Option<&str>) -> Access {
        Access { token: token.map(|token| sha256(token.as_bytes())) }
    }

    /// Decides about a request.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), Denied> {
        let Some(expected) = &self.token else { return check_host(request) };
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let header = header.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
        // A page cannot set the header of its own requests, so that it has the token in its address.
        let query = request.uri().query().unwrap_or_default();
        let query = query.split('&').find_map(|pair| pair.strip_prefix("token="));
        // Digests are compared, so that the time that it takes tells nothing of the token.
        match header.or(query).map(|token| sha256(token.as_bytes())) {
            Some(found) if found == *expected => Ok(()),
            _ => Err(Denied::Token),
        }
    }
}

fn check_host<B>(request: &Request<B>) -> Result<(), Denied> {
    let Some(host) = request.headers().get(HOST) else { return Ok(()) };
    let host = host.to_str().unwrap_or("?");
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_here = |address: IpAddr| address.is_loopback();
    match name == "localhost" || name.parse().is_ok_and(is_here) {
        true => Ok(()),
        false => Err(Denied::Host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(token: Option<&str>, uri: &str, headers: &[(&str, &str)]) -> Result<(), Denied> {
        let request = headers
            .iter()
            .fold(Request::builder().uri(uri), |request, (name, value)| request.header(*name, *value));
        Access::new(token).check(&request.body(()).unwrap())
    }

    #[test]
    fn a_token_is_asked_for_in_the_header_or_in_the_address() {
        let token = Some("0123456789abcdef");
        assert_eq!(check(token, "/metrics", &[("authorization", "Bearer 0123456789abcdef")]), Ok(()));
        assert_eq!(check(token, "/?a=b&token=0123456789abcdef", &[("host", "rig:9110")]), Ok(()));
        for uri in ["/", "/?token=", "/?token=0123456789abcde", "/?xtoken=0123456789abcdef"] {
            assert_eq!(check(token, uri, &[]), Err(Denied::Token), "{uri}");
        }
        let other = [("authorization", "Bearer other"), ("authorization", "Basic 0123456789abcdef")];
        for header in other {
            assert_eq!(check(token, "/", &[header]), Err(Denied::Token));
        }
    }

    #[test]
    fn without_a_token_only_requests_to_this_computer_are_answered() {
        for host in ["localhost:9110", "127.0.0.1:9110", "127.0.0.1", "[::1]:9110"] {
            assert_eq!(check(None, "/", &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["evil.example:9110", "192.168.1.2", "localhost.evil.example", "", "[fe80::1]:1"] {
            assert_eq!(check(None, "/", &[("host", host)]), Err(Denied::Host), "{host}");
        }
        assert_eq!(check(None, "/", &[]), Ok(()));
    }
}
