//! Whether the name of the rig's computer is known. libzmq looks it up again and again, and does not say when there is none.

use ndt_protocol::endpoint::SocketAddress;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Interval between two looks for a name that is not known.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A host name that is looked for, on a thread of its own: a slow resolver takes seconds.
#[derive(Debug)]
pub struct HostName {
    is_unknown: Arc<AtomicBool>,
}

impl HostName {
    /// Starts to look for the name in a `tcp` address until it is found, or nobody asks any more. An address without a name is known.
    pub fn of(endpoint: &SocketAddress) -> HostName {
        let is_unknown = Arc::<AtomicBool>::default();
        if let Some(host) = name(endpoint) {
            let found = Arc::downgrade(&is_unknown);
            let look = move || {
                while let Some(is_unknown) = found.upgrade() {
                    // The port does not matter to the search.
                    is_unknown.store((host.as_str(), 0u16).to_socket_addrs().is_err(), Relaxed);
                    if !is_unknown.load(Relaxed) {
                        return;
                    }
                    drop(is_unknown);
                    std::thread::sleep(LOOK_EVERY);
                }
            };
            // Without a thread the name passes for known, and the source is only said not to answer.
            drop(std::thread::Builder::new().name("zeromq-name".to_owned()).spawn(look));
        }
        HostName { is_unknown }
    }

    /// Whether the last search found no such host. Does not wait.
    pub fn is_unknown(&self) -> bool {
        self.is_unknown.load(Relaxed)
    }
}

/// The host of a `tcp` address that is given by a name.
fn name(endpoint: &SocketAddress) -> Option<String> {
    let (host, _) = endpoint.address.strip_prefix("tcp://")?.rsplit_once(':')?;
    let is_number = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
    (!is_number).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_looked_for() {
        let name = |text: &str| super::name(&text.parse().unwrap());
        assert_eq!(name("tcp://rig-2.lab:5570"), Some("rig-2.lab".to_owned()));
        for address in ["tcp://10.0.0.2:1", "tcp://[::1]:1", "ipc:///run/rig"] {
            assert_eq!(name(address), None, "{address}");
        }
        assert!(!HostName::of(&"tcp://10.0.0.2:1".parse().unwrap()).is_unknown());
    }
}
