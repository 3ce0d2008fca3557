//! A line of the control protocol, from whoever may write to the socket.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_daemon::control::request::Request;

fuzz_target!(|line: &str| {
    match Request::parse(line) {
        Ok(request) => assert_eq!(Request::parse(&request.to_string()), Ok(request)),
        Err(sentence) => assert!(sentence.starts_with("expected ") && sentence.len() < 1_000),
    }
});
