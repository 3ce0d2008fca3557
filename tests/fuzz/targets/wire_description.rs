//! The message of a description: what a stream consists of, in JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ndt_protocol::wire::{self, Description};

fuzz_target!(|input: &[u8]| {
    let genuine = Description::Bins { bin_width_us: 1, channel_ids: Vec::new() };
    let (header, _) = wire::description_frames(&genuine);
    if let Ok(Some(description)) = wire::read_description(&[wire::TOPIC_DESCRIPTION, &header, input]) {
        let (header, json) = wire::description_frames(&description);
        let again = wire::read_description(&[wire::TOPIC_DESCRIPTION, &header, &json]);
        assert_eq!(again, Ok(Some(description)));
    }
    // The header is short: all of it is the fuzzer's here.
    let (header, json) = input.split_at(input.len().min(header.len()));
    drop(wire::read_description(&[wire::TOPIC_DESCRIPTION, header, json]));
});
