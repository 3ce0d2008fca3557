//! An endpoint, and with it the query of a stream, on every side.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_protocol::endpoint::{Endpoint, Input, ListenSource, Output, PlayTarget, Role};
use ndt_protocol::lsl::Query;

fuzz_target!(|text: &str| {
    match text.parse::<Endpoint>() {
        Ok(endpoint) => {
            let printed = endpoint.to_string();
            assert_eq!(printed.parse::<Endpoint>().as_ref(), Ok(&endpoint), "{printed}");
            drop((endpoint.address(), endpoint.reach_from_other_machines(Role::Bind)));
            if let Endpoint::Zeromq(socket) = &endpoint {
                assert!(socket.file().is_none() || socket.is_local());
            }
        }
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
    let sides = [
        text.parse::<Input>().map(String::from),
        text.parse::<Output>().map(String::from),
        text.parse::<PlayTarget>().map(String::from),
        text.parse::<ListenSource>().map(String::from),
    ];
    for printed in sides.into_iter().flatten() {
        assert!(printed.parse::<Endpoint>().is_ok(), "{printed}");
    }
    if let Ok(query) = text.parse::<Query>() {
        assert_eq!(query.to_string().parse::<Query>().as_ref(), Ok(&query));
        assert!(query.is_any() == query.predicate().is_empty() && !query.predicate().contains('\0'));
    }
});
