//! The endpoints that tests of every transport use: the one list from which they are taken.
//!
//! A transport that is not in these lists fails `tests/tests/transports.rs`. One that is in them is run through the
//! conformance test, looked for in the help text, the example configuration and the pages, and its allocations are counted.

use ndt_protocol::endpoint::Endpoint;
use std::path::Path;

/// Inputs of the daemon, at least one for each transport that a daemon can take bins from, with the target that a player then
/// sends to. `FOLDER` stands for the folder of the test's session, `ADDRESS` for the address that the daemon has bound.
pub const INPUTS: [(&str, &str); 3] = [
    ("bind:tcp://127.0.0.1:0", "connect:ADDRESS"),
    ("ipc://FOLDER/bins", "ipc://FOLDER/bins"),
    ("lsl:rig", "lsl:rig"),
];

/// Outputs of the daemon, at least one for each transport that a daemon can publish to.
pub const OUTPUTS: [&str; 3] = ["lsl:arm", "tcp://127.0.0.1:0", "ipc://FOLDER/estimates"];

/// An endpoint of these lists for a test whose files are in `folder`.
pub fn in_folder(text: &str, folder: &Path) -> String {
    text.replace("FOLDER", &folder.display().to_string())
}

/// Names of all transports.
pub const TRANSPORTS: [&str; 2] = ["zeromq", "lsl"];

/// The transport of an endpoint. A new one gets the next index: the compiler refuses an index that [`TRANSPORTS`] does not
/// have.
pub fn transport_of(endpoint: &Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Zeromq(_) => TRANSPORTS[0],
        Endpoint::Lsl(_) => TRANSPORTS[1],
    }
}

/// The word with which an endpoint begins, without the role in front: `tcp`, `ipc`, `lsl`.
pub fn scheme(text: &str) -> &str {
    let text = text.strip_prefix("bind:").or_else(|| text.strip_prefix("connect:")).unwrap_or(text);
    text.split(':').next().unwrap_or(text)
}
