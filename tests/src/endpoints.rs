//! The endpoints that tests of every transport use: the one list from which they are taken.
//!
//! A transport that is not in these lists fails `tests/tests/transports.rs`. One that is in them is run through the
//! conformance test, looked for in the help text, the example configuration and the pages, and its allocations are counted.

use ndt_protocol::endpoint::Endpoint;

/// Inputs of the daemon, at least one for each transport that a daemon can take bins from, with the target that a player then
/// sends to. `FOLDER` stands for the folder of the test's session, `ADDRESS` for the address that the daemon has bound.
pub const INPUTS: [(&str, &str); 3] = [
    ("bind:tcp://127.0.0.1:0", "connect:ADDRESS"),
    ("ipc://FOLDER/bins", "ipc://FOLDER/bins"),
    ("lsl:rig", "lsl:rig"),
];

/// Outputs of the daemon, at least one for each transport that a daemon can publish to.
pub const OUTPUTS: [&str; 3] = ["lsl:arm", "tcp://127.0.0.1:0", "ipc://FOLDER/estimates"];

/// Number of transports in [`transport_of`].
pub const TRANSPORTS: usize = 2;

/// Index of the transport of an endpoint. A new transport gets the next index and raises [`TRANSPORTS`].
pub fn transport_of(endpoint: &Endpoint) -> usize {
    match endpoint {
        Endpoint::Zeromq(_) => 0,
        Endpoint::Lsl(_) => 1,
    }
}

/// The word with which an endpoint begins, without the role in front: `tcp`, `ipc`, `lsl`.
pub fn scheme(text: &str) -> &str {
    let text = text.strip_prefix("bind:").or_else(|| text.strip_prefix("connect:")).unwrap_or(text);
    text.split(':').next().unwrap_or(text)
}
